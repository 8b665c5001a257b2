//! The unit in which the log is written: a sector that proves by itself what it is.
//!
//! # Contract
//! A power cut leaves a sector as it was before a write or as it is after it. So each sector carries its own
//! checksum and says to which batch it belongs, and what stands on a disk tells its own story: a sector of the
//! batch that is looked for, one from before (blank, or of an older batch of a recycled file, or left by
//! an attempt that a crash cut off), or one that is neither, which no crash can make: damage.
//!
//! Layout of a sector (integers are little-endian):
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | CRC32C of its offset in the file (8 bytes) and of bytes 4..512 |
//! | 4..8 | session: a random number per opening of the log |
//! | 8..16 | number of the batch, counted over the whole log, from 1 |
//! | 16..512 | a piece of the batch, zeros after its end |
//!
//! The pieces of one batch make one stream of bytes ([`super::batch`] says what stands in it).

pub(super) use crate::vfs::SECTOR;

/// Bytes in front of the piece.
const HEAD: usize = 16;

/// Bytes of a batch in one sector.
pub(super) const PIECE: usize = SECTOR - HEAD;

/// What a sector says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sector {
    /// Never written since the file was made, or beyond its end.
    Blank,
    Written {
        session: u32,
        number: u64,
    },
    /// Written, but not what was written.
    Damaged,
}

/// Reads what stands at `offset`, a multiple of [`SECTOR`]; `bytes` is shorter than one at the end of a file.
pub(super) fn inspect(bytes: &[u8], offset: u64) -> Sector {
    let Some((head, piece)) = whole(bytes) else { return Sector::Blank };
    if head.crc == checksum(offset, head.session, head.number, piece) {
        return Sector::Written { session: head.session, number: head.number };
    }
    if bytes.iter().all(|byte| *byte == 0) { Sector::Blank } else { Sector::Damaged }
}

/// The piece of a batch in a sector that is whole.
pub(super) fn piece(bytes: &[u8]) -> &[u8] {
    bytes.get(HEAD..SECTOR).unwrap_or_default()
}

/// Sectors that a stream of `len` bytes takes.
pub(super) fn count(len: usize) -> usize {
    len.div_ceil(PIECE)
}

/// Bytes in a file that a stream of `len` bytes takes.
pub(super) fn extent(len: usize) -> usize {
    count(len) * SECTOR
}

/// Where byte `at` of a stream stands, counted from the start of its first sector.
pub(super) fn position(at: usize) -> usize {
    at / PIECE * SECTOR + HEAD + at % PIECE
}

/// Bytes that are left in its sector from a position on.
pub(super) fn rest(position: usize) -> usize {
    SECTOR - position % SECTOR
}

/// Bytes of the file, from the start of its sector on, that hold `len` bytes of a stream from `position` on.
pub(super) fn span(position: usize, len: usize) -> usize {
    let first = rest(position).min(len);
    SECTOR + extent(len - first)
}

/// Adds bytes to a stream that stands in `sectors`, opening sectors as they are needed.
pub(super) fn put(sectors: &mut Vec<u8>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        if sectors.len().is_multiple_of(SECTOR) {
            sectors.extend_from_slice(&[0; HEAD]);
        }
        let (now, later) = bytes.split_at(bytes.len().min(rest(sectors.len())));
        sectors.extend_from_slice(now);
        bytes = later;
    }
}

/// Fills the last sector up and puts the heads in; the first sector goes to `offset`.
pub(super) fn seal(sectors: &mut Vec<u8>, offset: u64, session: u32, number: u64) {
    sectors.resize(sectors.len().next_multiple_of(SECTOR), 0);
    let mut offset = offset;
    for sector in sectors.chunks_exact_mut(SECTOR) {
        let (head, piece) = sector.split_at_mut(HEAD);
        let crc = checksum(offset, session, number, piece);
        let fields = [crc.to_le_bytes(), session.to_le_bytes()];
        head.get_mut(..8).expect("a head has 16 bytes").copy_from_slice(fields.as_flattened());
        head.get_mut(8..).expect("a head has 16 bytes").copy_from_slice(&number.to_le_bytes());
        offset += SECTOR as u64;
    }
}

/// Takes `len` bytes of a stream from `position` on out of `sectors`, which were read from `offset` on (the
/// sector of the position is the first), after checking each sector. The error is the offset of a bad one.
pub(super) fn take(sectors: &[u8], offset: u64, position: u64, len: usize) -> Result<Vec<u8>, u64> {
    let mut taken = Vec::with_capacity(len);
    let mut skip = usize::try_from(position - offset).map_err(|_| offset)?;
    let mut at = offset;
    let mut rest = sectors;
    while taken.len() < len {
        let (sector, after) = rest.split_at_checked(SECTOR).ok_or(at)?;
        if !matches!(inspect(sector, at), Sector::Written { .. }) {
            return Err(at);
        }
        let found = sector.get(skip..).ok_or(at)?;
        taken.extend_from_slice(found.get(..found.len().min(len - taken.len())).ok_or(at)?);
        (rest, skip, at) = (after, HEAD, at + SECTOR as u64);
    }
    Ok(taken)
}

struct Head {
    crc: u32,
    session: u32,
    number: u64,
}

fn whole(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let (crc, after) = bytes.get(..SECTOR)?.split_first_chunk::<4>()?;
    let (session, after) = after.split_first_chunk::<4>()?;
    let (number, piece) = after.split_first_chunk::<8>()?;
    let head = Head {
        crc: u32::from_le_bytes(*crc),
        session: u32::from_le_bytes(*session),
        number: u64::from_le_bytes(*number),
    };
    Some((head, piece))
}

fn checksum(offset: u64, session: u32, number: u64, piece: &[u8]) -> u32 {
    let mut head = [0; 20];
    let (place, fields) = head.split_at_mut(8);
    place.copy_from_slice(&offset.to_le_bytes());
    let (first, second) = fields.split_at_mut(4);
    first.copy_from_slice(&session.to_le_bytes());
    second.copy_from_slice(&number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), piece)
}
