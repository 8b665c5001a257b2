//! A shard's part of a listing or a count.
//!
//! # Contract
//! Of the ways to find what a filter matches ([`Filter::plans`]) the one is taken that costs least for a page in
//! proportion in a few of the slots: slots are by hash, so they are alike. Candidates are read from their records and
//! tested with the whole filter. At most one page of records is in memory. All that an answer shows is of one moment.
//! Counts by status, type and division alone come from the counters.
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
use bristlecone_storage::state::{Cursor, Direction, Error, KeyRange, Read, StateStore};
use bytes::Bytes;
use prost::Message;

use super::visibility::order_of;
use crate::filter::{self, Access, Filter, NAMESPACE_DIVISION, Probe, Value, index_value};

/// For how long one shard looks for one answer.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Records between two looks at the clock.
const RECORDS_A_LOOK: u32 = 256;
/// Slots in which the ways are tried.
const SAMPLED_SLOTS: usize = 4;
/// What a way may cost there: first this, then four times as much as often as no way gets by with it.
const FIRST_BUDGET: u64 = 256;
const BUDGETS: u32 = 5;
/// Costs relative to that of an index row: finding where a range begins, and reading a record.
const SEEK_COST: u64 = 8;
const RECORD_COST: u64 = 8;

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
    let rows = store.view();
    let plan = choose(&*rows, &slots, filter, list)?;
    let page_size = usize::try_from(list.page_size).unwrap_or(usize::MAX);
    let mut search = Search::new(&*rows, filter, list, page_size);
    search.slots(slots.clone(), &slots, &plan)?;
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
    store: &'a dyn Read,
    filter: &'a Filter,
    list: &'a ListShards,
    order: Order,
    rows_max: usize,
    /// Where the page before ended: no index row in the order of listings that comes before it is on this page.
    from: Option<Position>,
    /// The first rows of the page, by sort key.
    best: BTreeMap<Vec<u8>, Visibility>,
    page: ListPage,
    give_up: Instant,
    looked_at: u32,
    cost: u64,
    /// At this cost it ends with what it has.
    cost_max: u64,
    /// Of a count, to learn what it costs: no record is read.
    rows_only: bool,
}

/// The times (Unix nanoseconds) by which a listing places a run.
#[derive(Debug, Clone, Copy)]
struct Position {
    close: i64,
    start: i64,
}

impl<'a> Search<'a> {
    fn new(store: &'a dyn Read, filter: &'a Filter, list: &'a ListShards, rows_max: usize) -> Self {
        let order = order(filter);
        Self {
            store,
            filter,
            list,
            order,
            rows_max,
            from: position(filter, order, &list.after),
            best: BTreeMap::new(),
            page: ListPage::default(),
            give_up: Instant::now() + TIME_MAX,
            looked_at: 0,
            cost: 0,
            cost_max: u64::MAX,
            rows_only: false,
        }
    }

    /// Looks at some slots of the shard, which has `all`.
    fn slots(
        &mut self,
        slots: impl Iterator<Item = Slot>,
        all: &Range<Slot>,
        plan: &[Access],
    ) -> Result<(), SearchError> {
        let store = self.store;
        let mut cursor = store.cursor(&keys::slot_range(all.start, all.end))?;
        for slot in slots {
            self.slot(slot, plan, &mut *cursor)?;
            if self.cost >= self.cost_max {
                break;
            }
        }
        Ok(())
    }

