//! A shell for tests: it stores rows, delivers outbox messages and wakes chains, and checks after every
//! step what must hold between any two.
//!
//! # Contract
//! After a step: [`check`] holds; the rows that are stored give the chain that the step returned; folding
//! the stored history gives the same state. A step without rows changes nothing that is stored.

#![allow(dead_code, reason = "each test uses another part of the shell")]
#![allow(clippy::indexing_slicing, reason = "a wrong index is a failed test")]

pub mod print;
pub mod same;
pub mod store;

use std::collections::BTreeMap;

use bristlecone_machine::chain::ReceiptKey;
use bristlecone_machine::load::{Loader, runs_needed};
use bristlecone_machine::row::TaskKey;
use bristlecone_machine::stamp::NamespaceLookup;
use bristlecone_machine::{Chain, Deadlines, Limits, Namespace, Row, Stamp, UpdateNews, check, deadline, step};
use bristlecone_proto::chain::{Answer, ChainId, Forget, Input, Origin, Reply, RunHistory, Wake, input};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::history::v1::History;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use prost::Message;

use store::Store;

pub const SECOND: i64 = 1_000_000_000;
/// 2026-01-01T00:00:00Z.
pub const START: i64 = 1_767_225_600 * SECOND;

#[derive(Debug)]
struct OneNamespace;

impl NamespaceLookup for OneNamespace {
    fn id_of(&self, name: &str) -> Option<String> {
        (name == "default").then(|| "namespace-id".to_string())
    }
}

/// All chains of a namespace, by workflow id.
#[derive(Debug)]
pub struct Shell {
    pub now: i64,
    pub limits: Limits,
    pub namespace: Namespace,
    pub caller_timeout_ms: u64,
    inputs: u128,
    chains: BTreeMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    chain: Chain,
    store: Store,
    /// Tasks that are offered without rows.
    offers: BTreeMap<TaskKey, record::Task>,
}

/// What a step came to, for printing.
#[derive(Debug)]
pub struct Outcome {
    pub rows: Vec<Row>,
    pub reply: Reply,
    pub offers: Vec<(TaskKey, Option<record::Task>)>,
    pub news: Vec<UpdateNews>,
    pub changed: bool,
    pub deadlines: Deadlines,
}

impl Default for Shell {
    fn default() -> Self {
        let search_attributes = [("Word", 2), ("Number", 3), ("Words", 7)];
        Self {
            now: START,
            limits: Limits::default(),
            namespace: Namespace {
                id: "namespace-id".into(),
                name: "default".into(),
                search_attributes: search_attributes.map(|(name, kind)| (name.to_string(), kind)).into(),
                retention: 3 * 24 * 3_600 * SECOND,
                ..Namespace::default()
            },
            caller_timeout_ms: 0,
            inputs: 0,
            chains: BTreeMap::new(),
        }
    }
}

impl Shell {
    /// Sends an input to a chain, as the leader of its shard does.
    pub fn send(&mut self, workflow_id: &str, input: Input) -> Outcome {
        self.inputs += 1;
        let held = self.chains.entry(workflow_id.to_string()).or_insert_with(|| Held {
            chain: Chain::new(chain_id(workflow_id)),
            store: Store::default(),
            offers: BTreeMap::new(),
        });
        let needed = runs_needed(&input, held.chain.record.as_ref());
        held.load(&needed);
        let at = Stamp {
            now: self.now,
            seed: self.inputs,
            limits: &self.limits,
            namespace: &self.namespace,
            namespaces: &OneNamespace,
            caller_timeout_ms: self.caller_timeout_ms,
        };
        let step = step(&held.chain, &input, &at);
        let changed = step.next.is_some();
        for (key, task) in &step.offers {
            match task {
                Some(task) => drop(held.offers.insert(key.clone(), task.clone())),
                None => assert!(held.offers.remove(key).is_some(), "no such offer: {key:?}"),
            }
        }
        assert!(changed || step.rows.is_empty(), "rows without a change: {:?}", step.rows);
        if let Some(mut next) = step.next {
            next.settle();
            held.store.apply(&step.rows);
            held.chain = next;
        }
        if let Err(violation) = check(&held.chain) {
            panic!("{violation:?}\nafter {input:?}\nrows {:#?}\nchain {:#?}", step.rows, held.chain);
        }
        held.verify(&self.limits);
        Outcome {
            rows: step.rows,
            reply: step.reply,
            offers: step.offers,
            news: step.news,
            changed,
            deadlines: deadline(&held.chain),
        }
    }

    /// Wakes the chain.
    pub fn wake(&mut self, workflow_id: &str) -> Outcome {
        self.send(workflow_id, of(input::Kind::Wake(Wake {})))
    }

    /// The leader dies: what was in memory only is gone.
    pub fn fail_over(&mut self) {
        for held in self.chains.values_mut() {
            let mut loader = Loader::new(held.chain.id.clone());
            held.store.chain_rows().into_iter().for_each(|row| loader.row(row));
            held.chain = loader.finish();
            held.offers.clear();
        }
    }

    /// Outbox rows that wait, of all chains: sender, sequence, target.
    pub fn outbox(&self) -> Vec<(String, u64, String)> {
        let of = |(workflow_id, held): (&String, &Held)| -> Vec<_> {
            let sends = held.chain.sends.iter();
            sends
                .map(|(sequence, send)| {
                    let target = send.target.as_ref().map(|target| target.workflow_id.clone()).unwrap_or_default();
                    (workflow_id.clone(), *sequence, target)
                })
                .collect()
        };
        self.chains.iter().flat_map(of).collect()
    }

