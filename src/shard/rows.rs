//! From the pure core's rows to the operations of a batch: which key, which encoding.
//!
//! # Contract
//! One [`Row`] becomes the operations on its own key, save `Visibility`, which also moves the rows of
//! the indexes (`visibility.rs`), and `PurgeRun`, which removes all that a run left.

use bristlecone_machine::Row;
use bristlecone_machine::row::{TaskKey, TaskKind};
use bristlecone_proto::chain::ChainId;
use bristlecone_proto::node;
use bristlecone_proto::temporal::api::history::v1::History;
use bristlecone_storage::state::BatchBuilder;
use bristlecone_storage::state::keys::{self, ChainRow, Id, Key, RunRow, Slot, Text};
use bytes::Bytes;
use prost::Message;

use super::visibility;

/// A batch of events as it was just written.
pub struct WrittenHistory {
    pub run_id: String,
    pub first_event_id: i64,
    /// One past the last event.
    pub end_event_id: i64,
    pub bytes: Bytes,
}

/// Appends what a row comes to; a batch of events is handed back for the chain's recent history.
pub fn write(slot: Slot, id: &ChainId, row: Row, batch: &mut BatchBuilder) -> Option<WrittenHistory> {
    match row {
        Row::Chain(record) => {
            let key = Key::chain(&id.namespace_id, &id.workflow_id, ChainRow::Record);
            put_or_delete(slot, &key, record.as_ref(), batch);
        }
        Row::Schedule(schedule) => {
            let key = Key::chain(&id.namespace_id, &id.workflow_id, ChainRow::Schedule);
            put_or_delete(slot, &key, schedule.as_deref(), batch);
        }
        Row::ScheduleHead(head) => {
            let key = Key::chain(&id.namespace_id, &id.workflow_id, ChainRow::ScheduleHead);
            put_or_delete(slot, &key, head.as_deref(), batch);
        }
        Row::ScheduleResult(result) => {
            let key = Key::chain(&id.namespace_id, &id.workflow_id, ChainRow::ScheduleResult);
            put_or_delete(slot, &key, result.as_deref(), batch);
        }
        Row::Head { run_id, head } => put_or_delete(slot, &Key::run(&run_id, RunRow::Head), head.as_deref(), batch),
        Row::Fields { run_id, fields } => {
            put_or_delete(slot, &Key::run(&run_id, RunRow::Fields), fields.as_deref(), batch);
        }
        Row::Activity { run_id, scheduled_event_id: event, activity } => {
            put_or_delete(slot, &Key::run(&run_id, RunRow::Activity { event }), activity.as_deref(), batch);
        }
        Row::Timer { run_id, started_event_id: event, timer } => {
            put_or_delete(slot, &Key::run(&run_id, RunRow::Timer { event }), timer.as_deref(), batch);
        }
        Row::Child { run_id, initiated_event_id: event, child } => {
            put_or_delete(slot, &Key::run(&run_id, RunRow::Child { event }), child.as_deref(), batch);
        }
        Row::ExternalSignal { run_id, initiated_event_id: event, external } => {
            put_or_delete(slot, &Key::run(&run_id, RunRow::ExternalSignal { event }), external.as_deref(), batch);
        }
        Row::ExternalCancel { run_id, initiated_event_id: event, external } => {
            put_or_delete(slot, &Key::run(&run_id, RunRow::ExternalCancel { event }), external.as_deref(), batch);
        }
        Row::Buffered { run_id, arrival, event } => {
            put_or_delete(slot, &Key::run(&run_id, RunRow::Buffered { arrival }), event.as_deref(), batch);
        }
        Row::SignalRequest { run_id, request_id, seen } => {
            let key = Key::run(&run_id, RunRow::SignalRequest { request: Text::from(request_id.as_str()) });
            put_or_delete(slot, &key, seen.then_some(&()), batch);
        }
        Row::Update { run_id, update_id, update } => {
            let key = Key::run(&run_id, RunRow::Update { update: Text::from(update_id.as_str()) });
            put_or_delete(slot, &key, update.as_deref(), batch);
        }
        Row::History { run_id, first_event_id, events } => {
            return Some(write_history(slot, run_id, first_event_id, History { events }, batch));
        }
        Row::Task { key, task } => {
            put_or_delete(slot, &task_key(&id.namespace_id, &key), task.as_ref(), batch);
        }
        Row::Deadline { due, armed } => {
            let key = Key::Deadline {
                due,
                namespace: Id::new(&id.namespace_id),
                workflow: Text::from(id.workflow_id.as_str()),
            };
            put_or_delete(slot, &key, armed.then_some(&()), batch);
        }
        Row::Send { sequence, send } => {
            let key = Key::Outbox {
                namespace: Id::new(&id.namespace_id),
                workflow: Text::from(id.workflow_id.as_str()),
                sequence,
            };
            put_or_delete(slot, &key, send.as_deref(), batch);
        }
        Row::Receipt { key, receipt } => {
            let row = ChainRow::Receipt {
                namespace: Id::new(&key.namespace_id),
                workflow: Text::from(key.workflow_id.as_str()),
                sequence: key.sequence,
            };
            put_or_delete(slot, &Key::chain(&id.namespace_id, &id.workflow_id, row), receipt.as_deref(), batch);
        }
        Row::Visibility { run_id, before, now } => {
            visibility::write(slot, &id.namespace_id, &run_id, before.as_ref(), now.as_ref(), batch);
        }
        Row::ForgetCounts => batch.delete_range(&keys::run_counts(slot, &id.namespace_id)),
        Row::PurgeRun { run_id } => {
            batch.delete_range(&keys::run_rows(slot, &run_id));
            batch.delete_range(&keys::history_rows(slot, &run_id));
        }
    }
    None
}

pub fn task_key<'a>(namespace_id: &'a str, key: &'a TaskKey) -> Key<'a> {
    Key::Task {
        namespace: Id::new(namespace_id),
        kind: task_kind(key.kind) as u8,
        queue: Text::from(key.queue.as_str()),
        version: Text::default(),
        priority: key.priority,
        scheduled: key.scheduled,
        run: Id::new(&key.run_id),
        event: key.scheduled_event_id,
    }
}

pub fn task_kind(kind: TaskKind) -> node::TaskKind {
    match kind {
        TaskKind::Workflow => node::TaskKind::Workflow,
        TaskKind::Activity => node::TaskKind::Activity,
    }
}

/// Bytes that these rows take in a batch.
pub fn bytes(slot: Slot, id: &ChainId, rows: &[Row]) -> usize {
    let mut batch = BatchBuilder::new();
    for row in rows {
        write(slot, id, row.clone(), &mut batch);
    }
    batch.bytes_len()
}

fn write_history(
    slot: Slot,
    run_id: String,
    first_event_id: i64,
    history: History,
    batch: &mut BatchBuilder,
) -> WrittenHistory {
    let bytes = Bytes::from(history.encode_to_vec());
    batch.put(&Key::history(&run_id, first_event_id).encode(slot), &bytes);
    let end_event_id = first_event_id + history.events.len() as i64;
    WrittenHistory { run_id, first_event_id, end_event_id, bytes }
}

fn put_or_delete(slot: Slot, key: &Key<'_>, row: Option<&impl Message>, batch: &mut BatchBuilder) {
    match row {
        Some(row) => batch.put_row(slot, key, row),
        None => batch.delete_row(slot, key),
    }
}
