//! Snapshots: to new replicas, to lagging ones, interrupted ones.

use std::path::Path;
use std::time::Duration;

use bristlecone_storage::state::{Batch, BatchBuilder};
use bristlecone_storage::vfs::Vfs;
use tokio::time::sleep;

use super::Cluster;
use super::cluster::{extent, key};
use crate::{GroupId, Lane, RaftConfig};

const ROW: usize = 20_000;

/// Many rows in one decision.
fn rows(slot: u16, round: u32) -> Batch {
    let mut batch = BatchBuilder::new();
    for number in 0..20u32 {
        batch.put(&key(slot, &format!("{round:04}-{number:04}")), &vec![round as u8; ROW]);
    }
    batch.finish().expect("within limits")
}

/// Small limits, so that purging and chunks happen in a test.
fn config() -> RaftConfig {
    RaftConfig {
        staging_dir: "/data/snapshots".into(),
        keep_log_bytes: 1,
        flush_interval: Duration::from_secs(5),
        snapshot_chunk_bytes: 64 << 10,
        ..RaftConfig::default()
    }
}

async fn loaded(seed: u64, nodes: u64, rounds: u32) -> Cluster {
    let cluster = Cluster::with_config(seed, nodes, config()).await;
    cluster.create(1, extent(0, 1024), &[1, 2, 3]).await;
    let shard = cluster.lead(1).await;
    for round in 1..=rounds {
        shard.propose(u64::from(round), rows(3, round)).await.expect("a decision");
    }
    cluster.converge(1).await;
    cluster.until("purging", |cluster| cluster.statuses(1).iter().all(|status| status.purged_index > 5)).await;
    cluster
}

fn staged(cluster: &Cluster, node: u64) -> Vec<String> {
    cluster.node(node).vfs.list(Path::new("/data/snapshots")).expect("a directory")
}

fn installs_of(cluster: &Cluster, group: GroupId) -> usize {
    cluster.installs().iter().filter(|(installed, _)| *installed == group).count()
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_gets_one() {
    let cluster = loaded(41, 4, 20).await;
    let mut shard = cluster.lead(1).await;
    cluster.groups(4).create_empty(1).await.expect("created");
    assert_eq!(cluster.group(4, 1).extent(), None);
    shard.group.add_learner(4, "node-4:7234".to_string()).await.expect("a learner");
    shard.group.wait_caught_up(4, 0, Duration::from_secs(30)).await.expect("caught up");
    assert_eq!(installs_of(&cluster, 1), 1);
    assert_eq!(cluster.group(4, 1).extent(), cluster.group(1, 1).extent());
    shard.put(3, "after", b"1").await.expect("a decision");
    cluster.converge(1).await;
    for node in 1..=4 {
        assert_eq!(staged(&cluster, node), Vec::<String>::new(), "node {node}");
    }
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_away_for_long_gets_one_and_forgets_what_it_had() {
    let mut cluster = loaded(42, 3, 3).await;
    let shard = cluster.lead(1).await;
    let away = (1..=3).find(|node| *node != shard.group.status().leader).expect("a follower");
    cluster.crash(away);
    let mut number = 0;
    for round in 100..110u32 {
        number += 1;
        shard.propose(number, rows(3, round)).await.expect("a decision");
    }
    let mut batch = BatchBuilder::new();
    batch.delete(&key(3, "0001-0001"));
    shard.propose(number + 1, batch.finish().expect("small")).await.expect("a decision");
    cluster.until("purging", |_| shard.group.status().purged_index + 3 > shard.group.applied()).await;
    cluster.start(away).await;
    cluster.converge(1).await;
    assert_eq!(installs_of(&cluster, 1), 1);
    assert_eq!(cluster.value(away, 3, "0001-0001"), None);
    // What was installed is durable.
    cluster.restart(away).await;
    assert!(cluster.group(away, 1).applied() > 10);
    cluster.converge(1).await;
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_half_received_one_never_survives() {
    let mut cluster = loaded(43, 4, 20).await;
    let shard = cluster.lead(1).await;
    cluster.groups(4).create_empty(1).await.expect("created");
    cluster.network.set_weather(0, 20);
    for _ in 0..2 {
        let before = cluster.network.calls(Lane::Snapshot);
        if shard.group.members().len() == 3 {
            shard.group.add_learner(4, "node-4:7234".to_string()).await.expect("a learner");
        }
        cluster.until("chunks", |cluster| cluster.network.calls(Lane::Snapshot) > before + 20).await;
        assert_ne!(staged(&cluster, 4), Vec::<String>::new());
        cluster.restart(4).await;
        assert_eq!(cluster.group(4, 1).applied(), 0, "nothing is installed in part");
        assert_eq!(cluster.value(4, 3, "0001-0001"), None);
    }
    assert_eq!(installs_of(&cluster, 1), 0);
    cluster.network.set_weather(0, 1);
    cluster.converge(1).await;
    assert_eq!(installs_of(&cluster, 1), 1);
    assert!(cluster.value(4, 3, "0001-0001").is_some());
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn one_for_slots_that_another_group_holds_is_refused() {
    let cluster = loaded(44, 4, 20).await;
    let shard = cluster.lead(1).await;
    cluster.create(2, extent(1000, 1024), &[4]).await;
    cluster.groups(4).create_empty(1).await.expect("created");
    shard.group.add_learner(4, "node-4:7234".to_string()).await.expect("a learner");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(installs_of(&cluster, 1), 0);
    assert_eq!(cluster.group(4, 1).applied(), 0);
    cluster.groups(4).remove(2).await.expect("removed");
    shard.group.wait_caught_up(4, 0, Duration::from_secs(30)).await.expect("caught up");
    cluster.assert_healthy();
}
