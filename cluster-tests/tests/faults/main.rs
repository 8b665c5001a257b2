//! Nodes that die, hang, are cut off, filled up and replaced, while SDK workers and clients go on.
//!
//! Every test holds the same: load flowed before, during and after the fault; nothing that was acknowledged is lost;
//! no workflow is stuck; every node tells the same histories. Each prints a line of figures in the end. A test is a row
//! of the table of faults (`scripts/faults` runs one row); `BRISTLECONE_ROUNDS` says how often the fault is done.

mod cuts;
mod damage;
mod deaths;
mod disks;
mod members;
mod power;
mod syncs;

use std::time::Duration;

use bristlecone_cluster_tests::Cluster;
use bristlecone_cluster_tests::cluster::leader_of;
use bristlecone_cluster_tests::load::Load;
use bristlecone_cluster_tests::probe::Probes;
use bristlecone_cluster_tests::worker::Worker;

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
        let workers =
            vec![Worker::start(&cluster.address(1), QUEUE).await, Worker::start(&cluster.address(2), QUEUE).await];
        let addresses = cluster.addresses();
        let load = Load::start(name, &addresses, QUEUE, WRITERS);
        let status = cluster.status().await.expect("a healthy cluster answers");
        let probes = Probes::start(name, &addresses, &status).await;
        load.wait_for(PROGRESS).await;
        Self { unanswered: Vec::new(), workers, load, probes, cluster }
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

    /// All shards.
    async fn shards(&self) -> Vec<u64> {
        let status = self.cluster.status().await.expect("answered");
        status.shards.iter().map(|shard| shard.group_id).collect()
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
    }

    /// A member whose process is gone is removed; its machine comes back with an empty disk, as another member.
    async fn replace(&mut self, number: usize, id: u64) {
        let removed = self.cluster.cli(number % 3 + 1, &["remove", &id.to_string()]);
        assert!(removed.status.success(), "{removed:?}");
        self.cluster.replace(number);
        self.cluster.node(number).start().expect("the program starts");
        self.recover().await;
    }

    /// The shards that a node leads now.
    async fn led_by(&self, number: usize) -> Vec<u64> {
        let node = self.cluster.id_of(number).await;
        let status = self.cluster.status().await.expect("answered");
        let shards = status.shards.iter().map(|shard| shard.group_id);
        shards.filter(|group| leader_of(&status, *group).is_some_and(|(leader, _)| leader == node)).collect()
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
