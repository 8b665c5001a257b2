//! TerminateActivityExecution: a standalone activity ends now.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    TerminateActivityExecutionRequest, TerminateActivityExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, activities, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: TerminateActivityExecutionRequest,
) -> Result<TerminateActivityExecutionResponse> {
    edge.check_standalone_activities(&request.namespace)?;
    let namespace = edge.namespace(&request.namespace)?;
    if request.request_id.is_empty() {
        request.request_id = edge.cluster().new_id();
    }
    let chain = activities::chain(&namespace.record, &request.activity_id);
    match edge.cluster().call(&chain, input::Kind::TerminateStandalone(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(TerminateActivityExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
