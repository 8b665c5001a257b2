//! The frame around every message between nodes: its bytes, and how they are found in a stream.
//!
//! # Contract
//! A connection carries frames and nothing else, in both directions. All numbers are little-endian:
//!
//! ```text
//! offset  bytes  field
//!      0      2  magic, the letters "Bc"
//!      2      1  format of this header: 1
//!      3      1  kind, see [`Kind`]
//!      4      4  payload length in bytes, at most the kind's own limit
//!      8      8  call number: chosen by the dialler for Request, Notice, RaftCall and Heartbeat;
//!                repeated in Response, RaftAnswer, Error and Cancel; 0 in the others
//!     16      4  CRC32C of the payload
//!     20      4  CRC32C of bytes 0 to 19
//!     24         payload
//! ```
//!
//! The first frame in each direction is a Hello, and no later one is: before a peer has said who it
//! is, it can make this node hold 16 KiB at most.
//!
//! The header has a checksum of its own, so that a damaged length is noticed at once instead of after
//! as many bytes as it promises. Whatever does not fit this page ends the connection: there is no way
//! to find the next frame in a stream that was wrong once. Payloads are slices of the buffer that
//! they were read into.
//!
//! # Used by
//! The rest of `peer`.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes in front of each payload.
pub const HEADER_BYTES: usize = 24;
/// No payload is longer, whatever its kind.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

const MAGIC: [u8; 2] = *b"Bc";
const FORMAT: u8 = 1;
/// Room made for one read when nothing is known of what comes.
const READ_BYTES: usize = 32 << 10;
/// With less spare room than this, a buffer is not worth reading into.
const READ_BYTES_MIN: usize = 4 << 10;

/// What a frame carries. The numbers are sent: none is ever given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `node.Hello`, the first frame in each direction.
    Hello,
    /// `node.Request`, from the dialler.
    Request,
    /// `node.Response`, to the dialler.
    Response,
    /// `node.Notice`, from the dialler; nothing answers it.
    Notice,
    /// A message of the Raft crate, from the dialler.
    RaftCall,
    /// The Raft crate's answer, to the dialler.
    RaftAnswer,
    /// Why a call has no answer: one byte of [`super::error::Fault`], then words in UTF-8.
    Error,
    /// The dialler does not wait for this call any more.
    Cancel,
    /// Nothing but a sign of life.
    Ping,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Response,
            4 => Self::Notice,
            5 => Self::RaftCall,
            6 => Self::RaftAnswer,
            7 => Self::Error,
            8 => Self::Cancel,
            9 => Self::Ping,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Request => 2,
            Self::Response => 3,
            Self::Notice => 4,
            Self::RaftCall => 5,
            Self::RaftAnswer => 6,
            Self::Error => 7,
            Self::Cancel => 8,
            Self::Ping => 9,
        }
    }

    /// Longest payload of this kind, in bytes.
    pub fn payload_bytes_max(self) -> usize {
        match self {
            Self::Hello => 16 << 10,
            Self::Request | Self::Notice => 32 << 20,
            Self::Response | Self::RaftCall | Self::RaftAnswer => PAYLOAD_BYTES_MAX,
            Self::Error => 16 << 10,
            Self::Cancel | Self::Ping => 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub call: u64,
    pub payload: Bytes,
}

/// Why a stream is not a stream of frames (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("these are not frames of this protocol (the first bytes are {0:02x?})")]
    Magic([u8; 2]),
    #[error("frame format {0}, but this node reads format {FORMAT}")]
    Format(u8),
    #[error("the checksum of a frame's header does not match")]
    HeaderChecksum,
    #[error("unknown kind of frame {0}")]
    Kind(u8),
    #[error("a {0:?} frame where none may be: a Hello comes first and only once")]
    Order(Kind),
    #[error("a {kind:?} frame of {bytes} bytes, but {bytes_max} are allowed")]
    TooLong { kind: Kind, bytes: usize, bytes_max: usize },
    #[error("the checksum of a {0:?} frame's payload does not match")]
    PayloadChecksum(Kind),
}

/// Finds frames in bytes as they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// Header of the frame whose payload is not complete yet; it has left the buffer.
    header: Option<Header>,
    /// Whether the Hello has come.
    opened: bool,
    failed: Option<FrameError>,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: Kind,
    call: u64,
    payload_bytes: usize,
    payload_checksum: u32,
}

impl Decoder {
    /// Where the next bytes of the stream are to be appended, with room for them.
    pub fn room(&mut self) -> &mut BytesMut {
        let missing = self.header.map_or(0, |header| header.payload_bytes.saturating_sub(self.buffer.len()));
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < missing.max(READ_BYTES_MIN) {
            self.buffer.reserve(missing.max(READ_BYTES));
        }
        &mut self.buffer
    }

    /// The next complete frame; `None` when more bytes are needed. After an error only that error.
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Whether the stream may end here without having lost a part of a frame.
    pub fn is_between_frames(&self) -> bool {
        self.header.is_none() && self.buffer.is_empty()
    }

