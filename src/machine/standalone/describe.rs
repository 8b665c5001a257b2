//! DescribeActivityExecution.

use bristlecone_proto::chain::{ChainId, reply::Kind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::activity::v1::{
    ActivityExecutionInfo, ActivityExecutionOutcome, activity_execution_outcome::Value,
};
use bristlecone_proto::temporal::api::enums::v1::{
    ActivityExecutionStatus, PendingActivityState, WorkflowExecutionStatus as Status,
};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeActivityExecutionRequest, DescribeActivityExecutionResponse,
};

use super::{SCHEDULED_EVENT_ID, attach, find, type_of};
use crate::chain::Run;
use crate::describe::{activity_state, retry_interval};
use crate::draft::Draft;
use crate::stamp::{UnixNanos, duration, duration_nanos, nanos, timestamp};
use crate::{Step, activity, reply};

/// The edge makes the token for the next call from the number of transitions.
pub(crate) fn describe(draft: Draft<'_>, request: &DescribeActivityExecutionRequest) -> Step {
    let run_id = match find(&draft, &request.activity_id, &request.run_id) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&run_id);
    let response = DescribeActivityExecutionResponse {
        run_id: run_id.clone(),
        info: Some(info(draft.id(), run, draft.now())),
        input: run.started.input.clone().filter(|_| request.include_input),
        outcome: outcome(run).filter(|_| request.include_outcome),
        ..DescribeActivityExecutionResponse::default()
    };
    draft.unchanged(reply::of(Kind::DescribeStandalone(response.into())))
}

/// What it came to, once it is closed.
fn outcome(run: &Run) -> Option<ActivityExecutionOutcome> {
    let known = run.head.standalone.as_deref().filter(|_| !run.is_running())?;
    let value = match (&known.result, &known.failure) {
        (Some(result), _) => Value::Result(result.clone()),
        (None, Some(failure)) => Value::Failure(failure.clone()),
        (None, None) => return None,
    };
    Some(ActivityExecutionOutcome { value: Some(value), retry_state: known.retry_state })
}

fn info(chain: &ChainId, run: &Run, now: UnixNanos) -> ActivityExecutionInfo {
    let nothing = record::Standalone::default();
    let known = run.head.standalone.as_deref().unwrap_or(&nothing);
    let pending = run.activities.get(&SCHEDULED_EVENT_ID);
    let gone = record::Activity::default();
    let activity = pending.or(known.closed.as_ref()).unwrap_or(&gone);
    let started = activity::is_started(activity);
    let waits = pending.is_some() && !started && activity.scheduled_time.as_ref().is_some_and(|at| nanos(at) > now);
    let retries = waits && activity.attempt > 1;
    let first = activity.first_scheduled_time.as_ref().map_or(run.start_time, nanos);
    let to_close = duration_nanos(activity.schedule_to_close_timeout.as_ref());
    let close = run.head.close_time.as_ref();
    let worker = if activity.identity.is_empty() { &activity.last_worker_identity } else { &activity.identity };
    let state = match pending {
        Some(pending) => activity_state(pending, started),
        None => PendingActivityState::Unspecified,
    };
    ActivityExecutionInfo {
        activity_id: super::activity_id(&chain.workflow_id).unwrap_or_default().into(),
        run_id: run.id.clone(),
        activity_type: Some(type_of(run)),
        status: status(run.head.status()).into(),
        run_state: state.into(),
        task_queue: activity.task_queue.clone(),
        schedule_to_close_timeout: activity.schedule_to_close_timeout,
        schedule_to_start_timeout: activity.schedule_to_start_timeout,
        start_to_close_timeout: activity.start_to_close_timeout,
        heartbeat_timeout: activity.heartbeat_timeout,
        retry_policy: activity.retry_policy.clone(),
        heartbeat_details: activity.heartbeat_details.clone(),
        last_heartbeat_time: activity.last_heartbeat_time,
        last_started_time: activity.started_time,
        attempt: activity.attempt.max(1),
        execution_duration: close.map(|close| duration(nanos(close).saturating_sub(run.start_time))),
        schedule_time: Some(timestamp(run.start_time)),
        expiration_time: (to_close > 0).then(|| timestamp(first.saturating_add(to_close))),
        close_time: close.copied(),
        last_failure: activity.last_failure.clone(),
        last_worker_identity: worker.clone(),
        current_retry_interval: if retries { retry_interval(activity, started, waits) } else { None },
        last_attempt_complete_time: activity.last_attempt_complete_time,
        next_attempt_schedule_time: if retries { activity.scheduled_time } else { None },
        last_deployment_version: activity.last_deployment_version.clone(),
        priority: activity.priority.clone(),
        state_transition_count: run.head.transitions,
        state_size_bytes: run.head.state_bytes,
        search_attributes: Some(run.fields.search_attributes.clone().unwrap_or_default()),
        header: run.started.header.clone(),
        user_metadata: run.user_metadata.as_deref().cloned(),
        canceled_reason: known.cancel_reason.clone(),
        links: run.links.iter().chain(attach::links(run)).cloned().collect(),
        total_heartbeat_count: known.heartbeats,
        start_delay: known.start_delay,
        execution_time: Some(timestamp(first)),
        ..ActivityExecutionInfo::default()
    }
}

fn status(status: Status) -> ActivityExecutionStatus {
    match status {
        Status::Running | Status::Paused => ActivityExecutionStatus::Running,
        Status::Completed => ActivityExecutionStatus::Completed,
        Status::Failed => ActivityExecutionStatus::Failed,
        Status::Canceled => ActivityExecutionStatus::Canceled,
        Status::Terminated => ActivityExecutionStatus::Terminated,
        Status::TimedOut => ActivityExecutionStatus::TimedOut,
        Status::ContinuedAsNew | Status::Unspecified => ActivityExecutionStatus::Unspecified,
    }
}
