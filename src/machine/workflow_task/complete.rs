//! RespondWorkflowTaskCompleted: the worker's commands become events.
//!
//! # Contract
//! One step, however many commands. Order of the events: what a repeated attempt still owes (scheduled,
//! started), completed, the commands' events in their order, what waited in the buffer, the next
//! scheduled (and, when the worker asks for it, started) event. A command that is refused undoes all of
//! it; then the workflow task fails instead, and the worker hears why.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::{
    CompleteWorkflowTask, Rejection, WorkflowTaskCompleted, WorkflowTaskStarted, WorkflowTaskToken, reply::Kind,
};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{
    VersioningBehavior, WorkerVersioningMode, WorkflowTaskFailedCause as Cause,
};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    WorkflowExecutionTerminatedEventAttributes, WorkflowTaskCompletedEventAttributes,
};
use bristlecone_proto::temporal::api::taskqueue::v1::StickyExecutionAttributes;
use bristlecone_proto::temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest as Request;
use prost_types::Timestamp;

use super::{answer, start, timeout, token};
use crate::command::{self, CommandContext, CommandFailure};
use crate::draft::Draft;
use crate::stamp::nanos;
use crate::validate::failure;
use crate::{Step, activity, close, event, reply, update};

pub(crate) fn complete_workflow_task(mut draft: Draft<'_>, input: &CompleteWorkflowTask) -> Step {
    let (Some(token), Some(request)) = (&input.token, &input.request) else {
        return draft.reject(reply::invalid_argument("Request is nil."));
    };
    if leaves_no_trace(&draft, token, request) {
        return drop_speculative(draft, token, request);
    }
    if let Err(rejection) = admit(&mut draft, token, request) {
        return draft.reject(rejection);
    }
    let Some(task) = draft.run(&token.run_id).head.workflow_task.clone() else {
        return draft.reject(reply::workflow_task_not_found());
    };
    let is_heartbeat = is_heartbeat(request);
    if is_heartbeat && is_overdue(&draft, &task) {
        return heartbeat_timeout(draft, &token.run_id);
    }
    match carry_out(&mut draft, token, request, &task) {
        Ok(ctx) => {
            let original = if is_heartbeat { task.original_scheduled_time } else { None };
            conclude(draft, ctx, request, original)
        }
        Err(failure) => fail(draft.restart(), token, request, &task, &failure),
    }
}

/// Whether the answer is taken at all. Afterwards the start of the task is durable in the draft.
fn admit(draft: &mut Draft<'_>, token: &WorkflowTaskToken, request: &Request) -> Result<(), Rejection> {
    token::accept(draft, token)?;
    let run = draft.run(&token.run_id);
    if run.is_paused() && request.force_create_new_workflow_task {
        let message = "Workflow is paused and force create new workflow task is not allowed.";
        return Err(reply::failed_precondition(message));
    }
    let options = request.deployment_options.as_ref();
    let is_versioned = options.is_some_and(|o| o.worker_versioning_mode() == WorkerVersioningMode::Versioned);
    if request.versioning_behavior() != VersioningBehavior::Unspecified && request.deployment.is_none() && !is_versioned
    {
        return Err(reply::invalid_argument(
            "versioning behavior cannot be specified without deployment options being set with versioned mode",
        ));
    }
    let used_versions = run.head.worker_version.as_ref().is_some_and(|version| version.use_versioning);
    let uses_versions = request.worker_version_stamp.as_ref().is_some_and(|version| version.use_versioning);
    let behaves = run.head.versioning.as_ref().is_some_and(|v| v.behavior() != VersioningBehavior::Unspecified);
    if used_versions && !uses_versions && !is_versioned && !behaves {
        return Err(reply::invalid_argument("Workflow using versioning must continue to use versioning."));
    }
    command::check_sequence(&request.commands).map_err(reply::invalid_argument)
}

/// A worker may keep a workflow task alive for so long and no longer.
fn is_overdue(draft: &Draft<'_>, task: &record::WorkflowTask) -> bool {
    const NANOS_PER_MS: i64 = 1_000_000;
    let most = draft.at().limits.workflow_task_heartbeat_ms_max.saturating_mul(NANOS_PER_MS);
    let original = task.original_scheduled_time.as_ref().map_or(0, nanos);
    original > 0 && draft.now() > original.saturating_add(most)
}

