//! PauseWorkflowExecution: no task of the workflow is handed out until it goes on.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PauseWorkflowExecutionRequest, PauseWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: PauseWorkflowExecutionRequest,
) -> Result<PauseWorkflowExecutionResponse> {
    edge.check_pauses(&request.namespace)?;
    let namespace = edge.namespace(&request.namespace)?;
    check::workflow_id(&request.workflow_id, &edge.cluster().settings().core)?;
    check::run_id(&request.run_id)?;
    let chain = chain_id(&namespace.record, &request.workflow_id);
    match edge.cluster().call(&chain, input::Kind::PauseWorkflow(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(PauseWorkflowExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
