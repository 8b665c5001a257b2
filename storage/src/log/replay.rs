//! Makes the state of all groups out of the records of the segments, oldest first.
//!
//! # Contract
//! Each record is checked against the state that the records before it made: an entry follows the last one, the
//! marks at the start of a segment are what the segment before left, and at the end no entry is missing. So a
//! stream that was put together from parts that do not belong together is refused.

use std::collections::BTreeMap;

use super::batch::HEAD;
use super::error::Corruption;
use super::group::{Group, Place, owned};
use super::record::{Begin, FORMAT, Marks, Record};
use super::scan::{Found, Scan};
use super::{GroupLog, sector};

/// The groups as of what was replayed.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) groups: BTreeMap<u64, Group>,
    /// Number of groups whose marks the current segment began with; `None` before the first segment.
    marks: Option<u32>,
    /// Whether the first segment is read: its marks are taken, those of later ones are compared.
    in_first: bool,
    /// Where the segment before ends.
    before_ends: u64,
}

impl Replay {
    /// Replays a whole segment; `scan` stands where it ends.
    pub(super) fn segment(&mut self, number: u64, scan: &mut Scan) -> Result<(), Corruption> {
        self.in_first = self.marks.is_none();
        while let Some(found) = scan.next()? {
            self.batch(number, scan, &found)?;
        }
        self.before_ends = scan.end();
        Ok(())
    }

    /// Checks that the groups hold all their entries.
    pub(super) fn check(&self) -> Result<(), String> {
        for (id, group) in &self.groups {
            let GroupLog { purged, last, .. } = group.log;
            let end = last.map(|last| last.index + 1);
            let missing = match group.index.bounds() {
                None => purged != last,
                Some(bounds) => {
                    Some(bounds.end) != end
                        || purged.is_some_and(|purged| purged.index + 1 != bounds.start)
                        || group.index.hole().is_some()
                }
            };
            if missing {
                return Err(format!("group {id} has no entry {}", self.first_missing(group)));
            }
        }
        Ok(())
    }

    fn first_missing(&self, group: &Group) -> u64 {
        let start = group.log.purged.map_or(0, |purged| purged.index + 1);
        let first = group.index.bounds().map_or(start, |bounds| bounds.start);
        if first > start && group.log.purged.is_some() {
            return start;
        }
        group.index.hole().or(group.index.bounds().map(|bounds| bounds.end)).unwrap_or(start)
    }

    fn batch(&mut self, segment: u64, scan: &Scan, found: &Found) -> Result<(), Corruption> {
        let mut at = HEAD;
        let mut marks = 0;
        while at < found.stream.len() {
            let offset = found.offset + sector::position(at);
            let damage = |what: &str| scan.damage(offset, what);
            let rest = found.stream.get(at..).unwrap_or_default();
            let (group, record, len) = Record::decode(rest).map_err(damage)?;
            match record {
                Record::Begin(begin) => {
                    self.begin(begin, found.begins_segment && at == HEAD).map_err(|what| damage(&what))?;
                }
                Record::Marks(found) => {
                    marks += 1;
                    self.marks(group, &found).map_err(|what| damage(&what))?;
                }
                other => {
                    let place = Place::new(segment, offset as u64, len);
                    self.record(group, &other, place).map_err(|what| damage(&what))?;
                }
            }
            at += len;
        }
        if found.begins_segment && self.marks != Some(marks) {
            return Err(scan.damage(found.offset, "a segment does not begin with the marks of its groups"));
        }
        Ok(())
    }

    fn begin(&mut self, begin: Begin, in_place: bool) -> Result<(), String> {
        if !in_place {
            return Err("a segment begins inside of another".to_owned());
        }
        if begin.format != FORMAT {
            return Err(format!("format {} is not known to this version", begin.format));
        }
        if self.in_first {
            self.groups.clear();
        } else if begin.before_ends != self.before_ends {
            return Err(format!("the segment before ends at {}, not at {}", self.before_ends, begin.before_ends));
        } else if begin.groups as usize != self.groups.len() {
            return Err(format!("{} groups, not {}", self.groups.len(), begin.groups));
        }
        self.marks = Some(begin.groups);
        Ok(())
    }

    fn marks(&mut self, id: u64, marks: &Marks<'_>) -> Result<(), String> {
        if self.in_first {
            self.groups.insert(id, Group::new(marks));
            return Ok(());
        }
        match self.groups.get(&id) {
            Some(group) if group.marks() == *marks => Ok(()),
            Some(_) | None => Err(format!("the marks of group {id} are not what the segment before left")),
        }
    }

    fn record(&mut self, id: u64, record: &Record<'_>, place: Place) -> Result<(), String> {
        let nothing = &mut |_: Place| {};
        let group = match record {
            Record::FirstLive(_) => return Ok(()),
            Record::Remove => {
                self.groups.remove(&id);
                return Ok(());
            }
            _ => self.groups.entry(id).or_default(),
        };
        match record {
            Record::Entry(entry, _) => {
                if group.next_index().is_some_and(|next| next != entry.index) {
                    return Err(format!("entry {} of group {id} does not follow the one before it", entry.index));
                }
                group.append(*entry, place);
            }
            Record::Moved(entry, _) => {
                let known = group.log.purged.is_none_or(|purged| purged.index < entry.index)
                    && group.log.last.is_some_and(|last| entry.index <= last.index);
                if !known {
                    return Err(format!("entry {} of group {id} was moved but is not there", entry.index));
                }
                group.index.set(entry.index, place);
            }
            Record::Vote(vote) => group.log.vote = owned(Some(vote)),
            Record::Committed(committed) => group.log.committed = owned(Some(committed)),
            Record::Truncate(last) => group.truncate(*last, nothing),
            Record::Purge(purged) => group.purge(*purged, nothing),
            Record::Reset(purged) => group.reset(*purged, nothing),
            Record::Begin(_) | Record::Marks(_) | Record::Remove | Record::FirstLive(_) => {}
        }
        Ok(())
    }
}
