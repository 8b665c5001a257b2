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
        self.raft_call(to, lane.into(), payload, timeout).map(|answer| answer.map_err(transport_error)).boxed()
    }
}

impl Lane {
    /// The lane as the Raft crate names it. Which group an append belongs to stands in the message
    /// alone; the one named here is one that uses the same lane.
    pub fn for_raft(self) -> RaftLane {
        match self {
            // No Raft message comes on the lane of calls.
            Self::Control | Self::Calls => RaftLane::Control,
            Self::AppendEven => RaftLane::Append { group: 0 },
            Self::AppendOdd => RaftLane::Append { group: 1 },
            Self::Snapshot => RaftLane::Snapshot,
        }
    }
}

impl From<RaftLane> for Lane {
    fn from(lane: RaftLane) -> Self {
        match lane {
            RaftLane::Control => Self::Control,
            RaftLane::Append { group } => Self::append(group),
            RaftLane::Snapshot => Self::Snapshot,
        }
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
