//! Options that are changed while the run is open, and requests that are attached to it.

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::EventType;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionOptionsUpdatedEventAttributes};

use super::activity::restamp;
use crate::chain::Run;
use crate::options::{effective, in_new_fields};

pub fn updated(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionOptionsUpdatedEventAttributes) {
    if !a.attached_request_id.is_empty() {
        let info = record::RequestIdInfo {
            event_type: EventType::WorkflowExecutionOptionsUpdated.into(),
            event_id: event.event_id,
        };
        run.head.request_ids.insert(a.attached_request_id.clone(), info);
    }
    run.head.attached_callbacks.extend(a.attached_completion_callbacks.iter().cloned());
    let before = effective(run.head.versioning.as_ref());
    if a.unset_versioning_override {
        if let Some(versioning) = &mut run.head.versioning {
            versioning.versioning_override = None;
        }
    } else if let Some(wanted) = &a.versioning_override {
        run.head.versioning.get_or_insert_default().versioning_override = Some(in_new_fields(wanted));
    }
    let moves = effective(run.head.versioning.as_ref()) != before;
    if moves {
        // Its tasks are for other workers now.
        run.head.sticky = None;
        if let Some(versioning) = &mut run.head.versioning {
            versioning.deployment_transition = None;
            versioning.version_transition = None;
        }
    }
    let ranks = a.priority.is_some() && a.priority != run.head.priority;
    if ranks {
        run.head.priority.clone_from(&a.priority);
        // What waits for a worker is ranked by it, too.
        restamp(run, |activity| activity.offered);
    }
    if moves || ranks {
        offer_again(run);
    }
}

/// A workflow task that waits goes back into the backlog, as it would be offered now.
fn offer_again(run: &mut Run) {
    let queue = crate::draft::current_queue(run);
    let priority = run.head.priority.clone();
    let is_sticky = run.head.sticky.is_some();
    let Some(task) = run.head.workflow_task.as_mut().filter(|task| task.started_event_id == 0) else { return };
    task.priority = priority;
    if !is_sticky {
        task.queue = Some(queue);
        task.schedule_to_start_timeout = None;
    }
    run.head.workflow_task_stamp = run.head.workflow_task_stamp.wrapping_add(1);
}

pub fn numbered(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionOptionsUpdatedEventAttributes) {
    if let Some(info) = run.head.request_ids.get_mut(&a.attached_request_id) {
        info.event_id = event.event_id;
    }
}
