//! The log in memory: what each group holds, and the batches that wait for the disk.
//!
//! # Contract
//! - An operation is put into the stream and made in memory in one step under the log's lock, so the order of
//!   the stream is the order of the calls, and memory is what a replay of the whole stream gives.
//! - [`State::next`] gives batches in their order; the writer has at most one of them.
//! - What a segment's space is needed for ends only when the record that ends it is synced: a segment
//!   that is free is handed on after the batch with its `FirstLive` is durable.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use bristlecone_proto::record::LogId;
use bytes::Bytes;

use super::batch::{Batch, Move};
use super::files::SegmentFile;
use super::group::{Group, Place};
use super::options::{LogOptions, MARK_BYTES_MAX};
use super::record::{Begin, FORMAT, Record};
use super::segments::Segments;
use super::{Done, LogEntry, LogError, sector};

/// Whether the log takes operations.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    Open,
    /// What waits is still written.
    Closing,
    Stopped(LogError),
}

pub(super) struct State {
    pub(super) options: LogOptions,
    pub(super) groups: BTreeMap<u64, Group>,
    pub(super) segments: Segments,
    /// Files of free segments, each with the batch that must be synced before they are reused.
    freeing: VecDeque<(u64, Arc<SegmentFile>)>,
    /// Where the next batch goes: segment, its length and the offset in it.
    pub(super) head: u64,
    pub(super) head_bytes: u64,
    pub(super) end: u64,
    pub(super) next_number: u64,
    filling: Batch,
    ready: VecDeque<Batch>,
    kept: Option<Batch>,
    /// Whether the writer has a batch.
    pub(super) writing: bool,
    /// Number and segment of the last synced batch.
    pub(super) synced: u64,
    pub(super) synced_segment: u64,
    pub(super) phase: Phase,
    pub(super) tail_bytes: usize,
    pub(super) queued_bytes: usize,
    pub(super) syncs: u64,
    /// Entries under way to the head of the log.
    moving: usize,
    /// Whether the writer is gone.
    pub(super) ended: bool,
}

/// What is to be done, outside of the lock, after a batch is synced.
#[derive(Default)]
pub(super) struct Finished {
    pub(super) dones: Vec<Done>,
    pub(super) freed: Vec<Arc<SegmentFile>>,
    /// Whether the segment files want a look.
    pub(super) keep: bool,
}

impl State {
    pub(super) fn new(options: LogOptions) -> Self {
        Self {
            options,
            groups: BTreeMap::new(),
            segments: Segments::default(),
            freeing: VecDeque::new(),
            head: 0,
            head_bytes: 0,
            end: 0,
            next_number: 1,
            filling: Batch::default(),
            ready: VecDeque::new(),
            kept: None,
            writing: false,
            synced: 0,
            synced_segment: 0,
            phase: Phase::Open,
            tail_bytes: 0,
            queued_bytes: 0,
            syncs: 0,
            moving: 0,
            ended: false,
        }
    }

    // ------------------------------------------------------------ operations

    pub(super) fn append(&mut self, group: u64, entries: Vec<LogEntry>) -> Result<(), LogError> {
        self.admit(group)?;
        let mut next = self.groups.get(&group).and_then(Group::next_index);
        for LogEntry { id, bytes } in &entries {
            if next.is_some_and(|next| next != id.index) {
                return Err(refused(format!("group {group}: entry {} where {} belongs", id.index, next.unwrap_or(0))));
            }
            if bytes.len() > self.options.entry_bytes_max() {
                return Err(refused(format!("group {group}: entry {} has {} bytes", id.index, bytes.len())));
            }
            next = Some(id.index + 1);
        }
        for entry in entries {
            let place = self.put(group, &Record::Entry(entry.id, &entry.bytes));
            let batch = self.filling.number;
            self.segments.add(place);
            self.change(group, |group, _| {
                group.append(entry.id, place);
                group.keep(entry, batch);
            });
        }
        Ok(())
    }

    pub(super) fn save_vote(&mut self, group: u64, vote: Bytes) -> Result<(), LogError> {
        self.admit(group)?;
        mark_fits(&vote)?;
        self.put(group, &Record::Vote(&vote));
        self.change(group, |group, _| group.log.vote = Some(vote));
        Ok(())
    }

    pub(super) fn save_committed(&mut self, group: u64, committed: Bytes) -> Result<(), LogError> {
        self.admit(group)?;
        mark_fits(&committed)?;
        self.put(group, &Record::Committed(&committed));
        self.change(group, |group, _| group.log.committed = Some(committed));
        Ok(())
    }

    pub(super) fn truncate_after(&mut self, group: u64, last: Option<LogId>) -> Result<(), LogError> {
        let Some(log) = self.groups.get(&group).map(|group| &group.log) else { return Ok(()) };
        let last = last.or(log.purged);
        let index = last.map(|last| last.index);
        if index >= log.last.map(|last| last.index) {
            return Ok(());
        }
        if index < log.purged.map(|purged| purged.index) {
            return Err(refused(format!("group {group}: truncated below what is purged")));
        }
        self.put(group, &Record::Truncate(last));
        self.change(group, |group, dead| group.truncate(last, dead));
        Ok(())
    }

