//! Nodes that are cut off from the rest, in both directions or in one, again and again or in part, while clients still
//! reach them.

use std::time::Duration;

use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::cluster::shard_of;
use bristlecone_cluster_tests::network::Network;
use bristlecone_cluster_tests::wait::pass;
use bristlecone_cluster_tests::{Cluster, within};
use rand::RngExt;
use tokio::time::Instant;
use tonic::Code;

use super::{PROGRESS, Stage, WELL_AGAIN, rounds};

/// How soon whoever asks the minority must be told that it cannot help.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// How long a node is mute.
const MUTE: Duration = Duration::from_secs(6);

/// How long a connection holds, and is cut, in turn.
const FLAP_MS: std::ops::RangeInclusive<u64> = 1_000..=5_000;
/// How long is measured before.
const BASELINE: Duration = Duration::from_secs(6);
/// Of packets between nodes, and how late they are at most.
const LOST: f64 = 0.05;
const DOUBLED: f64 = 0.01;
const LATE_MS: u32 = 20;
/// How long one round of that is.
const ROUGH_FOR: Duration = Duration::from_secs(12);

/// A network, and a cluster at work in it; `None` where this machine has no such networks.
pub(super) async fn set(name: &str) -> Option<(Network, Stage)> {
    let network = match Network::new(3) {
        Ok(network) => network,
        Err(error) => {
            println!("skipped: {error:#}");
            return None;
        }
    };
    let places = (1..=3).map(|node| network.place(node)).collect();
    let stage = Stage::at_work(name, Cluster::start_at(name, places).await).await;
    Some((network, stage))
}

#[tokio::test(flavor = "multi_thread")]
async fn f6_a_leader_is_cut_off() {
    let Some((network, mut stage)) = set("cut").await else { return };
    let rounds = rounds(1);
    for round in 0..rounds {
        let victim = 3 - round % 3;
        let witness = victim % 3 + 1;
        let api = Api::new(&[stage.cluster.address(witness)]);
        let namespace = api.namespace_id().await.expect("it exists");
        let status = stage.cluster.status().await.expect("answered");

        // A workflow whose shard the node leads that will be cut off.
        let led = stage.led_by(victim).await;
        let group = *led.first().expect("leaders are spread");
        let mut ids =
            (0..).map(|n| format!("cut-off-{round}-{n}")).filter(|id| shard_of(&status, &namespace, id) == group);
        let id = ids.next().expect("endless");
        api.start(&id, "W", "nobody-polls-this", &(), &id).await.expect("started");

        stage.measure();
        network.cut(victim);
        stage.probes.wait_answering(WELL_AGAIN).await;
        stage.note(&led);
        stage.load.wait_for(PROGRESS).await;
        api.signal(&id, "s", &1, "after-the-cut").await.expect("the majority takes it");
        // The minority serves nothing that may be stale, and says so instead of hanging.
        let minority = Api::once(&stage.cluster.address(victim)).with_times(REFUSED_WITHIN, Duration::ZERO);
        for stale in [minority.describe(&id).await.map(drop), minority.signal(&id, "s", &2, "minority").await] {
            let refusal = stale.expect_err("it cannot know");
            assert!(matches!(refusal.code(), Code::Unavailable | Code::ResourceExhausted), "{refusal:?}");
        }
        network.heal(victim);
        stage.recover().await;

        // What the majority took is there, whoever is asked.
        for address in stage.cluster.addresses() {
            let events = within("a history", WELL_AGAIN, Api::new(&[address]).history(&id, "")).await.expect("there");
            let signals =
                events.iter().filter(|event| format!("{:?}", event.event_type()) == "WorkflowExecutionSignaled");
            assert_eq!(signals.count(), 1);
        }
    }
    stage.clear("F-6 a leader is cut off", rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f5_a_leader_is_heard_by_nobody() {
    let Some((network, mut stage)) = set("mute").await else { return };
    let rounds = rounds(1);
    for round in 0..rounds {
        let victim = 3 - round % 3;
        let led = stage.led_by(victim).await;
        stage.measure();
        network.mute(victim);
        stage.probes.wait_answering(WELL_AGAIN).await;
        stage.note(&led);
        // The length of the fault: a node that hears others and is not heard must not disturb them.
        pass(MUTE).await;
        stage.load.wait_for(PROGRESS).await;
        network.unmute(victim);
        stage.recover().await;
    }
    stage.clear("F-5 a leader is heard by nobody", rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f7_a_connection_flaps() {
    let Some((network, mut stage)) = set("flaps").await else { return };
    let rounds = rounds(3);
    let before = stage.flow(BASELINE).await;
    let terms = stage.terms().await;
    let (done, begun) = (stage.load.done(), Instant::now());
    let mut idle = 0;
    stage.measure();
    for round in 0..rounds {
        let victim = 3 - round % 3;
        let (apart, together) = {
            let mut rng = rand::rng();
            (rng.random_range(FLAP_MS), rng.random_range(FLAP_MS))
        };
        network.cut(victim);
        pass(Duration::from_millis(apart)).await;
        network.heal(victim);
        let connected = stage.load.done();
        pass(Duration::from_millis(together)).await;
        idle += usize::from(stage.load.done() == connected);
    }
    let during = f64::from(stage.load.done() - done) / begun.elapsed().as_secs_f64();
    let shards = stage.shards().await;
    stage.note(&shards);
    let elections = stage.terms().await - terms;
    stage.recover().await;
    stage.remarks.push(format!("before: {before}"));
    stage.remarks.push(format!(
        "under it: {during:.1} workflows/s, {:.0} % of that; {idle} of {rounds} connected spells without a completed \
         workflow; {elections} elections",
        during / before.workflows * 100.0
    ));
    stage.clear("F-7 a flapping cut", rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_packets_are_lost_doubled_and_late() {
    let Some((network, mut stage)) = set("rough").await else { return };
    let rounds = rounds(1);
    let before = stage.flow(BASELINE).await;
    let terms = stage.terms().await;
    let rough = match network.rough(LOST, DOUBLED, LATE_MS) {
        Ok(rough) => rough,
        Err(error) => {
            println!("skipped: {error:#}");
            return;
        }
    };
    stage.measure();
    let during = stage.flow(ROUGH_FOR * rounds as u32).await;
    let shards = stage.shards().await;
    stage.note(&shards);
    let elections = stage.terms().await - terms;
    let passed = rough.end();
    stage.recover().await;
    stage.remarks.push(format!("before: {before}"));
    stage.remarks.push(format!("under it: {during}, {elections} elections; {passed}"));
    assert!(during.workflows > 0.0, "nothing goes through");
    stage.clear("F-14 5 % lost, 1 % twice, up to 20 ms late", rounds).await;
}
