//! Raft's messages over the peers' lanes.
//!
//! # Contract
//! A message is queued when `call` is called, on the lane that is meant for it: heartbeats and votes
//! apart, the appends of one group always on the same connection, snapshots apart.
//!
//! # Used by
//! The node, which gives it to its groups.

use std::time::Duration;

use bristlecone_raft::{Lane as RaftLane, NodeId, Transport, TransportError};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::error::PeerError;
use super::lane::Lane;
use super::peers::Peers;

impl Transport for Peers {
    fn call(
        &self,
        to: NodeId,
        lane: RaftLane,
        payload: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let lane = match lane {
            RaftLane::Control => Lane::Control,
            RaftLane::Append { group } => Lane::append(group),
            RaftLane::Snapshot => Lane::Snapshot,
        };
        self.raft_call(to, lane, payload, timeout).map(|answer| answer.map_err(transport_error)).boxed()
    }
}

/// What a group can do about it: call again, or wait first.
fn transport_error(error: PeerError) -> TransportError {
    match error {
        PeerError::TimedOut { .. } => TransportError::Timeout,
        PeerError::Unreachable(_)
        | PeerError::NotSent(_)
        | PeerError::Lost(_)
        | PeerError::Busy(_)
        | PeerError::Refused(_)
        | PeerError::TooLarge { .. }
        | PeerError::Failed(_) => TransportError::Unreachable,
    }
}
