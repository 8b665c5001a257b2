//! UpdateWorkflowExecutionOptions: priority and versioning override of an open workflow change.

use bristlecone_machine::reply::invalid_argument;
use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    UpdateWorkflowExecutionOptionsRequest, UpdateWorkflowExecutionOptionsResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: UpdateWorkflowExecutionOptionsRequest,
) -> Result<UpdateWorkflowExecutionOptionsResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let execution = request.workflow_execution.clone().unwrap_or_default();
    if execution.workflow_id.is_empty() {
        return Err(invalid_argument("WorkflowId is not set on request."));
    }
    check::execution(Some(&execution), &edge.cluster().settings().core)?;
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    match edge.cluster().call(&chain, input::Kind::UpdateWorkflowOptions(request), call.answer_by()).await? {
        reply::Kind::WorkflowOptions(response) => Ok(response),
        _ => Err(errors::unexpected_reply()),
    }
}
