//! What can go wrong with the state store, by what the caller can do about it.

use thiserror::Error;

pub type Result<T> = std::result::Result<T, Error>;

/// Every kind but `Invalid` and `Unsupported` ends the use of the store, or of the file named.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The disk is full. The store is poisoned: make room, then open it anew.
    #[error("no space left for the state store: {0}")]
    Full(String),
    /// A checksum or a structure is wrong. Nothing of it was served; what can be done is to drop the
    /// store and fetch the rows of its groups from other replicas. Reads of other rows go on.
    #[error("{file} is corrupt: {detail}")]
    Corrupt { file: String, detail: String },
    /// An operation of the file system failed. The store is poisoned.
    #[error("I/O error in the state store: {0}")]
    Io(String),
    /// The store was stopped by an earlier error, which is named; it does nothing more.
    #[error("the state store has stopped: {0}")]
    Poisoned(String),
    /// The caller broke the contract of the call; nothing was done.
    #[error("invalid use of the state store: {0}")]
    Invalid(String),
    /// This kind of store cannot do it; nothing was done.
    #[error("not supported by this state store: {0}")]
    Unsupported(&'static str),
}
