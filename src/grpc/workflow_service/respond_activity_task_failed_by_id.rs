//! RespondActivityTaskFailedById.

use bristlecone_proto::chain::{FailActivity, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondActivityTaskFailedByIdRequest, RespondActivityTaskFailedByIdResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RespondActivityTaskFailedByIdRequest,
) -> Result<RespondActivityTaskFailedByIdResponse> {
    let (chain, activity) =
        edge.activity_by_id(&request.namespace, &request.workflow_id, request.run_id, request.activity_id)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let input = input::Kind::FailActivity(FailActivity {
        activity: Some(activity),
        failure: request.failure,
        identity: request.identity,
        last_heartbeat_details: request.last_heartbeat_details,
        worker_version: None,
    });
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::ActivityFailed(response) => {
            Ok(RespondActivityTaskFailedByIdResponse { failures: response.failures })
        }
        _ => Err(errors::unexpected_reply()),
    }
}
