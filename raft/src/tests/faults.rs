//! A small simulation: random cuts, losses, crashes and transfers by seed, with an oracle over what was
//! acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use super::Cluster;
use super::cluster::extent;
use crate::{NodeId, ProposeError, RaftConfig};

/// What a row may hold: the last acknowledged value, or one that came after it with an unknown outcome.
#[derive(Debug, Default)]
struct Row {
    acknowledged: u32,
    unknown: Vec<u32>,
}

struct Run {
    rng: SmallRng,
    cluster: Cluster,
    rows: BTreeMap<u16, Row>,
    next: u32,
    acknowledged: u32,
    leaders: Vec<NodeId>,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let config = RaftConfig {
            staging_dir: "/data/snapshots".into(),
            flush_interval: Duration::from_secs(4),
            keep_log_bytes: 1,
            ..RaftConfig::default()
        };
        let cluster = Cluster::with_config(seed, 3, config).await;
        cluster.network.set_weather(0, 2);
        cluster.create(1, extent(0, 1024), &[1, 2, 3]).await;
        let rng = SmallRng::seed_from_u64(seed);
        Self { rng, cluster, rows: BTreeMap::new(), next: 0, acknowledged: 0, leaders: Vec::new() }
    }

    /// Proposes under whoever leads, for a while.
    async fn load(&mut self, span: Duration) {
        let since = Instant::now();
        while since.elapsed() < span {
            let leads = self.cluster.replicas(1).into_iter().find(|group| group.leadership().borrow().is_local);
            let Some(group) = leads else {
                sleep(Duration::from_millis(30)).await;
                continue;
            };
            let Ok(Ok(epoch)) = tokio::time::timeout(Duration::from_secs(2), group.begin()).await else {
                continue;
            };
            self.leaders.push(group.inner.me);
            let mut shard = super::Driver { group, epoch, number: 0 };
            while since.elapsed() < span && self.decide(&mut shard).await {}
        }
    }

    /// One decision; false when the epoch is over.
    async fn decide(&mut self, shard: &mut super::Driver) -> bool {
        let slot = self.rng.random_range(0..10u16);
        self.next += 1;
        let value = self.next;
        let outcome = shard.put(slot, "row", &value.to_le_bytes()).await;
        let row = self.rows.entry(slot).or_default();
        match outcome {
            Ok(_) => {
                // Whatever was unknown before it is overwritten: the rest of the log is one order.
                *row = Row { acknowledged: value, unknown: Vec::new() };
                self.acknowledged += 1;
            }
            Err(ProposeError::Unknown) => row.unknown.push(value),
            Err(ProposeError::NotLeader { .. } | ProposeError::Refused | ProposeError::TooLarge { .. }) => {}
        }
        if self.rng.random_range(0..4) == 0 {
            sleep(Duration::from_millis(self.rng.random_range(0..20))).await;
        }
        outcome.is_ok()
    }

    async fn fault(&mut self) {
        let node = self.rng.random_range(1..=3);
        let other = node % 3 + 1;
        match self.rng.random_range(0..9) {
            0 | 1 => self.cluster.restart(node).await,
            2 => self.cluster.network.cut(node, other),
            3 => self.cluster.network.isolate(node, &[other, other % 3 + 1]),
            4 => self.cluster.network.set_weather(50, 15),
            5 => {
                let delay = self.rng.random_range(0..200);
                self.cluster.node(node).vfs.set_sync_delay(Duration::from_millis(delay));
            }
            6 => {
                let writes = self.rng.random_range(0..50);
                self.cluster.node(node).store.flush_some(writes).expect("flushed");
            }
            7 => {
                let group = self.cluster.group(node, 1);
                // It fails on all but the leader, and may fail there.
                drop(tokio::time::timeout(Duration::from_secs(1), group.transfer_leader(other)).await);
            }
            _ => {
                for id in 1..=3 {
                    self.cluster.crash(id);
                }
                for id in 1..=3 {
                    self.cluster.start(id).await;
                }
            }
        }
    }

    async fn heal(&mut self) {
        self.cluster.network.heal();
        self.cluster.network.set_weather(0, 2);
        for id in 1..=3 {
            self.cluster.node(id).vfs.set_sync_delay(Duration::ZERO);
        }
    }

    fn check(&self) {
        for (slot, row) in &self.rows {
            for node in 1..=3 {
                let value = self.cluster.value(node, *slot, "row");
                let value = value.map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
                let fits = value == row.acknowledged || row.unknown.contains(&value);
                assert!(fits, "node {node}, slot {slot}: {value}, expected {row:?}");
            }
        }
        self.cluster.assert_healthy();
        let quarantined: Vec<_> = self.cluster.statuses(1).into_iter().flat_map(|s| s.quarantined).collect();
        assert!(quarantined.is_empty(), "{quarantined:?}");
    }
}

/// Faults of one seed; how often the leader changed.
async fn run(seed: u64) -> usize {
    let mut run = Run::new(seed).await;
    run.load(Duration::from_secs(2)).await;
    for _ in 0..4 {
        for _ in 0..4 {
            run.fault().await;
            let span = Duration::from_millis(run.rng.random_range(50..1500));
            run.load(span).await;
        }
        run.heal().await;
        drop(run.cluster.lead(1).await);
        run.load(Duration::from_secs(1)).await;
        run.cluster.converge(1).await;
        run.check();
    }
    // A scan of what is durable: everything dies and comes back.
    for id in 1..=3 {
        run.cluster.crash(id);
    }
    for id in 1..=3 {
        run.cluster.start(id).await;
    }
    drop(run.cluster.lead(1).await);
    run.cluster.converge(1).await;
    run.check();
    assert!(run.acknowledged > 100, "seed {seed}: load flowed: {}", run.acknowledged);
    run.leaders.dedup();
    run.leaders.len() - 1
}

#[tokio::test(start_paused = true)]
async fn acknowledged_rows_survive_random_faults() {
    let seeds = std::env::var("BRISTLECONE_RAFT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12);
    let mut changes = 0;
    for seed in 0..seeds {
        changes += run(6000 + seed).await;
    }
    assert!(changes as u64 > seeds, "leaders changed {changes} times");
}
