//! What can be set for the groups of a node, and how it reaches openraft.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::error::Error;

/// Settings of all groups of a node. The defaults suit a LAN.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// How often a leader confirms its leadership. Milliseconds precision.
    pub heartbeat: Duration,
    /// A follower that hears nothing for lease + U(min, max) starts an election; `max` is the lease.
    pub election_min: Duration,
    pub election_max: Duration,
    /// Appends in flight per follower and group.
    pub append_window: usize,
    /// Entries of one append, and their bytes (one larger entry still goes, alone).
    pub append_entries_max: u64,
    pub append_bytes_max: usize,
    /// How long an append waits for its answer, with a second more for each 8 MiB in flight before it.
    pub append_timeout: Duration,
    /// A commit without new entries waits this long for entries to ride with, before it is sent alone.
    pub commit_delay: Duration,
    /// Messages that wait for one group's core; callers beyond wait.
    pub channel_size: u64,
    /// Entries, and bytes of entries, that one write to the state store carries.
    pub apply_entries_max: usize,
    pub apply_bytes_max: usize,
    /// The state store is flushed when the log has grown by so many bytes since the last flush …
    pub flush_log_bytes: u64,
    /// … or when this time has passed and something was applied.
    pub flush_interval: Duration,
    /// Log kept behind the flushed state, so that a replica that was away for a moment needs no snapshot.
    pub keep_log_bytes: u64,
    /// Log kept at most for a live replica that is slow.
    pub keep_log_for_slow_bytes: u64,
    /// Bytes of one snapshot chunk, and how long its acknowledgement and the final install may take.
    pub snapshot_chunk_bytes: usize,
    pub snapshot_chunk_timeout: Duration,
    pub snapshot_install_timeout: Duration,
    /// Snapshots sent, and snapshots received, at one time by this node.
    pub snapshots_max: usize,
    /// Directory (of the node's Vfs) for files of snapshots that come and go; emptied at every start.
    pub staging_dir: PathBuf,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            append_window: 16,
            append_entries_max: 512,
            append_bytes_max: 2 << 20,
            append_timeout: Duration::from_secs(1),
            commit_delay: Duration::from_millis(2),
            channel_size: 1024,
            apply_entries_max: 256,
            apply_bytes_max: 4 << 20,
            flush_log_bytes: 32 << 20,
            flush_interval: Duration::from_secs(60),
            keep_log_bytes: 64 << 20,
            keep_log_for_slow_bytes: 1 << 30,
            snapshot_chunk_bytes: 1 << 20,
            snapshot_chunk_timeout: Duration::from_secs(10),
            snapshot_install_timeout: Duration::from_secs(120),
            snapshots_max: 2,
            staging_dir: PathBuf::from("snapshots"),
        }
    }
}

impl RaftConfig {
    /// For how long a leader that hears nothing from a quorum may still believe in itself; twice this
    /// is when a proposal without an answer is given up.
    pub fn lease(&self) -> Duration {
        self.election_max
    }

    pub(crate) fn to_openraft(&self, name: &str) -> Result<Arc<Config>, Error> {
        let config = Config {
            cluster_name: name.to_string(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(self.snapshot_install_timeout),
            max_payload_entries: self.append_entries_max,
            max_append_entries: Some(self.append_entries_max),
            // Snapshots and purges are triggered by `purge.rs` alone: the first setting stops the ones
            // by policy, the second stops the purge that would follow each data-less snapshot.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            api_channel_size: Some(self.channel_size),
            notification_channel_size: Some(self.channel_size),
            state_machine_channel_size: Some(self.channel_size),
            enable_pre_vote: Some(true),
            // A leader that died before its own sync must not resume its term: it would give one log id
            // to two payloads.
            enable_leader_restore: Some(false),
            allow_log_reversion: Some(false),
            ..Config::default()
        };
        config.validate().map(Arc::new).map_err(|error| Error::Config(error.to_string()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
