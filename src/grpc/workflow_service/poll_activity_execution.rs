//! PollActivityExecution: waits for what a standalone activity comes to.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeActivityExecutionRequest, PollActivityExecutionRequest, PollActivityExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, activities};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: PollActivityExecutionRequest,
) -> Result<PollActivityExecutionResponse> {
    edge.check_standalone_activities(&request.namespace)?;
    let namespace = edge.namespace(&request.namespace)?;
    let chain = activities::chain(&namespace.record, &request.activity_id);
    let mut describe = DescribeActivityExecutionRequest {
        activity_id: request.activity_id,
        run_id: request.run_id,
        include_outcome: true,
        ..DescribeActivityExecutionRequest::default()
    };
    // Says what is wrong with the request, and which run is meant from now on.
    let now = edge.describe_standalone(&chain, describe.clone(), call.answer_by()).await?;
    if now.outcome.is_some() {
        return Ok(PollActivityExecutionResponse { run_id: now.run_id, outcome: now.outcome });
    }
    let _place = edge.wait_in(&request.namespace)?;
    let end = edge.await_change(&chain, &now.run_id, i64::MAX, &call).await?;
    if end.running {
        return Ok(PollActivityExecutionResponse::default());
    }
    describe.run_id = now.run_id;
    let closed = edge.describe_standalone(&chain, describe, call.answer_by()).await?;
    Ok(PollActivityExecutionResponse { run_id: closed.run_id, outcome: closed.outcome })
}
