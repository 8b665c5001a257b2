//! Chains in memory: what is loaded, what is being loaded, and what waits for either.
//!
//! # Contract
//! A chain is here when it was used lately or something depends on its memory (a soft start, a waiting
//! query, an update, a reader, an effect under way). Forgetting is by generations: what was not used during the
//! time that it took to fill the current one goes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bristlecone_machine::Chain;
use bristlecone_proto::chain::ChainId;
use bytes::Bytes;

use super::ChainKey;
use super::history::covered;
use super::mailbox::Mail;
use super::queries::{Waiter, WaitingQuery};
use super::rows::WrittenHistory;
use super::updates::WaitingUpdate;

/// Bytes of recent events kept for one chain.
const RECENT_MAX: usize = 64 << 10;

/// One chain in memory.
#[derive(Debug)]
pub struct Live {
    pub chain: Chain,
    pub recent: Recent,
    /// Queries that ride with the next workflow task, or are with the current one.
    pub queries: Vec<WaitingQuery>,
    /// Callers that wait for updates.
    pub updates: Vec<WaitingUpdate>,
    /// Readers that wait for more events.
    pub waiters: Vec<Waiter>,
    /// Steps of this chain that failed one after another.
    pub failures: u32,
    /// Changed by a batch that is not applied yet.
    pub in_flight: bool,
    /// Run ids that were looked for and do not exist.
    pub unknown_runs: BTreeSet<String>,
}

impl Live {
    pub fn new(chain: Chain) -> Self {
        Self {
            chain,
            recent: Recent::default(),
            queries: Vec::new(),
            updates: Vec::new(),
            waiters: Vec::new(),
            failures: 0,
            in_flight: false,
            unknown_runs: BTreeSet::new(),
        }
    }

    fn is_needed(&self) -> bool {
        self.in_flight
            || !self.queries.is_empty()
            || !self.waiters.is_empty()
            || !self.updates.is_empty()
            || self.chain.runs.values().any(|run| run.soft_start.is_some() || !run.admitted.is_empty())
    }
}

/// The last batches of events that were written, so that a worker's next task needs no disk.
#[derive(Debug, Default)]
pub struct Recent {
    run_id: String,
    /// By first event id: one past the last event, and the encoded batch.
    batches: BTreeMap<i64, (i64, Bytes)>,
    bytes: usize,
}

impl Recent {
    pub fn push(&mut self, written: WrittenHistory) {
        if self.run_id != written.run_id {
            *self = Self { run_id: written.run_id, ..Self::default() };
        }
        self.bytes += written.bytes.len();
        self.batches.insert(written.first_event_id, (written.end_event_id, written.bytes));
        while self.bytes > RECENT_MAX
            && let Some((_, (_, bytes))) = self.batches.pop_first()
        {
            self.bytes -= bytes.len();
        }
    }

    /// The batches that hold events [first, end), when all of them are here.
    pub fn page(&self, run_id: &str, first: i64, end: i64, max_events: i64) -> Option<(Vec<Bytes>, i64)> {
        if self.run_id != run_id {
            return None;
        }
        covered(&self.batches, first, end, max_events)
    }
}

/// A chain's place in memory.
#[derive(Debug, Default)]
pub struct Entry {
    pub live: Option<Box<Live>>,
    /// Set while a reader task fetches rows: the inputs that wait for them, in order.
    pub waiting: Option<VecDeque<Mail>>,
}

impl Entry {
    fn is_needed(&self) -> bool {
        self.waiting.is_some() || self.live.as_ref().is_some_and(|live| live.is_needed())
    }
}

/// The chains of one shard.
#[derive(Debug)]
pub struct Chains {
    young: HashMap<ChainKey, Entry>,
    old: HashMap<ChainKey, Entry>,
    max: usize,
}

impl Chains {
    pub fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), max: max.max(2) }
    }

    /// The chain's entry, if there is one; it counts as used.
    pub fn get(&mut self, key: &ChainKey) -> Option<&mut Entry> {
        if !self.young.contains_key(key) {
            let entry = self.old.remove(key)?;
            self.young.insert(key.clone(), entry);
        }
        self.young.get_mut(key)
    }

    pub fn loaded(&mut self, key: &ChainKey) -> Option<&mut Live> {
        self.get(key)?.live.as_deref_mut()
    }

    pub fn insert(&mut self, key: ChainKey, entry: Entry) {
        self.old.remove(&key);
        self.young.insert(key, entry);
        if self.young.len() >= self.max / 2 {
            let full = std::mem::take(&mut self.young);
            for (key, entry) in std::mem::replace(&mut self.old, full) {
                if entry.is_needed() {
                    self.young.insert(key, entry);
                }
            }
        }
    }

    /// Runs whose durable workflow tasks are soft-started: the run's id and the chain's.
    pub fn soft_starts(&self) -> Vec<(String, ChainId)> {
        let live = self.young.values().chain(self.old.values()).filter_map(|entry| entry.live.as_deref());
        let runs = live.flat_map(|live| live.chain.runs.values().map(move |run| (live, run)));
        runs.filter(|(_, run)| run.soft_start.is_some() && run.speculative.is_none())
            .map(|(live, run)| (run.id.clone(), live.chain.id.clone()))
            .collect()
    }

    /// Takes the chain out of memory.
    pub fn remove(&mut self, key: &ChainKey) -> Option<Entry> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = (ChainKey, Entry)> {
        std::mem::take(&mut self.young).into_iter().chain(std::mem::take(&mut self.old))
    }
}
