//! The closed registry of tables, and the byte layout of every key.
//!
//! # Contract
//! A key is: slot (u16, big endian), table (u8), and what [`Key`] lists for the table, encoded as
//! `keys/code.rs` says. Keys sort as `(slot, Key)` does, which a property test holds. So a shard (a range
//! of slots) is one contiguous range of keys, and splits where it stands.
//!
//! The number of a table, of a row kind or of an attribute is never used for another thing, not even
//! when it is no longer written: a removed one stays here as a comment.
//!
//! # Used by
//! Whoever reads or writes rows. Values are the messages of `record.proto` named beside each table.

mod code;
mod ranges;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use code::tagged;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use code::{Double, Id, Part, Text};
pub use ranges::*;

pub type Slot = u16;

/// Slots of workflow data are those below; the number never changes.
pub const SLOTS: Slot = 1024;
/// The meta group's rows.
pub const META_SLOT: Slot = 0xFFFD;
/// What each group keeps about itself.
pub const GROUP_SLOT: Slot = 0xFFFE;
/// What belongs to the node alone and to no group.
pub const NODE_SLOT: Slot = 0xFFFF;

/// The slot of everything that a business id (a workflow id, …) of a namespace owns.
pub fn slot_of(namespace_id: &str, business_id: &str) -> Slot {
    let hash = xxh3_64_with_seed(business_id.as_bytes(), xxh3_64_with_seed(namespace_id.as_bytes(), 0));
    // The top ten bits: 0 to 1,023.
    (hash >> 54) as Slot
}

