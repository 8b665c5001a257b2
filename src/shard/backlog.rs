//! The tasks that wait in this shard, by queue, and which of them are offered to brokers.
//!
//! # Contract
//! Mirrors the task rows: the most urgent tasks of each queue are here, up to a limit, the others are
//! only counted and read when room comes. A task is offered until its row goes or it is taken by a
//! soft start; [`Backlog::give_back`] undoes that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use bristlecone_machine::row::{TaskKey, TaskKind};
use bristlecone_machine::stamp::timestamp;
use bristlecone_proto::chain::ChainId;
use bristlecone_proto::node::{self, Offer, OfferedTask, QueueKey};
use bristlecone_proto::record;
use bristlecone_storage::state::keys::{self, Key, Slot};
use bristlecone_storage::state::{Direction, Error, Read};
use prost::Message;

use super::rows::task_kind;

/// Tasks of one queue that are in memory.
const HELD_MAX: usize = 8_192;
/// Tasks of one queue that are offered at one time.
const OFFERED_MAX: usize = 512;

#[derive(Debug, Default)]
pub struct Backlog {
    queues: HashMap<QueueKey, Queue>,
    /// Queues with tasks to offer.
    dirty: BTreeSet<QueueId>,
    /// Queues of which too few tasks are held.
    starved: BTreeSet<QueueId>,
    /// Tasks in workers' hands whose rows are still there, by run and event.
    taken: HashMap<(String, i64), (QueueKey, Place)>,
}

/// A queue's key in an order of its own.
type QueueId = (String, i32, String);

#[derive(Debug, Default)]
struct Queue {
    /// The most urgent first.
    held: BTreeMap<Place, Held>,
    offered: usize,
    /// Rows of this queue, held or not.
    count: u64,
}

/// A task's place in its queue: priority, age, what it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: u8,
    scheduled: i64,
    run_id: String,
    event: i64,
}

#[derive(Debug)]
struct Held {
    chain: ChainId,
    task: record::Task,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Offered,
    /// Soft-started: in a worker's hands, its row still there.
    Taken,
}

impl Backlog {
    /// A task row was written or removed.
    pub fn row(&mut self, chain: &ChainId, key: &TaskKey, task: Option<record::Task>) {
        let queue_key = queue_key(&chain.namespace_id, key);
        let place = place(key);
        let queue = self.queues.entry(queue_key.clone()).or_default();
        match task {
            Some(task) => {
                queue.count += u64::from(!queue.held.contains_key(&place));
                queue.hold(place, Held { chain: chain.clone(), task, state: State::Waiting });
                self.dirty.insert(id_of(queue_key));
            }
            None => {
                queue.count = queue.count.saturating_sub(1);
                if let Some(held) = queue.held.remove(&place) {
                    queue.offered -= usize::from(held.state == State::Offered);
                    if held.state == State::Taken {
                        self.taken.remove(&(place.run_id, place.event));
                    }
                }
                if queue.count == 0 {
                    self.queues.remove(&queue_key);
                } else {
                    if queue.is_starved() {
                        self.starved.insert(id_of(queue_key.clone()));
                    }
                    if queue.has_room() {
                        self.dirty.insert(id_of(queue_key));
                    }
                }
            }
        }
    }

    /// A worker has the task, and its row stays for now.
    pub fn take(&mut self, namespace_id: &str, key: &TaskKey) {
        let queue_key = queue_key(namespace_id, key);
        let place = place(key);
        if let Some(queue) = self.queues.get_mut(&queue_key)
            && queue.set_state(&place, State::Taken)
        {
            self.taken.insert((place.run_id.clone(), place.event), (queue_key, place));
        }
    }

    /// The worker does not have it after all.
    pub fn give_back(&mut self, run_id: &str, event: i64) {
        let Some((queue_key, place)) = self.taken.remove(&(run_id.to_string(), event)) else { return };
        if let Some(queue) = self.queues.get_mut(&queue_key)
            && queue.set_state(&place, State::Waiting)
        {
            self.dirty.insert(id_of(queue_key));
        }
    }

