//! Whatever is done to the rows behind listings, an audit names it, and mending brings back what the runs demand.

use std::sync::Arc;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{Payload, SearchAttributes, WorkflowType};
use bristlecone_proto::temporal::api::enums::v1::{EventType, WorkflowExecutionStatus as Status};
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionStartedEventAttributes};
use bristlecone_storage::state::keys::Attribute;
use bristlecone_storage::state::{BatchBuilder, ModelOptions, ModelStore, StateStore, state_hash};
use bristlecone_storage::vfs::ModelVfs;

use super::*;
use crate::shard::{mend, rows};
use bristlecone_machine::Row;
use bristlecone_machine::stamp::timestamp;

const NAMESPACE: &str = "32049b68-7872-4094-8e63-d0dd59896a83";
const OTHER: &str = "0192f1a0-0000-7000-8000-000000000001";
const WORKFLOW: &str = "order-1";
const OPEN_RUN: &str = "01a2ce8b-f245-7d1c-a1a2-96b94cd5b853";
const CLOSED_RUN: &str = "01a2ce8b-f245-7d1c-a1a2-96b94cd5b854";

fn chain() -> ChainId {
    chain_id(NAMESPACE, WORKFLOW)
}

fn slot() -> Slot {
    slot_of(NAMESPACE, WORKFLOW)
}

fn write(store: &ModelStore, build: impl FnOnce(&mut BatchBuilder)) {
    let mut batch = BatchBuilder::new();
    build(&mut batch);
    store.write(&[batch.finish().expect("a batch")]).expect("it is written");
}

/// A run with a search attribute, with its rows as the engine writes them.
fn run(run_id: &str, closed: bool) -> Vec<Row> {
    let attributes = WorkflowExecutionStartedEventAttributes {
        workflow_id: WORKFLOW.into(),
        workflow_type: Some(WorkflowType { name: "Order".into() }),
        original_execution_run_id: run_id.into(),
        ..WorkflowExecutionStartedEventAttributes::default()
    };
    let started = HistoryEvent {
        event_id: 1,
        event_time: Some(timestamp(5)),
        event_type: EventType::WorkflowExecutionStarted.into(),
        attributes: Some(Attributes::WorkflowExecutionStartedEventAttributes(attributes)),
        ..HistoryEvent::default()
    };
    let head = record::Head {
        next_event_id: 9,
        status: if closed { Status::Completed } else { Status::Running }.into(),
        close_time: closed.then(|| timestamp(70)),
        ..record::Head::default()
    };
    let color = Payload {
        metadata: [("type".to_owned(), Bytes::from("Keyword"))].into(),
        data: Bytes::from("\"red\""),
        ..Payload::default()
    };
    let fields = record::Fields {
        search_attributes: Some(SearchAttributes { indexed_fields: [("Color".to_owned(), color)].into() }),
        ..record::Fields::default()
    };
    let run_id = run_id.to_owned();
    vec![
        Row::History { run_id: run_id.clone(), first_event_id: 1, events: vec![started] },
        Row::Head { run_id: run_id.clone(), head: Some(head.into()) },
        Row::Fields { run_id, fields: Some(fields.into()) },
    ]
}

fn stored() -> ModelStore {
    let store = ModelStore::new(Arc::new(ModelVfs::new(1)), ModelOptions::default());
    write(&store, |batch| {
        let record = record::Chain { current_run_id: OPEN_RUN.into(), ..record::Chain::default() };
        rows::write(slot(), &chain(), Row::Chain(Some(record)), batch);
        for row in [run(OPEN_RUN, false), run(CLOSED_RUN, true)].concat() {
            rows::write(slot(), &chain(), row, batch);
        }
    });
    for run_id in [OPEN_RUN, CLOSED_RUN] {
        let listed = expected(&store, slot(), &chain(), run_id).expect("read").expect("it is there");
        write(&store, |batch| visibility::write(slot(), NAMESPACE, run_id, None, Some(&listed), batch));
    }
    store
}

fn look(store: &ModelStore) -> Audit {
    audit(store, slot(), &[NAMESPACE.to_owned(), OTHER.to_owned()], "").expect("it is read")
}

fn hash(store: &ModelStore) -> u64 {
    state_hash(store, &keys::one_slot(slot())).expect("it is read")
}

/// Damages the rows, expects the faults, mends, and expects the rows as they were.
fn is_found_and_mended(damage: impl FnOnce(&ModelStore, &mut BatchBuilder), faults: ListingFaults) {
    let store = stored();
    let whole = hash(&store);
    write(&store, |batch| damage(&store, batch));
    let found = look(&store);
    assert_eq!(found.faults, ListingFaults { checked: 2, ..faults });
    write(&store, |batch| {
        for listing in &found.named {
            mend::listed(&store, slot(), listing, batch).expect("it is mended");
        }
    });
    write(&store, |batch| mend::counts(&store, slot(), NAMESPACE, batch).expect("they are counted"));
    assert_eq!(look(&store), Audit { faults: ListingFaults { checked: 2, ..ListingFaults::default() }, named: vec![] });
    assert_eq!(hash(&store), whole);
}

