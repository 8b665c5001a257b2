//! The log's sizes and limits.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Longest vote or committed mark, in bytes.
pub(super) const MARK_BYTES_MAX: usize = 256;

/// A batch is closed when it would grow beyond this many bytes (a longer entry has a batch to itself).
const BATCH_BYTES: u64 = 4 * MIB;

/// Bytes that the marks of one group take at most at the start of a segment.
const GROUP_BYTES: u64 = 640;

/// Sizes and limits of a log. They may differ from one start of a node to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a segment file, brought into 64 KiB..=1 GiB and to a multiple of 4 KiB. While longer segments
    /// are in use, new ones are as long.
    pub segment_bytes: u64,
    /// Segment files kept for reuse, at least one; more than these are deleted.
    pub spare_segments: usize,
    /// Bytes of entries kept in memory, of all groups together; what is not synced yet is kept beyond it.
    pub tail_bytes: usize,
    /// Bytes that may wait for the disk before [`super::Log::room`] makes callers wait.
    pub queued_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 * MIB, spare_segments: 2, tail_bytes: 64 << 20, queued_bytes: 64 << 20 }
    }
}

impl LogOptions {
    /// The same with sizes in their bounds.
    pub(super) fn bounded(self) -> Self {
        let segment_bytes = self.segment_bytes.clamp(64 * KIB, 1024 * MIB).next_multiple_of(4 * KIB);
        Self { segment_bytes, spare_segments: self.spare_segments.max(1), ..self }
    }

    pub(super) fn batch_bytes_max(&self) -> usize {
        to_usize(BATCH_BYTES.min(self.segment_bytes / 8))
    }

    /// Groups whose marks fit into a quarter of a segment.
    pub(super) fn groups_max(&self) -> usize {
        to_usize(self.segment_bytes / 4 / GROUP_BYTES)
    }

    /// Longest entry: with its frame and the marks of all groups it still fits into a segment.
    pub(super) fn entry_bytes_max(&self) -> usize {
        to_usize(self.segment_bytes / 2)
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
