//! What can go wrong, by what the caller can do about it.

use crate::{GroupId, NodeId};

/// Failures of opening, creating, removing and managing groups.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The settings contradict each other: a mistake of the operator.
    #[error("configuration: {0}")]
    Config(String),
    #[error("group {0} is not on this node")]
    NoSuchGroup(GroupId),
    #[error("group {0} is already on this node")]
    AlreadyExists(GroupId),
    /// Another local group holds a part of the extent.
    #[error("extent overlaps group {0}")]
    ExtentTaken(GroupId),
    /// Ask the leader, when it is known.
    #[error("not the leader")]
    NotLeader { hint: Option<NodeId> },
    /// Not now: another change is under way, or the node is shutting down. Retry later.
    #[error("not possible now: {0}")]
    Busy(String),
    /// The request cannot be fulfilled as it is.
    #[error("refused: {0}")]
    Refused(String),
    /// The wanted state was not reached in time; it may still come.
    #[error("timed out: {0}")]
    Timeout(&'static str),
    /// Storage failed: the node has to stop.
    #[error("storage: {0}")]
    Storage(String),
    /// The group's core has stopped, by a shutdown or a failure that `Observer::fatal` reported.
    #[error("the group has stopped")]
    Stopped,
}

/// Why a proposal was not applied, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Surely not in the log. The epoch is over; route the input again.
    #[error("not the leader")]
    NotLeader { hint: Option<NodeId> },
    /// Larger than an entry of the log may be; surely not in the log. The epoch lasts, and the number is
    /// still the next.
    #[error("a decision of {bytes} bytes: an entry may have {max}")]
    TooLarge { bytes: usize, max: usize },
    /// Applied as a no-op on every replica: the epoch is over or the number was out of sequence.
    #[error("refused")]
    Refused,
    /// It may or may not be applied, now or later. The epoch is over.
    #[error("the outcome is unknown")]
    Unknown,
}

/// Why a read must not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("not the leader")]
    NotLeader { hint: Option<NodeId> },
    /// No quorum confirmed the leadership in time.
    #[error("no quorum answered")]
    NoQuorum,
    #[error("the group has stopped")]
    Stopped,
}
