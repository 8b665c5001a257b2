//! Nodes that die, hang, are cut off, filled up and replaced, while SDK workers and clients go on.
//!
//! Every test holds the same: load flowed before, during and after the fault; nothing that was acknowledged is lost;
//! no workflow is stuck; every node tells the same histories. Each prints a line of figures in the end. A test is a row
//! of the table of faults (`scripts/faults` runs one row); `BRISTLECONE_ROUNDS` says how often the fault is done.

mod clocks;
mod cuts;
mod damage;
mod deaths;
mod disks;
mod members;
mod overload;
mod power;
mod requests;
mod restarts;
mod slow;
mod snapshots;
mod soak;
mod syncs;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bristlecone_cluster_tests::Cluster;
use bristlecone_cluster_tests::cluster::leader_of;
use bristlecone_cluster_tests::load::Load;
use bristlecone_cluster_tests::probe::Probes;
use bristlecone_cluster_tests::until;
use bristlecone_cluster_tests::wait::pass;
use bristlecone_cluster_tests::worker::Worker;
use bristlecone_proto::admin::ClusterStatusResponse;
use tokio::time::Instant;

const QUEUE: &str = "load";
const WRITERS: u32 = 4;
/// Workflows that must complete before a fault, and again after it.
const PROGRESS: u32 = 6;
/// How long the shards may take to answer steadily again, whatever happened: far beyond what is expected.
const WELL_AGAIN: Duration = Duration::from_secs(40);

/// A cluster at work.
struct Stage {
    /// How long shards did not answer, fault by fault.
    unanswered: Vec<Duration>,
    /// What else the row prints.
    remarks: Vec<String>,
    workers: Vec<Worker>,
    load: Load,
    probes: Probes,
    cluster: Cluster,
}

impl Stage {
    /// Three nodes on this machine, with workers on nodes 1 and 2.
    async fn set(name: &str) -> Self {
        Self::at_work(name, Cluster::start(name, 3).await).await
    }

    async fn at_work(name: &str, cluster: Cluster) -> Self {
        let addresses = cluster.addresses();
        let workers = [cluster.address(1), cluster.address(2)];
        Self::at_work_through(name, cluster, &workers, &addresses).await
    }

    /// The same with workers and clients that know these addresses.
    async fn at_work_through(name: &str, cluster: Cluster, workers: &[String], clients: &[String]) -> Self {
        let mut at_work = Vec::new();
        for address in workers {
            at_work.push(Worker::start(address, QUEUE).await);
        }
        let load = Load::start(name, clients, QUEUE, WRITERS);
        let status = cluster.status().await.expect("a healthy cluster answers");
        let probes = Probes::start(name, clients, &status).await;
        load.wait_for(PROGRESS).await;
        Self { unanswered: Vec::new(), remarks: Vec::new(), workers: at_work, load, probes, cluster }
    }

    /// The cluster is healthy again, and work goes on.
    async fn recover(&mut self) {
        self.cluster.wait_healthy().await;
        self.probes.wait_answering(WELL_AGAIN).await;
        self.load.wait_for(PROGRESS).await;
    }

    /// Begins to measure how long shards do not answer.
    fn measure(&self) {
        drop(self.probes.take());
    }

    /// Notes how long these shards did not answer since [`Stage::measure`].
    fn note(&mut self, groups: &[u64]) {
        let gaps = self.probes.take();
        self.unanswered.extend(groups.iter().filter_map(|group| gaps.get(group).copied()));
    }

    /// What goes through while that time passes.
    async fn flow(&self, time: Duration) -> Flow {
        drop(self.probes.take_times());
        let (done, begun) = (self.load.done(), Instant::now());
        pass(time).await;
        let times = self.probes.take_times();
        let seconds = begun.elapsed().as_secs_f64();
        Flow {
            workflows: f64::from(self.load.done() - done) / seconds,
            signals: times.len() as f64 / seconds,
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
        }
    }

    /// How often leaders were elected so far: the terms of all groups.
    async fn terms(&self) -> u64 {
        let status = self.status().await;
        let mut terms = BTreeMap::<u64, u64>::new();
        for group in status.nodes.values().flat_map(|reply| &reply.groups) {
            let term = terms.entry(group.group_id).or_default();
            *term = group.term.max(*term);
        }
        terms.values().sum()
    }

    /// The most memory that a node uses now, in MiB.
    fn memory(&self) -> u64 {
        self.cluster.memory()
    }

    /// The status, asked for until a node gives it.
    async fn status(&self) -> ClusterStatusResponse {
        until("the status", WELL_AGAIN, || self.cluster.status()).await
    }

    /// All shards.
    async fn shards(&self) -> Vec<u64> {
        self.status().await.shards.iter().map(|shard| shard.group_id).collect()
    }

    /// Stops everything, checks all that was acknowledged, and prints the figures of the row. What was lost, twice
    /// there, stuck or stale has ended the test before, with its name.
    async fn clear(mut self, row: &str, rounds: usize) {
        let addresses = self.cluster.addresses();
        let workflows = self.load.finish(&addresses).await;
        let signals = self.probes.finish(&addresses).await;
        for worker in self.workers {
            worker.stop().await;
        }
        self.unanswered.sort();
        let unanswered = match self.unanswered.last() {
            Some(max) => {
                let (p50, p99) = (percentile(&self.unanswered, 50), percentile(&self.unanswered, 99));
                format!("p50 {p50:?}, p99 {p99:?}, max {max:?}")
            }
            None => "not measured".to_string(),
        };
        println!(
            "{row}: {rounds} rounds; acknowledged {workflows} workflows, {signals} further signals; lost 0, duplicated \
             0, stuck 0, stale 0; unavailable: {unanswered}"
        );
        for remark in self.remarks {
            println!("    {remark}");
        }
    }

    /// A member whose process is gone is removed; its machine comes back with an empty disk, as another member.
    async fn replace(&mut self, number: usize, id: u64) {
        self.swap(number, id);
        self.recover().await;
    }

    /// The same without waiting for it.
    fn swap(&mut self, number: usize, id: u64) {
        let removed = self.cluster.cli(number % 3 + 1, &["remove", &id.to_string()]);
        assert!(removed.status.success(), "{removed:?}");
        self.cluster.replace(number);
        self.cluster.node(number).start().expect("the program starts");
    }

    /// The shards that a node leads now.
    async fn led_by(&self, number: usize) -> Vec<u64> {
        let node = self.cluster.id_of(number).await;
        let status = self.status().await;
        let shards = status.shards.iter().map(|shard| shard.group_id);
        shards.filter(|group| leader_of(&status, *group).is_some_and(|(leader, _)| leader == node)).collect()
    }
}

/// What goes through: workflows and signals a second, and how long signals take.
#[derive(Debug, Clone, Copy)]
struct Flow {
    workflows: f64,
    signals: f64,
    p50: Duration,
    p99: Duration,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workflows, signals, p50, p99 } = self;
        write!(f, "{workflows:.1} workflows/s, {signals:.0} signals/s at p50 {p50:.0?}, p99 {p99:.0?}")
    }
}

/// How often the fault is done: as often as was asked for, or as the short form has it.
fn rounds(usual: usize) -> usize {
    std::env::var("BRISTLECONE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// The value below which that share of them lies.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}
