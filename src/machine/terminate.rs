//! TerminateWorkflowExecution, and every other way to end a run by force.

use alloc::string::ToString;

use bristlecone_proto::temporal::api::common::v1::{Link, Payloads};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionTerminatedEventAttributes};
use bristlecone_proto::temporal::api::workflowservice::v1::TerminateWorkflowExecutionRequest;

use crate::draft::Draft;
use crate::{Step, close, event, reply, validate};

/// Who ends a run, and why.
#[derive(Debug, Clone)]
pub(crate) struct Terminate<'a> {
    pub reason: &'a str,
    pub details: Option<Payloads>,
    pub identity: &'a str,
    pub links: &'a [Link],
}

pub(crate) fn terminate(mut draft: Draft<'_>, request: &TerminateWorkflowExecutionRequest) -> Step {
    let limits = draft.at().limits;
    if let Err(text) = validate::links(&request.links, limits) {
        return draft.reject(reply::invalid_argument(text));
    }
    if !validate::payloads_fit(request.details.as_ref(), limits) {
        return draft.reject(reply::invalid_argument(validate::BLOB_TOO_LARGE));
    }
    let run_id = match draft.find_of_chain(request.workflow_execution.as_ref(), &request.first_execution_run_id) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    if !draft.run(&run_id).is_running() {
        return draft.reject(reply::workflow_completed());
    }
    if !draft.belongs_to_chain(&run_id, &request.first_execution_run_id) {
        return draft.reject(reply::not_found("workflow execution not found"));
    }
    let terminate = Terminate {
        reason: or(&request.reason, "terminated by user via frontend"),
        details: request.details.clone(),
        identity: or(&request.identity, "frontend-service"),
        links: &request.links,
    };
    run(&mut draft, &run_id, terminate);
    draft.finish(reply::done())
}

/// Ends an open run. A workflow task in a worker's hands fails first, and what waited for it is written.
pub(crate) fn run(draft: &mut Draft<'_>, run_id: &str, terminate: Terminate<'_>) {
    draft.begin_transition(run_id);
    draft.fail_started_task(run_id, WorkflowTaskFailedCause::ForceCloseCommand);
    let attributes = WorkflowExecutionTerminatedEventAttributes {
        reason: terminate.reason.to_string(),
        details: terminate.details,
        identity: terminate.identity.to_string(),
    };
    let event = event::new(draft.now(), Attributes::WorkflowExecutionTerminatedEventAttributes(attributes));
    close::close(draft, run_id, HistoryEvent { links: terminate.links.to_vec(), ..event });
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}
