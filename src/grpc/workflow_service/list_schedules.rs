//! ListSchedules.

use bristlecone_proto::temporal::api::workflowservice::v1::{ListSchedulesRequest, ListSchedulesResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, schedules};

pub async fn handle(edge: Edge, call: Call, request: ListSchedulesRequest) -> Result<ListSchedulesResponse> {
    edge.check_schedules(&request.namespace)?;
    let query = schedules::query(&request.query)?;
    let (namespace, size) = (&request.namespace, request.maximum_page_size);
    let page = edge.list_by_query(&call, namespace, &query, size, &request.next_page_token).await?;
    let schedules = page.executions.into_iter().map(schedules::list_entry).collect();
    Ok(ListSchedulesResponse { schedules, next_page_token: page.next_page_token })
}
