//! A leader that is cut off from the rest, while clients still reach it.

use std::time::Duration;

use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::cluster::shard_of;
use bristlecone_cluster_tests::network::Network;
use bristlecone_cluster_tests::{Cluster, within};
use tonic::Code;

use super::{PROGRESS, Stage, WELL_AGAIN};

/// How soon whoever asks the minority must be told that it cannot help.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_cut_off() {
    let network = match Network::new(3) {
        Ok(network) => network,
        Err(error) => {
            println!("skipped: {error:#}");
            return;
        }
    };
    let places = (1..=3).map(|node| network.place(node)).collect();
    let mut stage = Stage::at_work("cut", Cluster::start_at("cut", places).await).await;
    let api = Api::new(&stage.cluster.addresses());
    let namespace = api.namespace_id().await.expect("it exists");
    let status = stage.cluster.status().await.expect("answered");

    // A workflow whose shard the node leads that will be cut off.
    let group = *stage.led_by(3).await.first().expect("leaders are spread");
    let mut ids = (0..).map(|n| format!("cut-off-{n}")).filter(|id| shard_of(&status, &namespace, id) == group);
    let id = ids.next().expect("endless");
    api.start(&id, "W", "nobody-polls-this", &(), &id).await.expect("started");

    network.cut(3);
    stage.probes.wait_answering(WELL_AGAIN).await;
    stage.load.wait_for(PROGRESS).await;
    api.signal(&id, "s", &1, "after-the-cut").await.expect("the majority takes it");
    // The minority serves nothing that may be stale, and says so instead of hanging.
    let minority = Api::once(&stage.cluster.address(3)).with_times(REFUSED_WITHIN, Duration::ZERO);
    for stale in [minority.describe(&id).await.map(drop), minority.signal(&id, "s", &2, "minority").await] {
        let refusal = stale.expect_err("it cannot know");
        assert!(matches!(refusal.code(), Code::Unavailable | Code::ResourceExhausted), "{refusal:?}");
    }
    network.heal(3);
    stage.recover().await;

    // What the majority took is there, whoever is asked.
    for address in stage.cluster.addresses() {
        let events = within("a history", WELL_AGAIN, Api::new(&[address]).history(&id, "")).await.expect("there");
        let signals = events.iter().filter(|event| format!("{:?}", event.event_type()) == "WorkflowExecutionSignaled");
        assert_eq!(signals.count(), 1);
    }
    stage.clear("a cut").await;
}
