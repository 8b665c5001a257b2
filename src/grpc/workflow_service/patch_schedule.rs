//! PatchSchedule: trigger, backfill, pause, unpause.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{PatchScheduleRequest, PatchScheduleResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(edge: Edge, call: Call, request: PatchScheduleRequest) -> Result<PatchScheduleResponse> {
    let (_, chain) = edge.schedule(&request.namespace, &request.schedule_id)?;
    edge.check_request_id(&request.request_id)?;
    match edge.cluster().call(&chain, input::Kind::PatchSchedule(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(PatchScheduleResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
