//! RespondWorkflowTaskFailed: the worker gives up on a workflow task.

use bristlecone_proto::chain::FailWorkflowTask;
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause;

use super::token;
use crate::draft::Draft;
use crate::terminate::{self, Terminate};
use crate::{Step, reply, validate};

pub(crate) fn fail_workflow_task(mut draft: Draft<'_>, input: &FailWorkflowTask) -> Step {
    let (Some(token), Some(request)) = (&input.token, &input.request) else {
        return draft.reject(reply::invalid_argument("Request is nil."));
    };
    let run_id = &token.run_id;
    if draft.get(run_id).is_some_and(|run| !run.is_running()) {
        return draft.reject(reply::workflow_completed());
    }
    if let Err(rejection) = token::accept(&mut draft, token) {
        return draft.reject(rejection);
    }
    if request.cause() == WorkflowTaskFailedCause::GrpcMessageTooLarge {
        let terminate =
            Terminate { reason: "GrpcMessageTooLarge", details: None, identity: "history-service", links: &[] };
        terminate::run(&mut draft, run_id, terminate);
        return draft.finish(reply::done());
    }
    let limits = draft.at().limits;
    let failure = request.failure.as_ref();
    let failure = failure.and_then(|f| validate::failure::replaced_in_history(f, limits)).or_else(|| failure.cloned());
    draft.fail_workflow_task(run_id, request.cause(), failure, &request.identity, &request.binary_checksum);
    draft.schedule_workflow_task(run_id);
    draft.finish(reply::done())
}
