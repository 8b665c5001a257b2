//! What one write carries and one sync makes durable.
//!
//! # Contract
//! A batch is a head and records (see [`super::record`]), as one stream over its sectors (see
//! [`super::sector`]). It is built where it will stand, so positions are known while it is filled; only
//! the chain is known when it is sealed. The head (integers are little-endian):
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | magic |
//! | 4..8 | bytes of records behind the head |
//! | 8..16 | segment |
//! | 16..24 | chain: hash over all batches before this one |
//! | 24..28 | 1 when the segment begins here, else 0 |
//! | 28..32 | zero |

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::group::Place;
use super::record::Record;
use super::{Done, sector};

const MAGIC: u32 = u32::from_le_bytes(*b"BLG1");

/// Bytes of the head.
pub(super) const HEAD: usize = 32;

/// A buffer that grew beyond this many bytes is not kept for the next batch.
const KEPT_BYTES: usize = 8 << 20;

/// An entry that this batch carries to a new place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub(super) group: u64,
    pub(super) index: u64,
    pub(super) from: Place,
    pub(super) to: Place,
}

/// A batch that is filled or waits for the disk.
#[derive(Default)]
pub(super) struct Batch {
    /// 0 until there is a record in it.
    pub(super) number: u64,
    pub(super) segment: u64,
    /// Offset in the segment.
    pub(super) offset: u64,
    pub(super) begins_segment: bool,
    /// Bytes of the stream, head included; 0 when there is no record.
    len: usize,
    /// Bytes of its records.
    pub(super) queued: usize,
    sectors: Vec<u8>,
    frame: Vec<u8>,
    pub(super) dones: Vec<Done>,
    /// Somebody waits for it.
    pub(super) urgent: bool,
    pub(super) moves: Vec<Move>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Length of its stream when `more` bytes come to it.
    pub(super) fn len_with(&self, more: usize) -> usize {
        self.len.max(HEAD) + more
    }

    /// Bytes that it takes in the file.
    pub(super) fn extent(&self) -> usize {
        sector::extent(self.len)
    }

    /// Opens an empty batch at a place in a segment.
    pub(super) fn start(&mut self, number: u64, segment: u64, offset: u64, begins_segment: bool) {
        (self.number, self.segment, self.offset, self.begins_segment) = (number, segment, offset, begins_segment);
        sector::put(&mut self.sectors, &[0; HEAD]);
        self.len = HEAD;
    }

    /// Adds a record; where it stands now.
    pub(super) fn put(&mut self, group: u64, record: &Record<'_>) -> Place {
        let tail = record.encode(group, &mut self.frame);
        let at = self.offset + sector::position(self.len) as u64;
        let len = self.frame.len() + tail.len();
        sector::put(&mut self.sectors, &self.frame);
        sector::put(&mut self.sectors, tail);
        self.len += len;
        self.queued += len;
        Place::new(self.segment, at, len)
    }

    /// Makes the sectors final and returns the chain after this batch.
    pub(super) fn seal(&mut self, session: u32, chain: u64) -> u64 {
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&MAGIC.to_le_bytes());
        let len = u32::try_from(self.len - HEAD).expect("a batch is smaller than its segment, at most 1 GiB");
        head.extend_from_slice(&len.to_le_bytes());
        head.extend_from_slice(&self.segment.to_le_bytes());
        head.extend_from_slice(&chain.to_le_bytes());
        head.extend_from_slice(&u32::from(self.begins_segment).to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        let place = sector::position(0)..sector::position(0) + HEAD;
        self.sectors.get_mut(place).expect("a started batch has a head").copy_from_slice(&head);
        sector::seal(&mut self.sectors, self.offset, session, self.number);
        chain_after(chain, &self.sectors)
    }

    /// The bytes for the file, after [`Batch::seal`].
    pub(super) fn sealed(&self) -> &[u8] {
        &self.sectors
    }

    /// Forgets everything but the buffers.
    pub(super) fn recycle(mut self) -> Self {
        self.sectors.clear();
        self.dones.clear();
        self.moves.clear();
        if self.sectors.capacity() > KEPT_BYTES {
            self.sectors = Vec::new();
        }
        Self { sectors: self.sectors, frame: self.frame, dones: self.dones, moves: self.moves, ..Self::default() }
    }
}

/// The chain after a batch with these sealed bytes.
pub(super) fn chain_after(chain: u64, sealed: &[u8]) -> u64 {
    xxh3_64_with_seed(sealed, chain)
}

/// The head of a batch as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the stream, head included.
    pub(super) len: usize,
    pub(super) segment: u64,
    pub(super) chain: u64,
    pub(super) begins_segment: bool,
}

impl Head {
    /// Reads the head at the start of a batch's stream.
    pub(super) fn decode(stream: &[u8]) -> Option<Self> {
        let (magic, rest) = stream.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (segment, rest) = rest.split_first_chunk::<8>()?;
        let (chain, rest) = rest.split_first_chunk::<8>()?;
        let (begins, rest) = rest.split_first_chunk::<4>()?;
        let (zero, _) = rest.split_first_chunk::<4>()?;
        let begins_segment = match u32::from_le_bytes(*begins) {
            0 => false,
            1 => true,
            _ => return None,
        };
        if u32::from_le_bytes(*magic) != MAGIC || *zero != [0; 4] {
            return None;
        }
        Some(Self {
            len: HEAD.checked_add(usize::try_from(u32::from_le_bytes(*len)).ok()?)?,
            segment: u64::from_le_bytes(*segment),
            chain: u64::from_le_bytes(*chain),
            begins_segment,
        })
    }
}
