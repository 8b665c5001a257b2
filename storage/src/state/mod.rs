//! The replicated rows of all groups of one node: tables, keys, mutation batches, snapshots.
//!
//! # Contract
//! Rows live in one ordered key space without a log of its own. After a crash they are as of the last
//! flush, with each group's applied id among them ([`keys::GroupRow::State`]); the Raft log replays the
//! rest. That is sound because rows and applied id are written in one batch, and because nothing
//! becomes durable outside of the order of writes. [`StateStore`] says what each call promises.
//!
//! Two stores implement it: [`RocksStore`], on disk or in memory, and [`ModelStore`], whose flushes,
//! crashes and faults a simulation decides. One conformance suite (`conformance.rs`) holds them together.
//!
//! # Depends on
//! `vfs` (the files of the model's snapshots), RocksDB (in `rocks.rs` alone).
//!
//! # Used by
//! `raft` (apply, snapshots, purging) and `src/shard` (reads, and the batches that it decides).

pub mod batch;
#[cfg(test)]
mod conformance;
mod error;
mod hash;
pub mod keys;
pub mod model;
mod range;
pub mod rocks;
mod snapshot;
mod store;

pub use batch::{Batch, BatchBuilder, Malformed, Op};
pub use error::{Error, Result};
pub use hash::state_hash;
pub use model::{ModelOptions, ModelStore};
pub use range::KeyRange;
pub use rocks::{RocksOptions, RocksStore};
pub use store::{Cursor, Direction, Limit, Page, Read, SnapshotFile, StateStore, Usage, View, Visitor};
