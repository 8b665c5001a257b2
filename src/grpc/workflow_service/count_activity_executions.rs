//! CountActivityExecutions, in all or by status.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    CountActivityExecutionsRequest, CountActivityExecutionsResponse, count_activity_executions_response,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: CountActivityExecutionsRequest,
) -> Result<CountActivityExecutionsResponse> {
    edge.check_standalone_activities(&request.namespace)?;
    let namespace = edge.namespace(&request.namespace)?;
    let filter = edge.activity_filter(&request.query, &namespace.record)?;
    let counted = edge.count_by_filter(&call, &namespace.record, &filter).await?;
    let groups = counted.groups.into_iter().map(|group| count_activity_executions_response::AggregationGroup {
        group_values: group.group_values,
        count: group.count,
    });
    Ok(CountActivityExecutionsResponse { count: counted.count, groups: groups.collect() })
}
