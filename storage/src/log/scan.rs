//! Reads a segment batch by batch and tells a torn end from damage.
//!
//! # Contract
//! Batch n + 1 is written only after batch n is synced. So of all batches only the last one can be torn, and what
//! was not acknowledged can only be in it. With `n` the number that is looked for at an offset:
//!
//! | the first sector there | verdict |
//! | --- | --- |
//! | blank, or of a batch before n | the log ends here, unless a later sector is of a batch after n: damage |
//! | of a batch after n | damage: batch n was synced and is not there |
//! | damaged | damage: a crash leaves a sector whole |
//! | of batch n, but no head, another segment or chain | damage |
//! | of batch n | see its other sectors |
//!
//! | the other sectors of batch n | verdict |
//! | --- | --- |
//! | all of batch n and its session | the batch is complete |
//! | some of an older batch, another session, or blank | torn: the log ends here, unless a later sector is of a batch after n |
//! | the others whole, some damaged | damage |
//! | some of a batch after n | damage |

use std::sync::Arc;

use super::batch::{self, Head};
use super::error::Corruption;
use super::files::SegmentFile;
use super::sector::{self, SECTOR, Sector};

/// A segment while it is read.
pub(super) struct Scan {
    pub(super) file: Arc<SegmentFile>,
    bytes: Vec<u8>,
    segment: u64,
    /// Offset of the next batch.
    at: usize,
    /// Number of the next batch.
    number: u64,
    /// Chain before the next batch, when it is known.
    chain: Option<u64>,
}

/// A complete batch.
pub(super) struct Found {
    pub(super) offset: usize,
    /// The stream, head included.
    pub(super) stream: Vec<u8>,
    /// Bytes in the file.
    pub(super) extent: usize,
    pub(super) begins_segment: bool,
}

impl Scan {
    /// Reads a segment that begins with this batch; `chain` is the one before it, when it is known.
    pub(super) fn open(
        file: &Arc<SegmentFile>,
        segment: u64,
        number: u64,
        chain: Option<u64>,
    ) -> Result<Self, Corruption> {
        let mut bytes = vec![0; usize::try_from(file.bytes).unwrap_or(usize::MAX)];
        let read = file.file.read_at(&mut bytes, 0).map_err(|error| file.unreadable(0, &error))?;
        bytes.truncate(read);
        Ok(Self { file: Arc::clone(file), bytes, segment, at: 0, number, chain })
    }

    /// Where the batches that were found end.
    pub(super) fn end(&self) -> u64 {
        self.at as u64
    }

    /// Number and chain for what follows.
    pub(super) fn next_number(&self) -> u64 {
        self.number
    }

    pub(super) fn chain(&self) -> Option<u64> {
        self.chain
    }

    /// Bytes of the file as they were read.
    pub(super) fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        self.bytes.get(offset..offset + len).unwrap_or_default()
    }

    /// The next batch; `None` where the log may end ([`Scan::ends_here`] says whether it does).
    pub(super) fn next(&mut self) -> Result<Option<Found>, Corruption> {
        let number = self.number;
        let session = match self.inspect(self.at) {
            Sector::Blank => return Ok(None),
            Sector::Damaged => return Err(self.damage(self.at, "the first sector of a batch is damaged")),
            Sector::Written { number: other, .. } if other < number => return Ok(None),
            Sector::Written { number: other, .. } if other > number => {
                return Err(self.damage(self.at, &format!("batch {other} stands where batch {number} belongs")));
            }
            Sector::Written { session, .. } => session,
        };
        let Some(head) = Head::decode(sector::piece(self.sector(self.at))) else {
            return Err(self.damage(self.at, "a batch has no head"));
        };
        if head.segment != self.segment || head.begins_segment != (self.at == 0) {
            return Err(self.damage(self.at, &format!("a batch is of segment {}", head.segment)));
        }
        if self.chain.is_some_and(|chain| chain != head.chain) {
            return Err(self.damage(self.at, &format!("batch {number} does not follow the one before it")));
        }
        if !self.is_complete(session, sector::count(head.len))? {
            return Ok(None);
        }
        let (offset, extent) = (self.at, sector::extent(head.len));
        let sealed = self.bytes(offset, extent);
        let chain = batch::chain_after(head.chain, sealed);
        let mut stream = Vec::with_capacity(extent);
        for sector in sealed.chunks(SECTOR) {
            stream.extend_from_slice(sector::piece(sector));
        }
        stream.truncate(head.len);
        (self.at, self.number, self.chain) = (offset + extent, number + 1, Some(chain));
        Ok(Some(Found { offset, stream, extent, begins_segment: head.begins_segment }))
    }

    /// Checks that nothing after the last batch found was ever synced: the log ends here.
    pub(super) fn ends_here(&self) -> Result<(), Corruption> {
        for at in (self.at..self.bytes.len()).step_by(SECTOR) {
            if let Sector::Written { number, .. } = self.inspect(at)
                && number > self.number
            {
                let what =
                    format!("batch {} is damaged: batch {number}, written after it was synced, is there", self.number);
                return Err(self.damage(self.at, &what));
            }
        }
        Ok(())
    }

    pub(super) fn damage(&self, at: usize, what: &str) -> Corruption {
        self.file.damage(at as u64, what)
    }

    /// Judges the other sectors of the next batch, whose first one is whole.
    fn is_complete(&self, session: u32, count: usize) -> Result<bool, Corruption> {
        let (mut torn, mut damaged) = (false, None);
        for at in (self.at..).step_by(SECTOR).take(count) {
            match self.inspect(at) {
                Sector::Blank => torn = true,
                Sector::Damaged => damaged = damaged.or(Some(at)),
                Sector::Written { session: same, number } if number == self.number && same == session => {}
                Sector::Written { number, .. } if number > self.number => {
                    let what = format!("batch {number} stands inside of batch {}", self.number);
                    return Err(self.damage(at, &what));
                }
                Sector::Written { .. } => torn = true,
            }
        }
        match damaged {
            Some(at) if !torn => Err(self.damage(at, &format!("a sector of batch {} is damaged", self.number))),
            _ => Ok(!torn),
        }
    }

    fn inspect(&self, at: usize) -> Sector {
        sector::inspect(self.sector(at), at as u64)
    }

    /// The sector at an offset; shorter at the end of the file.
    fn sector(&self, at: usize) -> &[u8] {
        let rest = self.bytes.get(at..).unwrap_or_default();
        rest.get(..SECTOR).unwrap_or(rest)
    }
}
