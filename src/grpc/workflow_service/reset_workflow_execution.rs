//! ResetWorkflowExecution: a run begins anew from a point of another's history.

use bristlecone_machine::reply;
use bristlecone_machine::validate;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ResetWorkflowExecutionRequest,
) -> Result<ResetWorkflowExecutionResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let settings = edge.cluster().settings();
    let limits = &settings.core;
    if request.request_id.is_empty() {
        return Err(reply::invalid_argument("RequestId is not set on request."));
    }
    validate::length(&request.request_id, "RequestId", limits).map_err(reply::invalid_argument)?;
    let execution = check::execution(request.workflow_execution.as_ref(), limits)?;
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    edge.cluster().reset_workflow(&chain, request, call.answer_by()).await
}