fn heartbeat_timeout(mut draft: Draft<'_>, run_id: &str) -> Step {
    timeout::start_to_close(&mut draft, run_id);
    draft.run_mut(run_id).head.sticky = None;
    draft.schedule_workflow_task(run_id);
    let failed = Some(reply::not_found("workflow task heartbeat timeout"));
    let completed = WorkflowTaskCompleted { failed, another_task: true, run_id: run_id.into(), ..Default::default() };
    draft.finish(reply::of(Kind::WorkflowTaskCompleted(completed.into())))
}

/// Writes the completion and the commands.
fn carry_out(
    draft: &mut Draft<'_>,
    token: &WorkflowTaskToken,
    request: &Request,
    task: &record::WorkflowTask,
) -> Result<CommandContext, CommandFailure> {
    let run_id = &token.run_id;
    let (scheduled_event_id, started_event_id) = write_owed(draft, run_id, task);
    let attributes = completed_attributes(request, scheduled_event_id, started_event_id);
    let completed_event_id = draft.add(run_id, Attributes::WorkflowTaskCompletedEventAttributes(attributes));
    set_sticky(draft, run_id, request.sticky_attributes.as_ref());
    if draft.at().namespace.bad_binaries.contains(&request.binary_checksum) {
        let message = format!("binary {} is marked as bad deployment", request.binary_checksum);
        return Err(CommandFailure::new(Cause::BadBinary, message));
    }
    let mut ctx = CommandContext {
        run_id: run_id.clone(),
        completed_event_id,
        identity: request.identity.clone(),
        has_buffered: draft.has_buffered(run_id),
        activity_canceled: false,
        children: BTreeSet::new(),
        eager_activities: Vec::new(),
        messages: request.messages.clone(),
    };
    for command in &request.commands {
        command::apply(draft, &mut ctx, command)?;
    }
    for message in core::mem::take(&mut ctx.messages) {
        update::message::apply(draft, run_id, &message)?;
    }
    if !is_heartbeat(request) && draft.run(run_id).is_running() {
        draft.reject_unprocessed_updates(run_id);
    }
    Ok(ctx)
}

/// Whether a speculative task was completed in vain: it only rejected updates, and the worker forgets it.
fn leaves_no_trace(draft: &Draft<'_>, token: &WorkflowTaskToken, request: &Request) -> bool {
    const WORKFLOW_TASK_EVENTS: i64 = 2;
    let Some(run) = draft.get(&token.run_id).filter(|run| token::names_speculative(run, token)) else { return false };
    let forgets_events = request.capabilities.as_ref().is_some_and(|c| c.discard_speculative_workflow_task_with_events);
    let most = if forgets_events { draft.at().limits.speculative_events_max } else { 0 };
    request.commands.is_empty()
        && !request.force_create_new_workflow_task
        && run.head.next_event_id <= run.head.previous_started_event_id + WORKFLOW_TASK_EVENTS + most
        && request.messages.iter().all(update::message::is_rejection)
}

/// The worker goes back to where it was before the task.
fn drop_speculative(mut draft: Draft<'_>, token: &WorkflowTaskToken, request: &Request) -> Step {
    let run_id = &token.run_id;
    for message in &request.messages {
        if let Err(failure) = update::message::apply(&mut draft, run_id, message) {
            let Some(task) = draft.run(run_id).pending_task().cloned() else {
                return draft.reject(reply::workflow_task_not_found());
            };
            return fail(draft.restart(), token, request, &task, &failure);
        }
    }
    draft.reject_unprocessed_updates(run_id);
    draft.drop_speculative_task(run_id);
    draft.schedule_task_for_updates(run_id);
    let completed = WorkflowTaskCompleted {
        reset_history_event_id: draft.run(run_id).head.previous_started_event_id,
        run_id: run_id.clone(),
        ..WorkflowTaskCompleted::default()
    };
    draft.finish(reply::of(Kind::WorkflowTaskCompleted(completed.into())))
}

/// The worker only wants to keep its task.
fn is_heartbeat(request: &Request) -> bool {
    request.force_create_new_workflow_task && request.commands.is_empty() && request.messages.is_empty()
}

