//! DeleteWorkflowExecution: an open run is terminated first.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, DeleteWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: DeleteWorkflowExecutionRequest,
) -> Result<DeleteWorkflowExecutionResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let execution = check::execution(request.workflow_execution.as_ref(), &edge.cluster().settings().core)?;
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    match edge.cluster().call(&chain, input::Kind::Delete(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(DeleteWorkflowExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
