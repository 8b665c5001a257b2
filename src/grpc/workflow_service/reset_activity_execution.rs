//! ResetActivityExecution: the attempts of an activity, of a workflow or standalone, are counted anew.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ResetActivityExecutionRequest, ResetActivityExecutionResponse, ResetActivityRequest, reset_activity_request,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ResetActivityExecutionRequest,
) -> Result<ResetActivityExecutionResponse> {
    let named = (&request.namespace, &request.workflow_id, &request.activity_id, &request.run_id);
    let (chain, execution) = edge.operated(named.0, named.1, named.2, named.3)?;
    let wanted = ResetActivityRequest {
        execution: Some(execution),
        activity: Some(reset_activity_request::Activity::Id(request.activity_id)),
        identity: request.identity,
        keep_paused: request.keep_paused,
        jitter: request.jitter,
        restore_original_options: request.restore_original_options,
        reset_heartbeat: request.reset_heartbeat,
        ..ResetActivityRequest::default()
    };
    match edge.cluster().call(&chain, input::Kind::ResetActivity(wanted), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(ResetActivityExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
