//! The rows behind listings: one record a run, and index rows that sort as a listing does.
//!
//! # Contract
//! Open runs stand in the indexes «all», type and workflow id; closed ones also under their status.
//! Index rows carry no value: what a listing shows is the record.

use std::cmp::Reverse;

use bristlecone_machine::stamp::nanos;
use bristlecone_proto::record::Visibility;
use bristlecone_storage::state::BatchBuilder;
use bristlecone_storage::state::keys::{Attribute, Id, IndexValue, Key, OPEN, Slot, Text};

/// Moves a run's rows from what a listing showed before to what it shows now.
pub fn write(
    slot: Slot,
    namespace_id: &str,
    run_id: &str,
    before: Option<&Visibility>,
    now: Option<&Visibility>,
    batch: &mut BatchBuilder,
) {
    let namespace = || Id::new(namespace_id);
    let record = Key::Visibility { namespace: namespace(), run: Id::new(run_id) };
    match now {
        Some(now) => batch.put_row(slot, &record, now),
        None => batch.delete_row(slot, &record),
    }
    let old = before.map(|run| index_rows(namespace_id, run_id, run)).unwrap_or_default();
    let new = now.map(|run| index_rows(namespace_id, run_id, run)).unwrap_or_default();
    for row in old.iter().filter(|row| !new.contains(row)) {
        batch.delete_row(slot, row);
    }
    for row in new.iter().filter(|row| !old.contains(row)) {
        batch.put_row(slot, row, &());
    }
}

/// The order in which a listing shows a run: open ones first, then the latest closed, then the latest started.
pub fn order_of(run: &Visibility) -> (Reverse<i64>, Reverse<i64>) {
    let close = run.close_time.as_ref().map_or(OPEN, |time| Reverse(nanos(time)));
    (close, Reverse(run.start_time.as_ref().map_or(0, nanos)))
}

fn index_rows<'a>(namespace_id: &'a str, run_id: &'a str, run: &'a Visibility) -> Vec<Key<'a>> {
    let (close, start) = order_of(run);
    let row = |attribute, value| Key::Index {
        namespace: Id::new(namespace_id),
        attribute,
        value,
        close,
        start,
        run: Id::new(run_id),
    };
    let keyword = |value: &'a str| IndexValue::Keyword { value: Text::from(value) };
    let mut rows = vec![
        row(Attribute::All, IndexValue::Absent),
        row(Attribute::WorkflowType, keyword(&run.workflow_type)),
        row(Attribute::WorkflowId, keyword(&run.workflow_id)),
    ];
    if run.close_time.is_some() {
        rows.push(row(Attribute::ExecutionStatus, IndexValue::Int { value: i64::from(run.status) }));
    }
    rows
}
