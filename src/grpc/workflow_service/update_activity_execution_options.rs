//! UpdateActivityExecutionOptions: what was asked for of an activity, of a workflow or standalone, changes.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    UpdateActivityExecutionOptionsRequest, UpdateActivityExecutionOptionsResponse, UpdateActivityOptionsRequest,
    update_activity_options_request,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: UpdateActivityExecutionOptionsRequest,
) -> Result<UpdateActivityExecutionOptionsResponse> {
    let named = (&request.namespace, &request.workflow_id, &request.activity_id, &request.run_id);
    let (chain, execution) = edge.operated(named.0, named.1, named.2, named.3)?;
    let wanted = UpdateActivityOptionsRequest {
        execution: Some(execution),
        activity: Some(update_activity_options_request::Activity::Id(request.activity_id)),
        identity: request.identity,
        activity_options: request.activity_options,
        update_mask: request.update_mask,
        restore_original: request.restore_original,
        ..UpdateActivityOptionsRequest::default()
    };
    match edge.cluster().call(&chain, input::Kind::UpdateActivityOptions(wanted), call.answer_by()).await? {
        reply::Kind::ActivityOptions(response) => {
            Ok(UpdateActivityExecutionOptionsResponse { activity_options: response.activity_options })
        }
        _ => Err(errors::unexpected_reply()),
    }
}
