//! StopBatchOperation: what a job has not operated yet, it leaves as it is.

use bristlecone_machine::reply::invalid_argument;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    StopBatchOperationRequest, StopBatchOperationResponse, TerminateWorkflowExecutionRequest,
};

use super::terminate_workflow_execution;
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, batches};

pub async fn handle(edge: Edge, call: Call, request: StopBatchOperationRequest) -> Result<StopBatchOperationResponse> {
    batches::check_request(&request.job_id, &request.namespace)?;
    if request.reason.is_empty() {
        return Err(invalid_argument("Reason is not set on request."));
    }
    edge.check_batches(&request.namespace)?;
    let terminate = TerminateWorkflowExecutionRequest {
        namespace: request.namespace,
        workflow_execution: Some(WorkflowExecution { workflow_id: request.job_id, run_id: String::new() }),
        reason: request.reason,
        identity: request.identity,
        ..TerminateWorkflowExecutionRequest::default()
    };
    terminate_workflow_execution::handle(edge, call, terminate).await?;
    Ok(StopBatchOperationResponse {})
}
