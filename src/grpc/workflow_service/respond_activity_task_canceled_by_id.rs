//! RespondActivityTaskCanceledById.

use bristlecone_proto::chain::{CancelActivity, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondActivityTaskCanceledByIdRequest, RespondActivityTaskCanceledByIdResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RespondActivityTaskCanceledByIdRequest,
) -> Result<RespondActivityTaskCanceledByIdResponse> {
    let (chain, activity) =
        edge.activity_by_id(&request.namespace, &request.workflow_id, request.run_id, request.activity_id)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let input = input::Kind::CancelActivity(CancelActivity {
        activity: Some(activity),
        details: request.details,
        identity: request.identity,
        worker_version: None,
    });
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(RespondActivityTaskCanceledByIdResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
