//! Updates as history tells of them: admitted (by a reset), accepted, completed.

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::history::v1::{
    HistoryEvent, WorkflowExecutionUpdateAcceptedEventAttributes, WorkflowExecutionUpdateAdmittedEventAttributes,
    WorkflowExecutionUpdateCompletedEventAttributes,
};
use bristlecone_proto::temporal::api::update::v1::Request;

use super::BUFFERED_EVENT_ID;
use crate::chain::Run;

pub fn admitted(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionUpdateAdmittedEventAttributes) {
    let Some(id) = update_id(a.request.as_ref()) else { return };
    let mut update = run.updates.get(&id.into()).copied().unwrap_or_default();
    update.admitted_event_id = if event.event_id == 0 { BUFFERED_EVENT_ID } else { event.event_id };
    run.updates.put(id.into(), update);
}

/// The event of an admitted update got its id.
pub fn numbered(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionUpdateAdmittedEventAttributes) {
    if let Some(update) = update_id(a.request.as_ref()).and_then(|id| run.updates.get_mut(&id.into())) {
        update.admitted_event_id = event.event_id;
    }
}

pub fn accepted(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionUpdateAcceptedEventAttributes) {
    // That it had been admitted tells nothing any more: it may have been rejected, and sent anew, since.
    let update = record::Update { accepted_event_id: event.event_id, ..record::Update::default() };
    run.updates.put(a.protocol_instance_id.clone(), update);
}

pub fn completed(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionUpdateCompletedEventAttributes) {
    let Some(meta) = &a.meta else { return };
    let mut update = run.updates.get(&meta.update_id).copied().unwrap_or_default();
    update.completed_event_id = event.event_id;
    run.updates.put(meta.update_id.clone(), update);
}

fn update_id(request: Option<&Request>) -> Option<&str> {
    Some(request?.meta.as_ref()?.update_id.as_str())
}
