//! What groups say to each other, as bytes.
//!
//! # Contract
//! A request is a version byte (1), a kind byte, the group's id (8 bytes, little endian), and a body; an
//! answer is a version byte, a status byte, and a body. Bodies are protobuf messages, except that in an
//! append the entries follow the message, each as a length (4 bytes, little endian) and its encoded
//! `record.v1.Entry`, and in a chunk the bytes of the file follow it; the message stands there after its
//! length (4 bytes, little endian).
//!
//! | kind | request | answer |
//! | --- | --- | --- |
//! | 1 append | [`AppendHead`], entries | [`AppendAnswer`] |
//! | 2 vote, 3 pre-vote | [`VoteAsk`] | [`VoteAnswer`] |
//! | 4 transfer leader | [`TransferAsk`] | [`TransferAnswer`] |
//! | 5 snapshot open | [`SnapshotOpen`] | [`SnapshotAnswer`] |
//! | 6 snapshot chunk | [`SnapshotChunk`], bytes | [`SnapshotAnswer`] |
//! | 7 snapshot done | [`SnapshotDone`] | [`SnapshotAnswer`] |
//! | 8 quarantine | [`Quarantine`] | [`Quarantine`] |
//!
//! A field number is never reused; a kind that is not known is answered with `Status::Unknown`.
//!
//! # Used by
//! `network.rs` (the calling side), `inbound.rs` (the answering side).

use bristlecone_proto::record;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::GroupId;
use crate::entry::Entry;

const VERSION: u8 = 1;
const REQUEST_HEAD: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Append,
    Vote,
    PreVote,
    Transfer,
    SnapshotOpen,
    SnapshotChunk,
    SnapshotDone,
    Quarantine,
}

