//! RespondActivityTaskFailed: the next attempt follows, or the activity closes.

use bristlecone_proto::chain::{FailActivity, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondActivityTaskFailedRequest, RespondActivityTaskFailedResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RespondActivityTaskFailedRequest,
) -> Result<RespondActivityTaskFailedResponse> {
    let (chain, activity) = edge.activity_by_token(&request.task_token, &request.namespace)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let input = input::Kind::FailActivity(FailActivity {
        activity: Some(activity),
        failure: request.failure,
        identity: request.identity,
        last_heartbeat_details: request.last_heartbeat_details,
        worker_version: request.worker_version,
    });
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::ActivityFailed(response) => Ok(response),
        _ => Err(errors::unexpected_reply()),
    }
}
