//! A start is taken back, made durable, or moved to the normal queue.

use bristlecone_proto::chain::{Harden, StickyUnavailable, UndoWorkflowTaskStart};
use bristlecone_proto::temporal::api::enums::v1::TaskQueueKind;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflowservice::v1::ResetStickyTaskQueueRequest;

use super::answer;
use crate::draft::{Draft, current_queue, normal_queue};
use crate::stamp::duration;
use crate::{Step, reply};

/// The poll is gone. A soft start is forgotten; a repeated attempt that is only marked as started is
/// offered again; a start that history tells of has to time out.
pub(crate) fn undo_workflow_task_start(mut draft: Draft<'_>, input: &UndoWorkflowTaskStart) -> Step {
    let run_id = &input.run_id;
    let Some(run) = draft.get(run_id) else { return draft.unchanged(reply::done()) };
    if run.soft_start.as_ref().is_some_and(|soft| soft.request_id == input.request_id) {
        draft.soft_mut(run_id).soft_start = None;
        return draft.finish(reply::done());
    }
    let is_marked = run.head.workflow_task.as_ref().is_some_and(|task| {
        task.attempt > 1
            && task.started_event_id != 0
            && task.scheduled_event_id == input.scheduled_event_id
            && task.request_id == input.request_id
    });
    if !is_marked || !run.buffered.is_empty() {
        return draft.unchanged(reply::done());
    }
    draft.begin_transition(run_id);
    if let Some(task) = &mut draft.run_mut(run_id).head.workflow_task {
        task.started_event_id = 0;
        task.started_time = None;
        task.started_event = None;
        task.request_id.clear();
        task.identity.clear();
    }
    draft.finish(reply::done())
}

/// Makes a soft start durable.
pub(crate) fn harden(mut draft: Draft<'_>, input: &Harden) -> Step {
    let Ok(run_id) = draft.find_run(&input.run_id) else { return draft.unchanged(reply::done()) };
    let run = draft.run(&run_id);
    if run.soft_start.is_none() || run.speculative.is_some() {
        return draft.unchanged(reply::done());
    }
    draft.begin_transition(&run_id);
    draft.finish(reply::done())
}

/// No worker listens on the sticky queue: the task is offered on the normal queue, without an event.
pub(crate) fn sticky_unavailable(mut draft: Draft<'_>, input: &StickyUnavailable) -> Step {
    let run_id = &input.run_id;
    let Some(run) = draft.get(run_id).filter(|run| run.is_running()) else { return draft.unchanged(reply::done()) };
    let waits = run.pending_task().is_some_and(|task| {
        task.scheduled_event_id == input.scheduled_event_id
            && task.attempt == input.attempt
            && task.started_event_id == 0
            && answer::is_sticky(task)
    });
    if !waits || run.soft_start.is_some() {
        return draft.unchanged(reply::done());
    }
    if run.speculative.is_some() {
        offer_speculative_on_normal_queue(&mut draft, run_id);
        return draft.finish(reply::done());
    }
    draft.begin_transition(run_id);
    leave_sticky_queue(&mut draft, run_id);
    draft.finish(reply::done())
}

/// In memory, as the task itself: the run keeps its sticky queue.
fn offer_speculative_on_normal_queue(draft: &mut Draft<'_>, run_id: &str) {
    const NANOS_PER_MS: i64 = 1_000_000;
    let wait = draft.at().limits.speculative_wait_ms_max.saturating_mul(NANOS_PER_MS);
    let name = normal_queue(draft.run(run_id)).into();
    if let Some(task) = &mut draft.soft_mut(run_id).speculative {
        task.queue = Some(TaskQueue { name, kind: TaskQueueKind::Normal.into(), ..TaskQueue::default() });
        task.schedule_to_start_timeout = Some(duration(wait));
    }
}

/// ResetStickyTaskQueue: later workflow tasks go to the normal queue.
pub(crate) fn reset_sticky(mut draft: Draft<'_>, request: &ResetStickyTaskQueueRequest) -> Step {
    let run_id = match draft.find_running(request.execution.as_ref()) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    if draft.run(&run_id).head.sticky.is_none() {
        return draft.unchanged(reply::done());
    }
    draft.begin_transition(&run_id);
    leave_sticky_queue(&mut draft, &run_id);
    draft.finish(reply::done())
}

/// Clears the sticky queue, and moves a task that waits there.
fn leave_sticky_queue(draft: &mut Draft<'_>, run_id: &str) {
    let run = draft.run_mut(run_id);
    run.head.sticky = None;
    let normal = current_queue(run);
    if let Some(task) = run.head.workflow_task.as_mut().filter(|task| task.started_event_id == 0) {
        task.queue = Some(normal);
        task.schedule_to_start_timeout = None;
    }
}
