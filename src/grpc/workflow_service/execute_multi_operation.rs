//! ExecuteMultiOperation: update-with-start, the one combination that there is.
//!
//! # Contract
//! The refusal of either operation is a failure of both, with a status for each.

use bristlecone_machine::reply;
use bristlecone_machine::stamp::duration_nanos;
use bristlecone_proto::chain::{Rejection, UpdateWithStart};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ExecuteMultiOperationRequest, ExecuteMultiOperationResponse, StartWorkflowExecutionRequest,
    UpdateWorkflowExecutionRequest, execute_multi_operation_request,
};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::updates::prepared;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ExecuteMultiOperationRequest,
) -> Result<ExecuteMultiOperationResponse> {
    let namespace = edge.open_namespace(&request.namespace)?;
    let Some((mut start, update)) = start_and_update(request.operations) else {
        return Err(reply::invalid_argument("Operations have to be exactly [Start, Update]."));
    };
    let checked_start = check_start(&edge, &start, &request.namespace);
    let checked_update = check_update(&edge, update, &request.namespace);
    let update = match (checked_start, checked_update) {
        (Ok(()), Ok((update, workflow_id))) if workflow_id == start.workflow_id => update,
        (Ok(()), Ok(_)) => {
            let message = "WorkflowId is not consistent with previous operation(s).";
            return Err(failed(None, Some(reply::invalid_argument(message))));
        }
        (start, update) => return Err(failed(start.err(), update.err())),
    };
    start.namespace.clone_from(&request.namespace);
    if start.request_id.is_empty() {
        start.request_id = edge.cluster().new_id();
    }
    check::note_types(start.search_attributes.as_mut(), &namespace.record);
    let chain = chain_id(&namespace.record, &start.workflow_id);
    let both = UpdateWithStart { start: Some(start), update: Some(update) };
    let _place = edge.wait_in(&request.namespace)?;
    let executed = edge.cluster().update_with_start(&chain, both, call.answer_by());
    edge.unless_draining(executed).await.unwrap_or_else(|| Err(errors::stopping()))
}

fn start_and_update(
    operations: Vec<execute_multi_operation_request::Operation>,
) -> Option<(StartWorkflowExecutionRequest, UpdateWorkflowExecutionRequest)> {
    use execute_multi_operation_request::operation::Operation;
    let [first, second] = <[_; 2]>::try_from(operations).ok()?;
    match (first.operation?, second.operation?) {
        (Operation::StartWorkflow(start), Operation::UpdateWorkflow(update)) => Some((start, update)),
        _ => None,
    }
}

fn check_start(edge: &Edge, start: &StartWorkflowExecutionRequest, namespace: &str) -> Result<()> {
    check_namespace(&start.namespace, namespace)?;
    check::workflow_id(&start.workflow_id, &edge.cluster().settings().core)?;
    check::callbacks(&start.completion_callbacks)?;
    let refused = if !start.cron_schedule.is_empty() {
        "CronSchedule is not allowed."
    } else if start.request_eager_execution {
        "RequestEagerExecution is not supported."
    } else if duration_nanos(start.workflow_start_delay.as_ref()) > 0 {
        "WorkflowStartDelay is not supported."
    } else {
        return Ok(());
    };
    Err(reply::invalid_argument(refused))
}

fn check_update(
    edge: &Edge,
    update: UpdateWorkflowExecutionRequest,
    namespace: &str,
) -> Result<(UpdateWorkflowExecutionRequest, String)> {
    check_namespace(&update.namespace, namespace)?;
    let (update, workflow_id) = prepared(edge, update)?;
    if !update.first_execution_run_id.is_empty() {
        return Err(reply::invalid_argument("FirstExecutionRunId is not allowed."));
    }
    if update.workflow_execution.as_ref().is_some_and(|execution| !execution.run_id.is_empty()) {
        return Err(reply::invalid_argument("RunId is not allowed."));
    }
    Ok((update, workflow_id))
}

fn check_namespace(own: &str, namespace: &str) -> Result<()> {
    if own.is_empty() || own == namespace {
        return Ok(());
    }
    Err(reply::invalid_argument("Operation namespace did not match request's namespace."))
}

/// The operation that nothing is wrong with was not carried out all the same.
fn failed(start: Option<Rejection>, update: Option<Rejection>) -> Rejection {
    reply::multi_operation([start, update].map(|rejection| rejection.or_else(|| Some(reply::operation_aborted()))))
}
