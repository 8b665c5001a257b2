//! Opens the log: finds its segments, reads them, and leaves the disk so that writing can go on.
//!
//! # Contract
//! - All segments from the first live one to the last one must be there; each one's end is stated by the
//!   next one's beginning. Where the last one ends is judged by [`super::scan`].
//! - Nothing is written before all of it is read and found sound.
//! - The last batch is written again as it is, and synced: it may have been written by a process that died
//!   before its sync, or whose sync failed and left pages that look clean but never reached the disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::batch::{HEAD, Head};
use super::error::{Corruption, LogError};
use super::files::{Files, SegmentFile};
use super::options::LogOptions;
use super::record::Record;
use super::replay::Replay;
use super::scan::Scan;
use super::sector::{self, SECTOR, Sector};
use super::state::State;

/// A log that was read.
pub(super) struct Recovered {
    pub(super) state: State,
    /// Chain after the last batch.
    pub(super) chain: u64,
}

/// A file that says it begins a segment.
struct Claim {
    file: Arc<SegmentFile>,
    /// Number of its first batch.
    number: u64,
}

/// By the number of the segment.
type Claims = BTreeMap<u64, Claim>;

/// The segment at which the log ends.
struct Last {
    segment: u64,
    first_live: u64,
    /// Offset and length of its last batch.
    batch: (usize, usize),
    scan: Scan,
}

/// Reads the log in `found`, the files of its directory; those without a live segment become spare ones.
pub(super) fn recover(files: &Files, found: Vec<Arc<SegmentFile>>, options: LogOptions) -> Result<Recovered, LogError> {
    let (mut claims, mut spares) = sort(found)?;
    let (last, torn) = last_segment(&mut claims)?;
    let (mut state, chain) = match &last {
        Some(last) => read(&claims, last, options, files)?,
        None => (State::new(options), 0),
    };
    if let Some(torn) = &torn
        && torn.number != state.next_number
    {
        return Err(torn.file.damage(0, "the log ends in a segment that does not follow the others").into());
    }

    if let Some(last) = &last {
        settle(last).map_err(|error| open_error(&last.scan.file, &error))?;
        let live = claims.split_off(&last.first_live);
        for (number, claim) in live {
            state.segments.insert(number, claim.file.bytes, Some(claim.file));
        }
        for group in state.groups.values() {
            group.index.iter().for_each(|(_, place)| state.segments.add(place));
        }
    }
    if let Some(torn) = torn {
        wipe(&torn.file).map_err(|error| open_error(&torn.file, &error))?;
        spares.push(torn.file);
    }
    spares.extend(claims.into_values().map(|claim| claim.file));
    for spare in spares {
        files.give_back(spare);
    }
    Ok(Recovered { state, chain })
}

/// Which files begin a segment, by its number, and which are blank.
fn sort(found: Vec<Arc<SegmentFile>>) -> Result<(Claims, Vec<Arc<SegmentFile>>), Corruption> {
    let (mut claims, mut blank) = (Claims::new(), Vec::new());
    for file in found {
        let mut first = [0; SECTOR];
        let read = file.file.read_at(&mut first, 0).map_err(|error| file.unreadable(0, &error))?;
        let first = first.get(..read).unwrap_or_default();
        let number = match sector::inspect(first, 0) {
            Sector::Blank => {
                blank.push(file);
                continue;
            }
            Sector::Damaged => return Err(file.damage(0, "the first sector of a segment is damaged")),
            Sector::Written { number, .. } => number,
        };
        let Some(head) = Head::decode(sector::piece(first)).filter(|head| head.begins_segment) else {
            return Err(file.damage(0, "a segment has no head"));
        };
        let claim = Claim { file, number };
        if let Some(twin) = claims.insert(head.segment, claim) {
            return Err(twin.file.damage(0, &format!("segment {} is there twice", head.segment)));
        }
    }
    Ok((claims, blank))
}

/// Finds where the log ends, and the file whose very first batch was torn, if there is one.
fn last_segment(claims: &mut Claims) -> Result<(Option<Last>, Option<Claim>), Corruption> {
    let mut torn: Option<Claim> = None;
    while let Some(newest) = claims.last_entry() {
        let segment = *newest.key();
        let mut scan = Scan::open(&newest.get().file, segment, newest.get().number, None)?;
        let (mut first_live, mut batch) = (0, (0, 0));
        while let Some(found) = scan.next()? {
            batch = (found.offset, found.extent);
            first_live = first_live.max(first_live_in(&found.stream).map_err(|what| scan.damage(found.offset, what))?);
        }
        scan.ends_here()?;
        if batch != (0, 0) {
            return Ok((Some(Last { segment, first_live, batch, scan }), torn));
        }
        if let Some(torn) = &torn {
            return Err(torn.file.damage(0, "more than one segment is torn"));
        }
        torn = Some(newest.remove());
    }
    Ok((None, torn))
}

/// The first live segment as far as the records of a batch say it; 0 when they do not.
fn first_live_in(stream: &[u8]) -> Result<u64, &'static str> {
    let (mut at, mut first_live) = (HEAD, 0);
    while at < stream.len() {
        let (_, record, len) = Record::decode(stream.get(at..).unwrap_or_default())?;
        match record {
            Record::Begin(begin) => first_live = first_live.max(begin.first_live),
            Record::FirstLive(segment) => first_live = first_live.max(segment),
            _ => {}
        }
        at += len;
    }
    Ok(first_live)
}

/// Replays all live segments; the state and the chain after them.
fn read(claims: &Claims, last: &Last, options: LogOptions, files: &Files) -> Result<(State, u64), Corruption> {
    let missing = |what: String| Corruption { file: files.dir().to_owned(), offset: 0, what };
    let mut replay = Replay::default();
    let (mut before, mut longest) = (None, 0);
    for segment in last.first_live..=last.segment {
        let claim = claims.get(&segment).ok_or_else(|| missing(format!("segment {segment} is missing")))?;
        let (number, chain) = before.unwrap_or((claim.number, None));
        let mut scan = Scan::open(&claim.file, segment, number, chain)?;
        replay.segment(segment, &mut scan)?;
        before = Some((scan.next_number(), scan.chain()));
        longest = longest.max(claim.file.bytes);
    }
    replay.check().map_err(missing)?;

    // Whatever fits into a segment that is there must fit into a new one, or it could not be moved.
    let segment_bytes = options.segment_bytes.max(longest);
    let mut state = State::new(LogOptions { segment_bytes, ..options });
    let number = last.scan.next_number();
    state.groups = replay.groups;
    (state.head, state.head_bytes, state.end) = (last.segment, last.scan.file.bytes, last.scan.end());
    (state.next_number, state.synced, state.synced_segment) = (number, number - 1, last.segment);
    Ok((state, last.scan.chain().unwrap_or(0)))
}

/// Makes the last batch durable whatever happened when it was written.
fn settle(last: &Last) -> io::Result<()> {
    let (offset, extent) = last.batch;
    last.scan.file.file.write_at(last.scan.bytes(offset, extent), offset as u64)?;
    last.scan.file.file.sync_data()
}

/// Makes a file whose first batch is torn a blank one, so that no two files begin the same segment.
fn wipe(file: &SegmentFile) -> io::Result<()> {
    file.file.write_at(&[0; SECTOR], 0)?;
    file.file.sync_data()
}

fn open_error(file: &SegmentFile, error: &io::Error) -> LogError {
    LogError::Open(format!("{}: {error}", file.path.display()).into())
}
