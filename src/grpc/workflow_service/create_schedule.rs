//! CreateSchedule.

use bristlecone_machine::reply as rejections;
use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{CreateScheduleRequest, CreateScheduleResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors, schedules};

pub async fn handle(edge: Edge, call: Call, mut request: CreateScheduleRequest) -> Result<CreateScheduleResponse> {
    let (namespace, chain) = edge.schedule(&request.namespace, &request.schedule_id)?;
    if request.request_id.is_empty() {
        return Err(rejections::invalid_argument("RequestId is not set on request."));
    }
    edge.check_request_id(&request.request_id)?;
    check::note_types(request.search_attributes.as_mut(), &namespace);
    schedules::note_types(request.schedule.as_mut(), &namespace);
    match edge.cluster().call(&chain, input::Kind::CreateSchedule(request.into()), call.answer_by()).await? {
        reply::Kind::ScheduleCreated(response) => Ok(response),
        _ => Err(errors::unexpected_reply()),
    }
}
