//! The segment log of a node: entries, votes and committed marks of all its Raft groups in one stream,
//! with one disk sync for whatever waits.
//!
//! # Contract
//! - Operations take effect in memory at once and in call order; they are durable, in that order, when
//!   their `done` is called with `Ok`. Whatever waits while a sync runs goes into the next one.
//! - `done` callbacks are called in order, on the log's own thread or task (after an error, or when the
//!   call is refused, possibly on the caller's before the call returns). They must not block or panic.
//! - The first I/O error of a write or sync stops the log for good: every pending and later callback gets
//!   it, nothing is retried, and the hook of [`Log::on_poisoned`] is called.
//! - Nothing that was acknowledged is ever dropped silently: what cannot be read back is
//!   [`LogError::Corrupt`], at opening or at a read.
//! - The directory belongs to one log at a time; its owner holds the lock of the data directory.
//!
//! # How it is built
//! Calls put records (`record`) into the batch that is filled (`batch`, `state`); the writer (`writer`) takes
//! it, writes it with one call, syncs, and calls back. A batch stands in sectors of its own (`sector`), so a
//! synced byte is never written over, and each sector proves what it is, so that `scan` can tell a torn end
//! from damage. Segments are numbered without holes and begin with the marks of all groups; the oldest one is free
//! when no entry in it counts (`segments`), and `keeper` sees to it that this happens. `recover` and `replay` make
//! the same state from the same records again.
//!
//! # What a crash leaves
//!
//! | dies after | what is left | what recovers it |
//! | --- | --- | --- |
//! | a call | nothing | it was not acknowledged |
//! | the write of a batch, in part | any of its sectors | `scan`: not complete, so the log ends before it |
//! | the write of a batch | all of it in the page cache | `recover` writes it again and syncs before it counts |
//! | a failed sync | clean pages that the disk may not have | the same |
//! | the sync, before the callbacks | the batch | it is in the log; the caller finds it there |
//! | half of a new segment file | a file `*.new` | removed at opening |
//! | a new segment's file got its name | a blank file, or none | a spare file |
//! | a part of a segment's first batch | its first sector: old, or new with old ones after it | a spare file; a new first sector is wiped, lest two files begin one segment |
//! | entries were moved, not synced | the entries at their old places | nothing was freed yet |
//! | entries were moved and synced | the entries at both places | the later record counts |
//! | a segment was declared free, not synced | all of it | its file is not reused before that sync |
//! | that record was synced | a file with old batches | a spare file: the log begins after it |
//! | any step of an opening | what was there before | the next opening does the same |
//!
//! # Used by
//! `raft` (a log store per group over one `Log`).

mod batch;
mod error;
mod files;
mod group;
mod index;
mod keeper;
mod options;
mod read;
mod record;
mod recover;
mod replay;
mod scan;
mod sector;
mod segments;
mod shared;
mod state;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bristlecone_proto::record::LogId;
use bytes::Bytes;

pub use error::{Corruption, LogError};
pub use options::LogOptions;

use self::files::Files;
use self::recover::Recovered;
use self::shared::Shared;
use self::state::{Phase, State};
use crate::runtime::{Entropy, Tasks};
use crate::vfs::Vfs;

/// Called once, when what it was given with is durable, or will never be.
pub type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// An entry of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    pub id: LogId,
    pub bytes: Bytes,
}

/// What the log holds of one group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupLog {
    /// Entries up to this one are gone.
    pub purged: Option<LogId>,
    /// The last entry; `purged` when there is none after it.
    pub last: Option<LogId>,
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
}

/// Figures of a log, for metrics and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes of all segment files, spare ones included.
    pub disk_bytes: u64,
    pub segments: usize,
    pub spare_segments: usize,
    /// Bytes that can be written without a new file: the rest of the last segment, and spare ones.
    pub prepared_bytes: u64,
    /// Bytes on disk of entries that are neither purged nor truncated.
    pub live_bytes: u64,
    /// Bytes of entries in memory.
    pub tail_bytes: usize,
    /// Bytes that wait for the disk.
    pub queued_bytes: usize,
    /// Batches written and synced since the log was opened.
    pub syncs: u64,
}

/// A handle of the log; clones share it. When the last one is dropped, what waits is written and the log ends.
#[derive(Clone)]
pub struct Log {
    owner: Arc<Owner>,
}

