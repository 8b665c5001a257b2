//! RecordActivityTaskHeartbeat: an activity tells that it is alive, and learns whether to stop.

use bristlecone_proto::chain::{HeartbeatActivity, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RecordActivityTaskHeartbeatRequest, RecordActivityTaskHeartbeatResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RecordActivityTaskHeartbeatRequest,
) -> Result<RecordActivityTaskHeartbeatResponse> {
    let (chain, activity) = edge.activity_by_token(&request.task_token, &request.namespace)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let input = input::Kind::HeartbeatActivity(HeartbeatActivity {
        activity: Some(activity),
        details: request.details,
        identity: request.identity,
    });
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::Heartbeat(response) => Ok(response),
        _ => Err(errors::unexpected_reply()),
    }
}
