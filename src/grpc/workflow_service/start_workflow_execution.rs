//! StartWorkflowExecution.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    StartWorkflowExecutionRequest, StartWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: StartWorkflowExecutionRequest,
) -> Result<StartWorkflowExecutionResponse> {
    let namespace = edge.open_namespace(&request.namespace)?;
    check::workflow_id(&request.workflow_id, &edge.cluster().settings().core)?;
    check::callbacks(&request.completion_callbacks)?;
    if !edge.cluster().settings_of(&request.namespace).edge.eager_start {
        request.request_eager_execution = false;
    }
    if request.request_id.is_empty() {
        request.request_id = edge.cluster().new_id();
    }
    check::note_types(request.search_attributes.as_mut(), &namespace.record);
    let chain = chain_id(&namespace.record, &request.workflow_id);
    edge.cluster().start_workflow(&chain, request, call.answer_by()).await
}
