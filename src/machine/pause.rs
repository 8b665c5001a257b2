//! PauseWorkflowExecution and UnpauseWorkflowExecution.
//!
//! # Contract
//! | of a paused run | |
//! |---|---|
//! | workflow task that waits | out of the backlog until the run goes on |
//! | workflow task in a worker's hands | goes on; none follows it |
//! | activities that wait, or wait for their next attempt | out of the backlog; their timeouts run |
//! | activities in a worker's hands | go on |
//! | timers, signals, requests to cancel | noted; no workflow task tells the worker yet |
//! | queries, updates | refused |
//! | the run's own timeouts, termination, reset | as ever |

use alloc::string::ToString;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    HistoryEvent, WorkflowExecutionPausedEventAttributes, WorkflowExecutionUnpausedEventAttributes,
};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PauseWorkflowExecutionRequest, UnpauseWorkflowExecutionRequest,
};

use crate::draft::Draft;
use crate::stamp::Limits;
use crate::{Step, event, reply};

pub(crate) fn pause(mut draft: Draft<'_>, request: &PauseWorkflowExecutionRequest) -> Step {
    let limits = draft.at().limits;
    let fits = check_texts(&request.reason, &request.request_id, &request.identity, limits);
    let run_id = match fits.and_then(|()| find(&draft, &request.workflow_id, &request.run_id)) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&run_id);
    if run.is_paused() {
        let same = !request.request_id.is_empty() && run.head.pause_request_id == request.request_id;
        return if same {
            draft.unchanged(reply::done())
        } else {
            draft.reject(reply::failed_precondition("workflow is already paused."))
        };
    }
    draft.begin_transition(&run_id);
    let attributes = WorkflowExecutionPausedEventAttributes {
        identity: request.identity.clone(),
        reason: request.reason.clone(),
        request_id: request.request_id.clone(),
    };
    add(&mut draft, &run_id, Attributes::WorkflowExecutionPausedEventAttributes(attributes));
    draft.finish(reply::done())
}

pub(crate) fn unpause(mut draft: Draft<'_>, request: &UnpauseWorkflowExecutionRequest) -> Step {
    let limits = draft.at().limits;
    let fits = check_texts(&request.reason, &request.request_id, &request.identity, limits);
    let run_id = match fits.and_then(|()| find(&draft, &request.workflow_id, &request.run_id)) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    if !draft.run(&run_id).is_paused() {
        return draft.reject(reply::failed_precondition("workflow is not paused."));
    }
    draft.begin_transition(&run_id);
    let attributes = WorkflowExecutionUnpausedEventAttributes {
        identity: request.identity.clone(),
        reason: request.reason.clone(),
        request_id: request.request_id.clone(),
    };
    add(&mut draft, &run_id, Attributes::WorkflowExecutionUnpausedEventAttributes(attributes));
    let run = draft.run(&run_id);
    // A run that has not begun begins when its delay is over, or its parent has noted it.
    if !run.is_backing_off() && !run.head.awaits_parent {
        draft.schedule_workflow_task(&run_id);
    }
    draft.finish(reply::done())
}

/// SDKs that don't know these events pass over them.
fn add(draft: &mut Draft<'_>, run_id: &str, attributes: Attributes) {
    let event = event::new(draft.now(), attributes);
    draft.add_event(run_id, HistoryEvent { worker_may_ignore: true, ..event });
}

fn find(draft: &Draft<'_>, workflow_id: &str, run_id: &str) -> Result<alloc::string::String, Rejection> {
    draft.find_running(Some(&WorkflowExecution { workflow_id: workflow_id.to_string(), run_id: run_id.to_string() }))
}

fn check_texts(reason: &str, request_id: &str, identity: &str, limits: &Limits) -> Result<(), Rejection> {
    for (text, what) in [(reason, "reason"), (request_id, "request id"), (identity, "identity")] {
        if text.len() > limits.id_bytes_max {
            return Err(reply::invalid_argument(alloc::format!("{what} is too long.")));
        }
    }
    Ok(())
}
