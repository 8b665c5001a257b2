//! RequestCancelWorkflowExecution.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, RequestCancelWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: RequestCancelWorkflowExecutionRequest,
) -> Result<RequestCancelWorkflowExecutionResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let execution = check::execution(request.workflow_execution.as_ref(), &edge.cluster().settings().core)?;
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    if request.request_id.is_empty() {
        request.request_id = edge.cluster().new_id();
    }
    match edge.cluster().call(&chain, input::Kind::RequestCancel(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(RequestCancelWorkflowExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
