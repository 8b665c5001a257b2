//! CountSchedules.

use bristlecone_proto::temporal::api::workflowservice::v1::{CountSchedulesRequest, CountSchedulesResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, schedules};

pub async fn handle(edge: Edge, call: Call, request: CountSchedulesRequest) -> Result<CountSchedulesResponse> {
    edge.check_schedules(&request.namespace)?;
    let query = schedules::query(&request.query)?;
    let counted = edge.count_by_query(&call, &request.namespace, &query).await?;
    Ok(CountSchedulesResponse { count: counted.count, groups: Vec::new() })
}
