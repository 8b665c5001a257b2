//! Nodes that die, hang, are cut off, filled up and replaced, while SDK workers and clients go on.
//!
//! Every test holds the same: load flowed before, during and after the fault; nothing that was acknowledged is lost;
//! no workflow is stuck; every node tells the same histories. `BRISTLECONE_KILLS` sets how often a node is killed.

mod cuts;
mod deaths;
mod disks;
mod members;

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
        Self { workers, load, probes, cluster }
    }

    /// The cluster is healthy again, and work goes on.
    async fn recover(&mut self) {
        self.cluster.wait_healthy().await;
        self.probes.wait_answering(WELL_AGAIN).await;
        self.load.wait_for(PROGRESS).await;
    }

    /// Stops everything, and checks all that was acknowledged.
    async fn clear(self, what: &str) {
        let addresses = self.cluster.addresses();
        let workflows = self.load.finish(&addresses).await;
        let signals = self.probes.finish(&addresses).await;
        for worker in self.workers {
            worker.stop().await;
        }
        println!("{what}: {workflows} workflows and {signals} further signals, none lost");
    }

    /// The shards that a node leads now.
    async fn led_by(&self, number: usize) -> Vec<u64> {
        let node = self.cluster.id_of(number).await;
        let status = self.cluster.status().await.expect("answered");
        let shards = status.shards.iter().map(|shard| shard.group_id);
        shards.filter(|group| leader_of(&status, *group).is_some_and(|(leader, _)| leader == node)).collect()
    }
}

/// The value below which that share of them lies.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}
