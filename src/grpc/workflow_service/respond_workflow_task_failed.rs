//! RespondWorkflowTaskFailed: a worker gives a workflow task up.

use bristlecone_proto::chain::{FailWorkflowTask, WorkflowTaskToken, input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondWorkflowTaskFailedRequest, RespondWorkflowTaskFailedResponse,
};
use bytes::Bytes;

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: RespondWorkflowTaskFailedRequest,
) -> Result<RespondWorkflowTaskFailedResponse> {
    let token: WorkflowTaskToken = edge.open_task(&request.task_token)?;
    let namespace = edge.token_namespace(&token.namespace_id, &request.namespace)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    // The opened token travels on in its place.
    request.task_token = Bytes::new();
    let chain = chain_id(&namespace.record, &token.workflow_id);
    let input = input::Kind::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: Some(request.into()) });
    match edge.cluster().call(&chain, input, call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(RespondWorkflowTaskFailedResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
