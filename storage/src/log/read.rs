//! Reads entries: from memory, or from the segments with every sector and record checked again.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::LogEntry;
use super::error::{Corruption, LogError};
use super::files::SegmentFile;
use super::group::{Place, Spot};
use super::record::{ENTRY_FRAME, Record};
use super::sector::{self, SECTOR};
use super::state::State;

/// Entries of one segment that lie closer than this are read in one call.
const GAP: u64 = 16 << 10;

/// Bytes of one call at most, unless one entry is longer.
const CALL: u64 = 1 << 20;

/// What to read where. It holds the files, so that they are not reused meanwhile.
pub(super) struct Plan {
    parts: Vec<Part>,
    cached: Vec<LogEntry>,
}

/// Entries in one segment.
struct Part {
    file: Arc<SegmentFile>,
    entries: Vec<(u64, Spot)>,
}

/// Plans a read; see [`super::Log::read`].
pub(super) fn plan(
    state: &State,
    group_id: u64,
    range: Range<u64>,
    max_bytes: usize,
    dir: &Path,
) -> Result<Plan, LogError> {
    let mut plan = Plan { parts: Vec::new(), cached: Vec::new() };
    let Some(group) = state.groups.get(&group_id) else { return Ok(plan) };
    if group.log.purged.is_some_and(|purged| range.start <= purged.index) && range.start < range.end {
        return Err(LogError::Purged { group: group_id, index: range.start });
    }
    let Some(bounds) = group.index.bounds() else { return Ok(plan) };
    let (mut open, mut bytes) = (0, 0usize);
    for index in range.start.max(bounds.start)..range.end.min(bounds.end) {
        let lost =
            || Corruption { file: dir.to_owned(), offset: 0, what: format!("group {group_id}: no entry {index}") };
        let place = group.index.get(index).ok_or_else(lost)?;
        bytes = bytes.saturating_add((place.spot.len as usize).saturating_sub(ENTRY_FRAME));
        if bytes > max_bytes && !(plan.parts.is_empty() && plan.cached.is_empty()) {
            break;
        }
        if let Some(entry) = group.cached(index) {
            plan.cached.push(entry.clone());
        } else if open == place.segment
            && let Some(part) = plan.parts.last_mut()
        {
            part.entries.push((index, place.spot));
        } else {
            let file = state.segments.file(place.segment).ok_or_else(lost)?;
            plan.parts.push(Part { file, entries: vec![(index, place.spot)] });
            open = place.segment;
        }
    }
    Ok(plan)
}

impl Plan {
    pub(super) fn needs_disk(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Reads what is not in memory; the entries in order.
    pub(super) fn run(self, group: u64) -> Result<Vec<LogEntry>, LogError> {
        let mut entries =
            Vec::with_capacity(self.parts.iter().map(|part| part.entries.len()).sum::<usize>() + self.cached.len());
        for part in &self.parts {
            part.read(group, &mut entries)?;
        }
        entries.extend(self.cached);
        Ok(entries)
    }
}

impl Part {
    fn read(&self, group: u64, into: &mut Vec<LogEntry>) -> Result<(), Corruption> {
        let mut rest = self.entries.as_slice();
        while let Some((_, first)) = rest.first() {
            let (start, mut end) = extent(*first);
            let mut count = 1;
            for (_, spot) in rest.iter().skip(1) {
                let (next, next_end) = extent(*spot);
                if next < start || next > end + GAP || next_end > start + CALL {
                    break;
                }
                (end, count) = (end.max(next_end), count + 1);
            }
            let (now, later) = rest.split_at(count);
            let bytes = read_sectors(&self.file, start, end)?;
            for (index, spot) in now {
                into.push(entry(&self.file, &bytes, start, group, *index, *spot)?);
            }
            rest = later;
        }
        Ok(())
    }
}

/// Reads one entry.
pub(super) fn read_entry(file: &SegmentFile, group: u64, index: u64, place: Place) -> Result<LogEntry, Corruption> {
    let (start, end) = extent(place.spot);
    let bytes = read_sectors(file, start, end)?;
    entry(file, &bytes, start, group, index, place.spot)
}

/// The sectors that hold a record: offset of the first one and end of the last one.
fn extent(spot: Spot) -> (u64, u64) {
    let at = u64::from(spot.at);
    let start = at - at % SECTOR as u64;
    (start, start + sector::span(spot.at as usize, spot.len as usize) as u64)
}

fn read_sectors(file: &SegmentFile, start: u64, end: u64) -> Result<Vec<u8>, Corruption> {
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
    crate::vfs::read_exact_at(&*file.file, &mut bytes, start).map_err(|error| file.unreadable(start, &error))?;
    Ok(bytes)
}

/// Takes an entry out of sectors that were read from `start` on.
fn entry(
    file: &SegmentFile,
    sectors: &[u8],
    start: u64,
    group: u64,
    index: u64,
    spot: Spot,
) -> Result<LogEntry, Corruption> {
    let (own, _) = extent(spot);
    let sectors = usize::try_from(own - start).ok().and_then(|skip| sectors.get(skip..)).unwrap_or_default();
    let at = u64::from(spot.at);
    let record = sector::take(sectors, own, at, spot.len as usize)
        .map_err(|bad| file.damage(bad, &format!("a sector of entry {index} of group {group} is damaged")))?;
    match Record::decode(&record) {
        Ok((owner, Record::Entry(id, bytes) | Record::Moved(id, bytes), _)) if owner == group && id.index == index => {
            let skip = record.len() - bytes.len();
            Ok(LogEntry { id, bytes: Bytes::from(record).slice(skip..) })
        }
        Ok(_) => Err(file.damage(at, &format!("entry {index} of group {group} is not where it belongs"))),
        Err(what) => Err(file.damage(at, &format!("entry {index} of group {group}: {what}"))),
    }
}
