//! Signals to, and cancellations of, other workflows: what passes between the two chains.
//!
//! # Contract
//! ```text
//! sender                                     target
//! SignalExternal…Initiated ── SignalExternal ──► WorkflowExecutionSignaled
//! …Signaled or …Failed ◄── answer ──────────────
//! RequestCancelExternal…Initiated ── CancelExternal ──► WorkflowExecutionCancelRequested
//! …CancelRequested or …Failed ◄── answer ───────
//! ```
//! A message is taken once: its receipt answers a repetition. A workflow never reaches itself this way.
//! A sender that closed in the step that initiated sends nothing; one that closes later hears no more.
//!
//! # Used by
//! `lib.rs`, `outbox.rs` (answers).

use alloc::string::String;

use bristlecone_proto::chain::{CancelExternal, Rejection, RunRef, SignalExternal, reply::Kind as ReplyKind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::{
    CancelExternalWorkflowExecutionFailedCause as CancelFailed,
    SignalExternalWorkflowExecutionFailedCause as SignalFailed,
};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    ExternalWorkflowExecutionCancelRequestedEventAttributes, ExternalWorkflowExecutionSignaledEventAttributes,
    RequestCancelExternalWorkflowExecutionFailedEventAttributes, SignalExternalWorkflowExecutionFailedEventAttributes,
};

use crate::cancel::{self, Cancel};
use crate::draft::Draft;
use crate::signal::{self, Signal};
use crate::{Step, child, outbox, reply};

const SERVER: &str = "history-service";

// ---------------------------------------------------------------- on the target's side

/// Another workflow signals a run of this chain.
pub(crate) fn signal_external(mut draft: Draft<'_>, input: &SignalExternal) -> Step {
    let (run_id, sender, execution) = match target(&draft, input.sender.as_ref(), &input.run_id) {
        Ok(target) => target,
        Err(rejection) => return draft.reject(rejection),
    };
    let signal = Signal {
        name: &input.signal_name,
        input: input.input.as_ref(),
        header: input.header.as_ref(),
        identity: SERVER,
        // The receipt of the message recognises repetitions.
        request_id: "",
        links: &[],
        sender: Some(&execution),
    };
    if let Err(rejection) = signal::check(&draft, &run_id, &signal) {
        return draft.reject(rejection);
    }
    if input.child_workflow_only && !child::is_parent(draft.run(&run_id), &sender) {
        return draft.reject(not_its_parent());
    }
    let backing_off = draft.run(&run_id).is_backing_off();
    signal::deliver(&mut draft, &run_id, &signal);
    if !backing_off {
        draft.schedule_workflow_task(&run_id);
    }
    draft.finish(reply::done())
}

/// Another workflow asks a run of this chain to cancel. A run that is closed, or was asked before, has
/// nothing to do.
pub(crate) fn cancel_external(mut draft: Draft<'_>, input: &CancelExternal) -> Step {
    let (run_id, sender, execution) = match target(&draft, input.sender.as_ref(), &input.run_id) {
        Ok(target) => target,
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&run_id);
    if !run.is_running() {
        return draft.unchanged(reply::done());
    }
    if input.child_workflow_only && !child::is_parent(run, &sender) {
        return draft.reject(not_its_parent());
    }
    if run.head.cancel_requested {
        return draft.unchanged(reply::done());
    }
    let cancel = Cancel {
        reason: &input.reason,
        identity: SERVER,
        request_id: &input.request_id,
        links: &[],
        sender: Some((&execution, input.initiated_event_id)),
    };
    cancel::deliver(&mut draft, &run_id, &cancel);
    draft.finish(reply::done())
}

/// The run that is meant, and the sender, which must be another workflow.
fn target(
    draft: &Draft<'_>,
    sender: Option<&RunRef>,
    run_id: &str,
) -> Result<(String, RunRef, WorkflowExecution), Rejection> {
    let (Some(sender), Some(chain)) = (sender, sender.and_then(|sender| sender.chain.as_ref())) else {
        return Err(reply::invalid_argument("Request is nil."));
    };
    if chain == draft.id() {
        return Err(reply::workflow_not_found(&draft.id().workflow_id, run_id));
    }
    let run_id = draft.find_run(run_id)?;
    let execution = WorkflowExecution { workflow_id: chain.workflow_id.clone(), run_id: sender.run_id.clone() };
    Ok((run_id, sender.clone(), execution))
}

