//! Ranges of keys that are read, written or removed together.

use std::cmp::Reverse;

use super::code::{Part, write_text_start};
use super::{Attribute, GROUP_SLOT, Id, IndexValue, Slot, Text};
use crate::state::KeyRange;

/// All rows of the slots from `first` up to and without `end`.
pub fn slot_range(first: Slot, end: Slot) -> KeyRange {
    KeyRange::new(first.to_be_bytes().to_vec(), end.to_be_bytes().to_vec())
}

/// All rows of one slot, pseudo-slots among them.
pub fn one_slot(slot: Slot) -> KeyRange {
    KeyRange::prefix(slot.to_be_bytes().to_vec())
}

/// What a group keeps about itself: goes with its snapshots.
pub fn group_rows(group: u64) -> KeyRange {
    Prefix::new(GROUP_SLOT, 0x70).with(&group).range()
}

/// The chain's record and its receipts.
pub fn chain_rows(slot: Slot, namespace_id: &str, workflow_id: &str) -> KeyRange {
    Prefix::new(slot, 0x01).with(&Id::new(namespace_id)).with(&Text::from(workflow_id)).range()
}

/// A run, without its history.
pub fn run_rows(slot: Slot, run_id: &str) -> KeyRange {
    Prefix::new(slot, 0x10).with(&Id::new(run_id)).range()
}

/// The run's batches of events from the one that begins with `first_event`.
pub fn history_from(slot: Slot, run_id: &str, first_event: i64) -> KeyRange {
    let run = Prefix::new(slot, 0x11).with(&Id::new(run_id));
    run.clone().from(&run.with(&first_event))
}

/// All of the run's batches of events.
pub fn history_rows(slot: Slot, run_id: &str) -> KeyRange {
    history_from(slot, run_id, i64::MIN)
}

/// The backlogs of all queues of the slot.
pub fn tasks(slot: Slot) -> KeyRange {
    Prefix::new(slot, 0x20).range()
}

/// The backlog of one queue: the task to hand out first stands first. `version` is empty for the default.
pub fn tasks_of(slot: Slot, namespace_id: &str, kind: u8, queue: &str, version: &str) -> KeyRange {
    task_prefix(0x20, slot, namespace_id, kind, queue).with(&Text::from(version)).range()
}

/// The backlog of one queue, the default's and then each version's.
pub fn tasks_of_all_versions(slot: Slot, namespace_id: &str, kind: u8, queue: &str) -> KeyRange {
    task_prefix(0x20, slot, namespace_id, kind, queue).range()
}

/// How many tasks wait in each queue of the slot.
pub fn task_counts(slot: Slot) -> KeyRange {
    Prefix::new(slot, 0x21).range()
}

/// All chains that have something to wait for, the earliest first.
pub fn deadlines(slot: Slot) -> KeyRange {
    Prefix::new(slot, 0x22).range()
}

/// Chains that are due at this time or earlier (Unix nanoseconds).
pub fn deadlines_until(slot: Slot, due: i64) -> KeyRange {
    let table = Prefix::new(slot, 0x22);
    let last = table.clone().with(&due).range();
    KeyRange::new(table.range().start, last.end)
}

/// Everything that the chains of the slot owe to others.
pub fn outbox(slot: Slot) -> KeyRange {
    Prefix::new(slot, 0x23).range()
}

/// What the chain owes to others, in order.
pub fn outbox_of(slot: Slot, namespace_id: &str, workflow_id: &str) -> KeyRange {
    Prefix::new(slot, 0x23).with(&Id::new(namespace_id)).with(&Text::from(workflow_id)).range()
}

/// Records and receipts of all chains of the namespace.
pub fn chains_of_namespace(slot: Slot, namespace_id: &str) -> KeyRange {
    Prefix::new(slot, 0x01).with(&Id::new(namespace_id)).range()
}

/// What all chains of the namespace owe to others.
pub fn outbox_of_namespace(slot: Slot, namespace_id: &str) -> KeyRange {
    Prefix::new(slot, 0x23).with(&Id::new(namespace_id)).range()
}

/// All runs of a slot, without their histories.
pub fn runs(slot: Slot) -> KeyRange {
    table(slot, 0x10)
}

/// What listings show of the namespace's runs, in no useful order.
pub fn visibility(slot: Slot, namespace_id: &str) -> KeyRange {
    Prefix::new(slot, 0x30).with(&Id::new(namespace_id)).range()
}