/// Ends the log with its last handle.
struct Owner {
    shared: Arc<Shared>,
    tasks: Tasks,
    created: bool,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.owner.shared.files.dir()).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in a directory (created when it is not there; its beginning is durable when this returns), reads
    /// all of it, and starts its writer.
    /// [`LogError::Corrupt`] when synced bytes are damaged: then nothing was changed on disk.
    /// Must be called inside a tokio runtime.
    pub async fn open(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        options: LogOptions,
        tasks: &Tasks,
        entropy: &dyn Entropy,
    ) -> Result<Self, LogError> {
        // Any bits do, as long as two openings do not have the same ones.
        let session = u32::try_from(entropy.next() >> 96).expect("32 bits are left");
        let threads = tasks.has_threads();
        let (shared, chain) = tasks
            .blocking(move || {
                let open_error = |error: std::io::Error| LogError::Open(format!("{}: {error}", dir.display()).into());
                let (files, found) = Files::open(vfs, dir.clone()).map_err(open_error)?;
                let Recovered { state, chain } = recover::recover(&files, found, options.bounded())?;
                if state.head == 0 {
                    // So that the first call does not wait for it.
                    files.prepare(state.options.segment_bytes).map_err(open_error)?;
                }
                Ok::<_, LogError>((Arc::new(Shared::new(state, files, threads)), chain))
            })
            .await?;
        let created = {
            let state = shared.state.lock();
            let (segments, groups) = (state.segments.len(), state.groups.len());
            tracing::info!(dir = %shared.files.dir().display(), segments, groups, "opened the log");
            state.head == 0
        };
        writer::start(&shared, tasks, session, chain).map_err(|error| LogError::Open(error.to_string().into()))?;
        let log = Self { owner: Arc::new(Owner { shared, tasks: tasks.clone(), created }) };
        if created {
            log.begin().await?;
        }
        Ok(log)
    }

    /// Makes the beginning of the first segment durable: a log in which nothing was written yet is not one that is gone.
    async fn begin(&self) -> Result<(), LogError> {
        let (done, begun) = tokio::sync::oneshot::channel();
        let tell: Done = Box::new(move |result| drop(done.send(result)));
        self.submit(tell, |state| {
            state.begin();
            Ok(())
        });
        begun.await.unwrap_or(Err(LogError::Closed))
    }

    /// Whether there was no log in the directory. A node that has an identity but finds no log has lost its
    /// votes and must not serve under that identity.
    pub fn was_created(&self) -> bool {
        self.owner.created
    }

    /// Adds entries after the last one of the group; they can be read at once. Their indexes are
    /// consecutive and follow the last one (any index may be a group's first); otherwise, or when an entry is
    /// longer than [`Log::entry_bytes_max`], none is kept and `done` gets [`LogError::Refused`].
    /// Never refuses for want of room: await [`Log::room`] before.
    pub fn append(&self, group: u64, entries: Vec<LogEntry>, done: Done) {
        self.submit(done, |state| state.append(group, entries));
    }

    /// Replaces the vote of a group. At most 256 bytes.
    pub fn save_vote(&self, group: u64, vote: Bytes, done: Done) {
        self.submit(done, |state| state.save_vote(group, vote));
    }

    /// Replaces the committed mark of a group; it becomes durable with whatever is synced next, and never
    /// causes a sync. At most 256 bytes; a longer one is not kept.
    pub fn save_committed(&self, group: u64, committed: Bytes) {
        self.ride_along(|state| state.save_committed(group, committed));
    }

    /// Removes the entries after `last` (`None`: all), which becomes the last one. Nothing happens when there
    /// are none. [`LogError::Refused`] below what is purged.
    pub fn truncate_after(&self, group: u64, last: Option<LogId>, done: Done) {
        self.submit(done, |state| state.truncate_after(group, last));
    }

    /// Removes the entries up to `id`, which becomes the purged one, and the last one when none is after it.
    /// Becomes durable with whatever is synced next; the space is freed after that. A step back is ignored.
    pub fn purge(&self, group: u64, id: LogId) {
        self.ride_along(|state| state.purge(group, id));
    }

    /// Removes all entries of a group and makes `id` its purged and last one. Vote and committed mark stay.
    pub fn reset(&self, group: u64, id: LogId, done: Done) {
        self.submit(done, |state| state.reset(group, id));
    }

    /// Forgets a group with its vote and marks.
    pub fn remove_group(&self, group: u64, done: Done) {
        self.submit(done, |state| {
            state.remove_group(group);
            Ok(())
        });
    }

    /// Calls `done` when everything before this call is durable, committed marks and purges included.
    pub fn flush(&self, done: Done) {
        self.submit(done, |_| Ok(()));
    }

    /// Waits until less than [`LogOptions::queued_bytes`] wait for the disk, or the log has stopped.
    pub async fn room(&self) {
        let shared = &self.owner.shared;
        loop {
            let changed = shared.room.notified();
            {
                let state = shared.state.lock();
                if state.queued_bytes < shared.options.queued_bytes || !matches!(state.phase, Phase::Open) {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Entries with indexes in `range`, as many as there are, until their bytes exceed `max_bytes`, but at
    /// least one. Served from memory where possible; otherwise it blocks on the disk.
    /// [`LogError::Purged`] when the first of them is purged, [`LogError::Corrupt`] when one is damaged.
    pub fn read(&self, group: u64, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        self.plan(group, range, max_bytes)?.run(group)
    }

    /// As [`Log::read`]; what is not in memory is read off the runtime's own threads.
    pub async fn fetch(&self, group: u64, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        let plan = self.plan(group, range, max_bytes)?;
        if plan.needs_disk() {
            return self.owner.tasks.blocking(move || plan.run(group)).await;
        }
        plan.run(group)
    }

    /// What the log holds of a group, durable or not yet. Never touches the disk.
    pub fn state(&self, group: u64) -> GroupLog {
        self.owner.shared.state.lock().groups.get(&group).map(|group| group.log.clone()).unwrap_or_default()
    }

    /// Groups that the log holds anything of, sorted.
    pub fn groups(&self) -> Vec<u64> {
        self.owner.shared.state.lock().groups.keys().copied().collect()
    }

    /// The entries of a group up to this index need not stay in memory (those that are not synced stay).
    pub fn release(&self, group: u64, up_to: u64) {
        self.owner.shared.state.lock().release(group, up_to);
    }

    /// Longest entry that fits, in bytes: half a segment.
    pub fn entry_bytes_max(&self) -> usize {
        self.owner.shared.options.entry_bytes_max()
    }

    /// Bytes of all segment files, spare ones included.
    pub fn disk_bytes(&self) -> u64 {
        self.owner.shared.files.bytes()
    }

    pub fn stats(&self) -> LogStats {
        let Shared { state, files, .. } = &*self.owner.shared;
        let state = state.lock();
        LogStats {
            disk_bytes: files.bytes(),
            segments: state.segments.len(),
            spare_segments: files.spares(),
            prepared_bytes: state.prepared_bytes() + files.spare_bytes(),
            live_bytes: state.segments.live_bytes(),
            tail_bytes: state.tail_bytes,
            queued_bytes: state.queued_bytes,
            syncs: state.syncs,
        }
    }

    /// Registers what to do when the log stops after an error of the disk; at once when it has. Called before
    /// any callback gets the error.
    pub fn on_poisoned(&self, hook: Box<dyn FnOnce(&LogError) + Send>) {
        let state = self.owner.shared.state.lock();
        match &state.phase {
            Phase::Open | Phase::Closing | Phase::Stopped(LogError::Closed) => {
                self.owner.shared.hooks.lock().push(hook);
            }
            Phase::Stopped(error) => {
                let error = error.clone();
                drop(state);
                hook(&error);
            }
        }
    }

    /// Writes and syncs what waits and ends the log; later calls get [`LogError::Closed`].
    pub async fn close(&self) {
        let shared = &self.owner.shared;
        shared.close();
        loop {
            let ended = shared.ended.notified();
            if shared.state.lock().ended {
                return;
            }
            ended.await;
        }
    }

    /// Makes an operation, whose callback is called when it is durable.
    fn submit(&self, done: Done, operation: impl FnOnce(&mut State) -> Result<(), LogError>) {
        let mut state = self.owner.shared.state.lock();
        let result = accepts(&state.phase).and_then(|()| operation(&mut state));
        match result {
            Ok(()) => {
                state.wait(done);
                drop(state);
                self.owner.shared.wake_writer();
            }
            Err(error) => {
                drop(state);
                done(Err(error));
            }
        }
    }

    /// Makes an operation for which nobody waits.
    fn ride_along(&self, operation: impl FnOnce(&mut State) -> Result<(), LogError>) {
        let mut state = self.owner.shared.state.lock();
        let result = accepts(&state.phase).and_then(|()| operation(&mut state));
        let wake = state.has_work();
        drop(state);
        if let Err(error) = result {
            tracing::debug!(%error, "not kept");
        }
        if wake {
            self.owner.shared.wake_writer();
        }
    }

    fn plan(&self, group: u64, range: Range<u64>, max_bytes: usize) -> Result<read::Plan, LogError> {
        let Shared { state, files, .. } = &*self.owner.shared;
        read::plan(&state.lock(), group, range, max_bytes, files.dir())
    }
}

fn accepts(phase: &Phase) -> Result<(), LogError> {
    match phase {
        Phase::Open => Ok(()),
        Phase::Closing => Err(LogError::Closed),
        Phase::Stopped(error) => Err(error.clone()),
    }
}
