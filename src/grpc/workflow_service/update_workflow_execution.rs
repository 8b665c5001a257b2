//! UpdateWorkflowExecution: answered when the update has come as far as its caller wants, or after a while.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    UpdateWorkflowExecutionRequest, UpdateWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::updates::prepared;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: UpdateWorkflowExecutionRequest,
) -> Result<UpdateWorkflowExecutionResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let (request, workflow_id) = prepared(&edge, request)?;
    let chain = chain_id(&namespace.record, &workflow_id);
    let _place = edge.wait_in(&request.namespace)?;
    let update = edge.cluster().update_workflow(&chain, request, call.answer_by());
    edge.unless_draining(update).await.unwrap_or_else(|| Err(errors::stopping()))
}
