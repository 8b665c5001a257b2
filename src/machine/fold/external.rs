//! Signals to, and cancellations of, other workflows: pending until their answer is recorded.

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::history::v1::{
    HistoryEvent, RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
    SignalExternalWorkflowExecutionInitiatedEventAttributes,
};

use crate::chain::Run;

pub fn signal_initiated(
    run: &mut Run,
    event: &HistoryEvent,
    a: &SignalExternalWorkflowExecutionInitiatedEventAttributes,
) {
    let external = pending(event.event_id, &a.namespace, &a.namespace_id, a.workflow_execution.as_ref(), &a.control);
    run.external_signals.put(event.event_id, external);
}

pub fn signal_done(run: &mut Run, initiated_event_id: i64) {
    run.external_signals.remove(&initiated_event_id);
}

pub fn cancel_initiated(
    run: &mut Run,
    event: &HistoryEvent,
    a: &RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
) {
    let external = pending(event.event_id, &a.namespace, &a.namespace_id, a.workflow_execution.as_ref(), &a.control);
    run.external_cancels.put(event.event_id, external);
}

pub fn cancel_done(run: &mut Run, initiated_event_id: i64) {
    run.external_cancels.remove(&initiated_event_id);
}

fn pending(
    initiated_event_id: i64,
    namespace: &str,
    namespace_id: &str,
    execution: Option<&WorkflowExecution>,
    control: &str,
) -> record::External {
    let (workflow_id, run_id) = execution.map(|e| (e.workflow_id.clone(), e.run_id.clone())).unwrap_or_default();
    record::External {
        initiated_event_id,
        namespace: namespace.into(),
        namespace_id: namespace_id.into(),
        workflow_id,
        run_id,
        control: control.into(),
    }
}
