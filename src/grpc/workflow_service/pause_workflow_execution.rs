//! PauseWorkflowExecution: no task of the workflow is handed out until it goes on.

use bristlecone_machine::reply::{code, plain};
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
    let limits = edge.cluster().limits();
    if !limits.pause_enabled {
        let message = format!("workflow pause is not enabled for namespace: {}", request.namespace);
        return Err(plain(code::UNIMPLEMENTED, message));
    }
    let namespace = edge.namespace(&request.namespace)?;
    check::workflow_id(&request.workflow_id, limits)?;
    check::run_id(&request.run_id)?;
    let chain = chain_id(&namespace.record, &request.workflow_id);
    match edge.cluster().call(&chain, input::Kind::PauseWorkflow(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(PauseWorkflowExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
