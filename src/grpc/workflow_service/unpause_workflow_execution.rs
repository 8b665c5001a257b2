//! UnpauseWorkflowExecution: a paused workflow goes on.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    UnpauseWorkflowExecutionRequest, UnpauseWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: UnpauseWorkflowExecutionRequest,
) -> Result<UnpauseWorkflowExecutionResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    check::workflow_id(&request.workflow_id, &edge.cluster().settings().core)?;
    check::run_id(&request.run_id)?;
    let chain = chain_id(&namespace.record, &request.workflow_id);
    match edge.cluster().call(&chain, input::Kind::UnpauseWorkflow(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(UnpauseWorkflowExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
