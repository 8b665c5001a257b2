//! RespondActivityTaskCanceled, of an activity that was asked to cancel.

use bristlecone_proto::chain::{CancelActivity, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondActivityTaskCanceledRequest, RespondActivityTaskCanceledResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RespondActivityTaskCanceledRequest,
) -> Result<RespondActivityTaskCanceledResponse> {
    let (chain, activity) = edge.activity_by_token(&request.task_token, &request.namespace)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let input = input::Kind::CancelActivity(CancelActivity {
        activity: Some(activity),
        details: request.details,
        identity: request.identity,
        worker_version: request.worker_version,
    });
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(RespondActivityTaskCanceledResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
