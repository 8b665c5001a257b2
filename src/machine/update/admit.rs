//! UpdateWorkflowExecution: the request is checked and waits for a worker.

use alloc::format;
use alloc::sync::Arc;

use bristlecone_proto::chain::{Rejection, UpdateStatus, reply::Kind};
use bristlecone_proto::temporal::api::enums::v1::{ResourceExhaustedCause, ResourceExhaustedScope};
use bristlecone_proto::temporal::api::errordetails::v1::ResourceExhaustedFailure;
use bristlecone_proto::temporal::api::update::v1::Request;
use bristlecone_proto::temporal::api::workflowservice::v1::UpdateWorkflowExecutionRequest;
use prost::Message;

use super::{in_flight, status};
use crate::chain::{Admitted, Run};
use crate::draft::Draft;
use crate::stamp::Limits;
use crate::{Step, reply, validate};

pub(crate) fn update(mut draft: Draft<'_>, request: &UpdateWorkflowExecutionRequest) -> Step {
    let first_run_id = &request.first_execution_run_id;
    let admitted = draft.find_of_chain(request.workflow_execution.as_ref(), first_run_id).and_then(|run_id| {
        if !draft.belongs_to_chain(&run_id, first_run_id) {
            return Err(reply::not_found("workflow execution not found"));
        }
        admit(&mut draft, &run_id, request)
    });
    match admitted {
        Ok(status) => draft.finish(reply::of(Kind::Update(status))),
        Err(rejection) => draft.reject(rejection),
    }
}

/// Takes the update, unless the run knows it already. Afterwards a workflow task carries it.
pub(super) fn admit(
    draft: &mut Draft<'_>,
    run_id: &str,
    request: &UpdateWorkflowExecutionRequest,
) -> Result<UpdateStatus, Rejection> {
    const FAILING_ATTEMPT: i32 = 3;
    let limits = draft.at().limits;
    let request = checked(request.request.as_ref(), limits)?;
    let id = request.meta.as_ref().map_or("", |meta| &meta.update_id);
    let run = draft.run(run_id);
    if !run.is_running() {
        return status(run, id).ok_or_else(reply::workflow_completed);
    }
    if run.is_paused() {
        return Err(reply::failed_precondition("Workflow is paused. Cannot update the workflow."));
    }
    if run.pending_task().map_or(run.head.next_workflow_task_attempt, |task| task.attempt) >= FAILING_ATTEMPT {
        let message = "Unable to perform workflow execution update due to Workflow Task in failed state.";
        return Err(reply::workflow_not_ready(message));
    }
    if run.head.close_attempted && (run.has_started_task() || run.soft_start.is_some()) {
        return Err(reply::busy_workflow("workflow operation can not be applied because workflow is closing"));
    }
    if let Some(known) = status(run, id) {
        return Ok(known);
    }
    check_limits(run, request, limits)?;
    let admitted = Admitted { id: id.into(), request: Arc::new(request.clone()), sent: false };
    draft.soft_mut(run_id).admitted.push(admitted);
    draft.schedule_task_for_updates(run_id);
    status(draft.run(run_id), id).ok_or_else(|| reply::plain(reply::code::INTERNAL, "the update was not admitted"))
}

fn checked<'a>(request: Option<&'a Request>, limits: &Limits) -> Result<&'a Request, Rejection> {
    let Some((request, meta)) = request.and_then(|request| Some((request, request.meta.as_ref()?))) else {
        return Err(reply::invalid_argument("Update meta is not set on request."));
    };
    if meta.update_id.len() > limits.id_bytes_max {
        return Err(reply::invalid_argument("UpdateId length exceeds limit."));
    }
    if meta.update_id.is_empty() {
        return Err(reply::invalid_argument("invalid *update.Request: meta.update_id is not set"));
    }
    let Some(input) = &request.input else {
        return Err(reply::invalid_argument("Update input is not set on request."));
    };
    if input.name.is_empty() {
        return Err(reply::invalid_argument("Update name is not set on request."));
    }
    if !validate::payloads_fit(input.args.as_ref(), limits) {
        return Err(reply::invalid_argument(validate::BLOB_TOO_LARGE));
    }
    Ok(request)
}

fn check_limits(run: &Run, request: &Request, limits: &Limits) -> Result<(), Rejection> {
    let most = limits.updates_in_flight_max;
    if most > 0 && in_flight(run) >= most {
        let text = format!("limit on number of concurrent in-flight updates has been reached ({most})");
        return Err(too_many(text));
    }
    let most = limits.updates_max;
    if most > 0 && run.admitted.len() + run.updates.len() >= most {
        return Err(reply::failed_precondition(format!(
            "The limit on the total number of distinct updates in this workflow has been reached ({most}). Make sure \
             any duplicate updates share an Update ID so the server can deduplicate them, and consider rejecting \
             updates that you aren't going to process. You can also Continue-as-New to avoid this; we recommend you \
             check Continue-as-New Suggested in your Workflow."
        )));
    }
    let most = limits.updates_in_flight_bytes_max;
    let bytes = run.admitted.iter().map(|update| update.id.len() + update.request.encoded_len()).sum::<usize>();
    if most > 0 && bytes + request.encoded_len() >= most {
        let text = format!("limit on total payload size of in-flight updates has been reached ({most} bytes)");
        return Err(too_many(text));
    }
    Ok(())
}

fn too_many(message: alloc::string::String) -> Rejection {
    let detail = ResourceExhaustedFailure {
        cause: ResourceExhaustedCause::ConcurrentLimit.into(),
        scope: ResourceExhaustedScope::Namespace.into(),
    };
    reply::with_detail(reply::code::RESOURCE_EXHAUSTED, message, &detail)
}
