//! B-5: the calls of each workflow id are linearizable: there is one order of all of them, each between its call and
//! its answer, in which every answer is right.
//!
//! # Contract
//! The model of a workflow id is its current run, whether that is open, which signals it took, and which runs there
//! were. Calls are taken in the order of their beginnings and ends; at an end every order that is still possible must
//! have placed the call. A call whose outcome is unknown may be placed at any time from its beginning on, or never.

use std::collections::{BTreeMap, BTreeSet};

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::b4_schedules::is_scheduled;
use crate::sim::linear::{Answer, Ask, Op};
use crate::sim::world::World;

/// Orders that are kept in mind for one workflow id; with more the id counts as not checked.
const ORDERS_MAX: usize = 20_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct State {
    current: Option<String>,
    open: bool,
    /// Request ids of the current run's signals.
    taken: BTreeSet<String>,
    seen: BTreeSet<String>,
}

/// One order so far: where it led, and which calls under way it has placed already.
type Order = (State, BTreeSet<usize>);

/// What is known of an id's runs when all is over.
#[derive(Debug, Default)]
pub struct Runs {
    /// By which run another was continued.
    pub next: BTreeMap<String, String>,
    /// The others: starts began them, one whose outcome is unknown perhaps.
    pub started: BTreeSet<String>,
}

/// Checks all ids that nothing else than the recorded calls acts on.
pub fn check(world: &World, histories: &BTreeMap<String, Vec<HistoryEvent>>) {
    for (workflow_id, ops) in world.calls.all() {
        let by_others = workflow_id.contains('/') || is_scheduled(&workflow_id);
        let acted_on = by_others || world.ledger.known.lock().reset.contains(&workflow_id);
        if acted_on {
            continue;
        }
        let runs = Runs::of(world, &workflow_id, histories);
        match find_order(&ops, &runs) {
            Ok(true) => world.tally.count("workflow id in one order"),
            Ok(false) => world.tally.count("workflow id of too many orders"),
            Err(op) => {
                for op in &ops {
                    world.trace.line(&format!("{workflow_id} {op:?}"));
                }
                world.violated(format!("B-5: no order of the calls of {workflow_id} explains {op:?}"));
            }
        }
    }
}

impl Runs {
    fn of(world: &World, workflow_id: &str, histories: &BTreeMap<String, Vec<HistoryEvent>>) -> Self {
        let mut next = BTreeMap::new();
        let mut all = BTreeSet::new();
        let known = world.ledger.known.lock();
        let of = |run: &String| known.runs.get(run).is_some_and(|known| known.workflow_id == workflow_id);
        for (run, events) in histories.iter().filter(|(run, _)| of(run)) {
            all.insert(run.clone());
            if let Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(a)) =
                events.last().and_then(|event| event.attributes.as_ref())
            {
                next.insert(run.clone(), a.new_execution_run_id.clone());
            }
        }
        all.retain(|run| !next.values().any(|next| next == run));
        Self { next, started: all }
    }
}

/// Whether there is an order; `Ok(false)`: that was too much to find out.
///
/// # Errors
/// The call that fits nowhere.
pub fn find_order<'a>(ops: &'a [Op], runs: &Runs) -> Result<bool, &'a Op> {
    let mut moments: Vec<(u64, usize, bool)> = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        moments.push((op.called, index, true));
        moments.extend(op.returned.iter().map(|(at, _)| (*at, index, false)));
    }
    moments.sort_unstable();
    let mut under_way = BTreeSet::new();
    let mut orders: BTreeSet<Order> = BTreeSet::from([Order::default()]);
    for (_, index, begins) in moments {
        let Some(op) = ops.get(index) else { continue };
        if begins {
            if op.returned.is_some() || matters(op, ops) {
                under_way.insert(index);
                orders = orders.into_iter().map(|order| settled(order, ops, runs, &under_way)).collect();
            }
            continue;
        }
        let Some(placed) = place(index, ops, runs, &under_way, orders) else { return Ok(false) };
        orders = placed;
        under_way.remove(&index);
        if orders.is_empty() {
            return Err(op);
        }
    }
    Ok(true)
}

/// Whether a call of unknown outcome can change any answer. A read cannot, nor a signal of which nobody heard more.
fn matters(op: &Op, ops: &[Op]) -> bool {
    match &op.ask {
        Ask::Start | Ask::Close { .. } => true,
        Ask::Signal { .. } => {
            let taken = |other: &&Op| other.ask == op.ask && matches!(other.returned, Some((_, Answer::Done)));
            ops.iter().any(|other| taken(&other))
        }
        Ask::Describe { .. } => false,
    }
}

