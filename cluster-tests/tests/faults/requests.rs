//! Requests that come several times, in another order and through other nodes, or when nobody waits for them any more.

use std::time::Duration;

use bristlecone_cluster_tests::relay::Relay;
use bristlecone_cluster_tests::wait::pass;
use bristlecone_cluster_tests::{Cluster, until};

use super::{PROGRESS, Stage, rounds};

/// How long everything comes several times, in one round.
const SPELL: Duration = Duration::from_secs(10);
/// Longer than a workflow task may take, and than an activity of the load.
const PAUSE: Duration = Duration::from_secs(14);

/// Relays to all nodes, each with another one first.
async fn relays(cluster: &Cluster, repeat: bool) -> Vec<Relay> {
    let mut relays = Vec::new();
    for number in cluster.numbers() {
        let mut nodes = cluster.addresses();
        nodes.rotate_left(number - 1);
        relays.push(Relay::start(&nodes, repeat).await);
    }
    relays
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_every_request_comes_two_or_three_times() {
    let rounds = rounds(1);
    let cluster = Cluster::start("twice", 3).await;
    let relays = relays(&cluster, true).await;
    let addresses: Vec<String> = relays.iter().map(|relay| relay.address.clone()).collect();
    let mut stage = Stage::at_work_through("twice", cluster, &addresses[..2], &addresses).await;
    let during = stage.flow(SPELL * rounds as u32).await;
    let copies: u64 = relays.iter().map(Relay::copies).sum();
    stage.remarks.push(format!("{during}, with {copies} copies of requests; 0 starts, signals or completions twice"));
    assert!(copies > 100, "hardly anything came twice");
    stage.clear("F-15 every request two or three times, in another order", rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_a_worker_hangs_beyond_its_timeouts() {
    let rounds = rounds(1);
    let cluster = Cluster::start("late", 3).await;
    let relay = Relay::start(&[cluster.address(3)], false).await;
    let workers = [cluster.address(1), relay.address.clone()];
    let clients = cluster.addresses();
    let mut stage = Stage::at_work_through("late", cluster, &workers, &clients).await;
    for _ in 0..rounds {
        let refused = relay.refused();
        relay.hold();
        // The length of the fault: its tasks time out, and go to the other worker.
        pass(PAUSE).await;
        stage.load.wait_for(PROGRESS).await;
        relay.release();
        until("a late completion", PAUSE, || async {
            if relay.refused() > refused { Ok(()) } else { Err("none was refused yet") }
        })
        .await;
        stage.load.wait_for(PROGRESS).await;
    }
    stage.remarks.push(format!(
        "one of two workers hung for {PAUSE:?} each time; {} of its late completions were refused, none counted twice",
        relay.refused()
    ));
    stage.clear("F-21 a worker that completes too late", rounds).await;
}
