//! Child workflows: pending from their initiated event to the event that closes them.

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::history::v1::{
    ChildWorkflowExecutionStartedEventAttributes, HistoryEvent, StartChildWorkflowExecutionInitiatedEventAttributes,
};

use super::BUFFERED_EVENT_ID;
use crate::chain::Run;

pub fn initiated(
    run: &mut Run,
    event: &HistoryEvent,
    a: &StartChildWorkflowExecutionInitiatedEventAttributes,
    batch_id: i64,
) {
    let child = record::Child {
        initiated_event_id: event.event_id,
        initiated_batch_id: batch_id,
        namespace: a.namespace.clone(),
        namespace_id: a.namespace_id.clone(),
        workflow_id: a.workflow_id.clone(),
        workflow_type: a.workflow_type.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
        parent_close_policy: a.parent_close_policy,
        ..record::Child::default()
    };
    run.children.put(event.event_id, child);
}

pub fn started(run: &mut Run, event: &HistoryEvent, a: &ChildWorkflowExecutionStartedEventAttributes) {
    let Some(child) = run.children.get_mut(&a.initiated_event_id) else { return };
    child.started_event_id = if event.event_id == 0 { BUFFERED_EVENT_ID } else { event.event_id };
    if let Some(execution) = &a.workflow_execution {
        child.run_id.clone_from(&execution.run_id);
    }
    if child.first_run_id.is_empty() {
        child.first_run_id.clone_from(&child.run_id);
    }
}

pub fn numbered(run: &mut Run, event: &HistoryEvent, a: &ChildWorkflowExecutionStartedEventAttributes) {
    if let Some(child) = run.children.get_mut(&a.initiated_event_id) {
        child.started_event_id = event.event_id;
    }
}

pub fn closed(run: &mut Run, initiated_event_id: i64) {
    run.children.remove(&initiated_event_id);
}
