//! ListScheduleMatchingTimes: the times that a schedule's spec names, paused or not.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ListScheduleMatchingTimesRequest, ListScheduleMatchingTimesResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ListScheduleMatchingTimesRequest,
) -> Result<ListScheduleMatchingTimesResponse> {
    let (_, chain) = edge.schedule(&request.namespace, &request.schedule_id)?;
    match edge.cluster().call(&chain, input::Kind::ScheduleMatchingTimes(request), call.answer_by()).await? {
        reply::Kind::ScheduleMatchingTimes(response) => Ok(response),
        _ => Err(errors::unexpected_reply()),
    }
}
