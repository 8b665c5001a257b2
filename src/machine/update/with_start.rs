//! ExecuteMultiOperation: a workflow is started and updated, or an open one is updated, in one step.
//!
//! # Contract
//! | current run | outcome |
//! |---|---|
//! | knows the update's outcome | that outcome, open or closed |
//! | open, and started by this request, or knowing the update, or the conflict policy is USE_EXISTING | it is updated |
//! | none, closed, or open | what the policies say of a start; the new run is updated |
//!
//! Either both operations are carried out or none is; whoever refuses names the operation.

use bristlecone_proto::chain::{Rejection, Reply, UpdateStatus, UpdateWithStart, UpdateWithStartStatus, reply::Kind};
use bristlecone_proto::temporal::api::enums::v1::{EventType, WorkflowIdConflictPolicy};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    StartWorkflowExecutionRequest, StartWorkflowExecutionResponse,
};

use super::{admit, status};
use crate::draft::Draft;
use crate::start::policy::{self, Decision};
use crate::{Step, reply, start};

pub(crate) fn update_with_start(mut draft: Draft<'_>, input: &UpdateWithStart) -> Step {
    let (Some(start), Some(update)) = (&input.start, &input.update) else {
        return draft.reject(reply::invalid_argument("Operations have to be exactly [Start, Update]."));
    };
    let mut request = match start::checked(&draft, start, WorkflowIdConflictPolicy::Fail) {
        Ok(request) => request,
        Err(rejection) => return draft.reject(start_failed(rejection)),
    };
    if request.request_id.is_empty() {
        request.request_id = draft.new_id();
    }
    let id = update.request.as_ref().and_then(|request| request.meta.as_ref()).map_or("", |meta| &meta.update_id);
    if let Ok(run_id) = draft.find_run("") {
        let run = draft.run(&run_id);
        let known = status(run, id);
        if let Some(known) = known.clone().filter(|status| status.completed_event_id != 0) {
            let start = StartWorkflowExecutionResponse {
                first_execution_run_id: run.started.first_execution_run_id.clone(),
                run_id: run_id.clone(),
                status: run.head.status,
                ..StartWorkflowExecutionResponse::default()
            };
            return draft.unchanged(answer(start, known));
        }
        let uses_existing = request.workflow_id_conflict_policy() == WorkflowIdConflictPolicy::UseExisting;
        if run.is_running() && (started_by(run, &request) || known.is_some() || uses_existing) {
            return match admit::admit(&mut draft, &run_id, update) {
                Ok(status) => {
                    let start = start::existing(&draft, &run_id);
                    draft.finish(answer(start, status))
                }
                Err(rejection) => draft.reject(update_failed(rejection)),
            };
        }
    }
    start_and_update(draft, request, input)
}

fn start_and_update(mut draft: Draft<'_>, request: StartWorkflowExecutionRequest, input: &UpdateWithStart) -> Step {
    if draft.record().is_some_and(|record| record.request_ids.contains_key(&request.request_id)) {
        let message = "Workflow was not started: its request was carried out before";
        return draft.reject(start_failed(reply::plain(reply::code::UNAVAILABLE, message)));
    }
    let terminated =
        match policy::decide(&draft, request.workflow_id_reuse_policy(), request.workflow_id_conflict_policy()) {
            Ok(Decision::Create) => None,
            Ok(Decision::TerminateExisting(run_id)) => Some(run_id),
            Ok(Decision::UseExisting(_)) => {
                let message = "Workflow was not started: another run is open";
                return draft.reject(start_failed(reply::plain(reply::code::UNAVAILABLE, message)));
            }
            Err(rejection) => return draft.reject(start_failed(rejection)),
        };
    let run_id = start::create_run(&mut draft, request, terminated.as_deref());
    let update = input.update.clone().unwrap_or_default();
    match admit::admit(&mut draft, &run_id, &update) {
        Ok(status) => {
            let start = start::newly_started(&draft, &run_id);
            draft.finish(answer(start, status))
        }
        Err(rejection) => draft.reject(update_failed(rejection)),
    }
}

/// Whether this very request started the run.
fn started_by(run: &crate::chain::Run, request: &StartWorkflowExecutionRequest) -> bool {
    let info = run.head.request_ids.get(&request.request_id);
    info.is_some_and(|info| info.event_type == EventType::WorkflowExecutionStarted as i32)
}

fn answer(start: StartWorkflowExecutionResponse, update: UpdateStatus) -> Reply {
    reply::of(Kind::UpdateWithStart(UpdateWithStartStatus { start: Some(start), update: Some(update) }))
}

fn start_failed(rejection: Rejection) -> Rejection {
    reply::multi_operation([Some(rejection), Some(reply::operation_aborted())])
}

fn update_failed(rejection: Rejection) -> Rejection {
    reply::multi_operation([Some(reply::operation_aborted()), Some(rejection)])
}
