//! Rejections that only the edge has reason for, in the API's words.

use bristlecone_machine::reply::{code, failed_precondition, invalid_argument, plain, with_detail};
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{NamespaceState, ResourceExhaustedCause, ResourceExhaustedScope};
use bristlecone_proto::temporal::api::errordetails::v1::{
    NamespaceAlreadyExistsFailure, NamespaceInvalidStateFailure, NamespaceNotFoundFailure, ResourceExhaustedFailure,
};

use crate::filter::FilterError;

pub fn namespace_not_set() -> Rejection {
    invalid_argument("Namespace not set on request.")
}

/// `name`: what the caller called it, a name or an id.
pub fn namespace_not_found(name: &str) -> Rejection {
    let detail = NamespaceNotFoundFailure { namespace: name.to_owned() };
    with_detail(code::NOT_FOUND, format!("Namespace {name} is not found."), &detail)
}

pub fn namespace_already_exists(name: &str) -> Rejection {
    let message = format!("Namespace {name:?} already exists");
    with_detail(code::ALREADY_EXISTS, message, &NamespaceAlreadyExistsFailure {})
}

pub fn namespace_in_wrong_state(namespace: &record::Namespace, allowed: &[NamespaceState]) -> Rejection {
    let names: Vec<String> = allowed.iter().map(|state| format!("{state:?}")).collect();
    let message = format!("Namespace has invalid state: {:?}. Must be {}.", namespace.state(), names.join(" or "));
    let detail = NamespaceInvalidStateFailure {
        namespace: namespace.name.clone(),
        state: namespace.state,
        allowed_states: allowed.iter().map(|state| (*state).into()).collect(),
    };
    with_detail(code::FAILED_PRECONDITION, message, &detail)
}

/// The node takes no new workflows, for this reason.
pub fn starting() -> Rejection {
    plain(code::UNAVAILABLE, "this node has just started and does not know everything yet; try again, or another node")
}

/// The node stops, and the caller should go on with another one.
pub fn stopping() -> Rejection {
    plain(code::UNAVAILABLE, "this node is about to stop")
}

pub fn overloaded(reason: &str) -> Rejection {
    let detail = ResourceExhaustedFailure {
        cause: ResourceExhaustedCause::SystemOverloaded.into(),
        scope: ResourceExhaustedScope::System.into(),
    };
    with_detail(code::RESOURCE_EXHAUSTED, format!("no new workflows are taken at the moment: {reason}"), &detail)
}

pub fn namespace_rate_exceeded() -> Rejection {
    rate_exceeded(ResourceExhaustedScope::Namespace, "namespace rate limit exceeded")
}

pub fn service_rate_exceeded() -> Rejection {
    rate_exceeded(ResourceExhaustedScope::System, "service rate limit exceeded")
}

fn rate_exceeded(scope: ResourceExhaustedScope, message: &str) -> Rejection {
    let detail = ResourceExhaustedFailure { cause: ResourceExhaustedCause::RpsLimit.into(), scope: scope.into() };
    with_detail(code::RESOURCE_EXHAUSTED, message, &detail)
}

pub fn too_many_batches() -> Rejection {
    too_many_at_once("Max concurrent batch operations is reached")
}

pub fn too_many_wait() -> Rejection {
    too_many_at_once("namespace concurrent poller limit exceeded")
}

fn too_many_at_once(message: &str) -> Rejection {
    let detail = ResourceExhaustedFailure {
        cause: ResourceExhaustedCause::ConcurrentLimit.into(),
        scope: ResourceExhaustedScope::Namespace.into(),
    };
    with_detail(code::RESOURCE_EXHAUSTED, message, &detail)
}

pub fn bad_task_token() -> Rejection {
    invalid_argument("Error deserializing task token.")
}

pub fn bad_history_token() -> Rejection {
    invalid_argument("Invalid NextPageToken.")
}

pub fn bad_list_token() -> Rejection {
    invalid_argument("unable to deserialize page token")
}

pub fn no_deadline() -> Rejection {
    invalid_argument("Context timeout is not set.")
}

pub fn deadline_too_short() -> Rejection {
    failed_precondition("Context timeout is too short.")
}

pub fn deadline_exceeded() -> Rejection {
    plain(code::DEADLINE_EXCEEDED, "context deadline exceeded")
}

pub fn bad_query(error: &FilterError) -> Rejection {
    invalid_argument(format!("invalid query: {error}"))
}

/// What is behind the edge answered with something else than what was asked for.
pub fn unexpected_reply() -> Rejection {
    plain(code::INTERNAL, "the shard answered with a reply of another kind")
}

/// A gRPC method that this server does not have.
pub fn unimplemented(rpc: &str) -> Rejection {
    plain(code::UNIMPLEMENTED, format!("{rpc} is not implemented by this server"))
}
