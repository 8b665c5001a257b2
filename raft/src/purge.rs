//! Makes rows durable in time, and lets go of the log that they make superfluous.
//!
//! # Contract
//! The log of a group is purged up to the least of: what the store has made durable (read back from it,
//! not assumed); the start of any snapshot that is being sent; what the slowest live replica has (on the
//! leader, up to a limit in bytes); and what a replica that was away for a moment may ask for (some
//! bytes, or some flushes, back).
//!
//! # Used by
//! `groups.rs` runs one for all groups of the node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bristlecone_storage::planted::{self, Bug};
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::GroupId;
use crate::config::RaftConfig;
use crate::error::Error;
use crate::group::Group;

/// Marks kept per group; the oldest goes first.
const MARKS_MAX: usize = 256;
/// A mark that many flushes old may be purged up to, however few bytes came since.
const MARK_AGE_MAX: u32 = 5;
/// A replica that acknowledged nothing for so long is not waited for.
const LIVE: Duration = Duration::from_secs(10);
/// How long openraft may take to note a snapshot's mark.
const NOTE_MAX: Duration = Duration::from_secs(5);

/// Counts what was appended to the logs of all groups since the last flush.
#[derive(Debug)]
pub(crate) struct Growth {
    bytes: AtomicU64,
    limit: u64,
    reached: Notify,
}

/// What was durable when, by group.
#[derive(Debug, Default)]
pub(crate) struct Purger {
    marks: BTreeMap<GroupId, VecDeque<Mark>>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Durable applied index.
    index: u64,
    /// Bytes appended to the group's log by then.
    bytes: u64,
    at: Instant,
}

impl Growth {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), limit, reached: Notify::new() })
    }

    pub fn add(&self, bytes: usize) {
        let bytes = bytes as u64;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before < self.limit && before + bytes >= self.limit {
            self.reached.notify_one();
        }
    }

    /// Waits until a flush is due, by bytes or by time, and counts anew.
    pub async fn due(&self, interval: Duration) {
        drop(timeout(interval, self.reached.notified()).await);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

impl Purger {
    /// Forgets groups that are gone.
    pub fn retain(&mut self, groups: &[Group]) {
        self.marks.retain(|id, _| groups.iter().any(|group| group.id() == *id));
    }

    /// Purges one group's log as far as it may be.
    pub async fn purge(&mut self, group: &Group, config: &RaftConfig) -> Result<(), Error> {
        let durable = match planted::has(Bug::PurgeAboveFlushed) {
            true => group.applied(),
            false => group.inner.shared.persisted()?.last_log_id.map_or(0, |id| id.index),
        };
        let marks = self.marks.entry(group.id()).or_default();
        let now = Mark { index: durable, bytes: group.inner.shared.appended_bytes(), at: Instant::now() };
        note(marks, now);
        let Some(upto) = target(group, marks, now, config) else {
            return Ok(());
        };
        let purged = group.inner.core.metrics().borrow_watched().purged.map_or(0, |id| id.index);
        if upto <= purged {
            return Ok(());
        }
        purge_up_to(group, upto).await?;
        marks.retain(|mark| mark.index >= upto);
        Ok(())
    }
}

/// Takes down what is durable now. A replica that was removed and came back counts its bytes anew: what was noted of
/// the one before says nothing of this one.
fn note(marks: &mut VecDeque<Mark>, now: Mark) {
    if marks.back().is_some_and(|last| last.bytes > now.bytes || last.index > now.index) {
        marks.clear();
    }
    if marks.back().is_none_or(|last| last.index < now.index) {
        marks.push_back(now);
    }
    while marks.len() > MARKS_MAX {
        marks.pop_front();
    }
}

/// The index up to which nobody needs the log.
fn target(group: &Group, marks: &VecDeque<Mark>, now: Mark, config: &RaftConfig) -> Option<u64> {
    let old = config.flush_interval * MARK_AGE_MAX;
    let superfluous = |mark: &&Mark| now.bytes - mark.bytes >= config.keep_log_bytes || now.at - mark.at >= old;
    let mut upto = marks.iter().rev().find(superfluous)?.index;
    if let Some(index) = group.inner.shared.kept_after() {
        upto = upto.min(index);
    }
    if let Some(index) = slowest_live_replica(group, marks, now, config) {
        upto = upto.min(index);
    }
    Some(upto)
}

/// On the leader: what the slowest replica has that is live and not hopelessly behind.
fn slowest_live_replica(group: &Group, marks: &VecDeque<Mark>, now: Mark, config: &RaftConfig) -> Option<u64> {
    let metrics = group.inner.core.data_metrics();
    let metrics = metrics.borrow_watched();
    let (replicas, heard) = (metrics.replication.as_ref()?, metrics.heartbeat.as_ref()?);
    let live = |node| heard.get(node).copied().flatten().is_some_and(|at| at.elapsed() < LIVE);
    let near = |index: u64| {
        let behind = marks.iter().rev().find(|mark| mark.index <= index).map_or(0, |mark| now.bytes - mark.bytes);
        behind <= config.keep_log_for_slow_bytes
    };
    let indexes = replicas.iter().filter(|(node, _)| live(*node)).map(|(_, id)| id.map_or(0, |id| id.index));
    // A replica with nothing at all gets a snapshot in any case.
    indexes.filter(|index| *index > 0 && near(*index)).min()
}

/// openraft purges up to a snapshot only, so it is shown one without data first.
async fn purge_up_to(group: &Group, upto: u64) -> Result<(), Error> {
    let core = &group.inner.core;
    core.trigger().snapshot().await.map_err(|_| Error::Stopped)?;
    let mut snapshot = core.watch_snapshot_progress();
    let noted = timeout(NOTE_MAX, snapshot.wait_until(|id| id.is_some_and(|id| id.index >= upto))).await;
    if noted.is_err() {
        return Err(Error::Timeout("a snapshot's mark to be noted"));
    }
    core.trigger().purge_log(upto).await.map_err(|_| Error::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_came_back_is_not_measured_by_the_one_before() {
        let mark = |index, bytes| Mark { index, bytes, at: Instant::now() };
        let mut marks = VecDeque::new();
        for (index, bytes) in [(5, 100), (5, 120), (9, 400)] {
            note(&mut marks, mark(index, bytes));
        }
        assert_eq!(marks.iter().map(|mark| mark.index).collect::<Vec<_>>(), [5, 9]);
        note(&mut marks, mark(12, 30));
        assert_eq!(marks.iter().map(|mark| mark.index).collect::<Vec<_>>(), [12]);
        note(&mut marks, mark(3, 40));
        assert_eq!(marks.iter().map(|mark| mark.index).collect::<Vec<_>>(), [3]);
    }
}
