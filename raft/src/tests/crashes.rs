//! Crashes that lose what was not synced and not flushed.

use std::time::Duration;

use tokio::time::sleep;

use super::Cluster;
use crate::ProposeError;

#[tokio::test(start_paused = true)]
async fn all_nodes_crash_at_once_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of_three(21).await;
    let mut shard = cluster.lead(1).await;
    for number in 0..40u32 {
        shard.put(1, &format!("row-{number}"), &number.to_le_bytes()).await.expect("a decision");
        if number == 20 {
            cluster.node(2).store.flush_some(usize::MAX).expect("flushed");
        }
    }
    let hash = shard.group.cursor().chain;
    for node in 1..=3 {
        cluster.crash(node);
    }
    for node in 1..=3 {
        cluster.start(node).await;
    }
    let shard = cluster.lead(1).await;
    cluster.converge(1).await;
    for node in 1..=3 {
        for number in 0..40u32 {
            assert_eq!(cluster.value(node, 1, &format!("row-{number}")), Some(number.to_le_bytes().to_vec()));
        }
    }
    assert_ne!(shard.group.cursor().chain, hash, "the new epoch's begin is in the chain");
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_replay_ends_in_the_same_state() {
    let mut cluster = Cluster::of_three(22).await;
    let mut shard = cluster.lead(1).await;
    for number in 0..30u32 {
        shard.put(1, &format!("row-{}", number % 7), &number.to_le_bytes()).await.expect("a decision");
    }
    cluster.converge(1).await;
    let follower = (1..=3).find(|node| *node != shard.group.status().leader).expect("a follower");
    let before = cluster.group(follower, 1).status();
    cluster.crash(follower);
    // Cut off, so that what it holds comes from its own disk alone.
    let others: Vec<u64> = (1..=3).filter(|node| *node != follower).collect();
    cluster.network.isolate(follower, &others);
    cluster.start(follower).await;
    let replayed = cluster.group(follower, 1).status();
    assert!(replayed.applied_index > 1, "the committed mark was kept: {replayed:?}");
    if replayed.applied_index == before.applied_index {
        assert_eq!(replayed.state_hash, before.state_hash);
    }
    cluster.network.heal();
    cluster.converge(1).await;
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_before_its_own_sync_does_not_resume_its_term() {
    for seed in 0..40 {
        let mut cluster = Cluster::of_three(2300 + seed).await;
        let mut shard = cluster.lead(1).await;
        shard.put(1, "a", b"1").await.expect("a decision");
        let leader = shard.group.status().leader;
        let term = shard.epoch.id().term;
        cluster.node(leader).vfs.set_sync_delay(Duration::from_secs(10));
        // Committed by the followers, or on its way to them: the leader has not synced it.
        let outcome = tokio::time::timeout(Duration::from_millis(1 + seed % 5), shard.put(1, "b", b"first")).await;
        drop(shard);
        cluster.crash(leader);
        cluster.node(leader).vfs.set_sync_delay(Duration::ZERO);
        cluster.start(leader).await;
        let mut shard = cluster.lead(1).await;
        assert!(shard.epoch.id().term > term, "seed {seed}: term {term} was resumed");
        shard.put(1, "c", b"second").await.expect("a decision");
        cluster.converge(1).await;
        if let Ok(Ok(_)) = outcome {
            assert_eq!(cluster.value(leader, 1, "b"), Some(b"first".to_vec()), "seed {seed}");
        }
        cluster.assert_healthy();
    }
}

#[tokio::test(start_paused = true)]
async fn rows_ahead_of_the_log_reset_it() {
    let mut cluster = Cluster::of_three(24).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    cluster.converge(1).await;
    let follower = (1..=3).find(|node| *node != shard.group.status().leader).expect("a follower");
    // Its log no longer reaches the disk, its rows do.
    cluster.node(follower).vfs.set_sync_delay(Duration::from_secs(1000));
    for number in 0..10u32 {
        shard.put(1, "b", &number.to_le_bytes()).await.expect("a decision");
    }
    cluster
        .until("the follower to apply", |cluster| cluster.group(follower, 1).applied() == shard.group.applied())
        .await;
    cluster.node(follower).store.flush_some(usize::MAX).expect("flushed");
    let applied = cluster.group(follower, 1).applied();
    cluster.crash(follower);
    cluster.node(follower).vfs.set_sync_delay(Duration::ZERO);
    cluster.start(follower).await;
    let status = cluster.group(follower, 1).status();
    assert!(status.applied_index >= applied, "{status:?}");
    shard.put(1, "c", b"3").await.expect("a decision");
    cluster.converge(1).await;
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_loses_its_tail_is_quarantined_and_the_leader_goes_on() {
    let mut cluster = Cluster::of_three(25).await;
    let mut shard = cluster.lead(1).await;
    for number in 0..5u32 {
        shard.put(1, "a", &number.to_le_bytes()).await.expect("a decision");
    }
    cluster.converge(1).await;
    let leader = shard.group.status().leader;
    let victim = (1..=3).find(|node| *node != leader).expect("a follower");
    // Its disk lies: what it acknowledged as synced is gone, with its rows.
    let old = cluster.node(victim).vfs.fork(1);
    old.crash();
    for number in 5..10u32 {
        shard.put(1, "a", &number.to_le_bytes()).await.expect("a decision");
    }
    cluster.converge(1).await;
    cluster.crash(victim);
    cluster.nodes.get_mut(&victim).expect("a node").vfs = old;
    cluster.start(victim).await;
    cluster.until("a quarantine", |cluster| cluster.group(leader, 1).status().quarantined == [victim]).await;
    cluster.until("its own knowledge", |cluster| cluster.group(victim, 1).is_quarantined()).await;
    for number in 10..20u32 {
        shard.put(1, "a", &number.to_le_bytes()).await.expect("the leader goes on");
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.group(leader, 1).status().role, "leader");
    assert_eq!(cluster.group(victim, 1).status().role, "quarantined");
    // Replaced under a new id, the group is whole again.
    cluster.add_node(4).await;
    cluster.groups(4).create_empty(1).await.expect("created");
    shard.group.add_learner(4, "node-4:7234".to_string()).await.expect("a learner");
    shard.group.wait_caught_up(4, 0, Duration::from_secs(10)).await.expect("caught up");
    let voters = (1..=4).filter(|node| *node != victim).collect();
    shard.group.change_voters(voters).await.expect("voters");
    shard.group.remove_member(victim).await.expect("removed");
    cluster.crash(victim);
    cluster.nodes.remove(&victim);
    shard.put(1, "b", b"2").await.expect("a decision");
    cluster.converge(1).await;
    cluster.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_fatal_and_acknowledges_nothing() {
    let cluster = Cluster::new(26, 1).await;
    cluster.create(1, super::cluster::extent(0, 1024), &[1]).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    cluster.node(1).vfs.fail_next_sync();
    assert_eq!(shard.put(1, "b", b"2").await, Err(ProposeError::Unknown));
    cluster.until("the report", |cluster| !cluster.fatal().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_rows_are_gone_does_not_begin_anew_with_its_old_votes() {
    let mut cluster = Cluster::of_three(26).await;
    let mut shard = cluster.lead(1).await;
    shard.put(1, "a", b"1").await.expect("a decision");
    cluster.converge(1).await;
    let victim = (1..=3).find(|node| *node != shard.group.status().leader).expect("a follower");
    cluster.crash(victim);
    cluster.lose_rows(victim);
    let error = cluster.try_start(victim).await.expect_err("rows are gone").to_string();
    assert!(error.contains("entries of the groups [1], whose rows are gone"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_removed_is_gone_after_a_crash_at_any_moment_or_there_as_a_whole() {
    for changes in 0..12 {
        let mut cluster = Cluster::of_three(27).await;
        let mut shard = cluster.lead(1).await;
        shard.put(1, "a", b"1").await.expect("a decision");
        cluster.converge(1).await;
        let victim = (1..=3).find(|node| *node != shard.group.status().leader).expect("a follower");
        cluster.node(victim).vfs.cut_power_after(changes);
        let removed = cluster.groups(victim).remove(1).await.is_ok();
        cluster.crash(victim);
        cluster.start(victim).await;
        assert!(!(removed && cluster.groups(victim).group(1).is_some()), "after {changes} changes it came back");
    }
}
