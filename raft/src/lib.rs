//! What is agreed: Raft groups over the storage of a node. A group replicates mutation batches, which are
//! opaque here, in one order to all its members, and applies them to the rows of its slots.
//!
//! # Contract
//! - openraft is named in this crate alone, and none of its types is stored or sent.
//! - What [`Group::propose`] acknowledged survives the loss of any minority of the group's nodes; nothing
//!   that was decided on lost memory is ever applied (`cursor.rs`).
//! - An error of storage stops the group and is reported to [`Observer::fatal`]; the node must exit.
//!
//! # Depends on
//! `proto` (records), `storage` (log, rows, runtime), openraft.
//!
//! # Used by
//! `src`: shard actors propose and read, the node opens and places groups, `src/peer` is the transport.

#![forbid(unsafe_code)]

mod beat;
mod config;
mod cursor;
mod entry;
mod error;
mod frame;
mod group;
mod groups;
mod inbound;
mod log_store;
mod membership;
mod network;
mod observer;
mod pipeline;
mod purge;
mod runtime;
mod shared;
mod snapshot;
mod snapshot_send;
mod state_machine;
mod transport;
mod types;

#[cfg(test)]
mod tests;

pub use config::RaftConfig;
pub use cursor::{EpochId, Refusal};
pub use error::{Error, ProposeError, ReadError};
pub use group::{Applied, Decision, Epoch, Group, Leadership};
pub use groups::{Env, Groups, Members};
pub use observer::Observer;
pub use transport::{Lane, PAYLOAD_MAX, Transport, TransportError};
pub use types::{GroupId, NodeId};