/// A repeated attempt gets its scheduled and started events now, as the worker saw them. Returns the ids
/// of both.
fn write_owed(draft: &mut Draft<'_>, run_id: &str, task: &record::WorkflowTask) -> (i64, i64) {
    let Some(started_event) = task.started_event.as_ref().filter(|_| task.attempt > 1) else {
        return (task.scheduled_event_id, task.started_event_id);
    };
    let scheduled = draft.add_event(run_id, answer::scheduled_event(task));
    let started = draft.add_event(run_id, started_event.clone());
    draft.end_batch(run_id);
    (scheduled, started)
}

fn completed_attributes(
    request: &Request,
    scheduled_event_id: i64,
    started_event_id: i64,
) -> WorkflowTaskCompletedEventAttributes {
    use bristlecone_proto::temporal::api::deployment::v1::WorkerDeploymentVersion;
    let options = request.deployment_options.as_ref();
    let is_versioned = options.is_some_and(|o| o.worker_versioning_mode() == WorkerVersioningMode::Versioned);
    let deployment_version = match (&request.deployment, options.filter(|_| is_versioned)) {
        (_, Some(options)) => Some((&options.deployment_name, &options.build_id)),
        (Some(deployment), None) => Some((&deployment.series_name, &deployment.build_id)),
        (None, None) => None,
    };
    // Some SDKs name the build of a worker that belongs to no deployment.
    let deployment_version = deployment_version
        .filter(|(name, build_id)| !name.is_empty() && !build_id.is_empty())
        .map(|(name, build_id)| WorkerDeploymentVersion { deployment_name: name.clone(), build_id: build_id.clone() });
    let deployment_name = options.map(|o| &o.deployment_name).filter(|name| !name.is_empty());
    let series_name = request.deployment.as_ref().map(|deployment| &deployment.series_name);
    // Some SDKs report a default behaviour although their workers are not versioned.
    let ignores_behavior = options.is_some() && !is_versioned;
    WorkflowTaskCompletedEventAttributes {
        scheduled_event_id,
        started_event_id,
        identity: request.identity.clone(),
        binary_checksum: request.binary_checksum.clone(),
        worker_version: request.worker_version_stamp.clone(),
        sdk_metadata: request.sdk_metadata.clone(),
        metering_metadata: request.metering_metadata,
        versioning_behavior: if ignores_behavior { 0 } else { request.versioning_behavior },
        worker_deployment_name: deployment_name.or(series_name).cloned().unwrap_or_default(),
        deployment_version,
        ..WorkflowTaskCompletedEventAttributes::default()
    }
}

/// From now on workflow tasks go to the worker's own queue, or to the normal one when it names none.
fn set_sticky(draft: &mut Draft<'_>, run_id: &str, attributes: Option<&StickyExecutionAttributes>) {
    let queue = attributes.and_then(|a| a.worker_task_queue.as_ref()).filter(|queue| !queue.name.is_empty());
    draft.run_mut(run_id).head.sticky = queue.map(|queue| record::Sticky {
        queue: queue.name.clone(),
        schedule_to_start_timeout: attributes.and_then(|a| a.schedule_to_start_timeout),
    });
}

/// Eager activities, the next workflow task, and the answer.
fn conclude(
    mut draft: Draft<'_>,
    ctx: CommandContext,
    request: &Request,
    original_scheduled_time: Option<Timestamp>,
) -> Step {
    let run_id = &ctx.run_id;
    let mut eager_activities = Vec::new();
    for scheduled_event_id in &ctx.eager_activities {
        eager_activities.extend(activity::start_eagerly(&mut draft, run_id, *scheduled_event_id, &ctx.identity));
    }
    let wants_task = request.force_create_new_workflow_task || ctx.has_buffered || ctx.activity_canceled;
    let run = draft.run(run_id);
    let mut next = None;
    if wants_task && run.is_running() && !run.is_paused() {
        draft.schedule_workflow_task_of(run_id, original_scheduled_time);
        if request.return_new_workflow_task {
            next = start_next(&mut draft, run_id, request);
        }
    }
    let completed = WorkflowTaskCompleted {
        next,
        eager_activities,
        another_task: draft.run(run_id).head.workflow_task.is_some(),
        run_id: run_id.clone(),
        ..WorkflowTaskCompleted::default()
    };
    draft.finish(reply::of(Kind::WorkflowTaskCompleted(completed.into())))
}

