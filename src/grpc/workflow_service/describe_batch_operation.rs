//! DescribeBatchOperation: what a job was asked for, and how far it is.

use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeBatchOperationRequest, DescribeBatchOperationResponse, DescribeWorkflowExecutionRequest,
};

use super::describe_workflow_execution;
use crate::batch;
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, batches};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: DescribeBatchOperationRequest,
) -> Result<DescribeBatchOperationResponse> {
    batches::check_request(&request.job_id, &request.namespace)?;
    edge.check_batches(&request.namespace)?;
    let describe = DescribeWorkflowExecutionRequest {
        namespace: request.namespace,
        execution: Some(WorkflowExecution { workflow_id: request.job_id, run_id: String::new() }),
    };
    describe_workflow_execution::handle(edge, call, describe).await.map(batch::described)
}
