//! Answers, and the rejections among them: a gRPC status code, a message, and the typed detail that
//! SDKs look for (`temporal.api.errordetails.v1`).

use alloc::format;
use alloc::string::{String, ToString};

use bristlecone_proto::chain::{Done, Rejection, Reply, reply};
use bristlecone_proto::temporal::api::errordetails::v1 as errordetails;
use bristlecone_proto::temporal::api::errordetails::v1::multi_operation_execution_failure::OperationStatus;
use bristlecone_proto::temporal::api::failure::v1::MultiOperationExecutionAborted;
use prost::{Message, Name};
use prost_types::Any;

/// gRPC status codes that rejections use.
pub mod code {
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const DEADLINE_EXCEEDED: i32 = 4;
    pub const NOT_FOUND: i32 = 5;
    pub const ALREADY_EXISTS: i32 = 6;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const ABORTED: i32 = 10;
    pub const UNIMPLEMENTED: i32 = 12;
    pub const INTERNAL: i32 = 13;
    pub const UNAVAILABLE: i32 = 14;
}

pub fn done() -> Reply {
    of(reply::Kind::Done(Done {}))
}

pub fn of(kind: reply::Kind) -> Reply {
    Reply { kind: Some(kind) }
}

pub fn rejected(rejection: Rejection) -> Reply {
    of(reply::Kind::Rejected(rejection))
}

pub fn plain(code: i32, message: impl Into<String>) -> Rejection {
    Rejection { code, message: message.into(), detail: None }
}

pub fn with_detail<M: Message + Name>(code: i32, message: impl Into<String>, detail: &M) -> Rejection {
    let value = detail.encode_to_vec();
    let type_url = format!("type.googleapis.com/{}", M::full_name());
    Rejection { code, message: message.into(), detail: Some(Any { type_url, value }) }
}

pub fn invalid_argument(message: impl Into<String>) -> Rejection {
    plain(code::INVALID_ARGUMENT, message)
}

pub fn failed_precondition(message: impl Into<String>) -> Rejection {
    plain(code::FAILED_PRECONDITION, message)
}

pub fn not_found(message: impl Into<String>) -> Rejection {
    with_detail(code::NOT_FOUND, message, &errordetails::NotFoundFailure::default())
}

/// No run of this workflow id (or not this run).
pub fn workflow_not_found(workflow_id: &str, run_id: &str) -> Rejection {
    if run_id.is_empty() {
        not_found(format!("workflow not found for ID: {workflow_id}"))
    } else {
        not_found(format!("workflow execution not found for workflow ID {workflow_id:?} and run ID {run_id:?}"))
    }
}

pub fn workflow_completed() -> Rejection {
    not_found("workflow execution already completed")
}

pub fn workflow_task_not_found() -> Rejection {
    not_found("Workflow task not found.")
}

pub fn activity_not_found() -> Rejection {
    not_found("invalid activityID or activity already timed out or invoking workflow is completed")
}

pub fn workflow_not_ready(message: impl Into<String>) -> Rejection {
    with_detail(code::FAILED_PRECONDITION, message, &errordetails::WorkflowNotReadyFailure::default())
}

pub fn already_started(
    message: impl Into<String>,
    start_request_id: &str,
    run_id: &str,
    first_run_id: &str,
) -> Rejection {
    let detail = errordetails::WorkflowExecutionAlreadyStartedFailure {
        start_request_id: start_request_id.to_string(),
        run_id: run_id.to_string(),
        first_execution_run_id: first_run_id.to_string(),
    };
    with_detail(code::ALREADY_EXISTS, message, &detail)
}

/// What an operation is told that was not carried out because another one failed.
pub fn operation_aborted() -> Rejection {
    with_detail(code::ABORTED, "Operation was aborted.", &MultiOperationExecutionAborted {})
}

/// The failure of several operations that go together; `None`: this one was carried out.
pub fn multi_operation(operations: [Option<Rejection>; 2]) -> Rejection {
    let fails = |code: &i32| *code != code::ABORTED;
    let code = operations.iter().flatten().map(|rejection| rejection.code).find(fails).unwrap_or(code::ABORTED);
    let statuses = operations.into_iter().map(|rejection| match rejection {
        Some(Rejection { code, message, detail }) => {
            OperationStatus { code, message, details: detail.into_iter().collect() }
        }
        None => OperationStatus::default(),
    });
    let detail = errordetails::MultiOperationExecutionFailure { statuses: statuses.collect() };
    with_detail(code, "Update-with-Start could not be executed.", &detail)
}

/// The workflow is closing, or holds too many waiting queries: the caller should try again soon.
pub fn busy_workflow(message: impl Into<String>) -> Rejection {
    use bristlecone_proto::temporal::api::enums::v1::{ResourceExhaustedCause, ResourceExhaustedScope};
    let detail = errordetails::ResourceExhaustedFailure {
        cause: ResourceExhaustedCause::BusyWorkflow.into(),
        scope: ResourceExhaustedScope::Namespace.into(),
    };
    with_detail(code::RESOURCE_EXHAUSTED, message, &detail)
}
