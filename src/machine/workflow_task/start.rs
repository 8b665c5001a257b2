//! A poll takes the workflow task.
//!
//! # Contract
//! A start that changes nothing else is soft: no rows. A repeated claim of the same poll is answered
//! again; any other claim of a task that is taken is refused, and the broker drops the task.

use alloc::string::ToString;

use bristlecone_proto::chain::{Poll, Rejection, Reply, StartWorkflowTask, WorkflowTaskStarted, reply::Kind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkerVersionStamp;
use bristlecone_proto::temporal::api::enums::v1::{SuggestContinueAsNewReason, TaskQueueKind, WorkerVersioningMode};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowTaskStartedEventAttributes};

use super::answer::{of_hard_start, of_soft_start};
use crate::chain::{Run, SoftStart};
use crate::draft::Draft;
use crate::stamp::{Stamp, duration_nanos};
use crate::{Step, event, reply, update};

pub(crate) fn start_workflow_task(draft: Draft<'_>, input: &StartWorkflowTask) -> Step {
    let Some(poll) = &input.poll else { return draft.reject(reply::invalid_argument("Poll is not set.")) };
    let task = match waiting(&draft, input) {
        Ok(task) => task.clone(),
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&input.run_id);
    if let Some(soft) = &run.soft_start {
        let repeated = (soft.request_id == poll.request_id).then(|| of_soft_start(draft.id(), run, soft)).flatten();
        return answer_again(draft, &input.run_id, repeated);
    }
    if task.started_event_id != 0 {
        let repeated = (task.request_id == poll.request_id).then(|| of_hard_start(draft.id(), run)).flatten();
        return answer_again(draft, &input.run_id, repeated);
    }
    let from_sticky = poll.queue.as_ref().is_some_and(|queue| queue.kind() == TaskQueueKind::Sticky);
    let polled = poll.queue.as_ref().map_or("", |queue| &queue.name);
    let durable = run.speculative.is_none();
    let moves_to_normal_queue = durable && run.head.sticky.as_ref().is_some_and(|sticky| sticky.queue != polled);
    if from_sticky && run.head.sticky.is_none() {
        return draft.reject(reply::not_found("rejecting sticky poller because workflow has moved to normal queue"));
    }
    let ids_moved = task.attempt > 1 && task.scheduled_event_id != run.head.next_event_id;
    if moves_to_normal_queue || ids_moved {
        return start_hard(draft, input, poll, &task, ids_moved);
    }
    start_soft(draft, input, poll)
}

/// The pending task, if it is the one that is claimed.
fn waiting<'a>(draft: &'a Draft<'_>, input: &StartWorkflowTask) -> Result<&'a record::WorkflowTask, Rejection> {
    let Some(run) = draft.get(&input.run_id) else {
        return Err(reply::workflow_not_found(&draft.id().workflow_id, &input.run_id));
    };
    if !run.is_running() {
        return Err(reply::workflow_completed());
    }
    let task = run.pending_task().filter(|task| task.scheduled_event_id == input.scheduled_event_id);
    let task = task.ok_or_else(reply::workflow_task_not_found)?;
    if input.stamp != run.head.workflow_task_stamp || input.attempt != task.attempt {
        return Err(reply::not_found("Workflow task stamp mismatch"));
    }
    Ok(task)
}

fn answer_again(draft: Draft<'_>, run_id: &str, started: Option<WorkflowTaskStarted>) -> Step {
    match started {
        Some(mut started) => {
            started.messages = update::sent(draft.run(run_id), started.started_event_id);
            draft.unchanged(reply::of(Kind::WorkflowTaskStarted(started.into())))
        }
        None => draft.reject(reply::not_found("Workflow task already started.")),
    }
}

fn start_soft(mut draft: Draft<'_>, input: &StartWorkflowTask, poll: &Poll) -> Step {
    const NANOS_PER_MS: i64 = 1_000_000;
    let now = draft.now();
    let run = draft.run(&input.run_id);
    // A speculative task is written only when it has to be: its worker's silence ends it.
    let soft_for = match &run.speculative {
        Some(task) => duration_nanos(task.start_to_close_timeout.as_ref()),
        None => draft.at().limits.soft_start_ms_max.saturating_mul(NANOS_PER_MS),
    };
    let harden_by = now.saturating_add(soft_for);
    let started_event = started_event(draft.at(), run, &poll.request_id, &poll.identity, version_of(poll));
    let soft = SoftStart {
        started_event,
        request_id: poll.request_id.clone(),
        identity: poll.identity.clone(),
        at: now,
        harden_by,
        transitions: run.head.transitions,
    };
    let Some(mut started) = of_soft_start(draft.id(), run, &soft) else {
        return draft.reject(reply::workflow_task_not_found());
    };
    draft.soft_mut(&input.run_id).soft_start = Some(soft);
    started.messages = update::send(&mut draft, &input.run_id, started.started_event_id, false);
    draft.finish(reply::of(Kind::WorkflowTaskStarted(started.into())))
}

