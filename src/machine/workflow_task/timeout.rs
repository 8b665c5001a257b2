//! A workflow task that waited, or was worked on, for too long.

use bristlecone_proto::temporal::api::enums::v1::TimeoutType;
use bristlecone_proto::temporal::api::history::v1::WorkflowTaskTimedOutEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use crate::draft::Draft;
use crate::fold;

/// Nobody took the task from its sticky queue, or one for updates from whatever queue: another one goes to
/// the normal queue.
pub(crate) fn schedule_to_start(draft: &mut Draft<'_>, run_id: &str) {
    let Some(task) = &draft.run(run_id).head.workflow_task else { return };
    if task.started_event_id != 0 {
        return;
    }
    let attributes = WorkflowTaskTimedOutEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: 0,
        timeout_type: TimeoutType::ScheduleToStart.into(),
    };
    draft.add(run_id, Attributes::WorkflowTaskTimedOutEventAttributes(attributes));
}

/// The worker did not answer in time. Of repeated timeouts history tells the first.
pub(crate) fn start_to_close(draft: &mut Draft<'_>, run_id: &str) {
    let Some(task) = &draft.run(run_id).head.workflow_task else { return };
    if task.started_event_id == 0 {
        return;
    }
    if task.attempt > 1 {
        fold::workflow_task::not_completed(draft.run_mut(run_id), true);
        return;
    }
    let attributes = WorkflowTaskTimedOutEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        timeout_type: TimeoutType::StartToClose.into(),
    };
    draft.add(run_id, Attributes::WorkflowTaskTimedOutEventAttributes(attributes));
}
