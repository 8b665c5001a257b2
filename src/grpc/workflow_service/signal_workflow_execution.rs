//! SignalWorkflowExecution.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    SignalWorkflowExecutionRequest, SignalWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: SignalWorkflowExecutionRequest,
) -> Result<SignalWorkflowExecutionResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let execution = check::execution(request.workflow_execution.as_ref(), &edge.cluster().settings().core)?;
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    // Without one, a signal whose answer was lost could not be sent again.
    if request.request_id.is_empty() {
        request.request_id = edge.cluster().new_id();
    }
    match edge.cluster().call(&chain, input::Kind::Signal(request), call.answer_by()).await? {
        reply::Kind::Signal(response) => Ok(response),
        reply::Kind::Done(_) => Ok(SignalWorkflowExecutionResponse::default()),
        _ => Err(errors::unexpected_reply()),
    }
}
