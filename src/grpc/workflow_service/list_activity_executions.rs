//! ListActivityExecutions: standalone activities, newest first.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ListActivityExecutionsRequest, ListActivityExecutionsResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, activities};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ListActivityExecutionsRequest,
) -> Result<ListActivityExecutionsResponse> {
    edge.check_standalone_activities(&request.namespace)?;
    let namespace = edge.namespace(&request.namespace)?;
    let filter = edge.activity_filter(&request.query, &namespace.record)?;
    if filter.group_by_status {
        return Err(reply::invalid_argument("invalid query: operation is not supported: 'GROUP BY' clause"));
    }
    let (size, token) = (request.page_size, &request.next_page_token);
    let page = edge.list_by_filter(&call, &namespace.record, &filter, size, token).await?;
    let executions = page.executions.into_iter().map(activities::listed).collect();
    Ok(ListActivityExecutionsResponse { executions, next_page_token: page.next_page_token })
}
