//! A run that is paused: no task of it is handed out until it goes on.

use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionPausedEventAttributes};
use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionPauseInfo;

use super::activity::note_pauses;
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
    restamp_activities(run);
    note_pauses(run);
}

pub fn unpaused(run: &mut Run) {
    run.head.status = Status::Running.into();
    run.head.pause = None;
    run.head.pause_request_id.clear();
    restamp_activities(run);
    note_pauses(run);
}

fn restamp_activities(run: &mut Run) {
    let ids: alloc::vec::Vec<i64> = run.activities.iter().map(|(id, _)| *id).collect();
    for id in ids {
        if let Some(activity) = run.activities.get_mut(&id) {
            activity.stamp = activity.stamp.wrapping_add(1);
        }
    }
}
