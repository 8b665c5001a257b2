//! UnpauseActivityExecution: a paused activity, of a workflow or standalone, goes on.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    UnpauseActivityExecutionRequest, UnpauseActivityExecutionResponse, UnpauseActivityRequest, unpause_activity_request,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: UnpauseActivityExecutionRequest,
) -> Result<UnpauseActivityExecutionResponse> {
    let named = (&request.namespace, &request.workflow_id, &request.activity_id, &request.run_id);
    let (chain, execution) = edge.operated(named.0, named.1, named.2, named.3)?;
    let wanted = UnpauseActivityRequest {
        execution: Some(execution),
        activity: Some(unpause_activity_request::Activity::Id(request.activity_id)),
        identity: request.identity,
        jitter: request.jitter,
        ..UnpauseActivityRequest::default()
    };
    match edge.cluster().call(&chain, input::Kind::UnpauseActivity(wanted), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(UnpauseActivityExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
