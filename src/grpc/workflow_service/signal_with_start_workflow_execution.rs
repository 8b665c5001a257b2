//! SignalWithStartWorkflowExecution.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    SignalWithStartWorkflowExecutionRequest, SignalWithStartWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: SignalWithStartWorkflowExecutionRequest,
) -> Result<SignalWithStartWorkflowExecutionResponse> {
    let namespace = edge.open_namespace(&request.namespace)?;
    check::workflow_id(&request.workflow_id, &edge.cluster().settings().core)?;
    if request.request_id.is_empty() {
        request.request_id = edge.cluster().new_id();
    }
    check::note_types(request.search_attributes.as_mut(), &namespace.record);
    let chain = chain_id(&namespace.record, &request.workflow_id);
    let input = input::Kind::SignalWithStart(request.into());
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::SignalWithStart(response) => Ok(response),
        _ => Err(errors::unexpected_reply()),
    }
}
