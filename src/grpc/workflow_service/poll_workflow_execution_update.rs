//! PollWorkflowExecutionUpdate: how far an update has come, at once or when it comes further.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PollWorkflowExecutionUpdateRequest, PollWorkflowExecutionUpdateResponse,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: PollWorkflowExecutionUpdateRequest,
) -> Result<PollWorkflowExecutionUpdateResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    edge.check_updates(&request.namespace)?;
    let Some(reference) = &request.update_ref else {
        return Err(reply::invalid_argument("UpdateRef is not set on request."));
    };
    let execution = check::execution(reference.workflow_execution.as_ref(), &edge.cluster().settings().core)?;
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    let _place = edge.wait_in(&request.namespace)?;
    let poll = edge.cluster().poll_update(&chain, request, call.answer_by());
    edge.unless_draining(poll).await.unwrap_or_else(|| Err(errors::stopping()))
}
