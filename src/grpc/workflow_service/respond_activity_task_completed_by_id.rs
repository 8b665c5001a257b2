//! RespondActivityTaskCompletedById, also of an activity that no worker has started.

use bristlecone_proto::chain::{CompleteActivity, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondActivityTaskCompletedByIdRequest, RespondActivityTaskCompletedByIdResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RespondActivityTaskCompletedByIdRequest,
) -> Result<RespondActivityTaskCompletedByIdResponse> {
    let (chain, activity) =
        edge.activity_by_id(&request.namespace, &request.workflow_id, request.run_id, request.activity_id)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let input = input::Kind::CompleteActivity(CompleteActivity {
        activity: Some(activity),
        result: request.result,
        identity: request.identity,
        worker_version: None,
    });
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(RespondActivityTaskCompletedByIdResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
