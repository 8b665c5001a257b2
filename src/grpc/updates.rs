//! What an update's request has to satisfy, alone or together with a start.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use bristlecone_proto::temporal::api::workflowservice::v1::UpdateWorkflowExecutionRequest;

use super::{Edge, Result, check};

/// The request with its defaults filled in, and its workflow id.
pub fn prepared(
    edge: &Edge,
    mut request: UpdateWorkflowExecutionRequest,
) -> Result<(UpdateWorkflowExecutionRequest, String)> {
    edge.check_updates(&request.namespace)?;
    let workflow_id =
        check::execution(request.workflow_execution.as_ref(), &edge.cluster().settings().core)?.workflow_id.clone();
    let Some(meta) = request.request.as_mut().and_then(|request| request.meta.as_mut()) else {
        return Err(reply::invalid_argument("Update meta is not set on request."));
    };
    if meta.update_id.is_empty() {
        meta.update_id = edge.cluster().new_id();
    }
    let policy = request.wait_policy.get_or_insert_default();
    match policy.lifecycle_stage() {
        Stage::Unspecified => policy.set_lifecycle_stage(Stage::Completed),
        Stage::Admitted => {
            let message =
                "UpdateWorkflowExecution issued asynchronously and waiting on update admitted is not supported.";
            return Err(reply::plain(reply::code::PERMISSION_DENIED, message));
        }
        Stage::Accepted | Stage::Completed => {}
    }
    Ok((request, workflow_id))
}
