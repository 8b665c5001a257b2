//! DeleteActivityExecution: nothing of a standalone activity stays.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DeleteActivityExecutionRequest, DeleteActivityExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, activities, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: DeleteActivityExecutionRequest,
) -> Result<DeleteActivityExecutionResponse> {
    edge.check_standalone_activities(&request.namespace)?;
    let namespace = edge.namespace(&request.namespace)?;
    let chain = activities::chain(&namespace.record, &request.activity_id);
    match edge.cluster().call(&chain, input::Kind::DeleteStandalone(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(DeleteActivityExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
