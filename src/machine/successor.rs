//! The run that follows a run: by retry, by its cron schedule, or because it continues as new.
//!
//! # Contract
//! The run before must be closed by an event that names the new run id. A retry starts as the first run
//! was started, whatever was upserted since; what continues as new brings its own memo and attributes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bristlecone_proto::temporal::api::command::v1::ContinueAsNewWorkflowExecutionCommandAttributes;
use bristlecone_proto::temporal::api::common::v1::{Callback, Payloads, WorkerVersionStamp};
use bristlecone_proto::temporal::api::enums::v1::{ContinueAsNewInitiator, RetryState, VersioningBehavior};
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionStartedEventAttributes;
use bristlecone_proto::temporal::api::workflow::v1::versioning_override::Override;
use bristlecone_proto::temporal::api::workflow::v1::{ResetPoints, VersioningOverride};
use prost_types::Duration;

use crate::chain::Run;
use crate::draft::Draft;
use crate::new_run::{self, NewRun};
use crate::stamp::{UnixNanos, duration, duration_nanos, nanos, timestamp};
use crate::{cron, deadline, retry};

/// What follows a run that ends without having said so itself.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub initiator: ContinueAsNewInitiator,
    /// Nanoseconds until the first workflow task of the new run.
    pub backoff: i64,
}

/// What follows a failure, or a timeout: a retry, else the next cron start, else nothing. And what the
/// close event says of retries.
pub(crate) fn after_failure(run: &Run, failure: &Failure, now: UnixNanos) -> (Option<Plan>, RetryState) {
    let retried = match &run.started.retry_policy {
        None => Err(RetryState::RetryPolicyNotSet),
        Some(policy) => {
            let expiration = deadline::execution_expiration(run);
            retry::backoff(now, run.started.attempt, policy, expiration, Some(failure), false)
        }
    };
    match retried {
        Ok(backoff) => (Some(Plan { initiator: ContinueAsNewInitiator::Retry, backoff }), RetryState::InProgress),
        Err(state) => (after_success(run, now), state),
    }
}

/// What follows a completed run: its next cron start, if it has a schedule.
pub(crate) fn after_success(run: &Run, now: UnixNanos) -> Option<Plan> {
    let backoff = cron::backoff(&run.started.cron_schedule, execution_time(run), now)?;
    Some(Plan { initiator: ContinueAsNewInitiator::CronSchedule, backoff })
}

/// Starts the run that the plan of a closed run asks for.
pub(crate) fn start_again(
    draft: &mut Draft<'_>,
    closed_run_id: &str,
    new_run_id: String,
    plan: &Plan,
    last_completion_result: Option<Payloads>,
    failure: Option<Failure>,
) {
    let run = draft.run(closed_run_id);
    let started = &run.started;
    let is_retry = plan.initiator == ContinueAsNewInitiator::Retry;
    let attributes = WorkflowExecutionStartedEventAttributes {
        workflow_type: started.workflow_type.clone(),
        task_queue: started.task_queue.clone(),
        input: started.input.clone(),
        workflow_run_timeout: started.workflow_run_timeout,
        workflow_task_timeout: started.workflow_task_timeout,
        initiator: plan.initiator.into(),
        continued_failure: failure,
        last_completion_result,
        retry_policy: started.retry_policy.clone(),
        attempt: if is_retry { started.attempt.saturating_add(1) } else { 1 },
        cron_schedule: started.cron_schedule.clone(),
        first_workflow_task_backoff: spaced(draft, run, Some(duration(plan.backoff))),
        memo: started.memo.clone(),
        search_attributes: started.search_attributes.clone(),
        header: started.header.clone(),
        source_version_stamp: if is_retry { versioned(run) } else { None },
        completion_callbacks: if is_retry { callbacks(run) } else { Vec::new() },
        inherited_build_id: started.inherited_build_id.clone(),
        versioning_override: pinned_override(run),
        priority: started.priority.clone(),
        ..inherited(draft, run, &new_run_id)
    };
    create(draft, closed_run_id, new_run_id, attributes);
}

/// Starts the run as which a closed run continues. The command must have been completed with the
/// defaults of the closed run.
pub(crate) fn continue_as_new(
    draft: &mut Draft<'_>,
    closed_run_id: &str,
    new_run_id: String,
    command: &ContinueAsNewWorkflowExecutionCommandAttributes,
) {
    let run = draft.run(closed_run_id);
    let is_retry = command.initiator() == ContinueAsNewInitiator::Retry;
    let attributes = WorkflowExecutionStartedEventAttributes {
        workflow_type: command.workflow_type.clone(),
        task_queue: command.task_queue.clone(),
        input: command.input.clone(),
        workflow_run_timeout: command.workflow_run_timeout,
        workflow_task_timeout: command.workflow_task_timeout,
        initiator: command.initiator,
        continued_failure: command.failure.clone(),
        last_completion_result: command.last_completion_result.clone(),
        retry_policy: command.retry_policy.clone(),
        attempt: if is_retry { run.started.attempt.saturating_add(1) } else { 1 },
        cron_schedule: command.cron_schedule.clone(),
        first_workflow_task_backoff: spaced(draft, run, command.backoff_start_interval),
        memo: new_run::memo(command.memo.clone()),
        search_attributes: new_run::search_attributes(command.search_attributes.clone()),
        header: command.header.clone(),
        source_version_stamp: if command.inherit_build_id { versioned(run) } else { None },
        completion_callbacks: callbacks(run),
        versioning_override: pinned_override(run),
        priority: run.head.priority.clone(),
        ..inherited(draft, run, &new_run_id)
    };
    create(draft, closed_run_id, new_run_id, attributes);
}

