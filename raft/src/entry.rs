//! A log entry: what it carries, and its bytes, which are encoded once and then stored and sent as
//! they are.
//!
//! # Contract
//! An entry is a `record.v1.Entry`. Of a normal one, field `normal` holds an *envelope*: a header of
//! 52 bytes, all numbers little endian, followed by the mutations (an encoded `storage` batch).
//!
//! | offset | bytes | |
//! | --- | --- | --- |
//! | 0 | 1 | format, 1 |
//! | 1 | 1 | kind: 1 begin, 2 decision |
//! | 2 | 2 | feature level that the decider spoke |
//! | 4 | 4 | key id of the encryption of the mutations, 0 none |
//! | 8 | 8 | epoch: Raft term |
//! | 16 | 8 | epoch: restart |
//! | 24 | 8 | number of the decision in its epoch, 0 for a begin |
//! | 32 | 8 | shard time, Unix nanoseconds |
//! | 40 | 8 | index of the meta group that it was decided with |
//! | 48 | 4 | CRC32C over bytes 0..48 and the mutations |
//!
//! In the encoded entry the envelope comes first and the log id last: the proposer encodes everything
//! but the log id, which is appended when the leader's log gives it one.
//!
//! # Used by
//! `log_store.rs`, `state_machine.rs`, `frame.rs`.

use std::fmt;

use bristlecone_proto::record;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::entry::{RaftEntry, RaftPayload};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::cursor::EpochId;
use crate::types::{self, CommittedLeaderId, LogId, Member, Membership};

const FORMAT: u8 = 1;
const HEADER: usize = 52;
const CRC_AT: usize = 48;
/// Field numbers of `record.v1.Entry`.
const LOG_ID_FIELD: u32 = 1;
const NORMAL_FIELD: u32 = 4;
/// Bytes that an entry has at most beyond its mutations.
pub(crate) const ENTRY_OVERHEAD: usize = HEADER + LOG_ID_ROOM + 8;
/// Bytes that key, length and log id can take after the payload.
const LOG_ID_ROOM: usize = 40;

/// What a normal entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Begin,
    Decision,
}

/// A decoded envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub kind: Kind,
    pub feature_level: u16,
    pub epoch: EpochId,
    pub number: u64,
    pub time: i64,
    pub meta_index: u64,
    pub mutations: Bytes,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("entry is cut short or not an entry")]
    Malformed,
    #[error("checksum of an entry does not fit")]
    Corrupt,
    /// Written by a newer version; this one must not guess.
    #[error("entry of an unknown format or kind")]
    Unknown,
}

/// An entry on its way into the log: all but its log id, encoded.
pub struct Proposal {
    encoded: BytesMut,
    /// Where the envelope ends in `encoded`, which begins with the field's key and length.
    start: usize,
}

/// An entry of the log.
#[derive(Clone)]
pub struct Entry {
    pub log_id: LogId,
    pub payload: Payload,
    /// The encoded `record.v1.Entry`, log id included.
    pub encoded: Bytes,
}

#[derive(Clone)]
pub enum Payload {
    Blank,
    /// An envelope.
    Normal(Bytes),
    Membership(Membership),
}

/// What a log entry is made from.
pub enum NewPayload {
    Blank,
    Normal(Proposal),
    Membership(Membership),
}

impl Envelope {
    /// Decodes and verifies an envelope; the mutations share its memory.
    pub fn decode(raw: &Bytes) -> Result<Self, EntryError> {
        let (header, mutations) = raw.split_at_checked(HEADER).ok_or(EntryError::Malformed)?;
        let (checked, mut crc) = header.split_at(CRC_AT);
        let mut rest = checked;
        if rest.get_u8() != FORMAT {
            return Err(EntryError::Unknown);
        }
        let kind = rest.get_u8();
        if crc32c::crc32c_append(crc32c::crc32c(checked), mutations) != crc.get_u32_le() {
            return Err(EntryError::Corrupt);
        }
        let kind = match kind {
            1 => Kind::Begin,
            2 => Kind::Decision,
            _ => return Err(EntryError::Unknown),
        };
        let feature_level = rest.get_u16_le();
        if rest.get_u32_le() != 0 {
            return Err(EntryError::Unknown);
        }
        Ok(Self {
            kind,
            feature_level,
            epoch: EpochId { term: rest.get_u64_le(), restart: rest.get_u64_le() },
            number: rest.get_u64_le(),
            time: rest.get_i64_le(),
            meta_index: rest.get_u64_le(),
            mutations: raw.slice(HEADER..),
        })
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let mut to = &mut header[..];
        to.put_u8(FORMAT);
        to.put_u8(match self.kind {
            Kind::Begin => 1,
            Kind::Decision => 2,
        });
        to.put_u16_le(self.feature_level);
        to.put_u32_le(0);
        to.put_u64_le(self.epoch.term);
        to.put_u64_le(self.epoch.restart);
        to.put_u64_le(self.number);
        to.put_i64_le(self.time);
        to.put_u64_le(self.meta_index);
        let (checked, crc) = header.split_at_mut(CRC_AT);
        let sum = crc32c::crc32c_append(crc32c::crc32c(checked), &self.mutations);
        crc.copy_from_slice(&sum.to_le_bytes());
        header
    }
}