    /// The chain knows nothing of this task: if it is held as offered, its row went while it was read.
    pub fn stale(&mut self, namespace_id: &str, key: &TaskKey) {
        let Some(queue) = self.queues.get_mut(&queue_key(namespace_id, key)) else { return };
        let place = place(key);
        if queue.held.get(&place).is_some_and(|held| held.state == State::Offered) {
            queue.held.remove(&place);
            queue.offered -= 1;
        }
    }

    /// Brokers may have forgotten what they were offered: offers everything again.
    pub fn reoffer(&mut self) {
        for (key, queue) in &mut self.queues {
            for held in queue.held.values_mut().filter(|held| held.state == State::Offered) {
                held.state = State::Waiting;
            }
            queue.offered = 0;
            self.dirty.insert(id_of(key.clone()));
        }
    }

    /// Takes what is to be offered now.
    pub fn offers(&mut self, group_id: u64) -> Vec<Offer> {
        let mut offers = Vec::new();
        for (namespace_id, kind, name) in std::mem::take(&mut self.dirty) {
            let key = QueueKey { namespace_id, name, kind };
            let Some(queue) = self.queues.get_mut(&key) else { continue };
            let oldest = queue.held.keys().map(|place| place.scheduled).min();
            let backlog_count = queue.count;
            let tasks = queue.next_offers();
            if !tasks.is_empty() {
                let oldest = oldest.map(timestamp);
                offers.push(Offer { queue: Some(key), group_id, tasks, backlog_count, oldest });
            }
        }
        offers
    }

    /// Takes the queues that have rows which are not held, and room for them.
    pub fn hungry(&mut self) -> Vec<QueueKey> {
        let starved = std::mem::take(&mut self.starved).into_iter();
        let keys = starved.map(|(namespace_id, kind, name)| QueueKey { namespace_id, name, kind });
        keys.filter(|key| self.queues.get(key).is_some_and(Queue::is_starved)).collect()
    }

    /// Takes in rows that were read; those that are held already keep their state.
    pub fn found(&mut self, found: Vec<Row>) {
        for Row { chain, key, task, count } in found {
            let queue_key = queue_key(&chain.namespace_id, &key);
            let queue = self.queues.entry(queue_key.clone()).or_default();
            queue.count += u64::from(count);
            let place = place(&key);
            if !queue.held.contains_key(&place) {
                queue.hold(place, Held { chain, task, state: State::Waiting });
            }
            self.dirty.insert(id_of(queue_key));
        }
    }

    /// Rows that were counted but not held.
    pub fn counted(&mut self, queue: QueueKey, rows: u64) {
        self.queues.entry(queue).or_default().count += rows;
    }
}

impl Queue {
    fn hold(&mut self, place: Place, held: Held) {
        if let Some(before) = self.held.insert(place, held) {
            self.offered -= usize::from(before.state == State::Offered);
        }
        if self.held.len() > HELD_MAX
            && let Some((_, dropped)) = self.held.pop_last()
        {
            self.offered -= usize::from(dropped.state == State::Offered);
        }
    }

    /// Whether the task is held.
    fn set_state(&mut self, place: &Place, state: State) -> bool {
        let Some(held) = self.held.get_mut(place) else { return false };
        self.offered -= usize::from(held.state == State::Offered);
        self.offered += usize::from(state == State::Offered);
        held.state = state;
        true
    }

    /// Rows have to be read before the tasks that are held run out.
    fn is_starved(&self) -> bool {
        self.held.len() < OFFERED_MAX && self.count > self.held.len() as u64
    }

    fn has_room(&self) -> bool {
        self.offered < OFFERED_MAX && self.held.len() > self.offered
    }

    fn next_offers(&mut self) -> Vec<OfferedTask> {
        let room = OFFERED_MAX.saturating_sub(self.offered);
        let mut waiting: Vec<_> = self.held.iter_mut().filter(|(_, held)| held.state == State::Waiting).collect();
        if waiting.len() > room && waiting.iter().any(|(_, held)| !held.task.fairness_key.is_empty()) {
            // So that the broker has tasks of every fairness key to choose from: of each key the first, then the
            // second, and so on.
            let mut ranks: HashMap<(u8, String), usize> = HashMap::new();
            waiting.sort_by_cached_key(|(place, held)| {
                let rank = ranks.entry((place.priority, held.task.fairness_key.clone())).or_default();
                *rank += 1;
                (place.priority, *rank, place.scheduled)
            });
        }
        let mut tasks = Vec::new();
        for (place, held) in waiting.into_iter().take(room) {
            held.state = State::Offered;
            tasks.push(offered(place, held));
        }
        self.offered += tasks.len();
        tasks
    }
}

