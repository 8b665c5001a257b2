//! UpdateSchedule: the schedule is replaced as a whole, save what it has done.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{UpdateScheduleRequest, UpdateScheduleResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors, schedules};

pub async fn handle(edge: Edge, call: Call, mut request: UpdateScheduleRequest) -> Result<UpdateScheduleResponse> {
    let (namespace, chain) = edge.schedule(&request.namespace, &request.schedule_id)?;
    edge.check_request_id(&request.request_id)?;
    check::note_types(request.search_attributes.as_mut(), &namespace);
    schedules::note_types(request.schedule.as_mut(), &namespace);
    match edge.cluster().call(&chain, input::Kind::UpdateSchedule(request.into()), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(UpdateScheduleResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
