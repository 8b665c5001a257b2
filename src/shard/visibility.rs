//! The rows behind listings: one record a run, index rows that sort as a listing does, and counters.
//!
//! # Contract
//! Every run stands in the indexes «all», start time, type and workflow id; a closed one under its status, a child under
//! its parent and its root, and a run with search attributes under each of their values (of a text: its
//! words). Index rows carry no value: what a listing shows is the record. A counter tells how many runs a
//! slot has of a division, status and type.
//!
//! # Used by
//! `rows.rs` (writes), `search.rs` (reads), `audit.rs` and `mend.rs` (checks and corrects).

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bristlecone_machine::stamp::nanos;
use bristlecone_proto::record::Visibility;
use bristlecone_proto::temporal::api::common::v1::Payload;
use bristlecone_proto::temporal::api::enums::v1::IndexedValueType as Kind;
use bristlecone_storage::state::BatchBuilder;
use bristlecone_storage::state::keys::{Attribute, Id, IndexValue, Key, OPEN, Slot, Text};

use crate::filter::{NAMESPACE_DIVISION, Value, decode_payload, index_value, words};

/// Moves a run's rows from what a listing showed before to what it shows now.
pub fn write(
    slot: Slot,
    namespace_id: &str,
    run_id: &str,
    before: Option<&Visibility>,
    now: Option<&Visibility>,
    batch: &mut BatchBuilder,
) {
    let record = Key::Visibility { namespace: Id::new(namespace_id), run: Id::new(run_id) };
    match now {
        Some(now) => batch.put_row(slot, &record, now),
        None => batch.delete_row(slot, &record),
    }
    let old = before.map(|run| index_rows(namespace_id, run_id, run)).unwrap_or_default();
    let new = now.map(|run| index_rows(namespace_id, run_id, run)).unwrap_or_default();
    for row in old.difference(&new) {
        batch.delete_row(slot, row);
    }
    for row in new.difference(&old) {
        batch.put_row(slot, row, &());
    }
    let (old, new) = (before.map(|run| counter(namespace_id, run)), now.map(|run| counter(namespace_id, run)));
    if old != new {
        old.inspect(|row| batch.add_to_row(slot, row, -1));
        new.inspect(|row| batch.add_to_row(slot, row, 1));
    }
}

/// The order in which a listing shows a run: open ones first, then the latest closed, then the latest started.
pub fn order_of(run: &Visibility) -> (Reverse<i64>, Reverse<i64>) {
    let close = run.close_time.as_ref().map_or(OPEN, |time| Reverse(nanos(time)));
    (close, Reverse(run.start_time.as_ref().map_or(0, nanos)))
}

pub fn index_rows<'a>(namespace_id: &'a str, run_id: &'a str, run: &'a Visibility) -> BTreeSet<Key<'a>> {
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
    let mut rows = BTreeSet::from([
        row(Attribute::All, IndexValue::Absent),
        row(Attribute::WorkflowType, keyword(&run.workflow_type)),
        row(Attribute::WorkflowId, keyword(&run.workflow_id)),
    ]);
    // In the order of start times, and so the same from the start to the end.
    rows.insert(Key::Index {
        namespace: Id::new(namespace_id),
        attribute: Attribute::StartTime,
        value: IndexValue::Datetime { value: start.0 },
        close: OPEN,
        start,
        run: Id::new(run_id),
    });
    if run.close_time.is_some() {
        rows.insert(row(Attribute::ExecutionStatus, index_value(Value::Status(run.status()))));
    }
    if !run.parent_workflow_id.is_empty() {
        rows.insert(row(Attribute::ParentWorkflowId, keyword(&run.parent_workflow_id)));
        rows.insert(row(Attribute::RootWorkflowId, keyword(&run.root_workflow_id)));
    }
    for (name, payload) in run.search_attributes.iter().flat_map(|attributes| &attributes.indexed_fields) {
        let values = index_values(payload).into_iter();
        rows.extend(values.map(|value| row(Attribute::Named { name: Text::from(name) }, value)));
    }
    rows
}

/// Under what a search attribute is found. A payload that does not tell its type is found as all that it may be.
fn index_values(payload: &Payload) -> Vec<IndexValue<'static>> {
    let named = payload.metadata.get("type").and_then(|name| kind(name));
    let kinds = named.as_ref().map_or(&KINDS[..], std::slice::from_ref);
    let of = |kind: &Kind| -> Vec<IndexValue<'static>> {
        let values = decode_payload(payload, *kind);
        if *kind != Kind::Text {
            return values.into_iter().map(index_value).collect();
        }
        let texts = values.into_iter().filter_map(|value| match value {
            Value::Text(text) => Some(words(&text)),
            _ => None,
        });
        texts.flatten().map(|word| IndexValue::Word { value: word.into() }).collect()
    };
    kinds.iter().flat_map(of).collect()
}

/// A list is found as the keywords in it.
const KINDS: [Kind; 6] = [Kind::Text, Kind::Keyword, Kind::Int, Kind::Double, Kind::Bool, Kind::Datetime];

fn kind(name: &[u8]) -> Option<Kind> {
    let known = KINDS.iter().chain(&[Kind::KeywordList]).find(|kind| format!("{kind:?}").as_bytes() == name);
    known.copied()
}

pub fn counter<'a>(namespace_id: &'a str, run: &'a Visibility) -> Key<'a> {
    let fields = run.search_attributes.as_ref().map(|attributes| &attributes.indexed_fields);
    let division = fields.and_then(|fields| fields.get(NAMESPACE_DIVISION)).and_then(|payload| {
        match decode_payload(payload, Kind::Keyword).into_iter().next() {
            Some(Value::Text(text)) => Some(Text::from(text)),
            _ => None,
        }
    });
    Key::RunCount {
        namespace: Id::new(namespace_id),
        division,
        status: u8::try_from(run.status).unwrap_or(0),
        workflow_type: Text::from(&run.workflow_type),
    }
}
