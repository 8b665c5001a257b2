//! The segments in use: which files they are and how much in each still counts.
//!
//! # Contract
//! Segments are numbered without holes and become free from the oldest on. One is free when no entry in
//! it counts any more: the marks of groups that stand in it count no more either, for each later segment
//! begins with the marks of all groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::SegmentFile;
use super::group::Place;

#[derive(Debug, Default)]
pub(super) struct Segments {
    used: BTreeMap<u64, Segment>,
    live_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    /// `None` until its first batch is written.
    file: Option<Arc<SegmentFile>>,
    bytes: u64,
    live_entries: u64,
}

impl Segments {
    /// Takes a segment into use.
    pub(super) fn insert(&mut self, number: u64, bytes: u64, file: Option<Arc<SegmentFile>>) {
        self.used.insert(number, Segment { file, bytes, live_entries: 0 });
    }

    pub(super) fn set_file(&mut self, number: u64, file: Arc<SegmentFile>) {
        if let Some(segment) = self.used.get_mut(&number) {
            segment.file = Some(file);
        }
    }

    pub(super) fn file(&self, number: u64) -> Option<Arc<SegmentFile>> {
        self.used.get(&number)?.file.clone()
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.used.keys().next().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// An entry counts from now on.
    pub(super) fn add(&mut self, place: Place) {
        if let Some(segment) = self.used.get_mut(&place.segment) {
            segment.live_entries += 1;
            self.live_bytes += u64::from(place.spot.len);
        }
    }

    /// An entry counts no more.
    pub(super) fn release(&mut self, place: Place) {
        if let Some(segment) = self.used.get_mut(&place.segment) {
            segment.live_entries -= 1;
            self.live_bytes -= u64::from(place.spot.len);
        }
    }

    /// Takes the oldest segment out of use when nothing in it counts and it is older than `before`.
    pub(super) fn free_first(&mut self, before: u64) -> Option<Arc<SegmentFile>> {
        let oldest = self.used.first_entry().filter(|oldest| *oldest.key() < before)?;
        if oldest.get().live_entries > 0 {
            return None;
        }
        // A segment before a synced one has a file.
        oldest.remove().file
    }

    /// Whether so little of the space in use counts that the oldest segment should be emptied: the
    /// log takes at most twice what counts, and four segments.
    pub(super) fn is_sparse(&self) -> bool {
        let newest = self.used.values().next_back().map_or(0, |segment| segment.bytes);
        let used: u64 = self.used.values().map(|segment| segment.bytes).sum();
        used > 2 * self.live_bytes + 4 * newest
    }
}
