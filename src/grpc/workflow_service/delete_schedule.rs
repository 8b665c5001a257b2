//! DeleteSchedule: what the schedule has started goes on.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{DeleteScheduleRequest, DeleteScheduleResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(edge: Edge, call: Call, request: DeleteScheduleRequest) -> Result<DeleteScheduleResponse> {
    let (_, chain) = edge.schedule(&request.namespace, &request.schedule_id)?;
    match edge.cluster().call(&chain, input::Kind::DeleteSchedule(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(DeleteScheduleResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
