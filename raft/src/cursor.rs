//! Which decision was applied last, and which may come next.
//!
//! # Contract
//! Every replica takes and refuses the same entries, because the verdict depends on the cursor and the
//! entry alone:
//!
//! | entry | taken iff | cursor afterwards |
//! | --- | --- | --- |
//! | `Begin` of epoch e | e > cursor's epoch | (e, 0, same time, next hash) |
//! | decision (e, n, t) | e = cursor's epoch, n = cursor's number + 1, t ≥ cursor's time | (e, n, t, next hash) |
//!
//! A decision made on memory that was lost belongs to an older epoch or leaves a gap, so it is never
//! taken, whatever the log did with it.
//!
//! # Used by
//! `state_machine.rs`; [`Epoch`] by shard actors.

use std::fmt;

use bristlecone_proto::record;
use bristlecone_storage::planted::{self, Bug};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::entry::{Envelope, Kind};

/// The life of one shard actor's memory: a Raft term and a count of begins within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId {
    pub term: u64,
    pub restart: u64,
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.restart)
    }
}

/// Why an entry changed nothing but the applied index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It belongs to another epoch than the current one.
    Epoch,
    /// It is not the next in its epoch.
    Number,
    /// Its time lies before the shard's.
    Time,
    /// It writes outside the group's extent.
    Extent,
    /// Its mutations cannot be decoded.
    Malformed,
}

/// The epoch that a cursor stands in.
pub(crate) fn epoch_of(cursor: &record::Cursor) -> EpochId {
    EpochId { term: cursor.term, restart: cursor.restart }
}

/// The cursor after `entry`, if the entry may be taken. `raw` is the entry's whole envelope.
pub(crate) fn advance(cursor: &record::Cursor, entry: &Envelope, raw: &[u8]) -> Result<record::Cursor, Refusal> {
    let current = epoch_of(cursor);
    let (number, time) = match entry.kind {
        Kind::Begin => {
            if entry.epoch <= current {
                return Err(Refusal::Epoch);
            }
            (0, cursor.time)
        }
        Kind::Decision => {
            if planted::has(Bug::LostMemoryApplied) {
                let chain = xxh3_64_with_seed(raw, cursor.chain);
                return Ok(record::Cursor { number: entry.number, time: entry.time, chain, ..*cursor });
            }
            if entry.epoch != current {
                return Err(Refusal::Epoch);
            }
            let follows = planted::has(Bug::HoleApplied) && entry.number > cursor.number;
            if entry.number != cursor.number.wrapping_add(1) && !follows {
                return Err(Refusal::Number);
            }
            if entry.time < cursor.time {
                return Err(Refusal::Time);
            }
            (entry.number, entry.time)
        }
    };
    let chain = xxh3_64_with_seed(raw, cursor.chain);
    Ok(record::Cursor { term: entry.epoch.term, restart: entry.epoch.restart, number, time, chain })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(kind: Kind, term: u64, restart: u64, number: u64, time: i64) -> Envelope {
        Envelope {
            kind,
            feature_level: 0,
            epoch: EpochId { term, restart },
            number,
            time,
            meta_index: 0,
            mutations: Bytes::new(),
        }
    }

    fn at(term: u64, restart: u64, number: u64, time: i64) -> record::Cursor {
        record::Cursor { term, restart, number, time, chain: 7 }
    }

    #[test]
    fn begin_needs_a_greater_epoch() {
        let cursor = at(3, 2, 9, 50);
        for (term, restart) in [(2, 9), (3, 1), (3, 2)] {
            assert_eq!(advance(&cursor, &entry(Kind::Begin, term, restart, 0, 0), b""), Err(Refusal::Epoch));
        }
        for (term, restart) in [(3, 3), (4, 1)] {
            let next = advance(&cursor, &entry(Kind::Begin, term, restart, 0, 0), b"").expect("greater");
            assert_eq!((next.term, next.restart, next.number, next.time), (term, restart, 0, 50));
            assert_ne!(next.chain, cursor.chain);
        }
    }

    #[test]
    fn decision_must_be_the_next() {
        let cursor = at(3, 2, 9, 50);
        assert_eq!(advance(&cursor, &entry(Kind::Decision, 3, 1, 10, 60), b""), Err(Refusal::Epoch));
        assert_eq!(advance(&cursor, &entry(Kind::Decision, 4, 1, 10, 60), b""), Err(Refusal::Epoch));
        assert_eq!(advance(&cursor, &entry(Kind::Decision, 3, 2, 9, 60), b""), Err(Refusal::Number));
        assert_eq!(advance(&cursor, &entry(Kind::Decision, 3, 2, 11, 60), b""), Err(Refusal::Number));
        assert_eq!(advance(&cursor, &entry(Kind::Decision, 3, 2, 10, 49), b""), Err(Refusal::Time));
        let next = advance(&cursor, &entry(Kind::Decision, 3, 2, 10, 50), b"x").expect("the next one");
        assert_eq!((next.number, next.time), (10, 50));
        assert_ne!(next.chain, advance(&cursor, &entry(Kind::Decision, 3, 2, 10, 50), b"y").expect("ok").chain);
    }
}
