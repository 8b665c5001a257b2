//! Why a message between nodes came to nothing, by what the sender can do about it.
//!
//! # Used by
//! Everything that talks to other nodes through `Peers`.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::Kind;
use super::hello::{ANOTHER_CLUSTER, REMOVED};

/// See [`PeerError::outcome_unknown`] for the one question that decides about repeating a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No connection, and none could be made: not sent. Try another node, or this one later.
    #[error("node unreachable: {0}")]
    Unreachable(String),
    /// The connection broke while the message still waited to be written: not sent.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The connection broke after the message was, perhaps, written: it may have been carried out.
    #[error("connection lost, outcome unknown: {0}")]
    Lost(String),
    /// The time is over. If `sent`, the message may have been or may still be carried out.
    #[error("no answer in time{}", if *sent { "" } else { ", not sent" })]
    TimedOut { sent: bool },
    /// Too much waits, here or at the other node: not carried out. Shed load, or try later.
    #[error("too many messages wait, {0}")]
    Busy(&'static str),
    /// The other node (or this one) refuses to talk, in words for people: not carried out.
    #[error("refused: {0}")]
    Refused(String),
    /// The message is longer than a frame may be: not sent, and never will be.
    #[error("a message of {bytes} bytes, but {bytes_max} are allowed")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// The other node took the message but has no answer: it may have been carried out.
    #[error("the other node failed: {0}")]
    Failed(String),
}

impl PeerError {
    /// Whether the other node says that this one was removed.
    pub fn removed(&self) -> bool {
        matches!(self, Self::Refused(why) if why.contains(REMOVED))
    }

    /// Whether the other node belongs to another cluster.
    pub fn another_cluster(&self) -> bool {
        matches!(self, Self::Refused(why) if why.contains(ANOTHER_CLUSTER))
    }

    /// Whether the message may have been carried out. If not, it may be sent again or elsewhere.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Lost(_) | Self::TimedOut { sent: true } | Self::Failed(_) => true,
            Self::Unreachable(_)
            | Self::NotSent(_)
            | Self::TimedOut { sent: false }
            | Self::Busy(_)
            | Self::Refused(_)
            | Self::TooLarge { .. } => false,
        }
    }
}

/// The other node's reason for having no answer, the first byte of an Error frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Busy,
    Refused,
    Failed,
}

impl Fault {
    /// Payload of an Error frame; overlong words are cut.
    pub(super) fn encode(self, words: &str) -> Bytes {
        let code = match self {
            Self::Busy => 1,
            Self::Refused => 2,
            Self::Failed => 3,
        };
        let end = words.floor_char_boundary(Kind::Error.payload_bytes_max() - 1);
        let (words, _) = words.split_at(end);
        let mut payload = BytesMut::with_capacity(1 + words.len());
        payload.put_u8(code);
        payload.put_slice(words.as_bytes());
        payload.freeze()
    }

    pub(super) fn decode(payload: &[u8]) -> PeerError {
        let Some((code, words)) = payload.split_first() else { return PeerError::Failed("no reason given".into()) };
        let words = String::from_utf8_lossy(words).into_owned();
        match code {
            1 => PeerError::Busy("at the other node"),
            2 => PeerError::Refused(words),
            _ => PeerError::Failed(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_arrives_as_the_error_that_it_is() {
        assert_eq!(Fault::decode(&Fault::Busy.encode("")), PeerError::Busy("at the other node"));
        assert_eq!(Fault::decode(&Fault::Refused.encode("no")), PeerError::Refused("no".into()));
        assert_eq!(Fault::decode(&Fault::Failed.encode("oh")), PeerError::Failed("oh".into()));
        assert_eq!(Fault::decode(b""), PeerError::Failed("no reason given".into()));
        let long = "ü".repeat(Kind::Error.payload_bytes_max());
        let payload = Fault::Failed.encode(&long);
        assert!(payload.len() <= Kind::Error.payload_bytes_max());
        assert!(matches!(Fault::decode(&payload), PeerError::Failed(words) if long.starts_with(&words)));
    }
}
