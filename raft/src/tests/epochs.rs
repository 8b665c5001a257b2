//! Nothing that was decided on lost memory is ever applied.

use std::time::Duration;

use tokio::time::sleep;

use super::Cluster;
use super::cluster::put;
use crate::ProposeError;

#[tokio::test(start_paused = true)]
async fn a_decision_of_an_ended_epoch_changes_the_applied_index_alone() {
    let cluster = Cluster::of_three(11).await;
    let mut old = cluster.lead(1).await;
    old.put(1, "a", b"1").await.expect("a decision");
    let mut new = cluster.lead(1).await;
    assert!(new.epoch.id() > old.epoch.id());
    let before = new.group.cursor();
    let applied = new.group.applied();
    assert_eq!(old.put(1, "a", b"stale").await, Err(ProposeError::Refused));
    assert_eq!(new.group.cursor(), before);
    assert_eq!(new.group.applied(), applied + 1);
    new.put(1, "b", b"2").await.expect("a decision");
    cluster.converge(1).await;
    for node in 1..=3 {
        assert_eq!(cluster.value(node, 1, "a"), Some(b"1".to_vec()));
    }
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn numbers_are_taken_once_and_in_order() {
    let cluster = Cluster::of_three(12).await;
    let shard = cluster.lead(1).await;
    assert_eq!(shard.propose(2, put(1, "a", b"early")).await, Err(ProposeError::Refused));
    shard.propose(1, put(1, "a", b"1")).await.expect("the first");
    assert_eq!(shard.propose(1, put(1, "a", b"again")).await, Err(ProposeError::Refused));
    shard.propose(2, put(1, "b", b"2")).await.expect("the second");
    cluster.converge(1).await;
    assert_eq!(cluster.value(3, 1, "a"), Some(b"1".to_vec()));
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_hole_left_by_an_expired_lease_is_not_stepped_over() {
    let cluster = Cluster::of_three(13).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    let leader = shard.group.status().leader;
    // No follower campaigns, so the leader keeps its term while it can't renew its lease.
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    for node in &others {
        cluster.group(*node, 1).inner.core.runtime_config().elect(false);
    }
    cluster.network.isolate(leader, &others);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(shard.put(1, "b", b"lost").await, Err(ProposeError::NotLeader { hint: None }));
    cluster.network.heal();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(shard.group.status().leader, leader);
    assert_eq!(shard.put(1, "c", b"on lost memory").await, Err(ProposeError::Refused));
    cluster.converge(1).await;
    assert_eq!(cluster.value(leader, 1, "c"), None);
    let mut shard = cluster.lead(1).await;
    shard.put(1, "c", b"3").await.expect("a decision of the new epoch");
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn keys_outside_the_extent_are_refused() {
    let cluster = Cluster::new(14, 3).await;
    cluster.create(1, super::cluster::extent(10, 20), &[1, 2, 3]).await;
    let shard = cluster.lead(1).await;
    for slot in [9, 20, 0xFFFE] {
        assert_eq!(shard.propose(1, put(slot, "a", b"1")).await, Err(ProposeError::Refused));
    }
    shard.propose(1, put(19, "a", b"1")).await.expect("inside");
    cluster.converge(1).await;
    assert_eq!(cluster.value(2, 9, "a"), None);
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn shard_time_does_not_run_backwards() {
    let cluster = Cluster::of_three(15).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    let cursor = shard.group.cursor();
    let decision = crate::Decision {
        number: 2,
        time: cursor.time - 1,
        meta_index: 0,
        feature_level: 1,
        mutations: put(1, "b", b"2"),
    };
    assert_eq!(shard.group.propose(&shard.epoch, decision).await, Err(ProposeError::Refused));
    let next = cluster.lead(1).await;
    assert_eq!(next.epoch.time, cursor.time);
    cluster.assert_healthy();
}
