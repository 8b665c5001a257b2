//! Founding, joining, leaving, draining, removing, and moving leaders, by `bristlecone cluster …`.

use std::time::Duration;

use anyhow::ensure;
use bristlecone_cluster_tests::api::{Api, payloads};
use bristlecone_cluster_tests::cluster::{META_GROUP, leader_of};
use bristlecone_cluster_tests::node::{Becomes, Place};
use bristlecone_cluster_tests::{Cluster, until};

use super::{done, json, refused};

const TIME: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn tables_json_and_exit_codes() {
    let mut cluster = Cluster::start("codes", 3).await;
    let table = done(&cluster.cli(2, &["status"]));
    for address in cluster.addresses() {
        assert!(table.contains(&address), "{table}");
    }
    let status = json(&cluster.cli(2, &["status", "-o", "json"]), 0);
    assert_eq!(status["healthy"], true);
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3));
    // The metadata, and as many shards as nodes.
    assert_eq!(status["groups"].as_array().map(Vec::len), Some(4));
    assert_eq!(json(&cluster.cli(1, &["members", "-o", "json"]), 0).as_array().map(Vec::len), Some(3));
    assert_eq!(done(&cluster.cli(3, &["health"])), "healthy\n");

    refused(&cluster.cli(1, &["drain", "n9"]), "no node named n9");
    refused(&cluster.cli(1, &["drain", "9"]), "no node 9");
    refused(&cluster.cli(1, &["remove", "n3"]), "let it leave");
    refused(&cluster.cli(1, &["transfer-leader", "--group", "99", "--to", "n1"]), "no group 99");

    let lost = cluster.id_of(3).await;
    cluster.node(3).kill();
    until("bad health", TIME, || async {
        let health = cluster.cli(1, &["health", "-o", "json"]);
        ensure!(health.status.code() == Some(2), "still healthy");
        ensure!(super::stdout(&health).contains(&format!("node {lost} is unreachable")), "{health:?}");
        Ok(())
    })
    .await;
    assert_eq!(json(&cluster.cli(1, &["status", "-o", "json"]), 2)["healthy"], false);
    refused(&cluster.cli(3, &["status"]), "no node answers");

    // What is removed stays removed, and its place is free for another.
    done(&cluster.cli(2, &["remove", "n3"]));
    cluster.node(3).start().expect("the program starts");
    let ended = cluster.node(3).wait_end(TIME).await;
    assert!(!ended.success());
    assert!(cluster.node(3).log().contains("was removed"), "{}", cluster.node(3).log());
    cluster.replace(3);
    cluster.node(3).start().expect("the program starts");
    cluster.wait_healthy().await;
    assert!(cluster.id_of(3).await > lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_transferred_and_drained() {
    let mut cluster = Cluster::start("drain", 3).await;
    let status = cluster.status().await.expect("answered");
    for group in status.shards.iter().map(|shard| shard.group_id).chain([META_GROUP]) {
        let to = cluster.leader(group).await % 3 + 1;
        done(&cluster.cli(1, &["transfer-leader", "--group", &group.to_string(), "--to", &format!("n{to}")]));
        assert_eq!(cluster.leader(group).await, to, "group {group}");
    }

    let node = cluster.id_of(2).await;
    let drained = json(&cluster.cli(1, &["drain", "n2", "-o", "json"]), 0);
    assert_eq!((drained["node_id"].as_u64(), drained["left"].as_u64()), (Some(node), Some(0)));
    let status = cluster.status().await.expect("answered");
    for group in status.shards.iter().map(|shard| shard.group_id).chain([META_GROUP]) {
        let (leader, _) = leader_of(&status, group).expect("a leader");
        assert_ne!(leader, node, "group {group}");
    }
    done(&cluster.cli(1, &["undrain", "n2"]));
    // Which includes that leaders are spread again.
    cluster.wait_healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dynamic_configuration_is_followed() {
    let mut cluster = Cluster::start("dynamic", 1).await;
    assert!(cluster.node(1).stop().await.success());
    let file = cluster.node(1).dir.join("dynamic.yaml");
    cluster.node(1).flags = vec!["--dynamic-config".into(), file.display().to_string()];
    std::fs::write(&file, "limit.blobSiz.error:\n- value: 10\n").expect("written");
    cluster.node(1).start().expect("the program starts");
    assert_eq!(cluster.node(1).wait_end(TIME).await.code(), Some(1));
    assert!(cluster.node(1).log().contains("line 1: there is no key limit.blobSiz.error"), "{}", cluster.node(1).log());

    let limited =
        |bytes: usize| format!("limit.blobSize.error:\n- value: {bytes}\n  constraints: {{namespace: default}}\n");
    std::fs::write(&file, limited(10)).expect("written");
    cluster.node(1).start().expect("the program starts");
    cluster.wait_healthy().await;
    let api = Api::new(&[cluster.address(1)]);
    let input = "more than ten bytes";
    let refused = api.start("large", "W", "q", &input, "large").await.expect_err("it is too large");
    assert_eq!(refused.message(), "Blob data size exceeds limit.");
    std::fs::write(&file, limited(1_000_000)).expect("written");
    until("the new limit", TIME, || api.start("large", "W", "q", &input, "large")).await;
    // The file was written badly: the node goes on as it was.
    std::fs::write(&file, "limit.blobSize.error: 10\n").expect("written");
    until("a warning", TIME, || {
        let log = cluster.node(1).log();
        async move { if log.contains("the dynamic configuration stays as it was") { Ok(()) } else { Err(log) } }
    })
    .await;
    api.start("large-too", "W", "q", &input, "large-too").await.expect("the limit is as it was");
    // A namespace has its rate.
    std::fs::write(&file, "frontend.namespaceRPS:\n- value: 1\n  constraints: {namespace: default}\n")
        .expect("written");
    let once = Api::once(&cluster.address(1));
    until("a refusal", TIME, || async {
        match once.describe("large").await {
            Err(status) if status.message() == "namespace rate limit exceeded" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_is_told_to_join_and_leaves_again() {
    let mut cluster = Cluster::start("join", 3).await;
    let written = write(&cluster, 20).await;

    let fourth = cluster.create(Place::local(), Becomes::Unjoined);
    cluster.node(fourth).start().expect("the program starts");
    until("a node that waits", TIME, || async {
        let output = cluster.cli(fourth, &["status"]);
        ensure!(super::stderr(&output).contains("belongs to no cluster yet"), "{output:?}");
        Ok(())
    })
    .await;
    refused(&cluster.cli(fourth, &["join", "nonsense"]), "not HOST:PORT");
    let seed = cluster.node(2).place.internal.clone();
    let joined = json(&cluster.cli(fourth, &["join", &seed, "-o", "json"]), 0);
    assert_eq!(joined["node_id"].as_u64(), Some(cluster.id_of(fourth).await));
    // Shards have three replicas: the fourth node gets its share.
    cluster.wait_healthy().await;
    check(&cluster, &written).await;

    let node = cluster.id_of(1).await;
    done(&cluster.cli(2, &["leave", "n1"]));
    let ended = cluster.node(1).wait_end(TIME).await;
    assert!(!ended.success(), "{ended}");
    let members = json(&cluster.cli(2, &["members", "-o", "json"]), 0);
    let gone = members.as_array().and_then(|all| all.iter().find(|member| member["id"] == node)).expect("listed");
    assert_eq!(gone["state"], "removed");
    cluster.forget(1);
    cluster.wait_healthy().await;
    check(&cluster, &written).await;
}

/// Starts workflows that nobody runs; their ids and run ids.
async fn write(cluster: &Cluster, count: usize) -> Vec<(String, String)> {
    let api = Api::new(&cluster.addresses());
    let mut written = Vec::new();
    for number in 0..count {
        let id = format!("kept-{number}");
        let run = api.start(&id, "Kept", "nobody-polls-this", &number, &id).await.expect("started");
        written.push((id, run));
    }
    written
}

/// Every running node knows them all.
async fn check(cluster: &Cluster, written: &[(String, String)]) {
    for address in cluster.addresses() {
        let api = Api::new(&[address]);
        for (number, (id, run)) in written.iter().enumerate() {
            let events = api.history(id, run).await.expect("it is kept");
            let started = events.first().and_then(|event| event.attributes.clone());
            let Some(
                bristlecone_proto::temporal::api::history::v1::history_event::Attributes::WorkflowExecutionStartedEventAttributes(
                    started,
                ),
            ) = started
            else {
                panic!("{id} does not begin with its start")
            };
            assert_eq!(started.input, Some(payloads(&number)));
        }
    }
}