    pub(super) fn purge(&mut self, group: u64, id: LogId) -> Result<(), LogError> {
        self.admit(group)?;
        let purged = self.groups.get(&group).and_then(|group| group.log.purged);
        if purged.is_some_and(|purged| purged.index >= id.index) {
            return Ok(());
        }
        self.put(group, &Record::Purge(id));
        self.change(group, |group, dead| group.purge(id, dead));
        Ok(())
    }

    pub(super) fn reset(&mut self, group: u64, id: LogId) -> Result<(), LogError> {
        self.admit(group)?;
        self.put(group, &Record::Reset(id));
        self.change(group, |group, dead| group.reset(id, dead));
        Ok(())
    }

    pub(super) fn remove_group(&mut self, group: u64) {
        if self.groups.contains_key(&group) {
            self.put(group, &Record::Remove);
            self.change(group, |group, dead| group.remove(dead));
            self.groups.remove(&group);
        }
    }

    pub(super) fn release(&mut self, group: u64, up_to: u64) {
        let synced = self.synced;
        if self.groups.contains_key(&group) {
            self.change(group, |group, _| group.forget(up_to, synced));
        }
    }

    /// Puts an entry, as read back from `from`, to the head of the log, if it still stands there.
    pub(super) fn move_entry(&mut self, group: u64, entry: &LogEntry, from: Place) {
        let index = entry.id.index;
        if self.groups.get(&group).and_then(|group| group.index.get(index)) == Some(from) {
            let to = self.put(group, &Record::Moved(entry.id, &entry.bytes));
            self.filling.moves.push(Move { group, index, from, to });
            self.filling.urgent = true;
            self.moving += 1;
        }
    }

    /// Adds a callback that is called when all that was put so far is synced.
    pub(super) fn wait(&mut self, done: Done) {
        self.filling.dones.push(done);
        self.filling.urgent = true;
    }

    /// Whether anything is put into the stream at all, and the group may be (it is there or there is room).
    fn admit(&self, group: u64) -> Result<(), LogError> {
        if self.groups.contains_key(&group) || self.groups.len() < self.options.groups_max() {
            return Ok(());
        }
        Err(refused(format!("group {group}: the log has its {} groups", self.groups.len())))
    }

    /// Changes a group and keeps the books.
    fn change(&mut self, group: u64, change: impl FnOnce(&mut Group, &mut dyn FnMut(Place))) {
        let segments = &mut self.segments;
        let group = self.groups.entry(group).or_default();
        let before = group.tail_bytes();
        change(group, &mut |place| segments.release(place));
        self.tail_bytes = self.tail_bytes - before + group.tail_bytes();
    }

    // ------------------------------------------------------------ the stream

    /// Begins the first segment.
    pub(super) fn begin(&mut self) {
        self.make_room(0);
    }

    /// Puts a record at the end of the stream.
    fn put(&mut self, group: u64, record: &Record<'_>) -> Place {
        self.make_room(record.room());
        let before = self.filling.queued;
        let place = self.filling.put(group, record);
        self.queued_bytes += self.filling.queued - before;
        place
    }

    /// Sees to it that the batch that is filled takes `room` more bytes.
    fn make_room(&mut self, room: usize) {
        if !self.filling.is_empty() {
            let len = self.filling.len_with(room);
            let end = self.filling.offset + sector::extent(len) as u64;
            if len <= self.options.batch_bytes_max() && end <= self.head_bytes {
                return;
            }
            let full = self.take_filling();
            self.ready.push_back(full);
        }
        let number = self.next_number;
        self.next_number += 1;
        let end = self.end + sector::extent(self.filling.len_with(room)) as u64;
        if self.head != 0 && end <= self.head_bytes {
            self.filling.start(number, self.head, self.end, false);
        } else {
            self.begin_segment(number);
        }
    }

    /// Opens the next segment with the marks of all groups, so that no older one is needed for them.
    fn begin_segment(&mut self, number: u64) {
        let before_ends = mem::take(&mut self.end);
        self.head += 1;
        self.head_bytes = self.options.segment_bytes;
        self.segments.insert(self.head, self.head_bytes, None);
        self.filling.start(number, self.head, 0, true);
        let groups = u32::try_from(self.groups.len()).expect("groups_max is smaller");
        let first_live = self.segments.first().unwrap_or(self.head);
        let before = self.filling.queued;
        self.filling.put(0, &Record::Begin(Begin { format: FORMAT, first_live, before_ends, groups }));
        for (id, group) in &self.groups {
            self.filling.put(*id, &Record::Marks(group.marks()));
        }
        self.queued_bytes += self.filling.queued - before;
    }

    fn take_filling(&mut self) -> Batch {
        let batch = mem::replace(&mut self.filling, self.kept.take().unwrap_or_default());
        if !batch.is_empty() {
            self.end = batch.offset + batch.extent() as u64;
        }
        batch
    }

