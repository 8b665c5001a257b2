//! RequestCancelWorkflowExecution, and cancellations from wherever else they come.

use alloc::string::ToString;

use bristlecone_proto::temporal::api::common::v1::{Link, WorkflowExecution};
use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionCancelRequestedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::workflowservice::v1::RequestCancelWorkflowExecutionRequest;

use crate::draft::Draft;
use crate::{Step, reply, validate};

/// Who asks a run to end, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cancel<'a> {
    pub reason: &'a str,
    pub identity: &'a str,
    pub request_id: &'a str,
    pub links: &'a [Link],
    /// The workflow that asks, and the event with which it began to.
    pub sender: Option<(&'a WorkflowExecution, i64)>,
}

pub(crate) fn request_cancel(mut draft: Draft<'_>, request: &RequestCancelWorkflowExecutionRequest) -> Step {
    if let Err(text) = validate::links(&request.links, draft.at().limits) {
        return draft.reject(reply::invalid_argument(text));
    }
    let run_id = match draft.find_of_chain(request.workflow_execution.as_ref(), &request.first_execution_run_id) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&run_id);
    if !run.is_running() {
        return draft.unchanged(reply::done());
    }
    if !draft.belongs_to_chain(&run_id, &request.first_execution_run_id) {
        return draft.reject(reply::not_found("workflow execution not found"));
    }
    if run.head.cancel_requested {
        return draft.unchanged(reply::done());
    }
    let cancel = Cancel {
        reason: &request.reason,
        identity: &request.identity,
        request_id: &request.request_id,
        links: &request.links,
        sender: None,
    };
    deliver(&mut draft, &run_id, &cancel);
    draft.finish(reply::done())
}

/// Records the request in an open run that has none yet, and has the workflow hear of it at once.
pub(crate) fn deliver(draft: &mut Draft<'_>, run_id: &str, cancel: &Cancel<'_>) {
    draft.begin_transition(run_id);
    let attributes = WorkflowExecutionCancelRequestedEventAttributes {
        cause: cancel.reason.to_string(),
        external_initiated_event_id: cancel.sender.map_or(0, |(_, initiated)| initiated),
        external_workflow_execution: cancel.sender.map(|(sender, _)| sender.clone()),
        identity: cancel.identity.to_string(),
    };
    draft.add_linked(run_id, Attributes::WorkflowExecutionCancelRequestedEventAttributes(attributes), cancel.links);
    draft.run_mut(run_id).head.cancel_request_id = cancel.request_id.to_string();
    draft.schedule_workflow_task(run_id);
}
