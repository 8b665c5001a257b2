//! RespondActivityTaskCompleted.

use bristlecone_proto::chain::{CompleteActivity, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondActivityTaskCompletedRequest, RespondActivityTaskCompletedResponse,
};
use bristlecone_storage::planted::{self, Bug};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RespondActivityTaskCompletedRequest,
) -> Result<RespondActivityTaskCompletedResponse> {
    let (chain, activity) = edge.activity_by_token(&request.task_token, &request.namespace)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let input = input::Kind::CompleteActivity(CompleteActivity {
        activity: Some(activity),
        result: request.result,
        identity: request.identity,
        worker_version: request.worker_version,
    });
    let answer = edge.cluster().call(&chain, input, call.answer_by()).await;
    if planted::has(Bug::DoubleCompletion) && answer.is_err() {
        return Ok(RespondActivityTaskCompletedResponse {});
    }
    match answer? {
        reply::Kind::Done(_) => Ok(RespondActivityTaskCompletedResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
