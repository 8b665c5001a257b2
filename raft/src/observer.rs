//! How a node hears what its groups apply.
//!
//! # Used by
//! Caches of rows, history readers that wait, and the node's own life (`fatal`).

use std::fmt::Debug;

use bristlecone_storage::state::Batch;

use crate::GroupId;

/// Called by the groups of a node, on any replica, leader or not.
///
/// Calls for one group come in the order of its log, from the task that applies: what they do must be
/// short and must not block.
pub trait Observer: Debug + Send + Sync + 'static {
    /// The mutations of the entry at `index` are in the state store. Refused entries are not reported.
    fn applied(&self, group: GroupId, index: u64, mutations: &Batch);

    /// All rows of the group were replaced by a snapshot that ends with the entry at `index`.
    fn installed(&self, group: GroupId, index: u64);

    /// A group, or the node (`None`), failed for good: storage did, or its bytes are damaged. The process
    /// has to stop.
    fn fatal(&self, group: Option<GroupId>, reason: &str);
}
