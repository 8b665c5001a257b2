//! RequestCancelActivityExecution: a standalone activity is asked to end.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RequestCancelActivityExecutionRequest, RequestCancelActivityExecutionResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, activities, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: RequestCancelActivityExecutionRequest,
) -> Result<RequestCancelActivityExecutionResponse> {
    edge.check_standalone_activities(&request.namespace)?;
    let namespace = edge.namespace(&request.namespace)?;
    if request.request_id.is_empty() {
        request.request_id = edge.cluster().new_id();
    }
    let chain = activities::chain(&namespace.record, &request.activity_id);
    match edge.cluster().call(&chain, input::Kind::CancelStandalone(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(RequestCancelActivityExecutionResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