    fn advance(&mut self) -> Result<Option<Frame>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(header) = read_header(&self.buffer)? else { return Ok(None) };
                if (header.kind == Kind::Hello) == self.opened {
                    return Err(FrameError::Order(header.kind));
                }
                self.opened = true;
                drop(self.buffer.split_to(HEADER_BYTES));
                self.header = Some(header);
                header
            }
        };
        if self.buffer.len() < header.payload_bytes {
            return Ok(None);
        }
        self.header = None;
        let payload = self.buffer.split_to(header.payload_bytes).freeze();
        if crc32c::crc32c(&payload) != header.payload_checksum {
            return Err(FrameError::PayloadChecksum(header.kind));
        }
        Ok(Some(Frame { kind: header.kind, call: header.call, payload }))
    }
}

/// Appends a frame whose payload `encode` writes straight behind the header.
///
/// The caller sees to it that the payload keeps to its kind's limit.
pub fn append(buffer: &mut BytesMut, kind: Kind, call: u64, encode: impl FnOnce(&mut BytesMut)) {
    let start = buffer.len();
    buffer.put_bytes(0, HEADER_BYTES);
    encode(buffer);
    let (_, frame) = buffer.split_at_mut(start);
    let (header, payload) = frame.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&encode_header(kind, call, payload));
}

/// Appends only the header of a frame whose payload is sent right after it from where it lies.
pub fn append_header(buffer: &mut BytesMut, kind: Kind, call: u64, payload: &[u8]) {
    buffer.put_slice(&encode_header(kind, call, payload));
}

fn encode_header(kind: Kind, call: u64, payload: &[u8]) -> [u8; HEADER_BYTES] {
    debug_assert!(payload.len() <= kind.payload_bytes_max(), "senders check the length");
    let length = u32::try_from(payload.len()).expect("payloads are limited to 64 MiB");
    let mut header = [0; HEADER_BYTES];
    let mut rest = header.as_mut_slice();
    rest.put_slice(&MAGIC);
    rest.put_u8(FORMAT);
    rest.put_u8(kind.byte());
    rest.put_u32_le(length);
    rest.put_u64_le(call);
    rest.put_u32_le(crc32c::crc32c(payload));
    let (checked, mut checksum) = header.split_at_mut(HEADER_BYTES - 4);
    checksum.put_u32_le(crc32c::crc32c(checked));
    header
}

