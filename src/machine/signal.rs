//! SignalWorkflowExecution, and signals from wherever else they come.

use alloc::string::ToString;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::temporal::api::common::v1::{Header, Link, Payloads, WorkflowExecution};
use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionSignaledEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::workflowservice::v1::SignalWorkflowExecutionRequest;

use crate::draft::Draft;
use crate::{Step, reply, validate};

/// A signal on its way into a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signal<'a> {
    pub name: &'a str,
    pub input: Option<&'a Payloads>,
    pub header: Option<&'a Header>,
    pub identity: &'a str,
    /// Empty: no repetition is recognised.
    pub request_id: &'a str,
    pub links: &'a [Link],
    /// The workflow that sent it.
    pub sender: Option<&'a WorkflowExecution>,
}

pub(crate) fn signal(mut draft: Draft<'_>, request: &SignalWorkflowExecutionRequest) -> Step {
    let signal = Signal {
        name: &request.signal_name,
        input: request.input.as_ref(),
        header: request.header.as_ref(),
        identity: &request.identity,
        request_id: &request.request_id,
        links: &request.links,
        sender: None,
    };
    let outcome = check_texts(&draft, &signal).and_then(|()| draft.find(request.workflow_execution.as_ref())).and_then(
        |run_id| {
            if is_repeated(&draft, &run_id, &signal) {
                return Ok(false);
            }
            check(&draft, &run_id, &signal)?;
            let backing_off = draft.run(&run_id).is_backing_off();
            deliver(&mut draft, &run_id, &signal);
            if !backing_off {
                draft.schedule_workflow_task(&run_id);
            }
            Ok(true)
        },
    );
    match outcome {
        Ok(true) => draft.finish(reply::done()),
        Ok(false) => draft.unchanged(reply::done()),
        Err(rejection) => draft.reject(rejection),
    }
}

/// What can be said of a signal without looking at a run.
pub(crate) fn check_texts(draft: &Draft<'_>, signal: &Signal<'_>) -> Result<(), Rejection> {
    let limits = draft.at().limits;
    validate::required(signal.name, "SignalName", limits)
        .and_then(|()| validate::length(signal.request_id, "RequestId", limits))
        .and_then(|()| validate::length(signal.identity, "Identity", limits))
        .and_then(|()| validate::links(signal.links, limits))
        .map_err(reply::invalid_argument)?;
    if validate::payloads_fit(signal.input, limits) {
        Ok(())
    } else {
        Err(reply::invalid_argument(validate::BLOB_TOO_LARGE))
    }
}

/// Whether the run took a signal with this request id already. It answers so even when it is closed.
pub(crate) fn is_repeated(draft: &Draft<'_>, run_id: &str, signal: &Signal<'_>) -> bool {
    !signal.request_id.is_empty() && draft.run(run_id).signal_requests.contains(&signal.request_id.to_string())
}

/// Whether the run takes the signal.
pub(crate) fn check(draft: &Draft<'_>, run_id: &str, signal: &Signal<'_>) -> Result<(), Rejection> {
    let limits = draft.at().limits;
    let run = draft.run(run_id);
    if !run.is_running() {
        return Err(reply::workflow_completed());
    }
    if !validate::payloads_fit(signal.input, limits) {
        return Err(reply::invalid_argument(validate::BLOB_TOO_LARGE));
    }
    if limits.signals_max > 0 && run.head.signal_count >= limits.signals_max {
        return Err(reply::invalid_argument("exceeded workflow execution limit for signal events"));
    }
    if run.head.close_attempted && (run.has_started_task() || run.soft_start.is_some()) {
        return Err(reply::busy_workflow("workflow operation can not be applied because workflow is closing"));
    }
    Ok(())
}

/// Adds the event. Whether a workflow task follows is the caller's choice.
pub(crate) fn deliver(draft: &mut Draft<'_>, run_id: &str, signal: &Signal<'_>) {
    draft.begin_transition(run_id);
    let attributes = WorkflowExecutionSignaledEventAttributes {
        signal_name: signal.name.to_string(),
        input: signal.input.cloned(),
        identity: signal.identity.to_string(),
        header: signal.header.cloned(),
        external_workflow_execution: signal.sender.cloned(),
        request_id: signal.request_id.to_string(),
        ..WorkflowExecutionSignaledEventAttributes::default()
    };
    draft.add_linked(run_id, Attributes::WorkflowExecutionSignaledEventAttributes(attributes), signal.links);
}
