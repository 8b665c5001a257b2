//! Options that are changed while the run is open, and requests that are attached to it.

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::EventType;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionOptionsUpdatedEventAttributes};

use crate::chain::Run;

pub fn updated(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionOptionsUpdatedEventAttributes) {
    if !a.attached_request_id.is_empty() {
        let info = record::RequestIdInfo {
            event_type: EventType::WorkflowExecutionOptionsUpdated.into(),
            event_id: event.event_id,
        };
        run.head.request_ids.insert(a.attached_request_id.clone(), info);
    }
    run.head.attached_callbacks.extend(a.attached_completion_callbacks.iter().cloned());
    if a.unset_versioning_override {
        if let Some(versioning) = &mut run.head.versioning {
            versioning.versioning_override = None;
        }
    } else if a.versioning_override.is_some() {
        run.head.versioning.get_or_insert_default().versioning_override = a.versioning_override.clone();
    }
    if a.priority.is_some() {
        run.head.priority = a.priority.clone();
    }
}

pub fn numbered(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionOptionsUpdatedEventAttributes) {
    if let Some(info) = run.head.request_ids.get_mut(&a.attached_request_id) {
        info.event_id = event.event_id;
    }
}
