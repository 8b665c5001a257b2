//! ScanWorkflowExecutions (deprecated): the same as a listing.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    ScanWorkflowExecutionsRequest, ScanWorkflowExecutionsResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ScanWorkflowExecutionsRequest,
) -> Result<ScanWorkflowExecutionsResponse> {
    let (namespace, query) = (&request.namespace, &request.query);
    let page = edge.list_by_query(&call, namespace, query, request.page_size, &request.next_page_token).await?;
    Ok(ScanWorkflowExecutionsResponse { executions: page.executions, next_page_token: page.next_page_token })
}