tagged! {
    /// What stands after the slot.
    pub enum Key<'a> {
        // ------------------------------------------------ workflow slots
        /// Everything of a chain that is no run's and that only the chain itself reads.
        0x01 => Chain { namespace: Id<'a>, workflow: Text<'a>, row: ChainRow<'a> },
        /// A run, without its history: one short scan loads it.
        0x10 => Run { run: Id<'a>, row: RunRow<'a> },
        /// `temporal.api.history.v1.History`: a batch of events.
        0x11 => History { run: Id<'a>, first_event: i64 },
        /// `Task`, in the order in which it is to be handed out. `kind` is `node.TaskKind`, `version` is
        /// empty for the default, `scheduled` is in Unix nanoseconds.
        0x20 => Task {
            namespace: Id<'a>, kind: u8, queue: Text<'a>, version: Text<'a>,
            priority: u8, scheduled: i64, run: Id<'a>, event: i64,
        },
        /// How many tasks wait.
        0x21 => TaskCount { namespace: Id<'a>, kind: u8, queue: Text<'a>, version: Text<'a> },
        /// When a chain has to be woken (Unix nanoseconds); no value.
        0x22 => Deadline { due: i64, namespace: Id<'a>, workflow: Text<'a> },
        /// `chain.Send`.
        0x23 => Outbox { namespace: Id<'a>, workflow: Text<'a>, sequence: u64 },
        /// `Visibility`.
        0x30 => Visibility { namespace: Id<'a>, run: Id<'a> },
        /// Listings: by attribute and value, then open runs, then closed ones, the latest first.
        /// `close` is [`OPEN`] or Unix nanoseconds, `start` is in Unix nanoseconds.
        0x31 => Index {
            namespace: Id<'a>, attribute: Attribute<'a>, value: IndexValue<'a>,
            close: Reverse<i64>, start: Reverse<i64>, run: Id<'a>,
        },
        /// How many runs there are of a kind. `status` is `enums.WorkflowExecutionStatus`.
        0x32 => RunCount { namespace: Id<'a>, division: Option<Text<'a>>, status: u8, workflow_type: Text<'a> },
        /// A namespace that is closed to a shard; stands in the first slot of the shard.
        0x40 => Fence { namespace: Id<'a> },

        // ------------------------------------------------ META_SLOT
        /// `Cluster`.
        0x60 => Cluster,
        /// `Member`.
        0x61 => Member { node: u64 },
        /// `Shard`.
        0x62 => Shard { group: u64 },
        /// `Namespace`.
        0x63 => Namespace { namespace: Id<'a> },
        /// The namespace's id, as text.
        0x64 => NamespaceName { name: Text<'a> },
        /// The node id (u64, big endian) that was given to a request to join.
        0x65 => NodeRequest { request: Text<'a> },

        /// `temporal.api.taskqueue.v1.TaskQueueConfig`, what operators set. `kind` is `node.TaskKind`. (From the
        /// end of the meta group's range, 0x60 to 0x6F.)
        0x6F => QueueConfig { namespace: Id<'a>, kind: u8, queue: Text<'a> },

        // ------------------------------------------------ GROUP_SLOT
        0x70 => Group { group: u64, row: GroupRow },

        // ------------------------------------------------ NODE_SLOT
        0x78 => Node { name: Text<'a> },
    }
}

tagged! {
    pub enum ChainRow<'a> {
        /// `Chain`.
        0x01 => Record,
        /// `Receipt` of the outbox row of another chain.
        0x02 => Receipt { namespace: Id<'a>, workflow: Text<'a>, sequence: u64 },
        /// `Schedule`.
        0x20 => Schedule,
        /// `ScheduleHead`.
        0x21 => ScheduleHead,
        /// `ScheduleResult`.
        0x22 => ScheduleResult,
    }
}

tagged! {
    pub enum RunRow<'a> {
        /// `Head`.
        0x01 => Head,
        /// `Fields`.
        0x02 => Fields,
        /// `Activity`, by scheduled event id.
        0x10 => Activity { event: i64 },
        /// `Timer`, by started event id.
        0x11 => Timer { event: i64 },
        /// `Child`, by initiated event id.
        0x12 => Child { event: i64 },
        /// `External`, by initiated event id.
        0x13 => ExternalSignal { event: i64 },
        /// `External`, by initiated event id.
        0x14 => ExternalCancel { event: i64 },
        /// `temporal.api.history.v1.HistoryEvent` without an id yet, by arrival number.
        0x15 => Buffered { arrival: i64 },
        /// No value: the run has taken a signal with this request id.
        0x16 => SignalRequest { request: Text<'a> },
        /// `Update`, by update id.
        0x17 => Update { update: Text<'a> },
    }
}

tagged! {
    /// Rows that go with a group's snapshot, whatever its slots are.
    pub enum GroupRow {
        /// `GroupState`.
        0x01 => State,
        /// `Extent`.
        0x02 => Extent,
    }
}

tagged! {
    /// What an index is about.
    pub enum Attribute<'a> {
        /// Every run of the namespace; its value is `Absent`.
        0x00 => All,
        0x01 => WorkflowId,
        0x02 => RunId,
        0x03 => WorkflowType,
        0x04 => TaskQueue,
        0x05 => ExecutionStatus,
        0x06 => StartTime,
        0x07 => ExecutionTime,
        0x08 => CloseTime,
        0x09 => HistoryLength,
        0x0A => HistorySizeBytes,
        0x0B => StateTransitionCount,
        0x0C => ExecutionDuration,
        0x0D => ParentWorkflowId,
        0x0E => ParentRunId,
        0x0F => RootWorkflowId,
        0x10 => RootRunId,
        /// Predefined and user-defined attributes.
        0xF0 => Named { name: Text<'a> },
    }
}

tagged! {
    pub enum IndexValue<'a> {
        /// The run has no value for the attribute.
        0x00 => Absent,
        0x01 => Bool { value: bool },
        0x02 => Int { value: i64 },
        0x03 => Double { value: Double },
        /// Unix nanoseconds.
        0x04 => Datetime { value: i64 },
        0x05 => Keyword { value: Text<'a> },
        /// One word of a text.
        0x06 => Word { value: Text<'a> },
    }
}

/// The closing time of a run that is open: it sorts before all closed ones.
pub const OPEN: Reverse<i64> = Reverse(i64::MAX);

/// Bytes that are no key of this registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a key of any table")]
pub struct UnknownKey;

impl<'a> Key<'a> {
    pub fn encode(&self, slot: Slot) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        self.encode_to(slot, &mut key);
        key
    }

    /// Adds the key to what the buffer holds.
    pub fn encode_to(&self, slot: Slot, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&slot.to_be_bytes());
        self.write(buffer);
    }

    pub fn parse(key: &'a [u8]) -> Result<(Slot, Self), UnknownKey> {
        let (slot, mut rest) = key.split_first_chunk().ok_or(UnknownKey)?;
        let parsed = Self::take(&mut rest).filter(|_| rest.is_empty()).ok_or(UnknownKey)?;
        Ok((Slot::from_be_bytes(*slot), parsed))
    }

    pub fn run(run_id: &'a str, row: RunRow<'a>) -> Self {
        Self::Run { run: Id::new(run_id), row }
    }

    pub fn chain(namespace_id: &'a str, workflow_id: &'a str, row: ChainRow<'a>) -> Self {
        Self::Chain { namespace: Id::new(namespace_id), workflow: workflow_id.into(), row }
    }

    pub fn history(run_id: &'a str, first_event: i64) -> Self {
        Self::History { run: Id::new(run_id), first_event }
    }
}

/// The key of a group's applied state (`GroupState`).
pub fn group_state(group: u64) -> Vec<u8> {
    Key::Group { group, row: GroupRow::State }.encode(GROUP_SLOT)
}

/// The key of a group's extent on this node (`Extent`).
pub fn group_extent(group: u64) -> Vec<u8> {
    Key::Group { group, row: GroupRow::Extent }.encode(GROUP_SLOT)
}

/// The key of a row that belongs to the node alone.
pub fn node_row(name: &str) -> Vec<u8> {
    Key::Node { name: name.into() }.encode(NODE_SLOT)
}
