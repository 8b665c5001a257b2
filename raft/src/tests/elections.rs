//! Elections, proposals, transfers, and the lease.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Cluster;
use super::cluster::extent;
use crate::{ProposeError, ReadError};

#[tokio::test(start_paused = true)]
async fn three_groups_of_three_nodes_elect_and_replicate() {
    let cluster = Cluster::new(1, 3).await;
    cluster.network.set_weather(0, 2);
    for (group, first) in [(1, 0), (2, 300), (3, 700)] {
        cluster.create(group, extent(first, first + 300), &[1, 2, 3]).await;
    }
    for (group, slot) in [(1, 5), (2, 305), (3, 705)] {
        let mut shard = cluster.lead(group).await;
        for number in 0..50u32 {
            shard.put(slot, "row", &number.to_le_bytes()).await.expect("a decision");
        }
        cluster.converge(group).await;
        for node in 1..=3 {
            assert_eq!(cluster.value(node, slot, "row"), Some(49u32.to_le_bytes().to_vec()));
        }
    }
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_lone_voter_leads_at_once() {
    let cluster = Cluster::new(2, 1).await;
    cluster.create(1, extent(0, 1024), &[1]).await;
    let since = Instant::now();
    let mut shard = cluster.lead(1).await;
    assert!(since.elapsed() < Duration::from_millis(500), "{:?}", since.elapsed());
    shard.put(1, "a", b"1").await.expect("a decision");
    shard.group.read_barrier().await.expect("a barrier");
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_within_two_seconds() {
    let mut cluster = Cluster::of_three(3).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    let dead = shard.group.status().leader;
    cluster.crash(dead);
    let since = Instant::now();
    let mut shard = cluster.lead(1).await;
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_ne!(shard.group.status().leader, dead);
    shard.put(1, "b", b"2").await.expect("a decision");
    cluster.start(dead).await;
    cluster.converge(1).await;
    assert_eq!(cluster.value(dead, 1, "b"), Some(b"2".to_vec()));
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn leadership_goes_where_it_is_sent() {
    let cluster = Cluster::of_three(4).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    let from = shard.group.status().leader;
    let to = if from == 1 { 2 } else { 1 };
    let since = Instant::now();
    shard.group.transfer_leader(to).await.expect("a transfer");
    assert!(since.elapsed() < Duration::from_millis(300), "{:?}", since.elapsed());
    assert!(matches!(shard.put(1, "b", b"2").await, Err(ProposeError::NotLeader { .. })));
    let mut shard = cluster.lead(1).await;
    assert_eq!(shard.group.status().leader, to);
    shard.put(1, "b", b"3").await.expect("a decision");
    cluster.converge(1).await;
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn an_epoch_is_over_although_its_leader_leads_again() {
    let cluster = Cluster::of_three(6).await;
    let mut first = cluster.lead(1).await;
    first.put(1, "a", b"1").await.expect("a decision");
    first.group.confirm(&first.epoch).await.expect("it lasts");
    let home = first.group.status().leader;
    let away = if home == 1 { 2 } else { 1 };
    first.group.transfer_leader(away).await.expect("a transfer");
    let mut second = cluster.lead(1).await;
    second.put(1, "a", b"2").await.expect("a decision");
    second.group.transfer_leader(home).await.expect("a transfer");
    let third = cluster.lead(1).await;
    assert_eq!(third.group.status().leader, home);
    assert_eq!(first.group.confirm(&first.epoch).await, Err(ReadError::NotLeader { hint: None }));
    third.group.confirm(&third.epoch).await.expect("it lasts");
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_leader_on_the_minority_side_neither_writes_nor_reads() {
    let cluster = Cluster::of_three(5).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    let cut = shard.group.status().leader;
    let others: Vec<u64> = (1..=3).filter(|node| *node != cut).collect();
    cluster.network.isolate(cut, &others);
    assert_eq!(shard.put(1, "b", b"2").await, Err(ProposeError::Unknown));
    assert!(matches!(shard.group.read_barrier().await, Err(ReadError::NoQuorum | ReadError::NotLeader { .. })));
    cluster
        .until("another leader", |cluster| {
            cluster.replicas(1).iter().any(|group| {
                let status = group.status();
                others.contains(&status.leader) && status.role == "leader"
            })
        })
        .await;
    cluster.network.heal();
    let mut shard = cluster.lead(1).await;
    shard.put(1, "c", b"3").await.expect("a decision");
    cluster.converge(1).await;
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn the_timers_of_groups_rest_while_their_leader_speaks() {
    let mut cluster = Cluster::of_three(6).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    cluster.converge(1).await;
    let resting = |cluster: &Cluster| cluster.replicas(1).iter().all(|group| !group.inner.pulse.ticks());
    cluster.until("all timers to rest", resting).await;
    let heartbeats = cluster.network.calls(crate::Lane::Control);
    for _ in 0..300 {
        sleep(Duration::from_millis(100)).await;
        assert!(resting(&cluster));
    }
    // Five a second to each of two followers.
    let heartbeats = cluster.network.calls(crate::Lane::Control) - heartbeats;
    assert!((296..=304).contains(&heartbeats), "{heartbeats}");
    let leader = shard.group.status().leader;
    cluster.crash(leader);
    cluster.until("timers to run", |cluster| cluster.replicas(1).iter().any(|group| group.inner.pulse.ticks())).await;
    assert_ne!(cluster.lead(1).await.group.status().leader, leader);
    cluster.assert_healthy();
}
