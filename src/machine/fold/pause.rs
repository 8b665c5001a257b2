//! A run that is paused: no task of it is handed out until it goes on.

use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionPausedEventAttributes};
use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionPauseInfo;

use super::activity::{note_pauses, restamp};
use crate::chain::Run;

/// Tasks that were offered already are not started any more: their stamps are of before.
pub fn paused(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionPausedEventAttributes) {
    run.head.status = Status::Paused.into();
    run.head.pause = Some(WorkflowExecutionPauseInfo {
        identity: a.identity.clone(),
        paused_time: event.event_time,
        reason: a.reason.clone(),
    });
    run.head.pause_request_id.clone_from(&a.request_id);
    if run.head.workflow_task.is_some() {
        run.head.workflow_task_stamp = run.head.workflow_task_stamp.wrapping_add(1);
    }
    restamp(run, |_| true);
    note_pauses(run);
}

pub fn unpaused(run: &mut Run) {
    run.head.status = Status::Running.into();
    run.head.pause = None;
    run.head.pause_request_id.clear();
    restamp(run, |_| true);
    note_pauses(run);
}
