//! DescribeActivityExecution: a standalone activity as it is, or as soon as it has changed.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeActivityExecutionRequest, DescribeActivityExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, activities};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: DescribeActivityExecutionRequest,
) -> Result<DescribeActivityExecutionResponse> {
    edge.check_standalone_activities(&request.namespace)?;
    let namespace = edge.namespace(&request.namespace)?;
    let chain = activities::chain(&namespace.record, &request.activity_id);
    if request.long_poll_token.is_empty() {
        return edge.describe_standalone(&chain, request, call.answer_by()).await;
    }
    if request.run_id.is_empty() {
        return Err(reply::invalid_argument("run id is required when long poll token is provided"));
    }
    let known = edge.open_change(&chain, &request.run_id, &request.long_poll_token)?;
    let _place = edge.wait_in(&request.namespace)?;
    let end = edge.await_change(&chain, &request.run_id, known, &call).await?;
    if end.next_event_id > known {
        return edge.describe_standalone(&chain, request, call.answer_by()).await;
    }
    if !end.running {
        edge.await_nothing(&chain, &call).await;
    }
    Ok(DescribeActivityExecutionResponse::default())
}
