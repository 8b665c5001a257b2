//! StartActivityExecution: an activity without a workflow.

use bristlecone_machine::reply;
use bristlecone_proto::chain::{input, reply::Kind};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    StartActivityExecutionRequest, StartActivityExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, activities, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: StartActivityExecutionRequest,
) -> Result<StartActivityExecutionResponse> {
    edge.check_standalone_activities(&request.namespace)?;
    let namespace = edge.open_namespace(&request.namespace)?;
    check::callbacks(&request.completion_callbacks)?;
    if !request.completion_callbacks.is_empty() {
        return Err(reply::invalid_argument("completion callbacks of standalone activities are not supported"));
    }
    if request.request_id.is_empty() {
        request.request_id = edge.cluster().new_id();
    }
    check::note_types(request.search_attributes.as_mut(), &namespace.record);
    let chain = activities::chain(&namespace.record, &request.activity_id);
    match edge.cluster().call(&chain, input::Kind::StartStandalone(request.into()), call.answer_by()).await? {
        Kind::StartStandalone(response) => Ok(response),
        _ => Err(errors::unexpected_reply()),
    }
}