fn listed(store: &ModelStore, run_id: &str) -> Visibility {
    record(store, slot(), NAMESPACE, run_id).expect("read").expect("it is listed")
}

fn index_row(listed: &Visibility, attribute: &Attribute<'_>) -> Vec<u8> {
    let rows = visibility::index_rows(NAMESPACE, &listed.run_id, listed);
    let of = |row: &&Key<'_>| matches!(row, Key::Index { attribute: known, .. } if known == attribute);
    rows.iter().find(of).expect("an index row").encode(slot())
}

#[test]
fn what_the_engine_writes_has_no_faults() {
    let nothing = Key::Visibility { namespace: Id::new(OTHER), run: Id::new(OPEN_RUN) };
    is_found_and_mended(|_, batch| batch.delete_row(slot(), &nothing), ListingFaults::default());
}

#[test]
fn a_run_that_is_not_listed() {
    let damage = |store: &ModelStore, batch: &mut BatchBuilder| {
        visibility::write(slot(), NAMESPACE, OPEN_RUN, Some(&listed(store, OPEN_RUN)), None, batch);
    };
    is_found_and_mended(damage, ListingFaults { missing: 1, unindexed: 1, miscounted: 1, ..Default::default() });
}

#[test]
fn a_record_that_is_lost_though_its_index_rows_are_there() {
    let key = Key::Visibility { namespace: Id::new(NAMESPACE), run: Id::new(CLOSED_RUN) };
    let strays = visibility::index_rows(NAMESPACE, CLOSED_RUN, &listed(&stored(), CLOSED_RUN)).len() as u64;
    let faults = ListingFaults { missing: 1, misindexed: strays, ..ListingFaults::default() };
    is_found_and_mended(|_, batch| batch.delete_row(slot(), &key), faults);
}

#[test]
fn a_run_that_is_listed_as_it_is_not() {
    let damage = |store: &ModelStore, batch: &mut BatchBuilder| {
        let now = listed(store, CLOSED_RUN);
        let other = Visibility { status: Status::Failed.into(), workflow_type: "Other".into(), ..now.clone() };
        visibility::write(slot(), NAMESPACE, CLOSED_RUN, Some(&now), Some(&other), batch);
    };
    is_found_and_mended(damage, ListingFaults { different: 1, unindexed: 1, miscounted: 2, ..Default::default() });
}

#[test]
fn what_is_listed_and_does_not_exist() {
    let damage = |store: &ModelStore, batch: &mut BatchBuilder| {
        let gone = "01a2ce8b-f245-7d1c-a1a2-96b94cd5b8ff";
        let listed = Visibility { run_id: gone.into(), ..listed(store, OPEN_RUN) };
        visibility::write(slot(), NAMESPACE, gone, None, Some(&listed), batch);
    };
    is_found_and_mended(damage, ListingFaults { superfluous: 1, miscounted: 1, ..Default::default() });
}

#[test]
fn index_rows_that_are_lost_or_wrong() {
    let color = Attribute::Named { name: "Color".into() };
    let lost = |store: &ModelStore, batch: &mut BatchBuilder| {
        batch.delete(&index_row(&listed(store, OPEN_RUN), &color));
    };
    is_found_and_mended(lost, ListingFaults { unindexed: 1, ..ListingFaults::default() });
    let wrong = |store: &ModelStore, batch: &mut BatchBuilder| {
        let other = Visibility { workflow_type: "Other".into(), ..listed(store, CLOSED_RUN) };
        batch.put(&index_row(&other, &Attribute::WorkflowType), b"");
    };
    is_found_and_mended(wrong, ListingFaults { misindexed: 1, ..ListingFaults::default() });
}

#[test]
fn counters_that_are_off() {
    let damage = |store: &ModelStore, batch: &mut BatchBuilder| {
        batch.add_to_row(slot(), &visibility::counter(NAMESPACE, &listed(store, OPEN_RUN)), 3);
    };
    is_found_and_mended(damage, ListingFaults { miscounted: 1, ..ListingFaults::default() });
}

#[test]
fn only_the_namespace_that_is_asked_for_is_looked_at() {
    let store = stored();
    let namespaces = [NAMESPACE.to_owned(), OTHER.to_owned()];
    let checked = |only: &str| audit(&store, slot(), &namespaces, only).expect("it is read").faults;
    assert_eq!(checked(OTHER), ListingFaults::default());
    assert_eq!(checked(NAMESPACE), ListingFaults { checked: 2, ..ListingFaults::default() });
}
