//! One group in memory: its marks, where its entries stand, and the last of them as bytes.
//!
//! # Contract
//! The same changes are made here when an operation is called and when its record is read back, so a
//! log that was opened again stands where it stood. Every entry that ceases to count is reported to
//! the caller (`dead`), who keeps the books of the segments.

use std::collections::VecDeque;

use bristlecone_proto::record::LogId;
use bytes::Bytes;

use super::index::Index;
use super::record::Marks;
use super::{GroupLog, LogEntry};

/// Bytes that an entry in memory is charged besides its own.
const CACHED_OVERHEAD: usize = 96;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) spot: Spot,
}

/// Where in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Offset of its first byte in the file.
    pub(super) at: u32,
    /// Bytes of the record, frame included, heads of sectors not included.
    pub(super) len: u32,
}

impl Place {
    pub(super) fn new(segment: u64, at: u64, len: usize) -> Self {
        let at = u32::try_from(at).expect("a segment has at most 1 GiB");
        let len = u32::try_from(len).expect("a record is shorter than a segment");
        Self { segment, spot: Spot { at, len } }
    }
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) log: GroupLog,
    pub(super) index: Index,
    tail: Tail,
}

/// The last entries as bytes: without holes up to the last one.
#[derive(Debug, Default)]
struct Tail {
    entries: VecDeque<Cached>,
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    entry: LogEntry,
    /// Number of the batch that carries it.
    batch: u64,
}

impl Cached {
    fn charge(&self) -> usize {
        self.entry.bytes.len() + CACHED_OVERHEAD
    }
}

impl Group {
    /// A group with these marks and no entry read yet.
    pub(super) fn new(marks: &Marks<'_>) -> Self {
        let log = GroupLog {
            purged: marks.purged,
            last: marks.last,
            vote: owned(marks.vote),
            committed: owned(marks.committed),
        };
        Self { log, ..Self::default() }
    }

    /// The index that the next entry must have; any when there is none before it.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.log.last.map(|last| last.index + 1)
    }

    pub(super) fn marks(&self) -> Marks<'_> {
        Marks {
            purged: self.log.purged,
            last: self.log.last,
            vote: self.log.vote.as_deref(),
            committed: self.log.committed.as_deref(),
        }
    }

    pub(super) fn append(&mut self, id: LogId, place: Place) {
        self.index.push(id.index, place);
        self.log.last = Some(id);
    }

    /// Keeps the bytes of the entry that was just appended.
    pub(super) fn keep(&mut self, entry: LogEntry, batch: u64) {
        let cached = Cached { entry, batch };
        self.tail.bytes += cached.charge();
        self.tail.entries.push_back(cached);
    }

    pub(super) fn truncate(&mut self, last: Option<LogId>, dead: &mut dyn FnMut(Place)) {
        let end = last.map_or(0, |id| id.index + 1);
        self.index.cut_end(end, dead);
        while self.tail.entries.back().is_some_and(|cached| cached.entry.id.index >= end) {
            self.tail.drop_back();
        }
        self.log.last = last.or(self.log.purged);
    }

    pub(super) fn purge(&mut self, id: LogId, dead: &mut dyn FnMut(Place)) {
        self.index.cut_start(id.index, dead);
        self.forget(id.index, u64::MAX);
        self.log.purged = Some(id);
        if self.log.last.is_none_or(|last| last.index <= id.index) {
            self.log.last = Some(id);
        }
    }

    pub(super) fn reset(&mut self, id: LogId, dead: &mut dyn FnMut(Place)) {
        self.remove(dead);
        (self.log.purged, self.log.last) = (Some(id), Some(id));
    }

    /// Drops all entries.
    pub(super) fn remove(&mut self, dead: &mut dyn FnMut(Place)) {
        self.index.cut_end(0, dead);
        self.tail = Tail::default();
    }

    /// Drops bytes of entries up to an index whose batch is at most `synced` from memory.
    pub(super) fn forget(&mut self, up_to: u64, synced: u64) {
        let old = |cached: &Cached| cached.entry.id.index <= up_to && cached.batch <= synced;
        while self.tail.entries.front().is_some_and(old) {
            self.tail.drop_front();
        }
    }

    /// Drops the older half of the bytes in memory, as far as it is synced.
    pub(super) fn forget_half(&mut self, synced: u64) {
        let goal = self.tail.bytes / 2;
        while self.tail.bytes > goal && self.tail.entries.front().is_some_and(|cached| cached.batch <= synced) {
            self.tail.drop_front();
        }
    }

    /// Bytes that entries in memory are charged.
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.bytes
    }

    /// An entry that is in memory.
    pub(super) fn cached(&self, index: u64) -> Option<&LogEntry> {
        let first = self.tail.entries.front()?.entry.id.index;
        let at = usize::try_from(index.checked_sub(first)?).ok()?;
        self.tail.entries.get(at).map(|cached| &cached.entry)
    }
}

impl Tail {
    fn drop_front(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |gone| gone.charge());
    }

    fn drop_back(&mut self) {
        self.bytes -= self.entries.pop_back().map_or(0, |gone| gone.charge());
    }
}

/// Copies the byte strings of marks that were read back.
pub(super) fn owned(bytes: Option<&[u8]>) -> Option<Bytes> {
    bytes.map(Bytes::copy_from_slice)
}
