//! CountWorkflowExecutions, in all or by status.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    CountWorkflowExecutionsRequest, CountWorkflowExecutionsResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: CountWorkflowExecutionsRequest,
) -> Result<CountWorkflowExecutionsResponse> {
    edge.count_by_query(&call, &request.namespace, &request.query).await
}
