//! What can go wrong with the log, by what the caller can do about it.

use std::path::PathBuf;
use std::sync::Arc;

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A write or a sync failed: nothing after it is kept and nothing is retried. The node must exit.
    #[error("the log stopped after an I/O error: {0}")]
    Poisoned(Arc<str>),
    /// The disk was full when a segment was needed. The log is stopped as by [`LogError::Poisoned`]; after
    /// a restart it serves reads, and takes writes again once there is space.
    #[error("the log stopped because the disk is full: {0}")]
    Full(Arc<str>),
    /// Bytes that had been synced are not what was written, or cannot be read. A node whose log is
    /// damaged must not serve again under its node id.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The entries from this index on were asked for, but are purged: a snapshot is needed.
    #[error("group {group}: entry {index} is purged")]
    Purged { group: u64, index: u64 },
    /// The caller broke the contract (a hole between entries, a record beyond its limit). Nothing was kept.
    #[error("refused by the log: {0}")]
    Refused(Arc<str>),
    /// The log was closed by its owner.
    #[error("the log is closed")]
    Closed,
    /// The directory cannot be opened for a reason outside of the log's bytes.
    #[error("cannot open the log: {0}")]
    Open(Arc<str>),
}

/// Where the log is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log is damaged: {} at byte {offset}: {what}", file.display())]
pub struct Corruption {
    pub file: PathBuf,
    /// Byte in the file from which on it cannot be trusted.
    pub offset: u64,
    pub what: String,
}
