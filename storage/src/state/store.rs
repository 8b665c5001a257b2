//! The seam: what the rest of the node may ask of the rows that it keeps.
//!
//! # Contract
//! Crash table of [`StateStore`] (a crash may come at any moment):
//! ```text
//! dies                           | what is left                              | what recovers it
//! after `write`                  | the rows as of a point of the order of     | the group replays its log from
//!                                | writes at or after the last `flush`        | the applied id among the rows
//! during `write`                 | all batches of the call or none            | likewise
//! during or after `ingest`       | everything before it, and it whole or not  | the snapshot is installed anew
//!                                | at all                                     |
//! during `reclaim`               | rows of a removed range may reappear       | nobody reads outside of extents;
//!                                |                                           | an ingest clears its span
//! ```
//! Calls may block on the disk. Any number of threads may call; writes have one order, which is the
//! order in which they become visible and the order in which they become durable.

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::batch::Batch;
use super::error::Result;
use super::range::KeyRange;

/// Reads of rows.
pub trait Read: Debug + Send {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// One answer for each key, in the order of the keys; cheapest when they are sorted.
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>>;

    /// Shows the rows of the range in order until the visitor breaks. The rows are those of one moment.
    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visitor<'_>) -> Result<()>;

    /// For many scans within `bounds`, all of one moment, each cheaper than a [`Read::scan`]. It keeps old versions of
    /// rows alive: hold it for seconds.
    fn cursor(&self, bounds: &KeyRange) -> Result<Box<dyn Cursor + '_>>;

    /// Whether the range surely holds no rows, told from memory alone: `false` when that takes the disk, or when a
    /// read fails (which the next one tells).
    fn is_surely_empty(&self, range: &KeyRange) -> bool {
        let mut empty = true;
        let scanned = self.scan(range, Direction::Forward, &mut |_, _| {
            empty = false;
            ControlFlow::Break(())
        });
        scanned.is_ok() && empty
    }

    /// Collects rows of the range in order, up to a limit.
    fn page(&self, range: &KeyRange, direction: Direction, limit: Limit) -> Result<Page> {
        let mut page = Page::default();
        let mut bytes = 0;
        self.scan(range, direction, &mut |key, value| {
            if page.rows.len() >= limit.rows || (bytes >= limit.bytes && !page.rows.is_empty()) {
                page.more = true;
                return ControlFlow::Break(());
            }
            bytes += key.len() + value.len();
            page.rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        })?;
        Ok(page)
    }
}

/// Scans of a part of the rows as they were when it was made.
pub trait Cursor {
    /// Shows the rows of the range in order until the visitor breaks; rows outside of the cursor's bounds are not shown.
    fn scan(&mut self, range: &KeyRange, direction: Direction, visit: &mut Visitor<'_>) -> Result<()>;
}

/// Takes a key and its value; both are gone when it returns.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Reverse,
}

/// How much a page may hold. The row that reaches `bytes` (keys and values) is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub rows: usize,
    pub bytes: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<(Bytes, Bytes)>,
    /// The range holds further rows.
    pub more: bool,
}

/// The rows as they were at one moment. It keeps old versions of rows alive: hold it for seconds.
pub trait View: Read {
    /// Writes the rows of these ranges as snapshot files into a directory, which is made if need be.
    ///
    /// The spans of the files partition the ranges, and a file replaces everything in its span when it
    /// is ingested. Ranges must be sorted, disjoint and not empty. An error leaves files behind.
    fn export(&self, ranges: &[KeyRange], directory: &Path) -> Result<Vec<SnapshotFile>>;
}

/// A file of a snapshot. Lengths in bytes, checksum CRC-32C of the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub crc: u32,
}

/// The rows of all groups of one node.
pub trait StateStore: Read + Sync + 'static {
    /// The rows as they are now.
    fn view(&self) -> Box<dyn View + '_>;

    /// Applies the batches in order, as one. Visible when it returns; durable after the next flush.
    fn write(&self, batches: &[Batch]) -> Result<()>;

    /// When it returns, everything written before it was called is durable.
    ///
    /// The store also flushes by itself when its memory budget is used up.
    fn flush(&self) -> Result<()>;

    /// The row as it would be after a crash now; costs no more than a read.
    fn persisted(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Installs a snapshot, and the batch on top of it, in one step that is durable when it returns.
    ///
    /// Implies a flush of what was written before. The files are checked first and are gone after
    /// success. A damaged file is refused as `Corrupt`, with nothing changed and nothing poisoned. The
    /// batch takes puts only, each key once.
    fn ingest(&self, files: &[SnapshotFile], extra: &Batch) -> Result<()>;

    /// Frees the disk space of a range all of whose rows were deleted by a range tombstone.
    ///
    /// Implies a flush. Views taken before must not read the range any more.
    fn reclaim(&self, range: &KeyRange) -> Result<()>;

    /// Reads everything from disk and checks it; the first damaged file is named by `Corrupt`.
    fn verify(&self) -> Result<()>;

    fn usage(&self) -> Result<Usage>;
}

/// What a store holds on to, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub disk: u64,
    /// Written and not flushed yet, with the memory that views keep from being freed.
    pub unflushed: u64,
    pub cache: u64,
}
