//! The seam through which groups talk to the same groups on other nodes.
//!
//! # Contract
//! - Payloads are opaque to the transport; [`crate::frame`] says what is in them. It delivers a payload
//!   whole and unchanged, at most once per call, or not at all, and brings back the callee's answer.
//! - For one (node, lane), requests leave in the order in which `call` was *called*, and the other side
//!   calls [`crate::Groups::handle`] in the order of arrival. A breach costs speed (the follower asks
//!   for a retry), never safety.
//! - [`Lane::Control`] is small and urgent: it must not wait behind other lanes, and frames of many
//!   groups may share one write.
//!
//! # Used by
//! `network.rs`; implemented by `src/peer` and by the tests' model network.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{GroupId, NodeId};

/// Largest payload of one call in bytes: a replication batch with one oversized entry, or a snapshot chunk.
pub const PAYLOAD_MAX: usize = 64 << 20;

/// What a frame is about, so that urgent ones do not wait behind large ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, leadership transfers: at most a few hundred bytes each.
    Control,
    /// Log entries of one group. Frames of one group stay in order; groups are independent.
    Append { group: GroupId },
    /// Files of a snapshot, in chunks of at most [`crate::RaftConfig::snapshot_chunk_bytes`].
    Snapshot,
}

/// Calls to other nodes.
pub trait Transport: Debug + Send + Sync + 'static {
    /// Sends `payload` to `to` and waits at most `timeout` for the answer.
    ///
    /// The request is queued when this function is called, not when the future is polled. Dropping the
    /// future abandons the answer, not the request.
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        payload: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;
}

/// Why a call brought no answer. In both cases the callee may or may not have acted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// There is no connection, or it broke: calling again at once is pointless.
    #[error("the node cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
}
