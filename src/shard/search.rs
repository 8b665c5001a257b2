//! A shard's part of a listing or a count.
//!
//! # Contract
//! Of the ways to find what a filter matches ([`Filter::plans`]), the one with the fewest rows in a few
//! slots is taken: slots are by hash, so they are alike. When even that has many, and runs are asked for in the order
//! of their starts, they are met in that order. Candidates are read from their records and tested
//! with the whole filter. At most one page of records is in memory. Counts by status, type and division
//! alone come from the counters.
//!
//! # Used by
//! `src/cluster/list.rs`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use bristlecone_proto::node::{ListPage, ListShards, list_page};
use bristlecone_proto::record::Visibility;
use bristlecone_proto::temporal::api::common::v1::{Payload, SearchAttributes};
use bristlecone_proto::temporal::api::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};
use bristlecone_storage::state::keys::{self, Attribute, Id, IndexValue, Key, OPEN, Slot, Text};
use bristlecone_storage::state::{Direction, Error, KeyRange, StateStore};
use bytes::Bytes;
use prost::Message;

use super::visibility::order_of;
use crate::filter::{self, Access, Filter, NAMESPACE_DIVISION, Probe, Value, index_value};

/// For how long one shard looks for one answer.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Records between two looks at the clock.
const RECORDS_A_LOOK: u32 = 256;
/// Slots in which the ways are compared, and rows there at most.
const SAMPLED_SLOTS: usize = 4;
const SAMPLED_ROWS_MAX: usize = 200;
/// Rows a slot from which on it pays to meet runs in the order of the listing, whatever they are, and to stop at the
/// end of the page.
const MANY_ROWS: usize = if cfg!(test) { 2 } else { 50 };

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("the filter takes too long to answer: test an indexed attribute")]
    TooLong,
}

pub fn search(
    store: &dyn StateStore,
    slots: Range<Slot>,
    filter: &Filter,
    list: &ListShards,
) -> Result<ListPage, SearchError> {
    if list.count_only && filter.is_about_counters() {
        return Ok(count_by_counters(store, slots, filter, &list.namespace_id)?);
    }
    let plan = choose(store, &slots, filter, list)?;
    let mut search = Search {
        store,
        filter,
        list,
        order: order(filter),
        rows_max: usize::try_from(list.page_size).unwrap_or(usize::MAX),
        best: BTreeMap::new(),
        page: ListPage::default(),
        give_up: Instant::now() + TIME_MAX,
        looked_at: 0,
    };
    for slot in slots {
        search.slot(slot, &plan)?;
    }
    let row = |(key, run)| list_page::Row { sort_key: Bytes::from(key), visibility: Some(run) };
    search.page.rows = search.best.into_iter().map(row).collect();
    Ok(search.page)
}

/// What can be said of a run's place in the listing by its index row alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As index rows sort.
    Listing,
    StartTime {
        descending: bool,
    },
    /// Only the record tells.
    Other,
}

fn order(filter: &Filter) -> Order {
    match filter.order_by.as_slice() {
        [] => Order::Listing,
        [sort] if sort.attribute.name == "StartTime" => Order::StartTime { descending: sort.descending },
        _ => Order::Other,
    }
}

struct Search<'a> {
    store: &'a dyn StateStore,
    filter: &'a Filter,
    list: &'a ListShards,
    order: Order,
    rows_max: usize,
    /// The first rows of the page, by sort key.
    best: BTreeMap<Vec<u8>, Visibility>,
    page: ListPage,
    give_up: Instant,
    looked_at: u32,
}

