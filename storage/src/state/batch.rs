//! A mutation batch, in the form in which it is decided, stored in the log, sent and applied.
//!
//! # Contract
//! The encoding is a sequence of operations and nothing else, so that batches are joined by joining
//! their bytes. Integers are LEB128 without superfluous bytes:
//! ```text
//! 01 put           length key  length value
//! 02 delete        length key
//! 03 single delete length key
//! 04 delete range  length first-key  length end-key     first-key < end-key, the end exclusive
//! 05 add           length key  8 bytes: an i64, little endian
//! ```
//! A [`Batch`] that exists is well-formed: bytes from outside become one through [`Batch::decode`] only.
//!
//! # Used by
//! The shard actor builds them, `raft` stores and sends them, [`StateStore::write`] applies them.
//!
//! [`StateStore::write`]: super::StateStore::write

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use super::keys::{Key, Slot};
use super::range::KeyRange;

/// Bytes of one key.
pub const KEY_BYTES_MAX: usize = 16 << 10;
/// Bytes of one encoded batch.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// An immutable, well-formed batch; a copy shares the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    ops: usize,
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        key: &'a [u8],
    },
    /// Removes a row of a kind that is put once and removed once, always by this operation: such a pair
    /// leaves nothing behind where `Delete` leaves a tombstone. A key that was put over, or was ever
    /// removed by `Delete`, must not meet it: an old value might come back when files are merged. (Range
    /// deletions and snapshots in between do no harm.) The model refuses what breaks the rule.
    SingleDelete {
        key: &'a [u8],
    },
    /// Removes all rows from `start` up to and without `end`. Every later read has to look at it until
    /// it is compacted away: meant for whole shards and big runs, not for a handful of rows.
    DeleteRange {
        start: &'a [u8],
        end: &'a [u8],
    },
    /// Adds to a row that is a number (an i64, little endian; one that is not there is 0): counters that
    /// many transitions change need not be read first. The row stays when the sum is 0.
    Add {
        key: &'a [u8],
        amount: i64,
    },
}

/// Why bytes are not a batch, or a batch may not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("operation at byte {at} is cut off or of no known kind")]
    Operation { at: usize },
    #[error("a key of {bytes} bytes: it must have 1 to {KEY_BYTES_MAX}")]
    KeyLength { bytes: usize },
    #[error("a range that holds no key")]
    EmptyRange,
    #[error("a batch of {bytes} bytes: it may have {BATCH_BYTES_MAX}")]
    TooLong { bytes: usize },
}

impl Batch {
    /// Checks bytes from the log or the network; the batch shares them.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(Malformed::TooLong { bytes: bytes.len() });
        }
        let mut ops = 0;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            let op = take_op(&mut rest).ok_or(Malformed::Operation { at })?;
            check(op)?;
            ops += 1;
        }
        Ok(Self { bytes, ops })
    }

    /// The encoding, to be stored or sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.ops
    }

    pub fn is_empty(&self) -> bool {
        self.ops == 0
    }

    pub fn iter(&self) -> Ops<'_> {
        Ops { rest: &self.bytes }
    }

    /// A part of this batch that [`Batch::iter`] gave, as bytes that share its memory.
    ///
    /// # Panics
    /// When the part is of another batch.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.bytes.slice_ref(part)
    }

    /// Whether every key that the batch touches lies in one of the ranges.
    pub fn is_within(&self, ranges: &[KeyRange]) -> bool {
        self.iter().all(|op| ranges.iter().any(|range| op.is_within(range)))
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Op<'a>;
    type IntoIter = Ops<'a>;

    fn into_iter(self) -> Ops<'a> {
        self.iter()
    }
}

impl Op<'_> {
    /// Whether it touches keys of this range only.
    pub fn is_within(&self, range: &KeyRange) -> bool {
        match self {
            Op::Put { key, .. } | Op::Delete { key } | Op::SingleDelete { key } | Op::Add { key, .. } => {
                range.contains(key)
            }
            Op::DeleteRange { start, end } => &range.start[..] <= *start && *end <= &range.end[..],
        }
    }
}

/// The operations of a batch, in order; nothing is copied.
#[derive(Debug, Clone)]
pub struct Ops<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        take_op(&mut self.rest)
    }
}