    fn slot(&mut self, slot: Slot, plan: &[Access], cursor: &mut dyn Cursor) -> Result<(), SearchError> {
        let ranges: Vec<Rows> = plan.iter().flat_map(|access| self.rows(slot, access)).collect();
        // A run may stand in several ranges, and in one of many values more than once.
        let mut seen = (plan.len() > 1 || ranges.iter().any(|rows| rows.sorted == Sorted::No)).then(BTreeSet::new);
        for rows in &ranges {
            self.cost += SEEK_COST;
            let mut failed = None;
            cursor.scan(&rows.range, rows.direction, &mut |key, value| match self.row(
                slot,
                key,
                value,
                rows.sorted,
                seen.as_mut(),
            ) {
                Ok(flow) if self.cost < self.cost_max => flow,
                Ok(_) => ControlFlow::Break(()),
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
        sorted: Sorted,
        seen: Option<&mut BTreeSet<String>>,
    ) -> Result<ControlFlow<()>, SearchError> {
        self.cost += 1;
        let next = ControlFlow::Continue(());
        let (place, run) = match Key::parse(key) {
            Ok((_, Key::Index { attribute: Attribute::StartTime, start, run, .. })) => {
                (self.place_by_start(start.0), run)
            }
            Ok((_, Key::Index { close, start, run, .. })) => (self.place(close.0, start.0, &run, sorted), run),
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
                Place::Beyond { all_after: true } => return Ok(ControlFlow::Break(())),
                Place::Beyond { .. } => return Ok(next),
                Place::Open => {}
            }
        }
        if seen.is_some_and(|seen| !seen.insert(run.to_string())) {
            return Ok(next);
        }
        if self.rows_only {
            self.cost += RECORD_COST;
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
    fn place(&self, close: i64, start: i64, run: &Id<'_>, sorted: Sorted) -> Place {
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
        let all_after = match (sorted, self.order) {
            (Sorted::Listing | Sorted::Open, Order::Listing) => true,
            (Sorted::Open, Order::StartTime { descending }) => descending,
            // What closed before the last of the page started has started before it, too.
            (Sorted::Listing, Order::StartTime { descending }) => descending && close < order_of(run).1.0,
            (Sorted::No | Sorted::Starts, _) | (_, Order::Other) => false,
        };
        Place::Beyond { all_after }
    }

    fn candidate(&mut self, record: &[u8]) -> Result<(), SearchError> {
        self.looked_at += 1;
        self.cost += RECORD_COST;
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

/// Where the page before ended, as far as the order of index rows knows it.
fn position(filter: &Filter, order: Order, after: &[u8]) -> Option<Position> {
    let sort_values = match order {
        Order::Listing => 0,
        Order::StartTime { .. } => {
            let start_time = Some(bristlecone_machine::stamp::timestamp(0));
            filter.sort_values(&Visibility { start_time, ..Visibility::default() }).len()
        }
        Order::Other => return None,
    };
    let (close, rest) = after.get(sort_values..)?.split_first_chunk()?;
    let start = rest.first_chunk()?;
    let time = |bytes: &[u8; 8]| (!u64::from_be_bytes(*bytes) ^ (1 << 63)).cast_signed();
    Some(Position { close: time(close), start: time(start) })
}

/// The way that costs least.
fn choose(
    store: &dyn Read,
    slots: &Range<Slot>,
    filter: &Filter,
    list: &ListShards,
) -> Result<Vec<Access>, SearchError> {
    let mut plans = filter.plans();
    if !list.count_only {
        plans.extend(filter.plan_in_order().map(|access| vec![access]));
    }
    plans.push(vec![Access::Open { start_from: i64::MIN }, Access::Closed { from: i64::MIN, to: i64::MAX }]);
    let step = (slots.len() / SAMPLED_SLOTS).max(1);
    let sampled = || slots.clone().step_by(step).take(SAMPLED_SLOTS);
    let page = usize::try_from(list.page_size).unwrap_or(usize::MAX).saturating_mul(sampled().count());
    let cost = |plan: &[Access], budget: u64| {
        let mut search = Search::new(store, filter, list, page.div_ceil(slots.len().max(1)).max(1));
        search.cost_max = budget;
        search.rows_only = list.count_only;
        search.slots(sampled(), slots, plan).map(|()| search.cost)
    };
    for budget in (0..BUDGETS).map(|times| FIRST_BUDGET << (2 * times)) {
        // As cheap as the cheapest is enough.
        let (mut least, mut best) = (budget, None);
        for (at, plan) in plans.iter().enumerate() {
            let cost = cost(plan, least)?;
            if cost < least {
                (least, best) = (cost, Some(at));
            }
        }
        if let Some(best) = best {
            return Ok(plans.swap_remove(best));
        }
    }
    Ok(plans.swap_remove(0))
}

/// What follows from the place of a row for those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sorted {
    /// Of one value, each run once, as a listing is sorted: open runs first, then the latest closed, then the latest started.
    Listing,
    /// Likewise, open runs alone: the latest started first.
    Open,
    /// By start time, in the direction that is asked for.
    Starts,
    No,
}

struct Rows {
    range: KeyRange,
    direction: Direction,
    sorted: Sorted,
}

impl Rows {
    fn forward(range: KeyRange, sorted: Sorted) -> Self {
        Self { range, direction: Direction::Forward, sorted }
    }
}

impl Search<'_> {
    /// The index rows of a slot in which the access finds runs that may be on the page.
    fn rows(&self, slot: Slot, access: &Access) -> Vec<Rows> {
        let namespace_id = self.list.namespace_id.as_str();
        let all = (Attribute::All, IndexValue::Absent);
        match access {
            Access::Run(run_id) => {
                let key = Key::Visibility { namespace: Id::new(namespace_id), run: Id::new(run_id) }.encode(slot);
                vec![Rows::forward(KeyRange::one(key), Sorted::No)]
            }
            Access::Open { start_from } => {
                let range = keys::index_started_from(slot, namespace_id, &all.0, &all.1, OPEN.0, *start_from);
                vec![Rows::forward(self.rest(slot, &all, range), Sorted::Open)]
            }
            Access::Closed { from, to } => {
                let to = (*to).min(OPEN.0 - 1);
                let range = keys::index_closed(slot, namespace_id, &all.0, &all.1, *from, to);
                vec![Rows::forward(self.rest(slot, &all, range), Sorted::Listing)]
            }
            Access::Started { from, to, descending } => {
                let shown = self.from.map(|from| from.start);
                let (from, to, direction) = if *descending {
                    (*from, shown.map_or(*to, |shown| shown.min(*to)), Direction::Reverse)
                } else {
                    (shown.map_or(*from, |shown| shown.max(*from)), *to, Direction::Forward)
                };
                let (first, last) = (IndexValue::Datetime { value: from }, IndexValue::Datetime { value: to });
                let range = keys::index_between(slot, namespace_id, &Attribute::StartTime, &first, &last);
                vec![Rows { range, direction, sorted: Sorted::Starts }]
            }
            Access::Index { name, probe } => self.of_probe(slot, &attribute(name), probe),
        }
    }

    /// Of a range in the order of listings, what the pages before have not shown.
    fn rest(&self, slot: Slot, (attribute, value): &(Attribute<'_>, IndexValue<'_>), range: KeyRange) -> KeyRange {
        let namespace_id = self.list.namespace_id.as_str();
        match (self.from, self.order) {
            (Some(from), Order::Listing) => {
                range.within(&keys::index_from(slot, namespace_id, attribute, value, from.close, from.start))
            }
            _ => range,
        }
    }

    fn of_probe(&self, slot: Slot, attribute: &Attribute<'_>, probe: &Probe) -> Vec<Rows> {
        let namespace_id = self.list.namespace_id.as_str();
        let of = |value: &IndexValue<'_>| keys::index_of(slot, namespace_id, attribute, value);
        let range = match probe {
            Probe::Is(value) => return self.of_value(slot, attribute, index_value(value.clone())),
            Probe::Word(word) => return self.of_value(slot, attribute, IndexValue::Word { value: Text::from(word) }),
            Probe::StartsWith(start) => keys::index_starting(slot, namespace_id, attribute, start),
            Probe::Present => keys::index(slot, namespace_id, attribute),
            Probe::Between(kind, from, to) => {
                let all = all_of_kind(slot, namespace_id, attribute, *kind);
                let start = from.clone().map_or(all.start, |from| of(&index_value(from)).start);
                let end = to.clone().map_or(all.end, |to| of(&index_value(to)).end);
                KeyRange::new(start.clone(), end.max(start))
            }
        };
        vec![Rows::forward(range, Sorted::No)]
    }

    /// Open and closed runs apart: by start time, each may end early.
    fn of_value(&self, slot: Slot, attribute: &Attribute<'_>, value: IndexValue<'_>) -> Vec<Rows> {
        let namespace_id = self.list.namespace_id.as_str();
        if let Order::Listing | Order::Other = self.order {
            let range = keys::index_of(slot, namespace_id, attribute, &value);
            let range = self.rest(slot, &(attribute.clone(), value), range);
            return vec![Rows::forward(range, Sorted::Listing)];
        }
        let closed = |from, to| keys::index_closed(slot, namespace_id, attribute, &value, from, to);
        vec![
            Rows::forward(closed(OPEN.0, OPEN.0), Sorted::Open),
            Rows::forward(closed(i64::MIN, OPEN.0 - 1), Sorted::Listing),
        ]
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
    let mut cursor = store.cursor(&keys::slot_range(slots.start, slots.end))?;
    for slot in slots {
        cursor.scan(&keys::run_counts(slot, namespace_id), Direction::Forward, &mut |key, value| {
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
