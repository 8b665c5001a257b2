//! ListWorkflowExecutions: newest first, in the language of `filter`.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    ListWorkflowExecutionsRequest, ListWorkflowExecutionsResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ListWorkflowExecutionsRequest,
) -> Result<ListWorkflowExecutionsResponse> {
    let (namespace, query) = (&request.namespace, &request.query);
    let page = edge.list_by_query(&call, namespace, query, request.page_size, &request.next_page_token).await?;
    Ok(ListWorkflowExecutionsResponse { executions: page.executions, next_page_token: page.next_page_token })
}
