//! Changes of members while decisions flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Cluster, Driver};
use crate::{Error, NodeId};

/// Proposes until told to stop, and counts the decisions that were acknowledged.
async fn load(mut shard: Driver, mut stop: oneshot::Receiver<()>, acknowledged: Arc<AtomicU32>) {
    while stop.try_recv().is_err() {
        let number = acknowledged.load(Ordering::Relaxed);
        shard.put(1, &format!("load-{number}"), b"x").await.expect("a decision");
        acknowledged.store(number + 1, Ordering::Relaxed);
    }
}

async fn flows(cluster: &Cluster, acknowledged: &AtomicU32) {
    let before = acknowledged.load(Ordering::Relaxed);
    cluster.until("load", |_| acknowledged.load(Ordering::Relaxed) > before + 20).await;
}

#[tokio::test(start_paused = true)]
async fn three_become_four_and_three_again_under_load() {
    let mut cluster = Cluster::of_three(31).await;
    cluster.network.set_weather(0, 2);
    let shard = cluster.lead(1).await;
    let group = shard.group.clone();
    let leader = group.status().leader;
    let (stop, stopped) = oneshot::channel();
    let acknowledged = Arc::new(AtomicU32::new(0));
    let loaded = tokio::spawn(load(shard, stopped, acknowledged.clone()));
    flows(&cluster, &acknowledged).await;
    cluster.add_node(4).await;
    cluster.groups(4).create_empty(1).await.expect("created");
    group.add_learner(4, "node-4:7234".to_string()).await.expect("a learner");
    group.wait_caught_up(4, 10, Duration::from_secs(10)).await.expect("caught up");
    group.change_voters((1..=4).collect()).await.expect("four voters");
    assert_eq!(group.status().voters, [1, 2, 3, 4]);
    flows(&cluster, &acknowledged).await;
    let gone = (1..=3).find(|node| *node != leader).expect("a follower");
    group.remove_member(gone).await.expect("three voters");
    assert_eq!(group.members().keys().copied().collect::<Vec<NodeId>>(), group.status().voters);
    cluster.groups(gone).remove(1).await.expect("removed");
    flows(&cluster, &acknowledged).await;
    stop.send(()).expect("the load still runs");
    timeout(Duration::from_secs(10), loaded).await.expect("in time").expect("no panic");
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    cluster.converge(1).await;
    for node in (1..=4).filter(|node| *node != gone) {
        assert!(cluster.value(node, 1, &format!("load-{}", acknowledged - 1)).is_some());
    }
    assert_eq!(cluster.value(gone, 1, "load-0"), None, "a removed replica leaves nothing");
    assert!(cluster.groups(gone).group(1).is_none());
    cluster.restart(gone).await;
    assert!(cluster.groups(gone).group(1).is_none());
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_removed_replica_may_come_back() {
    let cluster = Cluster::of_three(32).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    let leader = shard.group.status().leader;
    let other = (1..=3).find(|node| *node != leader).expect("a follower");
    for round in 0..3u32 {
        shard.group.remove_member(other).await.expect("removed");
        cluster.groups(other).remove(1).await.expect("removed");
        shard.put(1, "b", &round.to_le_bytes()).await.expect("a decision");
        cluster.groups(other).create_empty(1).await.expect("created");
        shard.group.add_learner(other, format!("node-{other}:7234")).await.expect("a learner");
        shard.group.wait_caught_up(other, 0, Duration::from_secs(10)).await.expect("caught up");
        shard.group.change_voters([1, 2, 3].into()).await.expect("voters");
        cluster.converge(1).await;
        assert_eq!(cluster.value(other, 1, "b"), Some(round.to_le_bytes().to_vec()));
        assert!(shard.group.status().quarantined.is_empty());
    }
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_possible_is_refused() {
    let cluster = Cluster::new(33, 2).await;
    cluster.create(1, super::cluster::extent(0, 1024), &[1]).await;
    let shard = cluster.lead(1).await;
    assert!(matches!(shard.group.remove_member(1).await, Err(Error::Refused(_))));
    assert!(matches!(shard.group.change_voters([1, 2].into()).await, Err(Error::Refused(_))));
    let again = cluster.groups(1).create(1, super::cluster::extent(0, 1024), Default::default(), Default::default());
    assert!(matches!(again.await, Err(Error::AlreadyExists(1) | Error::Refused(_))));
    let overlapping = super::cluster::members(&[1]);
    let overlapping = cluster.groups(1).create(2, super::cluster::extent(1000, 1024), overlapping, Default::default());
    assert!(matches!(overlapping.await, Err(Error::ExtentTaken(1))));
    assert!(matches!(cluster.groups(2).remove(1).await, Err(Error::NoSuchGroup(1))));
    cluster.assert_healthy();
}
