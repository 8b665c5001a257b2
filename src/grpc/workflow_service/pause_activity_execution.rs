//! PauseActivityExecution: an activity, of a workflow or standalone, waits until an operator lets it go on.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PauseActivityExecutionRequest, PauseActivityExecutionResponse, PauseActivityRequest, pause_activity_request,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: PauseActivityExecutionRequest,
) -> Result<PauseActivityExecutionResponse> {
    let named = (&request.namespace, &request.workflow_id, &request.activity_id, &request.run_id);
    let (chain, execution) = edge.operated(named.0, named.1, named.2, named.3)?;
    let wanted = PauseActivityRequest {
        execution: Some(execution),
        activity: Some(pause_activity_request::Activity::Id(request.activity_id)),
        identity: request.identity,
        reason: request.reason,
        ..PauseActivityRequest::default()
    };
    match edge.cluster().call(&chain, input::Kind::PauseActivity(wanted), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(PauseActivityExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
