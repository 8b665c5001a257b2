//! Nodes that are replaced, join, leave and are drained while everything goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::{Cluster, until};

use super::{PROGRESS, Stage, WELL_AGAIN, rounds};

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_node_is_replaced_with_an_empty_disk() {
    let rounds = rounds(1);
    let mut stage = Stage::set("replaced").await;
    for round in 0..rounds {
        let victim = 3 - round % 3;
        let lost = stage.cluster.id_of(victim).await;
        let led = stage.led_by(victim).await;
        stage.measure();
        stage.cluster.node(victim).kill();
        stage.probes.wait_answering(WELL_AGAIN).await;
        stage.note(&led);
        stage.load.wait_for(1).await;
        stage.replace(victim, lost).await;
        assert!(stage.cluster.id_of(victim).await > lost, "a node id is never used again");
    }
    stage.clear("F-16 an empty disk", rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_and_another_leaves() {
    let mut stage = Stage::set("fourth").await;
    stage.cluster.add();
    stage.recover().await;
    let left = stage.cluster.cli(1, &["leave", "n3"]);
    assert!(left.status.success(), "{left:?}");
    stage.load.wait_for(PROGRESS).await;
    stage.cluster.forget(3);
    stage.recover().await;
    stage.clear("F-18 a fourth node, and a third that left", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_and_stopped_without_one_failed_request() {
    let mut stage = Stage::set("drained").await;
    let clients = Clients::start(&stage.cluster, &[1, 2, 3]);
    clients.wait_for_more().await;
    let drained = stage.cluster.cli(1, &["drain", "n3"]);
    assert!(drained.status.success(), "{drained:?}");
    assert!(stage.led_by(3).await.is_empty());
    clients.wait_for_more().await;
    let back = stage.cluster.cli(1, &["undrain", "n3"]);
    assert!(back.status.success(), "{back:?}");
    stage.cluster.wait_healthy().await;
    clients.wait_for_more().await;
    clients.finish().await;

    // A node that is told to stop hands over by itself; those who talk to others notice nothing.
    let clients = Clients::start(&stage.cluster, &[1, 2]);
    clients.wait_for_more().await;
    assert!(stage.cluster.node(3).stop().await.success());
    clients.wait_for_more().await;
    stage.cluster.node(3).start().expect("the program starts");
    stage.recover().await;
    clients.finish().await;
    stage.clear("F-17 drained and stopped", 1).await;
}

/// Clients that never try again.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Clients {
    fn start(cluster: &Cluster, nodes: &[usize]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let client = |node: &usize| {
            let api = Api::once(&cluster.address(*node));
            tokio::spawn(call(api, Arc::clone(&stop), Arc::clone(&answered)))
        };
        // Two for each node.
        let tasks = nodes.iter().chain(nodes).map(client).collect();
        Self { stop, answered, tasks }
    }

    async fn wait_for_more(&self) {
        let goal = self.answered.load(Ordering::Relaxed) + 200;
        until("answers", WELL_AGAIN, || async {
            let answered = self.answered.load(Ordering::Relaxed);
            if answered >= goal { Ok(()) } else { Err(answered) }
        })
        .await;
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let failures = task.await.expect("a client ends well");
            assert!(failures.is_empty(), "{failures:?}");
        }
    }
}

async fn call(api: Api, stop: Arc<AtomicBool>, answered: Arc<AtomicU32>) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = uuid::Uuid::new_v4().to_string();
        let outcome = async {
            api.start(&id, "W", "nobody-polls-this", &(), &id).await?;
            api.signal(&id, "s", &1, &id).await?;
            api.describe(&id).await
        };
        match outcome.await {
            Ok(_) => drop(answered.fetch_add(3, Ordering::Relaxed)),
            Err(status) => failures.push(status.to_string()),
        }
    }
    failures
}