    /// The next batch to write, when somebody waits for it. An empty one has callbacks only.
    pub(super) fn next(&mut self) -> Option<Batch> {
        let batch = match self.phase {
            Phase::Stopped(_) => None,
            Phase::Open | Phase::Closing if !self.ready.is_empty() => self.ready.pop_front(),
            Phase::Open if !self.filling.urgent => None,
            Phase::Closing if !self.filling.urgent && self.filling.is_empty() => None,
            Phase::Open | Phase::Closing => Some(self.take_filling()),
        };
        self.writing = batch.is_some();
        batch
    }

    /// Whether the writer has something to do.
    pub(super) fn has_work(&self) -> bool {
        self.filling.urgent || !self.ready.is_empty()
    }

    /// A batch is synced: makes its moves, sees what became free, and drops what memory has too much of.
    pub(super) fn finish(&mut self, mut batch: Batch) -> Finished {
        self.writing = false;
        let mut finished = Finished { dones: mem::take(&mut batch.dones), ..Finished::default() };
        if !batch.is_empty() {
            self.synced = batch.number;
            self.synced_segment = batch.segment;
            self.syncs += 1;
            self.queued_bytes -= batch.queued;
            for moved in &batch.moves {
                self.moved(moved);
            }
            self.free(&mut finished.freed);
            self.trim_tail();
            finished.keep = batch.begins_segment || !finished.freed.is_empty() || self.segments.is_sparse();
        }
        self.kept = Some(batch.recycle());
        finished
    }

    fn moved(&mut self, moved: &Move) {
        self.moving -= 1;
        let Some(group) = self.groups.get_mut(&moved.group) else { return };
        if group.index.get(moved.index) == Some(moved.from) {
            group.index.set(moved.index, moved.to);
            self.segments.release(moved.from);
            self.segments.add(moved.to);
        }
    }

    /// Hands on the files whose last use is over, and takes segments out of use in which nothing counts.
    fn free(&mut self, freed: &mut Vec<Arc<SegmentFile>>) {
        let over = self.freeing.partition_point(|(batch, _)| *batch <= self.synced);
        freed.extend(self.freeing.drain(..over).map(|(_, file)| file));
        let mut files = Vec::new();
        while let Some(file) = self.segments.free_first(self.synced_segment) {
            files.push(file);
        }
        if !files.is_empty() {
            // Rides along: nobody waits for the space.
            self.put(0, &Record::FirstLive(self.segments.first().unwrap_or(self.head)));
            let batch = self.filling.number;
            self.freeing.extend(files.into_iter().map(|file| (batch, file)));
        }
    }

    /// Brings the bytes in memory under their limit, as far as they are synced: the largest first.
    fn trim_tail(&mut self) {
        let synced = self.synced;
        while self.tail_bytes > self.options.tail_bytes {
            let largest = self.groups.iter().max_by_key(|(_, group)| group.tail_bytes());
            let Some(largest) = largest.map(|(id, _)| *id) else { return };
            let before = self.tail_bytes;
            self.change(largest, |group, _| group.forget_half(synced));
            if self.tail_bytes == before {
                return;
            }
        }
    }

    /// Entries of the oldest segment, up to `bytes` of them, when they should be moved now.
    pub(super) fn to_move(&self, bytes: usize) -> Vec<(u64, u64, Place)> {
        if self.moving > 0 || !self.segments.is_sparse() {
            return Vec::new();
        }
        let Some(oldest) = self.segments.first().filter(|oldest| *oldest < self.synced_segment) else {
            return Vec::new();
        };
        let mut taken = 0;
        let entries = self
            .groups
            .iter()
            .flat_map(|(id, group)| group.index.in_segment(oldest).map(|(index, place)| (*id, index, place)));
        entries
            .take_while(|(_, _, place)| {
                let more = taken < bytes;
                taken += place.spot.len as usize;
                more
            })
            .collect()
    }

    /// Bytes that the last segment still takes.
    pub(super) fn prepared_bytes(&self) -> u64 {
        let end = if self.filling.is_empty() { self.end } else { self.filling.offset + self.filling.extent() as u64 };
        self.head_bytes.saturating_sub(end)
    }

    /// Ends the log: every callback that waits gets the error, in order.
    pub(super) fn stop(&mut self, error: LogError) -> Vec<Done> {
        self.phase = Phase::Stopped(error);
        self.writing = false;
        let waiting = self.ready.drain(..).chain([mem::take(&mut self.filling)]);
        waiting.flat_map(|mut batch| mem::take(&mut batch.dones)).collect()
    }
}

fn mark_fits(mark: &Bytes) -> Result<(), LogError> {
    if mark.len() <= MARK_BYTES_MAX {
        return Ok(());
    }
    Err(refused(format!("a vote or committed mark of {} bytes", mark.len())))
}

fn refused(why: String) -> LogError {
    LogError::Refused(why.into())
}
