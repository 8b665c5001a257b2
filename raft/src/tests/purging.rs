//! The log is purged below what is durable, and no further than others need it.

use std::time::Duration;

use tokio::time::sleep;

use super::Cluster;
use super::cluster::{extent, persisted_index};
use crate::RaftConfig;

fn config() -> RaftConfig {
    RaftConfig {
        staging_dir: "/data/snapshots".into(),
        keep_log_bytes: 1,
        flush_interval: Duration::from_secs(2),
        ..RaftConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn never_above_what_is_flushed() {
    let cluster = Cluster::with_config(51, 3, config()).await;
    cluster.create(1, extent(0, 1024), &[1, 2, 3]).await;
    let mut shard = cluster.lead(1).await;
    for number in 0..200u32 {
        shard.put(1, "a", &number.to_le_bytes()).await.expect("a decision");
        sleep(Duration::from_millis(50)).await;
        for node in 1..=3 {
            let purged = cluster.log(node).state(1).purged.map_or(0, |id| id.index);
            let durable = persisted_index(&*cluster.node(node).store, 1);
            assert!(purged <= durable, "node {node}: purged {purged}, durable {durable}");
        }
    }
    let purged = cluster.log(1).state(1).purged.map_or(0, |id| id.index);
    assert!(purged > 100, "purged {purged}");
    cluster.converge(1).await;
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_live_replica_that_is_slow_and_not_for_a_dead_one() {
    let mut cluster = Cluster::with_config(52, 3, config()).await;
    cluster.create(1, extent(0, 1024), &[1, 2, 3]).await;
    let mut shard = cluster.lead(1).await;
    let leader = shard.group.status().leader;
    let slow = (1..=3).find(|node| *node != leader).expect("a follower");
    // It hears heartbeats, but its disk does not get on.
    cluster.node(slow).vfs.set_sync_delay(Duration::from_secs(30));
    let had = cluster.group(leader, 1).status().matched[&slow];
    for number in 0..100u32 {
        shard.put(1, "a", &number.to_le_bytes()).await.expect("a decision");
        sleep(Duration::from_millis(100)).await;
    }
    let status = cluster.group(leader, 1).status();
    assert!(status.matched[&slow] < 100, "{status:?}");
    assert!(status.purged_index <= status.matched[&slow].max(had), "{status:?}");
    cluster.crash(slow);
    for number in 0..400u32 {
        shard.put(1, "a", &number.to_le_bytes()).await.expect("a decision");
        sleep(Duration::from_millis(100)).await;
    }
    let status = cluster.group(leader, 1).status();
    assert!(status.purged_index > 300, "{status:?}");
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_short_absence_needs_no_snapshot() {
    let config = RaftConfig { keep_log_bytes: 64 << 20, ..config() };
    let mut cluster = Cluster::with_config(53, 3, config).await;
    cluster.create(1, extent(0, 1024), &[1, 2, 3]).await;
    let mut shard = cluster.lead(1).await;
    let away = (1..=3).find(|node| *node != shard.group.status().leader).expect("a follower");
    cluster.converge(1).await;
    cluster.crash(away);
    for number in 0..60u32 {
        shard.put(1, "a", &number.to_le_bytes()).await.expect("a decision");
        sleep(Duration::from_millis(100)).await;
    }
    cluster.start(away).await;
    cluster.converge(1).await;
    assert_eq!(cluster.installs(), Vec::new());
    cluster.assert_healthy();
}
