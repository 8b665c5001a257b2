//! The records of the log, and their bytes.
//!
//! # Contract
//! A frame is (integers are little-endian):
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | CRC32C of bytes 4.. |
//! | 4..8 | length of the body |
//! | 8..16 | group, 0 where the record is of none |
//! | 16 | kind |
//! | 17..20 | zero |
//! | 20.. | body |
//!
//! Kinds are never reused and their bodies never change; a body that is new gets a new kind:
//!
//! | kind | body |
//! | --- | --- |
//! | 1 Begin | format (4), first live segment (8), end of the segment before (8), groups (4) |
//! | 2 Marks | purged (25), last (25), vote (2 + n), committed (2 + n) |
//! | 3 Entry | log id (24), bytes |
//! | 4 Moved | log id (24), bytes |
//! | 5 Vote, 6 Committed | bytes |
//! | 7 Truncate | log id that is the last one now (25) |
//! | 8 Purge, 9 Reset | log id (24) |
//! | 10 Remove | nothing |
//! | 11 FirstLive | segment (8) |
//!
//! A log id is term, node id, index; an optional one has a byte in front that says whether it is there. An
//! optional byte string has its length + 1 in front, or 0.

use bristlecone_proto::record::LogId;

/// Format of the records behind a Begin.
pub(super) const FORMAT: u32 = 1;

/// Bytes of a frame without its body.
pub(super) const FRAME: usize = 20;

/// Bytes of an entry's record besides the entry.
pub(super) const ENTRY_FRAME: usize = FRAME + ID;

const ID: usize = 24;

/// The longest body without its byte strings: that of Marks.
const FIXED: usize = 2 * (1 + ID) + 2 * 2;

