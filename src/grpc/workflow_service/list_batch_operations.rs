//! ListBatchOperations: the jobs of a namespace.

use bristlecone_machine::reply::invalid_argument;
use bristlecone_proto::temporal::api::batch::v1::BatchOperationInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{ListBatchOperationsRequest, ListBatchOperationsResponse};

use crate::batch;
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ListBatchOperationsRequest,
) -> Result<ListBatchOperationsResponse> {
    if request.namespace.is_empty() {
        return Err(invalid_argument("Namespace is not set on request."));
    }
    edge.check_batches(&request.namespace)?;
    let page = edge
        .list_by_query(&call, &request.namespace, batch::ALL_JOBS, request.page_size, &request.next_page_token)
        .await?;
    let told = page.executions.into_iter().map(|job| BatchOperationInfo {
        job_id: job.execution.unwrap_or_default().workflow_id,
        state: batch::state(job.status).into(),
        start_time: job.start_time,
        close_time: job.close_time,
        ..BatchOperationInfo::default()
    });
    Ok(ListBatchOperationsResponse { operation_info: told.collect(), next_page_token: page.next_page_token })
}