fn create(
    draft: &mut Draft<'_>,
    closed_run_id: &str,
    new_run_id: String,
    attributes: WorkflowExecutionStartedEventAttributes,
) {
    let links = draft.run(closed_run_id).links.to_vec();
    let scheduled_by = draft.run(closed_run_id).head.scheduled_by.clone();
    let request_id = draft.new_id();
    let new = NewRun { run_id: new_run_id.clone(), request_id, attributes, user_metadata: None, links };
    draft.create_run(new);
    draft.run_mut(&new_run_id).head.scheduled_by = scheduled_by;
    new_run::first_task(draft, &new_run_id);
}

/// What every run of a chain of runs has in common.
fn inherited(draft: &Draft<'_>, run: &Run, new_run_id: &str) -> WorkflowExecutionStartedEventAttributes {
    let started = &run.started;
    WorkflowExecutionStartedEventAttributes {
        workflow_id: draft.id().workflow_id.clone(),
        parent_workflow_namespace: started.parent_workflow_namespace.clone(),
        parent_workflow_namespace_id: started.parent_workflow_namespace_id.clone(),
        parent_workflow_execution: started.parent_workflow_execution.clone(),
        parent_initiated_event_id: started.parent_initiated_event_id,
        parent_initiated_event_version: started.parent_initiated_event_version,
        root_workflow_execution: started.root_workflow_execution.clone(),
        workflow_execution_timeout: started.workflow_execution_timeout,
        workflow_execution_expiration_time: started.workflow_execution_expiration_time,
        first_execution_run_id: started.first_execution_run_id.clone(),
        continued_execution_run_id: run.id.clone(),
        original_execution_run_id: new_run_id.to_string(),
        prev_auto_reset_points: reset_points(draft, run),
        ..WorkflowExecutionStartedEventAttributes::default()
    }
}

/// The points to which the chain of runs can be reset; those of the run that closed now last as long as
/// its history does.
fn reset_points(draft: &Draft<'_>, run: &Run) -> Option<ResetPoints> {
    let now = draft.now();
    let retention = draft.at().namespace.retention;
    let mut points = run.head.auto_reset_points.clone()?;
    points.points.retain(|point| point.expire_time.as_ref().is_none_or(|at| nanos(at) >= now));
    if retention > 0 {
        for point in points.points.iter_mut().filter(|point| point.run_id == run.id) {
            point.expire_time = Some(timestamp(now.saturating_add(retention)));
        }
    }
    Some(points)
}

/// When the run began in earnest: its start and its first backoff.
pub(crate) fn execution_time(run: &Run) -> UnixNanos {
    run.start_time.saturating_add(first_backoff(run))
}

/// How long the first workflow task had to wait; a run that was reset had it already.
pub(crate) fn first_backoff(run: &Run) -> i64 {
    if run.head.reset_start_time.is_some() {
        return 0;
    }
    duration_nanos(run.started.first_workflow_task_backoff.as_ref())
}

/// The backoff, made longer when the runs of a chain would follow each other too fast.
fn spaced(draft: &Draft<'_>, run: &Run, backoff: Option<Duration>) -> Option<Duration> {
    const NANOS_PER_MS: i64 = 1_000_000;
    let lifetime = draft.now().saturating_sub(execution_time(run));
    let least = draft.at().limits.successor_spacing_ms_min.saturating_mul(NANOS_PER_MS);
    if lifetime.saturating_add(duration_nanos(backoff.as_ref())) < least {
        Some(duration(least.saturating_sub(lifetime)))
    } else {
        backoff
    }
}

fn callbacks(run: &Run) -> Vec<Callback> {
    run.started.completion_callbacks.iter().chain(&run.head.attached_callbacks).cloned().collect()
}

/// The build that worked on the run, when it uses versions by build id.
fn versioned(run: &Run) -> Option<WorkerVersionStamp> {
    run.head.worker_version.clone().filter(|version| version.use_versioning)
}

/// An override that pins the run to a version goes on to its successor.
fn pinned_override(run: &Run) -> Option<VersioningOverride> {
    let versioning_override = run.head.versioning.as_ref()?.versioning_override.clone()?;
    let is_pinned = matches!(versioning_override.r#override, Some(Override::Pinned(_)))
        || versioning_override.behavior == VersioningBehavior::Pinned as i32;
    is_pinned.then_some(versioning_override)
}