/// One record; see the table in the module's head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Record<'a> {
    /// A segment begins; the marks of all groups follow in the same batch.
    Begin(Begin),
    /// The state of a group when its segment begins.
    Marks(Marks<'a>),
    /// The entry after the last one.
    Entry(LogId, &'a [u8]),
    /// An entry that the log has already, at a new place.
    Moved(LogId, &'a [u8]),
    Vote(&'a [u8]),
    Committed(&'a [u8]),
    Truncate(Option<LogId>),
    Purge(LogId),
    Reset(LogId),
    Remove,
    /// Segments before this one are free.
    FirstLive(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) format: u32,
    pub(super) first_live: u64,
    /// Offset at which the batches of the segment before end; 0 in the first one.
    pub(super) before_ends: u64,
    pub(super) groups: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Marks<'a> {
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    pub(super) vote: Option<&'a [u8]>,
    pub(super) committed: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    fn kind(&self) -> u8 {
        match self {
            Record::Begin(_) => 1,
            Record::Marks(_) => 2,
            Record::Entry(..) => 3,
            Record::Moved(..) => 4,
            Record::Vote(_) => 5,
            Record::Committed(_) => 6,
            Record::Truncate(_) => 7,
            Record::Purge(_) => 8,
            Record::Reset(_) => 9,
            Record::Remove => 10,
            Record::FirstLive(_) => 11,
        }
    }

    /// Bytes that its frame and body take at most.
    pub(super) fn room(&self) -> usize {
        let strings = match self {
            Record::Marks(marks) => marks.vote.map_or(0, <[u8]>::len) + marks.committed.map_or(0, <[u8]>::len),
            Record::Entry(_, bytes) | Record::Moved(_, bytes) | Record::Vote(bytes) | Record::Committed(bytes) => {
                bytes.len()
            }
            Record::Begin(_) | Record::Truncate(_) | Record::Purge(_) | Record::Reset(_) => 0,
            Record::Remove | Record::FirstLive(_) => 0,
        };
        FRAME + FIXED + strings
    }

    /// The frame with the fixed part of the body, and the part that is a byte string of the caller's.
    pub(super) fn encode(&self, group: u64, frame: &mut Vec<u8>) -> &'a [u8] {
        frame.clear();
        frame.extend_from_slice(&[0; 8]);
        frame.extend_from_slice(&group.to_le_bytes());
        frame.extend_from_slice(&[self.kind(), 0, 0, 0]);
        let mut tail: &[u8] = &[];
        match self {
            Record::Begin(begin) => {
                frame.extend_from_slice(&begin.format.to_le_bytes());
                frame.extend_from_slice(&begin.first_live.to_le_bytes());
                frame.extend_from_slice(&begin.before_ends.to_le_bytes());
                frame.extend_from_slice(&begin.groups.to_le_bytes());
            }
            Record::Marks(marks) => {
                put_optional_id(marks.purged, frame);
                put_optional_id(marks.last, frame);
                put_optional_bytes(marks.vote, frame);
                put_optional_bytes(marks.committed, frame);
            }
            Record::Entry(id, bytes) | Record::Moved(id, bytes) => {
                put_id(*id, frame);
                tail = bytes;
            }
            Record::Vote(bytes) | Record::Committed(bytes) => tail = bytes,
            Record::Truncate(last) => put_optional_id(*last, frame),
            Record::Purge(id) | Record::Reset(id) => put_id(*id, frame),
            Record::Remove => {}
            Record::FirstLive(segment) => frame.extend_from_slice(&segment.to_le_bytes()),
        }
        let body = u32::try_from(frame.len() - FRAME + tail.len()).expect("entries and marks have limits below 4 GiB");
        frame.get_mut(4..8).expect("the frame has 20 bytes").copy_from_slice(&body.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(frame.get(4..).unwrap_or_default()), tail);
        frame.get_mut(..4).expect("the frame has 20 bytes").copy_from_slice(&crc.to_le_bytes());
        tail
    }

    /// Reads the record at the start of `bytes`; also its group and its length with the frame.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<(u64, Self, usize), &'static str> {
        let mut frame = Reader(bytes);
        let (crc, body) = (frame.u32()?, frame.u32()?);
        let len = FRAME.checked_add(usize::try_from(body).map_err(|_| TOO_SHORT)?).ok_or(TOO_SHORT)?;
        let whole = bytes.get(..len).ok_or(TOO_SHORT)?;
        if crc32c::crc32c(whole.get(4..).ok_or(TOO_SHORT)?) != crc {
            return Err("the checksum of a record is wrong");
        }
        let group = frame.u64()?;
        let [kind, ..] = *frame.array::<4>()?;
        let mut body = Reader(whole.get(FRAME..).ok_or(TOO_SHORT)?);
        let record = match kind {
            1 => Record::Begin(Begin {
                format: body.u32()?,
                first_live: body.u64()?,
                before_ends: body.u64()?,
                groups: body.u32()?,
            }),
            2 => Record::Marks(Marks {
                purged: body.optional_id()?,
                last: body.optional_id()?,
                vote: body.optional_bytes()?,
                committed: body.optional_bytes()?,
            }),
            3 => Record::Entry(body.id()?, body.rest()),
            4 => Record::Moved(body.id()?, body.rest()),
            5 => Record::Vote(body.rest()),
            6 => Record::Committed(body.rest()),
            7 => Record::Truncate(body.optional_id()?),
            8 => Record::Purge(body.id()?),
            9 => Record::Reset(body.id()?),
            10 => Record::Remove,
            11 => Record::FirstLive(body.u64()?),
            _ => return Err("a record is of an unknown kind"),
        };
        if body.0.is_empty() { Ok((group, record, len)) } else { Err("a record is longer than its kind") }
    }
}

const TOO_SHORT: &str = "a record is cut short";

fn put_id(id: LogId, to: &mut Vec<u8>) {
    for field in [id.term, id.node_id, id.index] {
        to.extend_from_slice(&field.to_le_bytes());
    }
}

fn put_optional_id(id: Option<LogId>, to: &mut Vec<u8>) {
    to.push(u8::from(id.is_some()));
    put_id(id.unwrap_or_default(), to);
}

fn put_optional_bytes(bytes: Option<&[u8]>, to: &mut Vec<u8>) {
    let count = bytes.map_or(0, |bytes| bytes.len() + 1);
    to.extend_from_slice(&u16::try_from(count).expect("marks are at most 256 bytes").to_le_bytes());
    to.extend_from_slice(bytes.unwrap_or_default());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], &'static str> {
        let (found, rest) = self.0.split_first_chunk::<N>().ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(found)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(*self.array()?))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(*self.array()?))
    }

    fn id(&mut self) -> Result<LogId, &'static str> {
        Ok(LogId { term: self.u64()?, node_id: self.u64()?, index: self.u64()? })
    }

    fn optional_id(&mut self) -> Result<Option<LogId>, &'static str> {
        let [there] = *self.array::<1>()?;
        let id = self.id()?;
        Ok((there != 0).then_some(id))
    }

    fn optional_bytes(&mut self) -> Result<Option<&'a [u8]>, &'static str> {
        let count = usize::from(u16::from_le_bytes(*self.array()?));
        let Some(len) = count.checked_sub(1) else { return Ok(None) };
        let (found, rest) = self.0.split_at_checked(len).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(Some(found))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> LogId {
        LogId { term: 3, node_id: 2, index }
    }

    #[test]
    fn every_kind_reads_back() {
        let records = [
            Record::Begin(Begin { format: FORMAT, first_live: 7, before_ends: 512, groups: 2 }),
            Record::Marks(Marks { purged: None, last: Some(id(9)), vote: Some(b"v"), committed: Some(b"") }),
            Record::Marks(Marks { purged: Some(id(1)), last: None, vote: None, committed: None }),
            Record::Entry(id(1), b"some bytes"),
            Record::Moved(id(1), b""),
            Record::Vote(b"vote"),
            Record::Committed(b"mark"),
            Record::Truncate(None),
            Record::Truncate(Some(id(4))),
            Record::Purge(id(5)),
            Record::Reset(id(6)),
            Record::Remove,
            Record::FirstLive(12),
        ];
        for record in records {
            let mut bytes = Vec::new();
            let tail = record.encode(77, &mut bytes).to_vec();
            bytes.extend_from_slice(&tail);
            let len = bytes.len();
            assert!(len <= record.room());
            bytes.extend_from_slice(b"whatever follows");
            assert_eq!(Record::decode(&bytes), Ok((77, record, len)));
            for byte in 0..len {
                for bit in 0..8 {
                    bytes[byte] ^= 1 << bit;
                    assert!(Record::decode(&bytes).is_err(), "{record:?}: bit {bit} of byte {byte}");
                    bytes[byte] ^= 1 << bit;
                }
                assert!(Record::decode(&bytes[..byte]).is_err());
            }
        }
    }
}
