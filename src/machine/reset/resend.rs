//! What the new run had asked of other workflows by the point of a reset, and has no answer to, is asked
//! again in its name. The answer to the start of a child that is still under way goes to the new run.

use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::{CancelExternal, ChainId, Input, RunRef, SignalExternal, input};
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes as A;

use crate::command::start_child;
use crate::draft::Draft;
use crate::{ids, outbox};

pub(super) fn resend(draft: &mut Draft<'_>, base_id: &str, run_id: &str, before: &[Vec<HistoryEvent>]) {
    for event in before.iter().flatten() {
        let id = event.event_id;
        let sender = || Some(RunRef { chain: Some(draft.id().clone()), run_id: run_id.into() });
        let run = draft.run(run_id);
        match &event.attributes {
            Some(A::StartChildWorkflowExecutionInitiatedEventAttributes(a)) => {
                let waits = run.children.get(&id).is_some_and(|child| child.started_event_id == 0);
                if waits && outbox::start_child_of(draft, base_id, id).is_none() {
                    start_child::send(draft, run_id, id, a.clone(), event.user_metadata.clone());
                }
            }
            Some(A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a))
                if run.external_signals.contains(&id) =>
            {
                let target = a.workflow_execution.clone().unwrap_or_default();
                let message = SignalExternal {
                    sender: sender(),
                    initiated_event_id: id,
                    run_id: target.run_id,
                    signal_name: a.signal_name.clone(),
                    input: a.input.clone(),
                    header: a.header.clone(),
                    child_workflow_only: a.child_workflow_only,
                    request_id: ids::derived(run_id, id),
                };
                send(draft, run_id, target.workflow_id, input::Kind::SignalExternal(message));
            }
            Some(A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a))
                if run.external_cancels.contains(&id) =>
            {
                let target = a.workflow_execution.clone().unwrap_or_default();
                let message = CancelExternal {
                    sender: sender(),
                    initiated_event_id: id,
                    run_id: target.run_id,
                    child_workflow_only: a.child_workflow_only,
                    reason: a.reason.clone(),
                    request_id: ids::derived(run_id, id),
                };
                send(draft, run_id, target.workflow_id, input::Kind::CancelExternal(message));
            }
            _ => {}
        }
    }
}

fn send(draft: &mut Draft<'_>, run_id: &str, workflow_id: String, kind: input::Kind) {
    let target = ChainId { workflow_id, ..draft.id().clone() };
    draft.send(run_id, target, Input { kind: Some(kind), ..Input::default() });
}