    /// Delivers one outbox row; returns what it did at the target.
    pub fn deliver(&mut self, sender: &str, sequence: u64) -> (String, Outcome) {
        let send = self.chains[sender].chain.sends.get(&sequence).expect("the row waits").clone();
        let target = send.target.expect("a message has a target").workflow_id;
        let origin = Origin { sender: Some(chain_id(sender)), sequence };
        let input = Input { origin: Some(origin), ..send.input.expect("a message has an input") };
        let outcome = self.send(&target, input);
        (target, outcome)
    }

    /// Hands the receiver's reply to the sender of an outbox row, and lets the receiver forget it.
    pub fn answer(&mut self, sender: &str, sequence: u64, target: &str, reply: Reply) -> Outcome {
        let run_id = self.chains[sender].chain.sends.get(&sequence).map(|send| send.run_id.clone()).unwrap_or_default();
        let answer = Answer { sequence, run_id, reply: Some(reply.into()) };
        let outcome = self.send(sender, of(input::Kind::Answer(answer)));
        if self.chains[sender].chain.sends.get(&sequence).is_none() {
            let forget = Forget { sender: Some(chain_id(sender)), sequence };
            self.send(target, of(input::Kind::Forget(forget)));
        }
        outcome
    }

    /// The chain with all its runs, loaded or not.
    pub fn whole(&self, workflow_id: &str) -> Option<Chain> {
        let held = self.chains.get(workflow_id)?;
        let mut loader = Loader::onto(held.chain.clone());
        for run_id in held.store.run_ids().iter().filter(|id| !held.chain.runs.contains_key(*id)) {
            held.store.run_rows(run_id).into_iter().for_each(|row| loader.row(row));
        }
        Some(loader.finish())
    }

    /// When the chain has to be woken.
    pub fn deadlines(&self, workflow_id: &str) -> Deadlines {
        self.chain(workflow_id).map(deadline).unwrap_or_default()
    }

    /// Whether the chain has taken this outbox row of another one.
    pub fn has_receipt(&self, workflow_id: &str, sender: &str, sequence: u64) -> bool {
        let ChainId { namespace_id, workflow_id: sender, .. } = chain_id(sender);
        let key = ReceiptKey { namespace_id, workflow_id: sender, sequence };
        self.chain(workflow_id).is_some_and(|chain| chain.receipts.contains(&key))
    }

    pub fn chain(&self, workflow_id: &str) -> Option<&Chain> {
        self.chains.get(workflow_id).map(|held| &held.chain)
    }

    pub fn store(&self, workflow_id: &str) -> Option<&Store> {
        self.chains.get(workflow_id).map(|held| &held.store)
    }

    /// Tasks that workers can take, with rows or without.
    pub fn offered(&self, workflow_id: &str) -> BTreeMap<TaskKey, record::Task> {
        let Some(held) = self.chains.get(workflow_id) else { return BTreeMap::new() };
        let durable = held.store.tasks.iter().map(|(key, task)| (key.clone(), task.clone()));
        durable.chain(held.offers.clone()).collect()
    }

    /// The history of a run (empty: the current one), and of those as which it was continued.
    pub fn histories(&self, workflow_id: &str, run_id: &str) -> Vec<RunHistory> {
        let Some(held) = self.chains.get(workflow_id) else { return Vec::new() };
        let current = held.chain.record.as_ref().map_or("", |record| &record.current_run_id);
        let mut run_id = if run_id.is_empty() { current.to_string() } else { run_id.to_string() };
        let mut runs = Vec::new();
        while !run_id.is_empty() {
            let batches = held.store.batches(&run_id);
            let last = batches.last().and_then(|batch| batch.last()).and_then(|event| event.attributes.clone());
            let encoded = batches.into_iter().map(|events| History { events }.encode_to_vec().into()).collect();
            let next = match last {
                Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(a)) => a.new_execution_run_id,
                _ => String::new(),
            };
            runs.push(RunHistory { run_id: std::mem::replace(&mut run_id, next), batches: encoded });
        }
        runs
    }

    pub fn workflow_ids(&self) -> Vec<String> {
        self.chains.keys().cloned().collect()
    }
}

impl Held {
    /// Loads the runs that are stored and not in memory.
    fn load(&mut self, run_ids: &[String]) {
        let missing: Vec<_> = run_ids.iter().filter(|id| !self.chain.runs.contains_key(*id)).collect();
        if missing.is_empty() {
            return;
        }
        let mut loader = Loader::onto(self.chain.clone());
        for run_id in missing {
            self.store.run_rows(run_id).into_iter().for_each(|row| loader.row(row));
        }
        self.chain = loader.finish();
    }

    /// What is stored is what is in memory, and history tells the same.
    fn verify(&self, limits: &Limits) {
        let mut loader = Loader::new(self.chain.id.clone());
        self.store.chain_rows().into_iter().for_each(|row| loader.row(row));
        for run_id in self.chain.runs.keys() {
            self.store.run_rows(run_id).into_iter().for_each(|row| loader.row(row));
        }
        same::assert_stored(&self.chain, &loader.finish());
        // Of a standalone activity history tells no more than its start.
        for run in self.chain.runs.values().filter(|run| run.head.standalone.is_none()) {
            same::assert_replayed(run, &self.store.batches(&run.id), limits);
        }
        self.store.assert_derived(&self.chain);
    }
}

pub fn chain_id(workflow_id: &str) -> ChainId {
    ChainId { namespace_id: "namespace-id".into(), workflow_id: workflow_id.into(), namespace: "default".into() }
}

pub fn of(kind: input::Kind) -> Input {
    Input { kind: Some(kind), origin: None }
}
