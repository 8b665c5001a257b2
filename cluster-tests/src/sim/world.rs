//! Everything that one run has: machines, network, clients, what was seen.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bristlecone::peer::Model;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::clock::SimClock;
use super::ledger::Ledger;
use super::linear::Calls;
use super::node::{Happening, SimNode};
use super::options::Options;
use super::rng::Rng;
use super::tally::Tally;
use super::trace::Trace;
use super::wire::{Service, Weather, Wire};

#[derive(Debug)]
pub struct World {
    pub options: Options,
    pub begun: Instant,
    pub network: Model,
    pub trace: Trace,
    pub tally: Arc<Tally>,
    pub ledger: Ledger,
    pub calls: Calls,
    pub weather: Arc<Weather>,
    pub happenings: mpsc::UnboundedSender<Happening>,
    nodes: Mutex<BTreeMap<u64, Arc<SimNode>>>,
    /// Machines that there ever were: a number is never used again.
    machines: AtomicU64,
}

impl World {
    /// The world, and what happens in it by itself.
    ///
    /// # Errors
    /// The trace cannot be written.
    pub fn new(
        options: Options,
        trace: Option<&Path>,
    ) -> std::io::Result<(Arc<Self>, mpsc::UnboundedReceiver<Happening>)> {
        let begun = Instant::now();
        let tally = Arc::new(Tally::default());
        let (happenings, happened) = mpsc::unbounded_channel();
        let world = Self {
            begun,
            network: Model::new(Rng::of(options.seed, "network").next()),
            trace: Trace::new(begun, trace)?,
            ledger: Ledger::default(),
            calls: Calls::default(),
            weather: Arc::new(Weather::new(&options, Arc::clone(&tally))),
            tally,
            happenings,
            nodes: Mutex::default(),
            machines: AtomicU64::new(0),
            options,
        };
        Ok((Arc::new(world), happened))
    }

    pub fn nodes(&self) -> Vec<Arc<SimNode>> {
        self.nodes.lock().values().cloned().collect()
    }

    pub fn node(&self, number: u64) -> Option<Arc<SimNode>> {
        self.nodes.lock().get(&number).cloned()
    }

    /// One more machine, with a node on it.
    pub fn add_node(&self) -> Arc<SimNode> {
        let number = self.machines.fetch_add(1, Ordering::Relaxed) + 1;
        let node = Arc::new(SimNode::new(number, self.options.seed, SimClock::new(self.begun)));
        self.nodes.lock().insert(number, Arc::clone(&node));
        self.start(&node);
        node
    }

    pub fn machines(&self) -> u64 {
        self.machines.load(Ordering::Relaxed)
    }

    /// A machine that never comes back.
    pub fn drop_node(&self, number: u64) {
        if let Some(node) = self.nodes.lock().remove(&number) {
            node.crash(true);
        }
    }

    pub fn start(&self, node: &Arc<SimNode>) {
        self.trace.line(&format!("node {} starts", node.number));
        let others = self.nodes().into_iter().filter(|other| other.number != node.number);
        let seeds = others.map(|other| format!("{}:7234", other.host)).collect();
        node.start(&self.options, seeds, &self.network, self.happenings.clone());
    }

    pub fn crash(&self, node: &SimNode, power: bool) {
        self.trace.line(&format!("node {} dies{}", node.number, if power { ", power off" } else { "" }));
        node.crash(power);
    }

    /// A connection to any node; mostly to one that runs.
    pub fn service(&self, rng: &mut Rng) -> Service {
        let all = self.nodes();
        let running: Vec<_> = all.iter().filter(|node| node.up().is_some()).cloned().collect();
        let from = if running.is_empty() || rng.per_mille(50) { &all } else { &running };
        let node = rng.pick(from).cloned().expect("a cluster has machines");
        self.service_of(node)
    }

    pub fn service_of(&self, node: Arc<SimNode>) -> Service {
        Service::new(Wire { node, weather: Arc::clone(&self.weather) })
    }

    pub fn violated(&self, what: String) {
        self.trace.line(&format!("VIOLATION {what}"));
        self.ledger.violated(format!("{:.3} s: {what}", self.begun.elapsed().as_secs_f64()));
    }
}

/// An event in a word.
pub fn name(event: &HistoryEvent) -> String {
    format!("{} {:?}", event.event_id, event.event_type())
}
