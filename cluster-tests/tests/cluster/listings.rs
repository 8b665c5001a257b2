//! `bristlecone visibility`: rows behind listings that are wrong are found, and made right.

use std::ops::ControlFlow;

use bristlecone_cluster_tests::Cluster;
use bristlecone_cluster_tests::api::Api;
use bristlecone_storage::state::keys::{Attribute, Key};
use bristlecone_storage::state::{BatchBuilder, Direction, KeyRange, Read, RocksOptions, RocksStore, StateStore};

use super::{done, json, refused};

#[tokio::test(flavor = "multi_thread")]
async fn what_listings_show_is_verified_and_rebuilt() {
    const RUNS: i64 = 30;
    let mut cluster = Cluster::start("listings", 1).await;
    let api = Api::new(&cluster.addresses());
    for number in 0..RUNS {
        api.start(&format!("w-{number}"), "Listed", "nobody-polls-this", &number, "once").await.expect("started");
    }
    let verified = json(&cluster.command(1, "visibility", &["verify", "-o", "json"]), 0);
    assert!(verified["checked"].as_i64() >= Some(RUNS), "{verified}");
    assert_eq!(verified["found"]["missing"], 0);
    refused(&cluster.command(1, "visibility", &["verify", "--namespace", "nobody-knows-this"]), "no namespace");

    assert!(cluster.node(1).stop().await.success());
    let lost = lose_listings(&cluster.node(1).dir.join("data").join("state"));
    assert!(lost.records > 0 && lost.index_rows > 0);
    cluster.node(1).start().expect("the program starts");
    cluster.wait_healthy().await;
    let api = Api::new(&cluster.addresses());
    let listed = api.list("WorkflowType = 'Listed'").await.expect("listed").len();
    assert!(i64::try_from(listed).expect("few") < RUNS, "{listed} are listed");

    let verified = json(&cluster.command(1, "visibility", &["verify", "-o", "json"]), 2);
    assert_eq!(verified["found"]["missing"], lost.records);
    let rebuilt = json(&cluster.command(1, "visibility", &["rebuild", "--namespace", "default", "-o", "json"]), 0);
    assert_eq!((&rebuilt["found"]["missing"], &rebuilt["left"]["missing"]), (&lost.records.into(), &0.into()));
    let table = done(&cluster.command(1, "visibility", &["verify"]));
    assert!(table.lines().any(|line| line.split_whitespace().eq(["missing", "0"])), "{table}");
    assert_eq!(api.list("WorkflowType = 'Listed'").await.expect("listed").len(), usize::try_from(RUNS).expect("few"));
    assert_eq!(api.count("WorkflowType = 'Listed'").await.expect("counted"), RUNS);
}

struct Lost {
    records: u64,
    index_rows: u64,
}

/// Takes every third record out of a stopped node's rows, and of the index of types every fifth row.
fn lose_listings(state: &std::path::Path) -> Lost {
    let store = RocksStore::open(state, RocksOptions::small()).expect("the node is stopped");
    let (mut records, mut index_rows) = (Vec::new(), Vec::new());
    let everything = KeyRange::new(Vec::new(), vec![0xFF; 3]);
    let scanned = store.scan(&everything, Direction::Forward, &mut |key, _| {
        match Key::parse(key) {
            Ok((_, Key::Visibility { .. })) => records.push(key.to_vec()),
            Ok((_, Key::Index { attribute: Attribute::WorkflowType, .. })) => index_rows.push(key.to_vec()),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    scanned.expect("they are read");
    let (records, index_rows): (Vec<_>, Vec<_>) =
        (records.into_iter().step_by(3).collect(), index_rows.into_iter().step_by(5).collect());
    let mut batch = BatchBuilder::new();
    records.iter().chain(&index_rows).for_each(|key| batch.delete(key));
    store.write(&[batch.finish().expect("a small batch")]).expect("they are deleted");
    store.flush().expect("for ever");
    Lost { records: records.len() as u64, index_rows: index_rows.len() as u64 }
}