/// A batch in the making.
#[derive(Debug, Clone, Default)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    ops: usize,
    key: Vec<u8>,
    /// The first operation that could not be taken; `finish` reports it.
    refused: Option<Malformed>,
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.head(PUT, key);
        put_varint(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(value);
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.head(DELETE, key);
    }

    /// See [`Op::SingleDelete`] for what it demands.
    pub fn single_delete(&mut self, key: &[u8]) {
        self.head(SINGLE_DELETE, key);
    }

    pub fn delete_range(&mut self, range: &KeyRange) {
        if range.is_empty() {
            self.refuse(Malformed::EmptyRange);
        }
        self.check_key(&range.end);
        self.head(DELETE_RANGE, &range.start);
        put_varint(&mut self.bytes, range.end.len());
        self.bytes.extend_from_slice(&range.end);
    }

    /// Puts a row, encoding the message in place.
    pub fn put_row(&mut self, slot: Slot, key: &Key<'_>, message: &impl Message) {
        self.head_of_row(PUT, slot, key);
        put_varint(&mut self.bytes, message.encoded_len());
        message.encode_raw(&mut self.bytes);
    }

    pub fn delete_row(&mut self, slot: Slot, key: &Key<'_>) {
        self.head_of_row(DELETE, slot, key);
    }

    /// See [`Op::Add`].
    pub fn add(&mut self, key: &[u8], amount: i64) {
        self.head(ADD, key);
        self.bytes.extend_from_slice(&amount.to_le_bytes());
    }

    pub fn add_to_row(&mut self, slot: Slot, key: &Key<'_>, amount: i64) {
        self.head_of_row(ADD, slot, key);
        self.bytes.extend_from_slice(&amount.to_le_bytes());
    }

    /// Adds the operations of another batch after those that are here.
    pub fn append(&mut self, batch: &Batch) {
        self.bytes.extend_from_slice(&batch.bytes);
        self.ops += batch.ops;
    }

    /// Encoded bytes so far.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Number of operations so far.
    pub fn len(&self) -> usize {
        self.ops
    }

    pub fn is_empty(&self) -> bool {
        self.ops == 0
    }

    /// The batch; `Malformed` when a key, a range or the whole breaks a limit.
    pub fn finish(self) -> Result<Batch, Malformed> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        if self.bytes.len() > BATCH_BYTES_MAX {
            return Err(Malformed::TooLong { bytes: self.bytes.len() });
        }
        Ok(Batch { bytes: Bytes::from(self.bytes), ops: self.ops })
    }

    fn head(&mut self, kind: u8, key: &[u8]) {
        self.check_key(key);
        self.ops += 1;
        self.bytes.push(kind);
        put_varint(&mut self.bytes, key.len());
        self.bytes.extend_from_slice(key);
    }

    fn head_of_row(&mut self, kind: u8, slot: Slot, key: &Key<'_>) {
        let mut encoded = std::mem::take(&mut self.key);
        encoded.clear();
        key.encode_to(slot, &mut encoded);
        self.head(kind, &encoded);
        self.key = encoded;
    }

    fn check_key(&mut self, key: &[u8]) {
        if let Err(malformed) = check_key(key) {
            self.refuse(malformed);
        }
    }

    fn refuse(&mut self, malformed: Malformed) {
        self.refused.get_or_insert(malformed);
    }
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const SINGLE_DELETE: u8 = 3;
const DELETE_RANGE: u8 = 4;
const ADD: u8 = 5;

fn check(op: Op<'_>) -> Result<(), Malformed> {
    match op {
        Op::Put { key, .. } | Op::Delete { key } | Op::SingleDelete { key } | Op::Add { key, .. } => check_key(key),
        Op::DeleteRange { start, end } => {
            check_key(start)?;
            check_key(end)?;
            if start < end { Ok(()) } else { Err(Malformed::EmptyRange) }
        }
    }
}

fn check_key(key: &[u8]) -> Result<(), Malformed> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Malformed::KeyLength { bytes: key.len() });
    }
    Ok(())
}

fn take_op<'a>(rest: &mut &'a [u8]) -> Option<Op<'a>> {
    let (kind, after) = rest.split_first()?;
    *rest = after;
    let first = take_bytes(rest)?;
    match *kind {
        PUT => Some(Op::Put { key: first, value: take_bytes(rest)? }),
        DELETE => Some(Op::Delete { key: first }),
        SINGLE_DELETE => Some(Op::SingleDelete { key: first }),
        DELETE_RANGE => Some(Op::DeleteRange { start: first, end: take_bytes(rest)? }),
        ADD => {
            let (amount, after) = rest.split_first_chunk()?;
            *rest = after;
            Some(Op::Add { key: first, amount: i64::from_le_bytes(*amount) })
        }
        _ => None,
    }
}

/// The sum of a number that is stored and what is added to it; `None` when what is stored is no number.
pub(super) fn sum(stored: Option<&[u8]>, amounts: impl IntoIterator<Item = i64>) -> Option<i64> {
    let stored = stored.map_or(Some([0; 8]), |bytes| bytes.try_into().ok())?;
    Some(amounts.into_iter().fold(i64::from_le_bytes(stored), i64::wrapping_add))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_varint(rest)?;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

/// At most four bytes, which is more than [`BATCH_BYTES_MAX`] needs.
fn take_varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0usize;
    for shift in [0, 7, 14, 21] {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return (shift == 0 || *byte != 0).then_some(value);
        }
    }
    None
}

fn put_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests;
