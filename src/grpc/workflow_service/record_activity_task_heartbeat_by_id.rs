//! RecordActivityTaskHeartbeatById.

use bristlecone_proto::chain::{HeartbeatActivity, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RecordActivityTaskHeartbeatByIdRequest, RecordActivityTaskHeartbeatByIdResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RecordActivityTaskHeartbeatByIdRequest,
) -> Result<RecordActivityTaskHeartbeatByIdResponse> {
    let (chain, activity) =
        edge.activity_by_id(&request.namespace, &request.workflow_id, request.run_id, request.activity_id)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let input = input::Kind::HeartbeatActivity(HeartbeatActivity {
        activity: Some(activity),
        details: request.details,
        identity: request.identity,
    });
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::Heartbeat(response) => Ok(RecordActivityTaskHeartbeatByIdResponse {
            cancel_requested: response.cancel_requested,
            activity_paused: response.activity_paused,
            activity_reset: response.activity_reset,
        }),
        _ => Err(errors::unexpected_reply()),
    }
}