impl Search<'_> {
    fn slot(&mut self, slot: Slot, plan: &[Access]) -> Result<(), SearchError> {
        let ranges: Vec<Rows> = plan.iter().map(|access| rows(slot, &self.list.namespace_id, access)).collect();
        // A run may stand in several ranges, and in one of many values more than once.
        let mut seen = (ranges.len() > 1 || ranges.iter().any(|rows| !rows.in_order)).then(BTreeSet::new);
        for rows in &ranges {
            let mut failed = None;
            self.store.scan(&rows.range, rows.direction, &mut |key, value| match self.row(
                slot,
                key,
                value,
                rows.in_order,
                seen.as_mut(),
            ) {
                Ok(flow) => flow,
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    fn row(
        &mut self,
        slot: Slot,
        key: &[u8],
        value: &[u8],
        in_order: bool,
        seen: Option<&mut BTreeSet<String>>,
    ) -> Result<ControlFlow<()>, SearchError> {
        let next = ControlFlow::Continue(());
        let (place, run) = match Key::parse(key) {
            Ok((_, Key::Index { attribute: Attribute::StartTime, start, run, .. })) => {
                (self.place_by_start(start.0), run)
            }
            Ok((_, Key::Index { close, start, run, .. })) => (self.place(close.0, start.0, &run), run),
            Ok((_, Key::Visibility { run, .. })) => {
                if seen.is_none_or(|seen| seen.insert(run.to_string())) {
                    self.candidate(value)?;
                }
                return Ok(next);
            }
            _ => return Ok(next),
        };
        if !self.list.count_only {
            match place {
                Place::Shown => return Ok(next),
                Place::Beyond { all_after } if in_order && all_after => return Ok(ControlFlow::Break(())),
                Place::Beyond { .. } => return Ok(next),
                Place::Open => {}
            }
        }
        if seen.is_some_and(|seen| !seen.insert(run.to_string())) {
            return Ok(next);
        }
        let record = Key::Visibility { namespace: Id::new(&self.list.namespace_id), run };
        if let Some(record) = self.store.get(&record.encode(slot))? {
            self.candidate(&record)?;
        }
        Ok(next)
    }

    /// Where a row of the index of start times stands to the page in the making: such a row does not know when its run
    /// closed, by which runs with one start time are told apart.
    fn place_by_start(&self, start: i64) -> Place {
        let key = self.sort_values_of_start(start);
        let before = |other: &[u8]| key.as_slice() < other.get(..key.len()).unwrap_or(other);
        let after = |other: &[u8]| other.get(..key.len()).is_some_and(|other| key.as_slice() > other);
        if before(&self.list.after) {
            return Place::Shown;
        }
        match self.best.last_key_value().filter(|_| self.best.len() >= self.rows_max) {
            Some((worst, _)) if after(worst) => Place::Beyond { all_after: true },
            _ => Place::Open,
        }
    }

    fn sort_values_of_start(&self, start: i64) -> Vec<u8> {
        let start_time = Some(bristlecone_machine::stamp::timestamp(start));
        self.filter.sort_values(&Visibility { start_time, ..Visibility::default() })
    }

    /// Where an index row stands to the page in the making.
    fn place(&self, close: i64, start: i64, run: &Id<'_>) -> Place {
        let mut key = match self.order {
            Order::Listing => Vec::with_capacity(64),
            Order::StartTime { .. } => self.sort_values_of_start(start),
            Order::Other => return Place::Open,
        };
        listing_key(close, start, run, &mut key);
        if key.as_slice() <= &self.list.after[..] {
            return Place::Shown;
        }
        let Some((worst, run)) = self.best.last_key_value().filter(|_| self.best.len() >= self.rows_max) else {
            return Place::Open;
        };
        if key < *worst {
            return Place::Open;
        }
        let all_after = match self.order {
            Order::Listing => true,
            // What closed before the last of the page started has started before it, too.
            Order::StartTime { descending } => descending && close < order_of(run).1.0,
            Order::Other => false,
        };
        Place::Beyond { all_after }
    }

    fn candidate(&mut self, record: &[u8]) -> Result<(), SearchError> {
        self.looked_at += 1;
        if self.looked_at.is_multiple_of(RECORDS_A_LOOK) && Instant::now() > self.give_up {
            return Err(SearchError::TooLong);
        }
        let Ok(run) = Visibility::decode(record) else { return Ok(()) };
        if !self.filter.matches(&run) {
            return Ok(());
        }
        if self.list.count_only {
            count(&mut self.page, run.status(), 1);
            return Ok(());
        }
        let (close, start) = order_of(&run);
        let mut key = self.filter.sort_values(&run);
        listing_key(close.0, start.0, &Id::new(&run.run_id), &mut key);
        if key.as_slice() > &self.list.after[..] {
            self.best.insert(key, run);
            if self.best.len() > self.rows_max {
                self.best.pop_last();
            }
        }
        Ok(())
    }
}

enum Place {
    /// On a page before.
    Shown,
    /// Perhaps on this page.
    Open,
    /// On a page to come; `all_after`: and so is all that follows in the order of index rows.
    Beyond { all_after: bool },
}

fn count(page: &mut ListPage, status: Status, runs: i64) {
    page.count += runs;
    *page.groups.entry(filter::status_name(status)).or_default() += runs;
}

/// Sorts as a listing does: the latest close first (open ones before all), then the latest start.
fn listing_key(close: i64, start: i64, run: &Id<'_>, key: &mut Vec<u8>) {
    key.extend_from_slice(&(!(close.cast_unsigned() ^ (1 << 63))).to_be_bytes());
    key.extend_from_slice(&(!(start.cast_unsigned() ^ (1 << 63))).to_be_bytes());
    key.extend_from_slice(run.to_string().as_bytes());
}

/// The way with the fewest rows.
fn choose(
    store: &dyn StateStore,
    slots: &Range<Slot>,
    filter: &Filter,
    list: &ListShards,
) -> Result<Vec<Access>, Error> {
    let mut plans = filter.plans();
    let everything = vec![Access::Open { start_from: i64::MIN }, Access::Closed { from: i64::MIN, to: i64::MAX }];
    plans.push(everything);
    let mut best = (usize::MAX, Vec::new());
    let step = (slots.len() / SAMPLED_SLOTS).max(1);
    for plan in plans {
        let mut found = 0;
        if best.0 == usize::MAX && best.1.is_empty() {
            best.1.clone_from(&plan);
        }
        for slot in slots.clone().step_by(step).take(SAMPLED_SLOTS) {
            let mut here = 0;
            for access in &plan {
                let rows = rows(slot, &list.namespace_id, access);
                store.scan(&rows.range, Direction::Forward, &mut |_, _| {
                    here += 1;
                    if here < SAMPLED_ROWS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
            }
            found += here;
        }
        if found < best.0 {
            best = (found, plan);
        }
    }
    let in_order = filter.plan_in_order().filter(|_| !list.count_only && best.0 >= MANY_ROWS * SAMPLED_SLOTS);
    Ok(in_order.map_or(best.1, |access| vec![access]))
}

struct Rows {
    range: KeyRange,
    direction: Direction,
    /// Of one value: each run once, in the order of a listing.
    in_order: bool,
}

impl Rows {
    fn forward(range: KeyRange, in_order: bool) -> Self {
        Self { range, direction: Direction::Forward, in_order }
    }
}

fn rows(slot: Slot, namespace_id: &str, access: &Access) -> Rows {
    let all = (Attribute::All, IndexValue::Absent);
    match access {
        Access::Run(run_id) => {
            let key = Key::Visibility { namespace: Id::new(namespace_id), run: Id::new(run_id) }.encode(slot);
            let end = [&key[..], &[0]].concat();
            Rows::forward(KeyRange::new(key, end), true)
        }
        Access::Open { start_from } => {
            let range = keys::index_started_from(slot, namespace_id, &all.0, &all.1, OPEN.0, *start_from);
            Rows::forward(range, true)
        }
        Access::Closed { from, to } => {
            let to = (*to).min(OPEN.0 - 1);
            Rows::forward(keys::index_closed(slot, namespace_id, &all.0, &all.1, *from, to), true)
        }
        Access::Started { from, to, descending } => {
            let (first, last) = (IndexValue::Datetime { value: *from }, IndexValue::Datetime { value: *to });
            let direction = if *descending { Direction::Reverse } else { Direction::Forward };
            let range = keys::index_between(slot, namespace_id, &Attribute::StartTime, &first, &last);
            Rows { range, direction, in_order: true }
        }
        Access::Index { name, probe } => of_probe(slot, namespace_id, &attribute(name), probe),
    }
}

fn attribute(name: &str) -> Attribute<'_> {
    match name {
        "WorkflowId" => Attribute::WorkflowId,
        "WorkflowType" => Attribute::WorkflowType,
        "ExecutionStatus" => Attribute::ExecutionStatus,
        "ParentWorkflowId" => Attribute::ParentWorkflowId,
        "RootWorkflowId" => Attribute::RootWorkflowId,
        name => Attribute::Named { name: Text::from(name) },
    }
}

fn of_probe(slot: Slot, namespace_id: &str, attribute: &Attribute<'_>, probe: &Probe) -> Rows {
    let of = |value: &IndexValue<'_>| keys::index_of(slot, namespace_id, attribute, value);
    let (range, in_order) = match probe {
        Probe::Is(value) => (of(&index_value(value.clone())), true),
        Probe::Word(word) => (of(&IndexValue::Word { value: Text::from(word) }), true),
        Probe::StartsWith(start) => (keys::index_starting(slot, namespace_id, attribute, start), false),
        Probe::Present => (keys::index(slot, namespace_id, attribute), false),
        Probe::Between(kind, from, to) => {
            let all = all_of_kind(slot, namespace_id, attribute, *kind);
            let start = from.clone().map_or(all.start, |from| of(&index_value(from)).start);
            let end = to.clone().map_or(all.end, |to| of(&index_value(to)).end);
            (KeyRange::new(start.clone(), end.max(start)), false)
        }
    };
    Rows::forward(range, in_order)
}

fn all_of_kind(slot: Slot, namespace_id: &str, attribute: &Attribute<'_>, kind: Kind) -> KeyRange {
    let (first, last) = match kind {
        Kind::Int => (IndexValue::Int { value: i64::MIN }, IndexValue::Int { value: i64::MAX }),
        Kind::Datetime => (IndexValue::Datetime { value: i64::MIN }, IndexValue::Datetime { value: i64::MAX }),
        Kind::Double => (index_value(Value::Double(f64::NEG_INFINITY)), index_value(Value::Double(f64::INFINITY))),
        Kind::Bool => (IndexValue::Bool { value: false }, IndexValue::Bool { value: true }),
        Kind::Keyword | Kind::KeywordList => return keys::index_starting(slot, namespace_id, attribute, ""),
        Kind::Text | Kind::Unspecified => return keys::index(slot, namespace_id, attribute),
    };
    keys::index_between(slot, namespace_id, attribute, &first, &last)
}

fn count_by_counters(
    store: &dyn StateStore,
    slots: Range<Slot>,
    filter: &Filter,
    namespace_id: &str,
) -> Result<ListPage, Error> {
    let mut page = ListPage::default();
    for slot in slots {
        store.scan(&keys::run_counts(slot, namespace_id), Direction::Forward, &mut |key, value| {
            if let (Ok((_, Key::RunCount { division, status, workflow_type, .. })), Ok(runs)) =
                (Key::parse(key), value.try_into())
            {
                let runs = i64::from_le_bytes(runs);
                let run = counted(division, status, workflow_type);
                if runs != 0 && filter.matches(&run) {
                    count(&mut page, run.status(), runs);
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(page)
}

/// What is known of the runs that a counter counts.
fn counted(division: Option<Text<'_>>, status: u8, workflow_type: Text<'_>) -> Visibility {
    let attribute = |division: Text<'_>| {
        let data = serde_json::Value::from(&*division).to_string();
        (NAMESPACE_DIVISION.to_owned(), Payload { data: data.into(), ..Payload::default() })
    };
    Visibility {
        workflow_type: workflow_type.into_owned(),
        status: status.into(),
        search_attributes: division
            .map(|division| SearchAttributes { indexed_fields: [attribute(division)].into_iter().collect() }),
        ..Visibility::default()
    }
}
