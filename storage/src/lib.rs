//! What is kept: the replicated rows (`state`), the segment log (`log`), the file system (`vfs`) and
//! whatever else a node borrows from the operating system (`runtime`).
//!
//! # Contract
//! Tables, keys, bytes and their durability; nothing of Raft's rules and nothing of workflows. Each
//! seam has a real implementation and an in-memory model with pending and durable bytes, which the
//! simulation uses and a conformance suite holds to the real one.
//!
//! # Depends on
//! `proto` (records), RocksDB (named in `state/rocks.rs` alone).
//!
//! # Used by
//! `raft` and `src`.

#![forbid(unsafe_code)]

pub mod log;
pub mod planted;
pub mod runtime;
pub mod state;
pub mod vfs;