/// A task row as it was read.
#[derive(Debug)]
pub struct Row {
    pub chain: ChainId,
    pub key: TaskKey,
    pub task: record::Task,
    /// The row was not counted before.
    pub count: bool,
}

/// Reads the task rows of slots: the first [`HELD_MAX`] of each queue, and how many more there are.
pub fn scan(rows: &(impl Read + ?Sized), slots: &[Slot]) -> Result<(Vec<Row>, HashMap<QueueKey, u64>), Error> {
    let mut found = Vec::new();
    let mut seen: HashMap<QueueKey, u64> = HashMap::new();
    let mut more: HashMap<QueueKey, u64> = HashMap::new();
    for slot in slots {
        rows.scan(&keys::tasks(*slot), Direction::Forward, &mut |key, value| {
            let Some(row) = parse(key, value, true) else { return ControlFlow::Continue(()) };
            let queue = queue_key(&row.chain.namespace_id, &row.key);
            let count = seen.entry(queue.clone()).or_default();
            *count += 1;
            if *count <= HELD_MAX as u64 {
                found.push(row);
            } else {
                *more.entry(queue).or_default() += 1;
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok((found, more))
}

/// Reads the most urgent rows of one queue.
pub fn refill(rows: &(impl Read + ?Sized), slots: &[Slot], queue: &QueueKey) -> Result<Vec<Row>, Error> {
    let each = (HELD_MAX / slots.len().max(1)).max(16);
    let mut found = Vec::new();
    for slot in slots {
        let kind = u8::try_from(queue.kind).unwrap_or_default();
        let range = keys::tasks_of_all_versions(*slot, &queue.namespace_id, kind, &queue.name);
        let mut taken = 0;
        rows.scan(&range, Direction::Forward, &mut |key, value| {
            found.extend(parse(key, value, false));
            taken += 1;
            if taken < each { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(found)
}

fn parse(key: &[u8], value: &[u8], count: bool) -> Option<Row> {
    let Ok((_, Key::Task { namespace, kind, queue, priority, scheduled, run, event, .. })) = Key::parse(key) else {
        return None;
    };
    let kind = match node::TaskKind::try_from(i32::from(kind)) {
        Ok(node::TaskKind::Workflow) => TaskKind::Workflow,
        Ok(node::TaskKind::Activity) => TaskKind::Activity,
        _ => return None,
    };
    let task = record::Task::decode(value).ok()?;
    let chain = ChainId {
        namespace_id: namespace.to_string(),
        workflow_id: task.workflow_id.clone(),
        namespace: String::new(),
    };
    let key = TaskKey {
        kind,
        queue: queue.into_owned(),
        priority,
        scheduled,
        run_id: run.to_string(),
        scheduled_event_id: event,
    };
    Some(Row { chain, key, task, count })
}

pub fn queue_key(namespace_id: &str, key: &TaskKey) -> QueueKey {
    QueueKey { namespace_id: namespace_id.to_string(), name: key.queue.clone(), kind: task_kind(key.kind).into() }
}

fn id_of(key: QueueKey) -> QueueId {
    (key.namespace_id, key.kind, key.name)
}

fn place(key: &TaskKey) -> Place {
    Place {
        priority: key.priority,
        scheduled: key.scheduled,
        run_id: key.run_id.clone(),
        event: key.scheduled_event_id,
    }
}

fn offered(place: &Place, held: &Held) -> OfferedTask {
    OfferedTask {
        chain: Some(held.chain.clone()),
        run_id: place.run_id.clone(),
        scheduled_event_id: place.event,
        attempt: held.task.attempt,
        stamp: held.task.stamp,
        priority: u32::from(place.priority),
        scheduled_time: Some(timestamp(place.scheduled)),
        query_id: 0,
        sticky: held.task.sticky,
        fairness_key: held.task.fairness_key.clone(),
        fairness_weight: held.task.fairness_weight,
    }
}
