//! How rows are cut into snapshot files, whatever the files look like inside.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::batch::{Batch, Op};
use super::error::{Error, Result};
use super::range::KeyRange;
use super::store::{SnapshotFile, Visitor};

/// Default of the stores' options: bytes after which a snapshot goes on in another file.
pub const FILE_BYTES: u64 = 32 << 20;

/// Files of a kind, written one after the other.
pub(super) trait Sink {
    /// Whether to go on in another file.
    fn is_full(&self) -> bool;

    /// Keys come in order.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Ends the file: it replaces this span, which holds all keys that were put into it.
    fn end(&mut self, span: &KeyRange) -> Result<SnapshotFile>;
}

/// Writes the rows of the ranges, which `scan` shows in order. The spans of the files partition each
/// range; none spans two.
pub(super) fn export(
    scan: &dyn Fn(&KeyRange, &mut Visitor<'_>) -> Result<()>,
    ranges: &[KeyRange],
    sink: &mut dyn Sink,
) -> Result<Vec<SnapshotFile>> {
    check_ranges(ranges)?;
    let mut files = Vec::new();
    for range in ranges {
        let mut start = range.start.clone();
        let mut failed = Ok(());
        scan(range, &mut |key, value| {
            let put = if sink.is_full() {
                let next = Bytes::copy_from_slice(key);
                let span = KeyRange::new(std::mem::replace(&mut start, next.clone()), next);
                sink.end(&span).map(|file| files.push(file)).and_then(|()| sink.put(key, value))
            } else {
                sink.put(key, value)
            };
            match put {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed?;
        files.push(sink.end(&KeyRange::new(start, range.end.clone()))?);
    }
    Ok(files)
}

/// The rows of a batch that goes on top of a snapshot, sorted by key.
pub(super) fn puts_in_order(extra: &Batch) -> Result<Vec<(&[u8], &[u8])>> {
    let mut puts = Vec::with_capacity(extra.len());
    for op in extra {
        match op {
            Op::Put { key, value } => puts.push((key, value)),
            Op::Delete { .. } | Op::SingleDelete { .. } | Op::DeleteRange { .. } | Op::Add { .. } => {
                return Err(Error::Invalid("a batch on top of a snapshot takes puts only".into()));
            }
        }
    }
    puts.sort_unstable_by_key(|(key, _)| *key);
    if puts.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        return Err(Error::Invalid("a batch on top of a snapshot puts a key twice".into()));
    }
    Ok(puts)
}

/// What is wrong with a file that was to be ingested.
pub(super) fn damaged(file: &SnapshotFile, detail: impl Into<String>) -> Error {
    Error::Corrupt { file: file.path.display().to_string(), detail: detail.into() }
}

fn check_ranges(ranges: &[KeyRange]) -> Result<()> {
    let sorted = ranges.windows(2).all(|pair| matches!(pair, [a, b] if a.end <= b.start));
    if !sorted || ranges.iter().any(KeyRange::is_empty) {
        return Err(Error::Invalid("ranges of a snapshot must be sorted, disjoint and not empty".into()));
    }
    Ok(())
}