/// `None` when the bytes are fewer than a header; wrong magic is noticed from the second byte on.
fn read_header(buffer: &[u8]) -> Result<Option<Header>, FrameError> {
    if let Some(magic) = buffer.first_chunk::<2>()
        && *magic != MAGIC
    {
        return Err(FrameError::Magic(*magic));
    }
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [_, _, format, kind, l0, l1, l2, l3, c0, c1, c2, c3, c4, c5, c6, c7, p0, p1, p2, p3, ..] = *header;
    if format != FORMAT {
        return Err(FrameError::Format(format));
    }
    let (checked, checksum) = header.split_at(HEADER_BYTES - 4);
    if crc32c::crc32c(checked).to_le_bytes() != checksum {
        return Err(FrameError::HeaderChecksum);
    }
    let kind = Kind::from_byte(kind).ok_or(FrameError::Kind(kind))?;
    let bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let bytes_max = kind.payload_bytes_max();
    if bytes > bytes_max {
        return Err(FrameError::TooLong { kind, bytes, bytes_max });
    }
    let call = u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]);
    let payload_checksum = u32::from_le_bytes([p0, p1, p2, p3]);
    Ok(Some(Header { kind, call, payload_bytes: bytes, payload_checksum }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn encode(frames: &[Frame]) -> BytesMut {
        let mut buffer = BytesMut::new();
        for frame in frames {
            append(&mut buffer, frame.kind, frame.call, |buffer| buffer.put_slice(&frame.payload));
        }
        buffer
    }

    /// Feeds `stream` in pieces of the given sizes, round and round.
    fn decode(stream: &[u8], pieces: &[usize]) -> (Vec<Frame>, Option<FrameError>) {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        let mut rest = stream;
        for piece in pieces.iter().cycle() {
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => found.push(frame),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*piece));
            decoder.room().put_slice(piece);
            rest = after;
        }
        (found, None)
    }

    fn hello() -> Frame {
        Frame { kind: Kind::Hello, call: 0, payload: Bytes::from_static(b"hello") }
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let kinds = [Kind::Request, Kind::Response, Kind::Notice, Kind::RaftCall, Kind::RaftAnswer, Kind::Error];
        let full = (proptest::sample::select(kinds.to_vec()), any::<u64>(), vec(any::<u8>(), 0..2_000))
            .prop_map(|(kind, call, payload)| Frame { kind, call, payload: payload.into() });
        let empty = (proptest::sample::select(vec![Kind::Cancel, Kind::Ping]), any::<u64>())
            .prop_map(|(kind, call)| Frame { kind, call, payload: Bytes::new() });
        prop_oneof![4 => full, 1 => empty]
    }

    fn any_stream() -> impl Strategy<Value = Vec<Frame>> {
        vec(any_frame(), 0..12).prop_map(|mut frames| {
            frames.insert(0, hello());
            frames
        })
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(frames in any_stream(), pieces in vec(1usize..3_000, 1..20)) {
            let (found, error) = decode(&encode(&frames), &pieces);
            prop_assert_eq!(error, None);
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn random_bytes_are_refused_or_incomplete(bytes in vec(any::<u8>(), 0..4_000), pieces in vec(1usize..500, 1..9)) {
            let (found, error) = decode(&bytes, &pieces);
            prop_assert!(found.is_empty());
            prop_assert!(bytes.len() < HEADER_BYTES || error.is_some());
        }

        #[test]
        fn random_bytes_behind_the_magic_are_refused(bytes in vec(any::<u8>(), 24..400), pieces in vec(1usize..50, 1..9)) {
            let stream = [&MAGIC[..], &[FORMAT, 1], &bytes].concat();
            let (found, error) = decode(&stream, &pieces);
            prop_assert!(found.is_empty());
            prop_assert_eq!(error, Some(FrameError::HeaderChecksum));
        }

        #[test]
        fn a_flipped_bit_never_yields_another_frame(
            frames in any_stream(), at in any::<prop::sample::Index>(), bit in 0u8..8, pieces in vec(1usize..900, 1..9)
        ) {
            let mut stream = encode(&frames);
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
            let (found, error) = decode(&stream, &pieces);
            prop_assert!(error.is_some());
            prop_assert!(found.len() < frames.len());
            prop_assert_eq!(&found[..], &frames[..found.len()]);
        }

        #[test]
        fn a_cut_stream_yields_what_was_complete(frames in any_stream(), at in any::<prop::sample::Index>()) {
            let stream = encode(&frames);
            let (found, error) = decode(&stream[..at.index(stream.len())], &[77]);
            prop_assert_eq!(error, None);
            prop_assert_eq!(&found[..], &frames[..found.len()]);
        }
    }

    /// A header that is wrong in one way and right in all others.
    fn forged(kind: u8, format: u8, length: u32) -> Vec<u8> {
        let mut header = Vec::new();
        header.put_slice(&MAGIC);
        header.put_slice(&[format, kind]);
        header.put_u32_le(length);
        header.put_bytes(0, 12);
        let checksum = crc32c::crc32c(&header);
        header.put_u32_le(checksum);
        header
    }

    #[test]
    fn each_damage_has_its_name() {
        let one = |bytes: &[u8]| decode(bytes, &[7]).1.expect("refused");
        assert_eq!(one(b"GET / HTTP/1.1\r\n\r\n"), FrameError::Magic(*b"GE"));
        assert_eq!(one(&forged(1, 9, 0)), FrameError::Format(9));
        assert_eq!(one(&forged(200, 1, 0)), FrameError::Kind(200));
        let bytes_max = Kind::Hello.payload_bytes_max();
        let bytes = u32::MAX as usize;
        assert_eq!(one(&forged(1, 1, u32::MAX)), FrameError::TooLong { kind: Kind::Hello, bytes, bytes_max });
        assert_eq!(one(&forged(9, 1, 0)), FrameError::Order(Kind::Ping));
        assert_eq!(one(&encode(&[hello(), hello()])), FrameError::Order(Kind::Hello));
        let mut damaged = encode(&[hello()]);
        damaged[HEADER_BYTES + 2] ^= 1;
        assert_eq!(one(&damaged), FrameError::PayloadChecksum(Kind::Hello));
        damaged[9] ^= 1;
        assert_eq!(one(&damaged), FrameError::HeaderChecksum);
    }

    #[test]
    fn a_refused_stream_stays_refused_and_holds_little() {
        let mut decoder = Decoder::default();
        decoder.room().put_slice(&forged(5, 1, PAYLOAD_BYTES_MAX as u32));
        assert_eq!(decoder.next(), Err(FrameError::Order(Kind::RaftCall)));
        decoder.room().put_slice(&encode(&[hello()]));
        assert_eq!(decoder.next(), Err(FrameError::Order(Kind::RaftCall)));
        assert!(decoder.room().capacity() <= 2 * READ_BYTES);
    }

    #[test]
    fn payloads_are_not_copied() {
        let payload = Bytes::from(vec![7; 100_000]);
        let frames = [hello(), Frame { kind: Kind::RaftCall, call: 3, payload }];
        let mut decoder = Decoder::default();
        decoder.room().put_slice(&encode(&frames));
        let range = decoder.room().as_ptr_range();
        assert_eq!(decoder.next().expect("whole").as_ref(), Some(&frames[0]));
        let found = decoder.next().expect("whole").expect("complete");
        assert!(range.contains(&found.payload.as_ptr()));
        assert!(decoder.is_between_frames());
    }
}