impl Proposal {
    pub fn new(envelope: &Envelope) -> Self {
        let len = HEADER + envelope.mutations.len();
        let mut encoded = BytesMut::with_capacity(len + LOG_ID_ROOM + 8);
        encode_key(NORMAL_FIELD, WireType::LengthDelimited, &mut encoded);
        encode_varint(len as u64, &mut encoded);
        let start = encoded.len();
        encoded.put_slice(&envelope.header());
        encoded.put_slice(&envelope.mutations);
        Self { encoded, start }
    }

    fn into_entry(mut self, log_id: LogId) -> Entry {
        let end = self.encoded.len();
        put_log_id(&log_id, &mut self.encoded);
        let encoded = self.encoded.freeze();
        let payload = Payload::Normal(encoded.slice(self.start..end));
        Entry { log_id, payload, encoded }
    }
}

impl Entry {
    /// Decodes an entry that was stored or received; the payload shares its memory.
    pub fn decode(encoded: Bytes) -> Result<Self, EntryError> {
        let record = record::Entry::decode(encoded.clone()).map_err(|_| EntryError::Malformed)?;
        let log_id = types::log_id_from(&record.log_id.ok_or(EntryError::Malformed)?);
        let payload = match record.payload.ok_or(EntryError::Malformed)? {
            record::entry::Payload::Blank(_) => Payload::Blank,
            record::entry::Payload::Normal(raw) => Payload::Normal(raw),
            record::entry::Payload::Membership(m) => {
                Payload::Membership(types::membership_from(&m).ok_or(EntryError::Malformed)?)
            }
        };
        Ok(Self { log_id, payload, encoded })
    }
}

fn put_log_id(log_id: &LogId, to: &mut BytesMut) {
    let record = types::log_id_to(log_id);
    encode_key(LOG_ID_FIELD, WireType::LengthDelimited, to);
    encode_varint(record.encoded_len() as u64, to);
    record.encode_raw(to);
}

fn encode_without_log_id(payload: record::entry::Payload) -> BytesMut {
    let record = record::Entry { log_id: None, payload: Some(payload) };
    let mut encoded = BytesMut::with_capacity(record.encoded_len() + LOG_ID_ROOM);
    record.encode_raw(&mut encoded);
    encoded
}

impl RaftEntry for Entry {
    type CommittedLeaderId = CommittedLeaderId;
    type Payload = NewPayload;

    fn new(log_id: LogId, payload: NewPayload) -> Self {
        let (payload, mut encoded) = match payload {
            NewPayload::Normal(proposal) => return proposal.into_entry(log_id),
            NewPayload::Blank => (Payload::Blank, encode_without_log_id(record::entry::Payload::Blank(true))),
            NewPayload::Membership(m) => {
                let record = types::membership_to(None, &m);
                (Payload::Membership(m), encode_without_log_id(record::entry::Payload::Membership(record)))
            }
        };
        put_log_id(&log_id, &mut encoded);
        Self { log_id, payload, encoded: encoded.freeze() }
    }

    fn log_id_parts(&self) -> (&CommittedLeaderId, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.log_id = new;
        let mut encoded = encode_without_log_id(match &self.payload {
            Payload::Blank => record::entry::Payload::Blank(true),
            Payload::Normal(raw) => record::entry::Payload::Normal(raw.clone()),
            Payload::Membership(m) => record::entry::Payload::Membership(types::membership_to(None, m)),
        });
        put_log_id(&new, &mut encoded);
        self.encoded = encoded.freeze();
    }

    fn get_membership(&self) -> Option<Membership> {
        match &self.payload {
            Payload::Membership(m) => Some(m.clone()),
            Payload::Blank | Payload::Normal(_) => None,
        }
    }
}

impl RaftPayload for NewPayload {
    type D = Proposal;
    type NodeId = u64;
    type Node = Member;

    fn blank() -> Self {
        Self::Blank
    }

    fn with_normal(self, data: Proposal) -> Self {
        Self::Normal(data)
    }

    fn with_membership(self, membership: Membership) -> Self {
        Self::Membership(membership)
    }

    fn get_membership(&self) -> Option<Membership> {
        match self {
            Self::Membership(m) => Some(m.clone()),
            Self::Blank | Self::Normal(_) => None,
        }
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proposal of {} bytes", self.encoded.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for NewPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank"),
            Self::Normal(proposal) => fmt::Debug::fmt(proposal, f),
            Self::Membership(m) => write!(f, "{m}"),
        }
    }
}

impl fmt::Display for NewPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.payload {
            Payload::Blank => write!(f, "{}:blank", self.log_id),
            Payload::Normal(raw) => write!(f, "{}:{} bytes", self.log_id, raw.len()),
            Payload::Membership(m) => write!(f, "{}:{m}", self.log_id),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
