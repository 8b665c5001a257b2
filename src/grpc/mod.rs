//! The API's edge: what SDKs, the CLI and the Web UI call.
//!
//! # Contract
//! A request is decoded once, gets what it lacks (request id, deadline, page size), is checked for what
//! can be known without its workflow, and moves on to the [`Cluster`](crate::cluster::Cluster). What
//! depends on a workflow is checked by the state machine. Nothing is decided here that has to survive.
//! Errors are [`Rejection`]s until `status.rs` makes gRPC statuses of them.
//!
//! One file per RPC, under the name of its service; `rpcs.rs` is the table of them.
//!
//! # Depends on
//! `crate::cluster` (everything behind the edge), `crate::token`, `crate::filter`.
//!
//! # Used by
//! The node's start (`serve`), and the simulation, which calls [`ApiService`] without a network.

mod activities;
pub mod admin_service;
mod batches;
mod call;
mod check;
mod edge;
mod errors;
mod history;
mod listing;
mod namespaces;
mod observe;
mod off;
mod operator_service;
mod poll;
mod rates;
mod rpcs;
mod schedules;
mod serve;
mod service;
pub mod status;
mod switches;
mod task;
#[cfg(test)]
mod tests;
mod updates;
mod version;
mod waits;
mod workers;
pub(crate) mod workflow_service;

use bristlecone_proto::chain::Rejection;

pub use call::Call;
pub use edge::Edge;
pub(crate) use namespaces::chain_id;
pub use rpcs::{RpcStatus, rpc_table};
pub use serve::serve;
pub use service::ApiService;
pub use version::SERVER_VERSION;

type Result<T> = std::result::Result<T, Rejection>;
