//! Tokens that clients carry for the server: of tasks, and of places in histories and lists.
//!
//! # Contract
//! ```text
//! byte 0      format, 1
//! byte 1      kind (see `Token::KIND`): a token of one kind is never taken for another
//! bytes 2-17  first half of HMAC-SHA256(the cluster's key, format | kind | body)
//! the rest    body, an encoded message
//! ```
//! A token opens only if this cluster sealed it: what stands in it needs no other check than that it
//! belongs to what the caller may touch (its namespace). Tokens are not encrypted.
//!
//! # Used by
//! `src/grpc` (opens what clients bring, seals pages), and whoever answers polls (seals tasks).

use bristlecone_proto::chain::{ActivityTaskToken, HistoryPageToken, QueryTaskToken, WorkflowTaskToken};
use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

const FORMAT: u8 = 1;
const CODE_BYTES: usize = 16;
const HEADER_BYTES: usize = 2 + CODE_BYTES;

/// A message that clients carry as a token.
pub trait Token: Message + Default {
    /// Never reused for another message.
    const KIND: u8;
}

impl Token for WorkflowTaskToken {
    const KIND: u8 = 1;
}

impl Token for ActivityTaskToken {
    const KIND: u8 = 2;
}

impl Token for QueryTaskToken {
    const KIND: u8 = 3;
}

impl Token for HistoryPageToken {
    const KIND: u8 = 4;
}

/// A place in a listing of executions.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListPageToken {
    /// Sort key of the last row that was shown.
    #[prost(bytes = "bytes", tag = "1")]
    pub after: Bytes,
    #[prost(string, tag = "2")]
    pub namespace_id: String,
    /// Hash of the query: a token is good for its own query only.
    #[prost(fixed64, tag = "3")]
    pub query_hash: u64,
}

impl Token for ListPageToken {
    const KIND: u8 = 5;
}

/// A place in a listing that is sorted by name (namespaces, workers).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NamePageToken {
    /// The last name that was shown.
    #[prost(string, tag = "1")]
    pub after: String,
}

impl Token for NamePageToken {
    const KIND: u8 = 6;
}

/// What the reader of a standalone activity knows of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ActivityChangeToken {
    #[prost(string, tag = "1")]
    pub namespace_id: String,
    #[prost(string, tag = "2")]
    pub activity_id: String,
    #[prost(string, tag = "3")]
    pub run_id: String,
    #[prost(int64, tag = "4")]
    pub transitions: i64,
}

impl Token for ActivityChangeToken {
    const KIND: u8 = 20;
}

/// The token is garbage, forged, of another kind, or from another cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token of this cluster")]
pub struct BadToken;

/// Seals and opens tokens with a cluster's key.
#[derive(Clone)]
pub struct Tokens {
    keyed: Hmac<Sha256>,
}

impl Tokens {
    pub fn new(key: &[u8]) -> Self {
        Self { keyed: Hmac::new_from_slice(key).expect("HMAC takes keys of every length") }
    }

    pub fn seal<T: Token>(&self, token: &T) -> Bytes {
        let body_bytes = token.encoded_len();
        let mut sealed = BytesMut::with_capacity(HEADER_BYTES + body_bytes);
        sealed.put_u8(FORMAT);
        sealed.put_u8(T::KIND);
        sealed.put_bytes(0, CODE_BYTES);
        token.encode(&mut sealed).expect("a BytesMut grows as needed");
        let (header, body) = sealed.split_at_mut(HEADER_BYTES);
        let code = self.code(T::KIND, body).finalize().into_bytes();
        for (place, byte) in header.iter_mut().skip(2).zip(code) {
            *place = byte;
        }
        sealed.freeze()
    }

    pub fn open<T: Token>(&self, sealed: &[u8]) -> Result<T, BadToken> {
        let ([FORMAT, kind, code @ ..], body) = sealed.split_first_chunk::<HEADER_BYTES>().ok_or(BadToken)? else {
            return Err(BadToken);
        };
        if *kind != T::KIND {
            return Err(BadToken);
        }
        self.code(*kind, body).verify_truncated_left(code).map_err(|_| BadToken)?;
        T::decode(body).map_err(|_| BadToken)
    }

    fn code(&self, kind: u8, body: &[u8]) -> Hmac<Sha256> {
        self.keyed.clone().chain_update([FORMAT, kind]).chain_update(body)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> ActivityTaskToken {
        ActivityTaskToken {
            namespace_id: "32049b68-7872-4094-8e63-d0dd59896a83".into(),
            workflow_id: "order-1".into(),
            scheduled_event_id: 5,
            attempt: 2,
            ..ActivityTaskToken::default()
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was() {
        let tokens = Tokens::new(b"key");
        let sealed = tokens.seal(&token());
        assert_eq!(tokens.open::<ActivityTaskToken>(&sealed), Ok(token()));
        let empty = tokens.seal(&HistoryPageToken::default());
        assert_eq!(tokens.open(&empty), Ok(HistoryPageToken::default()));
    }

    #[test]
    fn another_cluster_and_another_kind_are_refused() {
        let sealed = Tokens::new(b"key").seal(&token());
        assert_eq!(Tokens::new(b"other").open::<ActivityTaskToken>(&sealed), Err(BadToken));
        assert_eq!(Tokens::new(b"key").open::<WorkflowTaskToken>(&sealed), Err(BadToken));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let tokens = Tokens::new(b"key");
        let sealed = tokens.seal(&token());
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tokens.open::<ActivityTaskToken>(&forged), Err(BadToken), "bit {bit}");
        }
        for end in 0..sealed.len() {
            assert_eq!(tokens.open::<ActivityTaskToken>(&sealed[..end]), Err(BadToken), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused(garbage in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Tokens::new(b"key").open::<WorkflowTaskToken>(&garbage), Err(BadToken));
        }
    }
}
