//! kill -9 of one and of all, and a node that hangs.

use std::time::Duration;

use bristlecone_cluster_tests::wait::pass;

use super::{PROGRESS, Stage, WELL_AGAIN, percentile, rounds};

/// From so many kills on, percentiles mean something.
const KILLS_MANY: usize = 50;
const UNANSWERED_P99: Duration = Duration::from_secs(2);
const UNANSWERED_MAX: Duration = Duration::from_secs(10);
/// How long a node hangs: the first for the short form.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(60),
];

#[tokio::test(flavor = "multi_thread")]
async fn f1_each_node_is_killed_in_turn() {
    let kills = rounds(6);
    let mut stage = Stage::set("kills").await;
    for kill in 0..kills {
        let victim = kill % 3 + 1;
        let led = stage.led_by(victim).await;
        assert!(!led.is_empty(), "leaders are spread: node {victim} leads something");
        stage.measure();
        stage.cluster.node(victim).kill();
        stage.probes.wait_answering(WELL_AGAIN).await;
        stage.note(&led);
        // Two nodes are enough to go on.
        stage.load.wait_for(1).await;
        stage.cluster.node(victim).start().expect("the program starts");
        stage.recover().await;
    }
    let mut unanswered = stage.unanswered.clone();
    unanswered.sort();
    stage.clear("F-1 kill -9 of a leader", kills).await;
    assert!(unanswered.last().is_some_and(|max| *max < UNANSWERED_MAX), "{unanswered:?}");
    assert!(kills < KILLS_MANY || percentile(&unanswered, 99) < UNANSWERED_P99, "{unanswered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_all_nodes_are_killed_at_once() {
    let rounds = rounds(2);
    let mut stage = Stage::set("blackout").await;
    for _ in 0..rounds {
        let shards = stage.shards().await;
        stage.measure();
        for number in stage.cluster.numbers() {
            stage.cluster.node(number).kill();
        }
        for number in stage.cluster.numbers() {
            stage.cluster.node(number).start().expect("the program starts");
        }
        stage.probes.wait_answering(WELL_AGAIN).await;
        stage.note(&shards);
        stage.recover().await;
    }
    stage.clear("F-2 kill -9 of all", rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_a_leader_hangs() {
    let rounds = rounds(1);
    let mut stage = Stage::set("hang").await;
    for (round, length) in (0..rounds).zip(PAUSES.into_iter().cycle()) {
        let victim = 3 - round % 3;
        let led = stage.led_by(victim).await;
        stage.measure();
        stage.cluster.node(victim).pause();
        // The length of the fault, not a wait for something: others have to take over meanwhile.
        pass(length).await;
        if length >= Duration::from_secs(5) {
            stage.note(&led);
            stage.load.wait_for(PROGRESS).await;
            let status = stage.cluster.status_of(victim % 3 + 1).await.expect("it lives");
            let hung = stage.cluster.id_at(&status, victim);
            for group in led {
                let (leader, _) = bristlecone_cluster_tests::cluster::leader_of(&status, group).expect("a new leader");
                assert_ne!(leader, hung, "shard {group}");
            }
        }
        stage.cluster.node(victim).resume();
        stage.recover().await;
    }
    stage.clear("F-4 SIGSTOP of a leader", rounds).await;
}
