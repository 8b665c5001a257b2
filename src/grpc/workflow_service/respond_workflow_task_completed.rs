//! RespondWorkflowTaskCompleted: a worker's commands.

use bristlecone_machine::stamp::timestamp;
use bristlecone_proto::chain::WorkflowTaskToken;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskCompletedResponse,
};
use bristlecone_storage::planted::{self, Bug};
use bytes::Bytes;

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: RespondWorkflowTaskCompletedRequest,
) -> Result<RespondWorkflowTaskCompletedResponse> {
    let mut token: WorkflowTaskToken = edge.open_task(&request.task_token)?;
    let namespace = edge.token_namespace(&token.namespace_id, &request.namespace)?;
    check::identity(&request.identity, &edge.cluster().settings().core)?;
    let build = request.worker_version_stamp.as_ref().map(|stamp| (stamp.build_id.as_str(), stamp.use_versioning));
    let sticky = request.sticky_attributes.as_ref().and_then(|sticky| sticky.worker_task_queue.as_ref());
    check::versioning(build, request.deployment_options.as_ref(), sticky, &edge.cluster().settings())?;
    check::note_types_in_commands(&mut request.commands, &namespace.record);
    if planted::has(Bug::StartedRewritten)
        && let Some(started) = &mut token.started_event
    {
        started.event_time = Some(timestamp(edge.cluster().wall()));
    }
    // The opened token travels on in its place.
    request.task_token = Bytes::new();
    let chain = chain_id(&namespace.record, &token.workflow_id);
    edge.cluster().complete_workflow_task(&chain, token, request, call.answer_by()).await
}
