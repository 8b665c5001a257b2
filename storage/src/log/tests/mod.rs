//! Tests of the log on the model disk and on a real one; here what they share: a log that is driven step by
//! step, and the plain map that it must agree with.

mod crash;
mod damage;
mod operations;
mod real;
mod segments;
mod stopped;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bristlecone_proto::record::LogId;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Done, GroupLog, Log, LogEntry, LogError, LogOptions};
use crate::runtime::{Entropy, Tasks};
use crate::vfs::ModelVfs;

/// Sessions that differ from one opening to the next.
#[derive(Debug, Default)]
pub(super) struct Sessions(AtomicU64);

impl Entropy for Sessions {
    fn next(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1) << 96
    }
}

/// A seeded source of choices.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) % end
    }
}

pub(super) const SMALL: LogOptions =
    LogOptions { segment_bytes: 64 << 10, spare_segments: 2, tail_bytes: 8 << 10, queued_bytes: 1 << 20 };

pub(super) fn dir() -> PathBuf {
    PathBuf::from("/data/log")
}

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId { term, node_id: 1, index }
}

/// An entry whose bytes say what it is.
pub(super) fn entry(term: u64, index: u64, len: usize) -> LogEntry {
    let mut bytes = format!("{term}/{index} ").into_bytes();
    bytes.resize(len.max(bytes.len()), u8::try_from(index % 251).unwrap());
    LogEntry { id: id(term, index), bytes: Bytes::from(bytes) }
}

pub(super) fn entries(term: u64, indexes: std::ops::Range<u64>, len: usize) -> Vec<LogEntry> {
    indexes.map(|index| entry(term, index, len)).collect()
}

/// Runs a future where tasks take turns on one thread.
pub(super) fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(super) async fn open(vfs: &ModelVfs, options: LogOptions, sessions: &Sessions) -> Result<Log, LogError> {
    let tasks = Tasks::single_threaded();
    Log::open(Arc::new(vfs.clone()), dir(), options, &tasks, sessions).await
}

/// A callback, and what it is called with, in order with others that share the list.
pub(super) type Answers = Arc<Mutex<Vec<(u64, Result<(), LogError>)>>>;

pub(super) fn answer(answers: &Answers, number: u64) -> Done {
    let answers = Arc::clone(answers);
    Box::new(move |result| answers.lock().push((number, result)))
}

pub(super) fn ignore() -> Done {
    Box::new(|_| {})
}

/// Waits for one operation.
pub(super) async fn done(call: impl FnOnce(Done)) -> Result<(), LogError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    call(Box::new(move |result| drop(sender.send(result))));
    receiver.await.expect("every callback is called")
}

pub(super) async fn flush(log: &Log) -> Result<(), LogError> {
    done(|done| log.flush(done)).await
}

/// What a log holds, plainly.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reference {
    pub(super) groups: BTreeMap<u64, ReferenceGroup>,
}

#[derive(Clone, Default, PartialEq)]
pub(super) struct ReferenceGroup {
    pub(super) log: GroupLog,
    pub(super) entries: BTreeMap<u64, LogEntry>,
}

impl std::fmt::Debug for ReferenceGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths: Vec<_> =
            self.entries.values().map(|entry| (entry.id.term, entry.id.index, entry.bytes.len())).collect();
        write!(f, "{:?} {lengths:?}", self.log)
    }
}

impl ReferenceGroup {
    pub(super) fn last(&self) -> u64 {
        self.log.last.map_or(0, |last| last.index)
    }
}

impl Reference {
    pub(super) fn group(&mut self, group: u64) -> &mut ReferenceGroup {
        self.groups.entry(group).or_default()
    }

    pub(super) fn append(&mut self, group: u64, entries: &[LogEntry]) {
        let group = self.group(group);
        for entry in entries {
            group.log.last = Some(entry.id);
            group.entries.insert(entry.id.index, entry.clone());
        }
    }

    pub(super) fn truncate_after(&mut self, group: u64, last: Option<LogId>) {
        let group = self.group(group);
        let last = last.or(group.log.purged);
        drop(group.entries.split_off(&last.map_or(0, |last| last.index + 1)));
        group.log.last = last;
    }

    pub(super) fn purge(&mut self, group: u64, id: LogId) {
        let group = self.group(group);
        group.entries = group.entries.split_off(&(id.index + 1));
        group.log.purged = Some(id);
        if group.entries.is_empty() {
            group.log.last = Some(id);
        }
    }

    pub(super) fn reset(&mut self, group: u64, id: LogId) {
        let group = self.group(group);
        group.entries.clear();
        (group.log.purged, group.log.last) = (Some(id), Some(id));
    }
}

/// All that a log holds, entries read back. Reading goes in small steps, so that it crosses from disk to memory.
pub(super) fn holds(log: &Log) -> Result<Reference, LogError> {
    let mut held = Reference::default();
    for group in log.groups() {
        let state = log.state(group);
        let mut next = state.purged.map_or(0, |purged| purged.index + 1);
        let mut entries = BTreeMap::new();
        loop {
            let page = log.read(group, next..u64::MAX, 4 << 10)?;
            let Some(last) = page.last() else { break };
            next = last.id.index + 1;
            entries.extend(page.into_iter().map(|entry| (entry.id.index, entry)));
        }
        held.groups.insert(group, ReferenceGroup { log: state, entries });
    }
    Ok(held)
}
