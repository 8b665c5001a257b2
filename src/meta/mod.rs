//! The cluster's metadata: members, shard map, namespaces; one Raft group of its own.
//!
//! ```text
//! view.rs       what this node's replica says, decoded        decide.rs     what a change comes to (pure)
//! rules.rs      workflow rules of namespaces (pure)           placement.rs  where replicas and leaders belong (pure)
//! service.rs    changes, through the group's leader
//! ```
//!
//! # Contract
//! Every node holds a replica (voters up to five, the rest learners), so routing never asks anybody. A
//! change is acknowledged when every live member has applied it, or after two seconds.
//!
//! # Depends on
//! `raft`, `storage` (rows in the meta slot), `crate::filter` (the language of rules).

pub mod decide;
pub mod placement;
pub mod rules;
mod service;
mod view;

pub use decide::WEIGHT_OVERRIDES_MAX;
pub use service::{META_GROUP, Meta, MetaObserver, Mouth};
pub use view::{MetaView, NamespaceEntry, QueueConfigs};

/// Voters of the meta group at most.
pub const META_VOTERS_MAX: usize = 5;