/// Places all calls under way that are right in this state and change nothing: to place them later can be no better.
fn settled((state, mut done): Order, ops: &[Op], runs: &Runs, under_way: &BTreeSet<usize>) -> Order {
    for next in under_way {
        let Some(op) = ops.get(*next).filter(|op| op.returned.is_some() && !done.contains(next)) else { continue };
        if after(&state, op, runs).first() == Some(&state) {
            done.insert(*next);
        }
    }
    (state, done)
}

/// Calls under way that may come next. Of calls of unknown outcome that ask the same the first stands for all.
fn candidates<'a>(done: &BTreeSet<usize>, ops: &'a [Op], under_way: &BTreeSet<usize>) -> Vec<(usize, &'a Op)> {
    let mut candidates: Vec<(usize, &Op)> = Vec::new();
    for next in under_way.iter().filter(|next| !done.contains(next)) {
        let Some(op) = ops.get(*next) else { continue };
        let same = |(_, other): &(usize, &Op)| other.returned.is_none() && other.ask == op.ask;
        if op.returned.is_some() || !candidates.iter().any(same) {
            candidates.push((*next, op));
        }
    }
    candidates
}

/// All orders that go on from these and have placed the call; `None` when they are too many.
fn place(
    index: usize,
    ops: &[Op],
    runs: &Runs,
    under_way: &BTreeSet<usize>,
    orders: BTreeSet<Order>,
) -> Option<BTreeSet<Order>> {
    let mut known = orders.clone();
    let mut todo: Vec<Order> = orders.into_iter().collect();
    let mut placed = BTreeSet::new();
    while let Some((state, done)) = todo.pop() {
        if done.contains(&index) {
            let mut done = done;
            done.remove(&index);
            placed.insert((state, done));
            continue;
        }
        for (next, op) in candidates(&done, ops, under_way) {
            // One of unknown outcome that changes nothing here had better be placed later, or never.
            let changes = |after: &State| op.returned.is_some() || *after != state;
            for after in after(&state, op, runs).into_iter().filter(changes) {
                let mut done = done.clone();
                done.insert(next);
                let order = settled((after, done), ops, runs, under_way);
                if known.insert(order.clone()) {
                    todo.push(order);
                }
            }
            if known.len() > ORDERS_MAX {
                return None;
            }
        }
    }
    Some(placed)
}

/// The states to which a call leads, if its answer is right here.
fn after(state: &State, op: &Op, runs: &Runs) -> Vec<State> {
    let answer = op.returned.as_ref().map(|(_, answer)| answer);
    let begun = |run: &String| {
        let mut seen = state.seen.clone();
        let taken = BTreeSet::new();
        seen.insert(run.clone()).then(|| State { current: Some(run.clone()), open: true, taken, seen })
    };
    let right = |right: bool| if right { vec![state.clone()] } else { Vec::new() };
    match (&op.ask, answer) {
        // The same request again is told of the same run.
        (Ask::Start, Some(Answer::Started(run))) if state.current.as_ref() == Some(run) => vec![state.clone()],
        (Ask::Start, Some(Answer::Started(run))) if !state.open => begun(run).into_iter().collect(),
        (Ask::Start, None) if !state.open => runs.started.iter().filter_map(begun).collect(),
        (Ask::Start, Some(Answer::Exists)) => right(state.open),
        (Ask::Signal { request }, Some(Answer::Done)) if state.taken.contains(request) => vec![state.clone()],
        (Ask::Signal { request }, Some(Answer::Done) | None) if state.open => {
            let mut next = state.clone();
            next.taken.insert(request.clone());
            vec![next]
        }
        (Ask::Signal { .. }, Some(Answer::NotFound)) => right(!state.open),
        (Ask::Close { run }, Some(Answer::Done) | None) if state.open && state.current.as_ref() == Some(run) => {
            match runs.next.get(run) {
                Some(next) => begun(next).into_iter().collect(),
                None => vec![State { open: false, ..state.clone() }],
            }
        }
        (Ask::Describe { run: asked }, Some(Answer::Described { run, running })) => {
            let current = state.current.as_ref() == Some(run);
            let there = if asked.is_some() { state.seen.contains(run) } else { current };
            right(there && *running == (current && state.open))
        }
        (Ask::Describe { run: None }, Some(Answer::NotFound)) => right(state.current.is_none()),
        _ => Vec::new(),
    }
}