/// The indexes of all attributes.
pub fn indexes(slot: Slot, namespace_id: &str) -> KeyRange {
    Prefix::new(slot, 0x31).with(&Id::new(namespace_id)).range()
}

/// The index of one attribute.
pub fn index(slot: Slot, namespace_id: &str, attribute: &Attribute<'_>) -> KeyRange {
    index_prefix(slot, namespace_id, attribute).range()
}

/// The runs with this value, in the order of a listing.
pub fn index_of(slot: Slot, namespace_id: &str, attribute: &Attribute<'_>, value: &IndexValue<'_>) -> KeyRange {
    index_prefix(slot, namespace_id, attribute).with(value).range()
}

/// The runs with this value that closed between the two times, both included; [`super::OPEN`] for open ones.
pub fn index_closed(
    slot: Slot,
    namespace_id: &str,
    attribute: &Attribute<'_>,
    value: &IndexValue<'_>,
    from: i64,
    to: i64,
) -> KeyRange {
    let value = index_prefix(slot, namespace_id, attribute).with(value);
    let first = value.clone().with(&Reverse(to)).range().start;
    // An empty range has its end at its start.
    let end = value.with(&Reverse(from)).range().end.max(first.clone());
    KeyRange::new(first, end)
}

/// Of the runs with this value and this close, those that started at the time or later.
pub fn index_started_from(
    slot: Slot,
    namespace_id: &str,
    attribute: &Attribute<'_>,
    value: &IndexValue<'_>,
    close: i64,
    start: i64,
) -> KeyRange {
    let close = index_prefix(slot, namespace_id, attribute).with(value).with(&Reverse(close));
    KeyRange::new(close.clone().range().start, close.with(&Reverse(start)).range().end)
}

/// The runs with this value from this place in the order of a listing on.
pub fn index_from(
    slot: Slot,
    namespace_id: &str,
    attribute: &Attribute<'_>,
    value: &IndexValue<'_>,
    close: i64,
    start: i64,
) -> KeyRange {
    let value = index_prefix(slot, namespace_id, attribute).with(value);
    let first = value.clone().with(&Reverse(close)).with(&Reverse(start)).range().start;
    KeyRange::new(first, value.range().end)
}

/// The runs with values from `first` to `last`, both included, of one type.
pub fn index_between(
    slot: Slot,
    namespace_id: &str,
    attribute: &Attribute<'_>,
    first: &IndexValue<'_>,
    last: &IndexValue<'_>,
) -> KeyRange {
    let start = index_of(slot, namespace_id, attribute, first).start;
    KeyRange::new(start, index_of(slot, namespace_id, attribute, last).end)
}

/// The runs whose keyword begins with `start`.
pub fn index_starting(slot: Slot, namespace_id: &str, attribute: &Attribute<'_>, start: &str) -> KeyRange {
    let mut prefix = index_prefix(slot, namespace_id, attribute).0;
    IndexValue::Keyword { value: Text::Borrowed("") }.write(&mut prefix);
    // The empty text is nothing but its end.
    prefix.pop();
    write_text_start(start, &mut prefix);
    KeyRange::prefix(prefix)
}

/// Counts of the namespace's runs.
pub fn run_counts(slot: Slot, namespace_id: &str) -> KeyRange {
    Prefix::new(slot, 0x32).with(&Id::new(namespace_id)).range()
}

/// One table of a slot; `table` is the number in the registry.
pub fn table(slot: Slot, table: u8) -> KeyRange {
    Prefix::new(slot, table).range()
}

fn task_prefix(table: u8, slot: Slot, namespace_id: &str, kind: u8, queue: &str) -> Prefix {
    Prefix::new(slot, table).with(&Id::new(namespace_id)).with(&kind).with(&Text::from(queue))
}

fn index_prefix(slot: Slot, namespace_id: &str, attribute: &Attribute<'_>) -> Prefix {
    Prefix::new(slot, 0x31).with(&Id::new(namespace_id)).with(attribute)
}

/// The beginning of a key.
#[derive(Clone)]
struct Prefix(Vec<u8>);

impl Prefix {
    fn new(slot: Slot, table: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&slot.to_be_bytes());
        bytes.push(table);
        Self(bytes)
    }

    fn with<'a>(mut self, part: &impl Part<'a>) -> Self {
        part.write(&mut self.0);
        self
    }

    fn range(self) -> KeyRange {
        KeyRange::prefix(self.0)
    }

    /// The keys of this prefix that are not before the other.
    fn from(self, start: &Self) -> KeyRange {
        KeyRange::new(start.0.clone(), self.range().end)
    }
}