/// The worker gets the next workflow task with the answer; it has the history up to this one.
fn start_next(draft: &mut Draft<'_>, run_id: &str, request: &Request) -> Option<WorkflowTaskStarted> {
    let version = request.worker_version_stamp.clone().filter(|version| !version.use_versioning);
    start::start_now(draft, run_id, "request-from-RespondWorkflowTaskCompleted", &request.identity, version);
    let run = draft.run(run_id);
    let mut started = answer::of_hard_start(draft.id(), run)?;
    started.first_event_id = run.head.previous_started_event_id + 1;
    started.messages = update::send(draft, run_id, started.started_event_id, is_heartbeat(request));
    Some(started)
}

/// Fails the workflow task because of what the worker answered. Beyond the first attempt nothing is
/// written and the task is left to time out, so that a broken workflow is tried ever more slowly.
fn fail(
    mut draft: Draft<'_>,
    token: &WorkflowTaskToken,
    request: &Request,
    task: &record::WorkflowTask,
    refused: &CommandFailure,
) -> Step {
    let run_id = &token.run_id;
    let text = refused.text();
    if task.attempt > 1 && refused.cause != Cause::UnhandledCommand {
        draft.abort_sent_updates(run_id);
        if draft.news.is_empty() {
            return draft.reject(reply::invalid_argument(text));
        }
        return draft.finish(reply::rejected(reply::invalid_argument(text)));
    }
    if let Err(rejection) = token::accept(&mut draft, token) {
        return draft.reject(rejection);
    }
    draft.abort_sent_updates(run_id);
    let failure = failure::server(&text, false);
    draft.fail_workflow_task(run_id, refused.cause, Some(failure), &request.identity, &request.binary_checksum);
    if refused.terminate {
        terminate(&mut draft, run_id, &text);
    } else {
        draft.schedule_workflow_task(run_id);
    }
    let completed = WorkflowTaskCompleted {
        failed: Some(reply::invalid_argument(text)),
        another_task: !refused.terminate,
        run_id: run_id.clone(),
        ..WorkflowTaskCompleted::default()
    };
    draft.finish(reply::of(Kind::WorkflowTaskCompleted(completed.into())))
}

/// What the workflow asks for will never fit: it ends.
fn terminate(draft: &mut Draft<'_>, run_id: &str, reason: &str) {
    draft.flush_buffer(run_id);
    let attributes = WorkflowExecutionTerminatedEventAttributes {
        reason: String::from(reason),
        details: None,
        identity: "history-service".into(),
    };
    let event = event::new(draft.now(), Attributes::WorkflowExecutionTerminatedEventAttributes(attributes));
    close::close(draft, run_id, event);
}

#[cfg(test)]
mod tests {
    use super::*;
    use WorkerVersioningMode::{Unversioned, Versioned};
    use alloc::string::ToString;
    use bristlecone_proto::temporal::api::deployment::v1::{Deployment, WorkerDeploymentOptions};

    #[test]
    fn a_build_without_a_deployment_is_no_version() {
        let version = |deployment: Option<(&str, &str)>, options: Option<(&str, &str, WorkerVersioningMode)>| {
            let request = Request {
                deployment: deployment
                    .map(|(name, build)| Deployment { series_name: name.into(), build_id: build.into() }),
                deployment_options: options.map(|(name, build, mode)| WorkerDeploymentOptions {
                    deployment_name: name.into(),
                    build_id: build.into(),
                    worker_versioning_mode: mode.into(),
                }),
                ..Request::default()
            };
            let version = completed_attributes(&request, 2, 3).deployment_version;
            version.map(|version| (version.deployment_name, version.build_id))
        };
        let both = Some(("shop".to_string(), "1".to_string()));
        assert_eq!(version(Some(("shop", "1")), None), both);
        assert_eq!(version(Some(("", "1")), None), None);
        assert_eq!(version(Some(("shop", "")), None), None);
        assert_eq!(version(Some(("old", "0")), Some(("shop", "1", Versioned))), both);
        assert_eq!(version(Some(("shop", "1")), Some(("", "2", Versioned))), None);
        assert_eq!(version(Some(("shop", "1")), Some(("shop", "2", Unversioned))), both);
    }
}
