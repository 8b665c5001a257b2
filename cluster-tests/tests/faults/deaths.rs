//! kill -9 of one and of all, and a node that hangs.

use std::time::Duration;

use bristlecone_cluster_tests::wait::pass;

use super::{PROGRESS, Stage, WELL_AGAIN, percentile};

/// Kills in the short form.
const KILLS: usize = 6;
/// From so many kills on, percentiles mean something.
const KILLS_MANY: usize = 50;
const UNANSWERED_P99: Duration = Duration::from_secs(2);
const UNANSWERED_MAX: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn each_node_is_killed_in_turn() {
    let kills = std::env::var("BRISTLECONE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let mut stage = Stage::set("kills").await;
    let mut unanswered = Vec::new();
    for kill in 0..kills {
        let victim = kill % 3 + 1;
        let led = stage.led_by(victim).await;
        assert!(!led.is_empty(), "leaders are spread: node {victim} leads something");
        drop(stage.probes.take());
        stage.cluster.node(victim).kill();
        stage.probes.wait_answering(WELL_AGAIN).await;
        let gaps = stage.probes.take();
        unanswered.extend(led.iter().filter_map(|group| gaps.get(group).copied()));
        // Two nodes are enough to go on.
        stage.load.wait_for(1).await;
        stage.cluster.node(victim).start().expect("the program starts");
        stage.recover().await;
    }
    unanswered.sort();
    let (p50, p99) = (percentile(&unanswered, 50), percentile(&unanswered, 99));
    let max = unanswered.last().copied().unwrap_or_default();
    println!(
        "{kills} kills: shards of the killed leader answered again after {p50:?} (p50), {p99:?} (p99), {max:?} (max)"
    );
    assert!(max < UNANSWERED_MAX, "{unanswered:?}");
    assert!(kills < KILLS_MANY || p99 < UNANSWERED_P99, "{unanswered:?}");
    stage.clear("kill -9 in turn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_killed_at_once() {
    let mut stage = Stage::set("blackout").await;
    for _ in 0..2 {
        for number in stage.cluster.numbers() {
            stage.cluster.node(number).kill();
        }
        for number in stage.cluster.numbers() {
            stage.cluster.node(number).start().expect("the program starts");
        }
        stage.recover().await;
    }
    stage.clear("kill -9 of all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_hangs_for_20_seconds() {
    let mut stage = Stage::set("hang").await;
    let led = stage.led_by(3).await;
    drop(stage.probes.take());
    stage.cluster.node(3).pause();
    // The length of the fault, not a wait for something: others have to take over meanwhile.
    pass(Duration::from_secs(20)).await;
    let others = stage.load.done();
    stage.load.wait_for(PROGRESS).await;
    assert!(stage.load.done() > others);
    let status = stage.cluster.status_of(1).await.expect("node 1 lives");
    let hung = stage.cluster.id_at(&status, 3);
    for group in led {
        let (leader, _) = bristlecone_cluster_tests::cluster::leader_of(&status, group).expect("a new leader");
        assert_ne!(leader, hung, "shard {group}");
    }
    stage.cluster.node(3).resume();
    stage.recover().await;
    stage.clear("SIGSTOP of a leader for 20 s").await;
}