fn not_its_parent() -> Rejection {
    reply::not_found("workflow parent does not match")
}

// ---------------------------------------------------------------- on the sender's side

/// The target's chain answered a signal.
pub(crate) fn signal_answered(
    draft: &mut Draft<'_>,
    run_id: &str,
    message: &SignalExternal,
    answer: &Result<ReplyKind, Rejection>,
) {
    let id = message.initiated_event_id;
    let run = draft.get(run_id).filter(|run| run.is_running());
    let Some(external) = run.and_then(|run| run.external_signals.get(&id)).cloned() else { return };
    let Target { namespace, namespace_id, execution } = Target::of(draft, &external);
    let attributes = match answer {
        Ok(_) => Attributes::ExternalWorkflowExecutionSignaledEventAttributes(
            ExternalWorkflowExecutionSignaledEventAttributes {
                initiated_event_id: id,
                namespace,
                namespace_id,
                workflow_execution: Some(execution),
                control: external.control,
            },
        ),
        Err(rejection) => Attributes::SignalExternalWorkflowExecutionFailedEventAttributes(
            SignalExternalWorkflowExecutionFailedEventAttributes {
                cause: signal_failed(rejection).into(),
                workflow_task_completed_event_id: 0,
                namespace,
                namespace_id,
                workflow_execution: Some(execution),
                initiated_event_id: id,
                control: external.control,
            },
        ),
    };
    draft.begin_transition(run_id);
    draft.add(run_id, attributes);
    draft.schedule_workflow_task(run_id);
}

fn signal_failed(rejection: &Rejection) -> SignalFailed {
    if outbox::is_namespace_not_found(rejection) {
        SignalFailed::NamespaceNotFound
    } else if rejection.code == reply::code::INVALID_ARGUMENT {
        SignalFailed::SignalCountLimitExceeded
    } else {
        SignalFailed::ExternalWorkflowExecutionNotFound
    }
}

/// The target's chain answered a request to cancel.
pub(crate) fn cancel_answered(
    draft: &mut Draft<'_>,
    run_id: &str,
    message: &CancelExternal,
    answer: &Result<ReplyKind, Rejection>,
) {
    let id = message.initiated_event_id;
    let run = draft.get(run_id).filter(|run| run.is_running());
    let Some(external) = run.and_then(|run| run.external_cancels.get(&id)).cloned() else { return };
    let Target { namespace, namespace_id, execution } = Target::of(draft, &external);
    let attributes = match answer {
        Ok(_) => Attributes::ExternalWorkflowExecutionCancelRequestedEventAttributes(
            ExternalWorkflowExecutionCancelRequestedEventAttributes {
                initiated_event_id: id,
                namespace,
                namespace_id,
                workflow_execution: Some(execution),
            },
        ),
        Err(rejection) => {
            let cause = if outbox::is_namespace_not_found(rejection) {
                CancelFailed::NamespaceNotFound
            } else {
                CancelFailed::ExternalWorkflowExecutionNotFound
            };
            Attributes::RequestCancelExternalWorkflowExecutionFailedEventAttributes(
                RequestCancelExternalWorkflowExecutionFailedEventAttributes {
                    cause: cause.into(),
                    workflow_task_completed_event_id: 0,
                    namespace,
                    namespace_id,
                    workflow_execution: Some(execution),
                    initiated_event_id: id,
                    control: String::new(),
                },
            )
        }
    };
    draft.begin_transition(run_id);
    draft.add(run_id, attributes);
    draft.schedule_workflow_task(run_id);
}

/// The other workflow as the sender's events name it.
struct Target {
    namespace: String,
    namespace_id: String,
    execution: WorkflowExecution,
}

impl Target {
    fn of(draft: &Draft<'_>, external: &record::External) -> Self {
        let named = &external.namespace;
        Self {
            namespace: if named.is_empty() { &draft.id().namespace } else { named }.clone(),
            namespace_id: external.namespace_id.clone(),
            execution: WorkflowExecution { workflow_id: external.workflow_id.clone(), run_id: external.run_id.clone() },
        }
    }
}