/// First byte of an answer after the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    /// The group is not on the called node, or not yet.
    NoSuchGroup,
    /// The group is there and its core has stopped.
    Stopped,
    /// The request could not be decoded.
    Malformed,
    /// The kind or the version is not known to the called node.
    Unknown,
    /// The replica lost entries, and takes part in nothing until it is replaced.
    Quarantined,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendHead {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<record::Vote>,
    #[prost(message, optional, tag = "2")]
    pub previous: Option<record::LogId>,
    #[prost(message, optional, tag = "3")]
    pub committed: Option<record::LogId>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendAnswer {
    /// 0 all accepted, 1 accepted up to `matched`, 2 the entry before the first one differs, 3 a
    /// higher vote is known.
    #[prost(uint32, tag = "1")]
    pub outcome: u32,
    #[prost(message, optional, tag = "2")]
    pub matched: Option<record::LogId>,
    #[prost(message, optional, tag = "3")]
    pub vote: Option<record::Vote>,
}

impl AppendAnswer {
    pub const ACCEPTED: u32 = 0;
    pub const PARTLY: u32 = 1;
    pub const CONFLICT: u32 = 2;
    pub const HIGHER_VOTE: u32 = 3;
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VoteAsk {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<record::Vote>,
    #[prost(message, optional, tag = "2")]
    pub last: Option<record::LogId>,
    /// The current leader asked for this election.
    #[prost(bool, tag = "3")]
    pub transfer: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VoteAnswer {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<record::Vote>,
    #[prost(message, optional, tag = "2")]
    pub last: Option<record::LogId>,
    #[prost(bool, tag = "3")]
    pub granted: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TransferAsk {
    #[prost(message, optional, tag = "1")]
    pub from: Option<record::Vote>,
    #[prost(uint64, tag = "2")]
    pub to: u64,
    #[prost(message, optional, tag = "3")]
    pub last: Option<record::LogId>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TransferAnswer {
    /// Empty when accepted, else why not, for people.
    #[prost(string, tag = "1")]
    pub refused: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotOpen {
    /// Drawn by the sender; names the transfer.
    #[prost(uint64, tag = "1")]
    pub transfer: u64,
    #[prost(message, optional, tag = "2")]
    pub vote: Option<record::Vote>,
    /// Of the moment at which the snapshot was cut; its applied id is the snapshot's id.
    #[prost(message, optional, tag = "3")]
    pub state: Option<record::GroupState>,
    #[prost(message, optional, tag = "4")]
    pub extent: Option<record::Extent>,
    #[prost(message, repeated, tag = "5")]
    pub files: Vec<SnapshotFileHead>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SnapshotFileHead {
    #[prost(uint64, tag = "1")]
    pub bytes: u64,
    /// CRC32C of the whole file.
    #[prost(fixed32, tag = "2")]
    pub crc: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SnapshotChunk {
    #[prost(uint64, tag = "1")]
    pub transfer: u64,
    #[prost(uint32, tag = "2")]
    pub file: u32,
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// CRC32C of the chunk.
    #[prost(fixed32, tag = "4")]
    pub crc: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SnapshotDone {
    #[prost(uint64, tag = "1")]
    pub transfer: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotAnswer {
    /// Empty when all is well, else why not, for people; the sender begins anew later.
    #[prost(string, tag = "1")]
    pub refused: String,
    /// After the last step: the vote that the receiver knows.
    #[prost(message, optional, tag = "2")]
    pub vote: Option<record::Vote>,
}

/// Tells a replica that its leader saw it lose entries that it had acknowledged; and the same in answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Quarantine {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<record::Vote>,
    /// What the replica had acknowledged.
    #[prost(message, optional, tag = "2")]
    pub acknowledged: Option<record::LogId>,
}

/// A decoded request.
pub(crate) struct Request {
    pub kind: Kind,
    pub group: GroupId,
    pub body: Bytes,
}

pub(crate) fn request(kind: Kind, group: GroupId, message: &impl Message) -> Bytes {
    let mut to = BytesMut::with_capacity(REQUEST_HEAD + message.encoded_len());
    put_request_head(kind, group, &mut to);
    message.encode_raw(&mut to);
    to.freeze()
}

/// A request whose message is followed by raw bytes.
pub(crate) fn request_with(kind: Kind, group: GroupId, message: &impl Message, tail: &[u8]) -> Bytes {
    let mut to = BytesMut::with_capacity(REQUEST_HEAD + 4 + message.encoded_len() + tail.len());
    put_request_head(kind, group, &mut to);
    put_sized(message, &mut to);
    to.put_slice(tail);
    to.freeze()
}

pub(crate) fn append_request(group: GroupId, head: &AppendHead, entries: &[Entry]) -> Bytes {
    let bytes: usize = entries.iter().map(|entry| 4 + entry.encoded.len()).sum();
    let mut to = BytesMut::with_capacity(REQUEST_HEAD + 4 + head.encoded_len() + bytes);
    put_request_head(Kind::Append, group, &mut to);
    put_sized(head, &mut to);
    for entry in entries {
        to.put_u32_le(length(entry.encoded.len()));
        to.put_slice(&entry.encoded);
    }
    to.freeze()
}

/// The message and the entries of an append; entries share the request's memory.
pub(crate) fn decode_append(body: Bytes) -> Option<(AppendHead, Vec<Entry>)> {
    let (head, mut rest) = decode_sized::<AppendHead>(body)?;
    let mut entries = Vec::new();
    while rest.has_remaining() {
        let raw = take_sized(&mut rest)?;
        entries.push(Entry::decode(raw).ok()?);
    }
    Some((head, entries))
}

/// A message and the bytes after it.
pub(crate) fn decode_sized<M: Message + Default>(mut body: Bytes) -> Option<(M, Bytes)> {
    let raw = take_sized(&mut body)?;
    Some((M::decode(raw).ok()?, body))
}

/// `Err` is what to answer.
pub(crate) fn decode_request(mut raw: Bytes) -> Result<Request, Status> {
    if raw.len() < REQUEST_HEAD {
        return Err(Status::Malformed);
    }
    if raw.get_u8() != VERSION {
        return Err(Status::Unknown);
    }
    let kind = match raw.get_u8() {
        1 => Kind::Append,
        2 => Kind::Vote,
        3 => Kind::PreVote,
        4 => Kind::Transfer,
        5 => Kind::SnapshotOpen,
        6 => Kind::SnapshotChunk,
        7 => Kind::SnapshotDone,
        8 => Kind::Quarantine,
        _ => return Err(Status::Unknown),
    };
    let group = raw.get_u64_le();
    Ok(Request { kind, group, body: raw })
}

pub(crate) fn answer(message: &impl Message) -> Bytes {
    let mut to = BytesMut::with_capacity(2 + message.encoded_len());
    to.put_u8(VERSION);
    to.put_u8(status_byte(Status::Ok));
    message.encode_raw(&mut to);
    to.freeze()
}

pub(crate) fn refusal(status: Status) -> Bytes {
    Bytes::copy_from_slice(&[VERSION, status_byte(status)])
}

pub(crate) fn decode_answer<M: Message + Default>(mut raw: Bytes) -> Result<M, Status> {
    if raw.len() < 2 {
        return Err(Status::Malformed);
    }
    if raw.get_u8() != VERSION {
        return Err(Status::Unknown);
    }
    match raw.get_u8() {
        0 => M::decode(raw).map_err(|_| Status::Malformed),
        1 => Err(Status::NoSuchGroup),
        2 => Err(Status::Stopped),
        3 => Err(Status::Malformed),
        5 => Err(Status::Quarantined),
        _ => Err(Status::Unknown),
    }
}

fn status_byte(status: Status) -> u8 {
    match status {
        Status::Ok => 0,
        Status::NoSuchGroup => 1,
        Status::Stopped => 2,
        Status::Malformed => 3,
        Status::Unknown => 4,
        Status::Quarantined => 5,
    }
}

fn put_request_head(kind: Kind, group: GroupId, to: &mut BytesMut) {
    to.put_u8(VERSION);
    to.put_u8(match kind {
        Kind::Append => 1,
        Kind::Vote => 2,
        Kind::PreVote => 3,
        Kind::Transfer => 4,
        Kind::SnapshotOpen => 5,
        Kind::SnapshotChunk => 6,
        Kind::SnapshotDone => 7,
        Kind::Quarantine => 8,
    });
    to.put_u64_le(group);
}

fn put_sized(message: &impl Message, to: &mut BytesMut) {
    to.put_u32_le(length(message.encoded_len()));
    message.encode_raw(to);
}

fn take_sized(from: &mut Bytes) -> Option<Bytes> {
    if from.len() < 4 {
        return None;
    }
    let len = from.get_u32_le() as usize;
    (from.len() >= len).then(|| from.split_to(len))
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("messages and entries are far below 4 GiB")
}