/// The start changes the run besides: it leaves its sticky queue, or a repeated attempt becomes a first
/// one because other events came between. So the start is written at once.
fn start_hard(
    mut draft: Draft<'_>,
    input: &StartWorkflowTask,
    poll: &Poll,
    task: &record::WorkflowTask,
    ids_moved: bool,
) -> Step {
    let run_id = &input.run_id;
    draft.begin_transition(run_id);
    draft.run_mut(run_id).head.sticky = None;
    if ids_moved {
        let original = task.original_scheduled_time;
        let head = &mut draft.run_mut(run_id).head;
        head.workflow_task = None;
        head.next_workflow_task_attempt = 1;
        draft.schedule_workflow_task_of(run_id, original);
    }
    start_now(&mut draft, run_id, &poll.request_id, &poll.identity, version_of(poll));
    let started = hard_answer(&mut draft, run_id);
    draft.finish(started)
}

fn hard_answer(draft: &mut Draft<'_>, run_id: &str) -> Reply {
    match of_hard_start(draft.id(), draft.run(run_id)) {
        Some(mut started) => {
            started.messages = update::send(draft, run_id, started.started_event_id, false);
            reply::of(Kind::WorkflowTaskStarted(started.into()))
        }
        None => reply::rejected(reply::workflow_task_not_found()),
    }
}

/// Writes the start of the pending workflow task, which ends the batch. A repeated attempt is only
/// marked.
pub(crate) fn start_now(
    draft: &mut Draft<'_>,
    run_id: &str,
    request_id: &str,
    identity: &str,
    version: Option<WorkerVersionStamp>,
) {
    let at = draft.at();
    let run = draft.run(run_id);
    if run.head.workflow_task.is_none() {
        return;
    }
    let soft = SoftStart {
        started_event: started_event(at, run, request_id, identity, version),
        request_id: request_id.to_string(),
        identity: identity.to_string(),
        at: at.now,
        harden_by: at.now,
        transitions: run.head.transitions,
    };
    draft.harden_with(run_id, soft);
}

/// The started event of the pending workflow task, with the id that it has or will have.
fn started_event(
    at: &Stamp<'_>,
    run: &Run,
    request_id: &str,
    identity: &str,
    worker_version: Option<WorkerVersionStamp>,
) -> HistoryEvent {
    let task = run.pending_task();
    let scheduled_event_id = task.map_or(0, |task| task.scheduled_event_id);
    let is_virtual = run.speculative.is_some() || task.is_some_and(|task| task.attempt > 1);
    let event_id = if is_virtual { scheduled_event_id + 1 } else { run.head.next_event_id };
    let mut reasons = alloc::vec::Vec::new();
    if run.head.history_size >= at.limits.history_bytes_suggest {
        reasons.push(SuggestContinueAsNewReason::HistorySizeTooLarge.into());
    }
    if run.head.next_event_id >= at.limits.history_events_suggest {
        reasons.push(SuggestContinueAsNewReason::TooManyHistoryEvents.into());
    }
    let most = (at.limits.updates_max * at.limits.updates_suggest as usize).div_ceil(1_000);
    if most > 0 && run.admitted.len() + run.updates.len() >= most {
        reasons.push(SuggestContinueAsNewReason::TooManyUpdates.into());
    }
    let attributes = WorkflowTaskStartedEventAttributes {
        scheduled_event_id,
        identity: identity.to_string(),
        request_id: request_id.to_string(),
        suggest_continue_as_new: !reasons.is_empty(),
        suggest_continue_as_new_reasons: reasons,
        history_size_bytes: run.head.history_size,
        worker_version,
        ..WorkflowTaskStartedEventAttributes::default()
    };
    HistoryEvent {
        event_id,
        task_id: event_id,
        ..event::new(at.now, Attributes::WorkflowTaskStartedEventAttributes(attributes))
    }
}

/// The build that the poller names, unless it is versioned by deployments.
fn version_of(poll: &Poll) -> Option<WorkerVersionStamp> {
    let options = poll.deployment.as_ref();
    let is_versioned = options.is_some_and(|options| {
        options.worker_versioning_mode() == WorkerVersioningMode::Versioned && !options.deployment_name.is_empty()
    });
    let version = poll.version.as_ref().filter(|version| !is_versioned && !version.build_id.is_empty())?;
    if version.use_versioning && !version.deployment_series_name.is_empty() {
        return None;
    }
    Some(WorkerVersionStamp { build_id: version.build_id.clone(), use_versioning: version.use_versioning })
}
