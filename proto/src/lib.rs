//! What is said: the messages and stubs of Temporal's public API, and the project's own messages
//! between nodes, in rows, and for operators.
//!
//! # Contract
//! Everything here is generated at build time. Payload data is `bytes::Bytes` (decoding a request
//! does not copy it) and maps are ordered (equal messages have equal encodings).
//!
//! # Used by
//! Every other crate; this one depends on none of them.

#![forbid(unsafe_code)]

mod api {
    #![allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all, deprecated)]
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}
mod own {
    #![allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]
    include!(concat!(env!("OUT_DIR"), "/own.rs"));
}

pub use api::{google, temporal};
pub use own::bristlecone::{admin::v1 as admin, chain::v1 as chain, node::v1 as node, record::v1 as record};

/// Encoded `FileDescriptorSet` of the API that is served (with its `google.api.http` routes).
pub const API_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api_descriptors.bin"));

/// Encoded `FileDescriptorSet` of the project's own files; their imports stand in [`API_DESCRIPTORS`].
pub const OWN_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/own_descriptors.bin"));
