//! QueryWorkflow: how a query has to be answered, so that it sees all that came before it.

use bristlecone_proto::chain::{DirectQuery, QueryRoute, Rejection, query_route::Route, reply::Kind};
use bristlecone_proto::temporal::api::enums::v1::{QueryRejectCondition, WorkflowExecutionStatus as Status};
use bristlecone_proto::temporal::api::query::v1::QueryRejected;
use bristlecone_proto::temporal::api::workflowservice::v1::QueryWorkflowRequest;

use crate::chain::Run;
use crate::draft::{Draft, normal_queue};
use crate::stamp::{Stamp, nanos};
use crate::{Step, reply};

pub(crate) fn query(draft: Draft<'_>, request: &QueryWorkflowRequest) -> Step {
    let query_type = request.query.as_ref().map(|query| query.query_type.as_str());
    let missing = match query_type {
        None => Some("WorkflowQuery is not set on request."),
        Some("") => Some("QueryType is not set on request."),
        Some(_) => None,
    };
    if let Some(text) = missing {
        return draft.reject(reply::invalid_argument(text));
    }
    let routed = draft.find(request.execution.as_ref()).and_then(|run_id| {
        let run = draft.run(&run_id);
        let route = route(run, request.query_reject_condition(), draft.at())?;
        Ok(QueryRoute { run_id: run.id.clone(), route: Some(route) })
    });
    match routed {
        Ok(route) => draft.unchanged(reply::of(Kind::QueryRoute(route))),
        Err(rejection) => draft.reject(rejection),
    }
}

fn route(run: &Run, condition: QueryRejectCondition, at: &Stamp<'_>) -> Result<Route, Rejection> {
    const FAILING_ATTEMPT: i32 = 3;
    let status = run.head.status();
    let rejected = match condition {
        QueryRejectCondition::Unspecified | QueryRejectCondition::None => status == Status::Paused,
        QueryRejectCondition::NotOpen => status != Status::Running,
        QueryRejectCondition::NotCompletedCleanly => !matches!(status, Status::Running | Status::Completed),
    };
    if rejected {
        return Ok(Route::Rejected(QueryRejected { status: status.into() }));
    }
    let task = run.head.workflow_task.as_ref();
    let has_completed_task = run.head.previous_started_event_id != 0;
    if !run.is_running() && !has_completed_task {
        let message = "Workflow execution closed before WorkflowTaskStarted event";
        return Err(reply::workflow_not_ready(message));
    }
    if task.is_none() && !has_completed_task {
        return not_ready_yet(run, at);
    }
    if task.map_or(run.head.next_workflow_task_attempt, |task| task.attempt) >= FAILING_ATTEMPT {
        let message = "Unable to query workflow due to Workflow Task in failed state.";
        return Err(reply::workflow_not_ready(message));
    }
    if has_completed_task && (!run.is_running() || task.is_none()) {
        return Ok(Route::Direct(direct(run)));
    }
    Ok(Route::Buffered(true))
}

/// The first workflow task is still to come; a caller who will be gone by then hears it now.
fn not_ready_yet(run: &Run, at: &Stamp<'_>) -> Result<Route, Rejection> {
    const NANOS_PER_MS: u64 = 1_000_000;
    let until = run.head.first_task_backoff_until.as_ref().map_or(at.now, nanos);
    let patience = i64::try_from(at.caller_timeout_ms.saturating_mul(NANOS_PER_MS)).unwrap_or(i64::MAX);
    if at.caller_timeout_ms > 0 && at.now.saturating_add(patience) < until {
        return Err(reply::workflow_not_ready("Workflow task is not scheduled yet."));
    }
    Ok(Route::NotReadyYet(true))
}

fn direct(run: &Run) -> DirectQuery {
    let sticky = run.head.sticky.as_ref();
    DirectQuery {
        workflow_type: run.started.workflow_type.clone(),
        sticky_queue: sticky.map(|sticky| sticky.queue.clone()).unwrap_or_default(),
        sticky_timeout: sticky.and_then(|sticky| sticky.schedule_to_start_timeout),
        task_queue: normal_queue(run).into(),
        previous_started_event_id: run.head.previous_started_event_id,
        next_event_id: run.head.next_event_id,
        priority: run.head.priority.clone(),
    }
}
