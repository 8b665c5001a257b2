//! A leader that is cut off from the rest, in both directions or in one, while clients still reach it.

use std::time::Duration;

use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::cluster::shard_of;
use bristlecone_cluster_tests::network::Network;
use bristlecone_cluster_tests::wait::pass;
use bristlecone_cluster_tests::{Cluster, within};
use tonic::Code;

use super::{PROGRESS, Stage, WELL_AGAIN, rounds};

/// How soon whoever asks the minority must be told that it cannot help.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// How long a node is mute.
const MUTE: Duration = Duration::from_secs(6);

/// A network, and a cluster at work in it; `None` where this machine has no such networks.
async fn set(name: &str) -> Option<(Network, Stage)> {
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
