//! A replica that gets its rows as a snapshot, and is interrupted on the way.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::until;
use bristlecone_cluster_tests::wait::pass;
use rand::RngExt;

use super::{Stage, WELL_AGAIN, cuts, rounds};

/// What the snapshots bring at least: so many workflows, each with so many bytes that cannot be made shorter.
const WORKFLOWS: usize = 220;
const BYTES: usize = 192 << 10;
/// What reaches the node a second: then that takes a while.
const RATE: &str = "24mbit";
/// More than that of one has come when it is interrupted, in bytes.
const PART: u64 = 0;
/// Longer than a chunk may take.
const CUT: Duration = Duration::from_secs(12);
/// A flush comes at least once a minute, and shortens the log.
const PURGED_WITHIN: Duration = Duration::from_secs(100);
const SPELL: Duration = Duration::from_secs(6);

/// Bytes of snapshots that are under way to a node.
fn received(data_dir: &Path) -> u64 {
    let mut dirs = vec![data_dir.join("snapshots")];
    let mut bytes = 0;
    while let Some(dir) = dirs.pop() {
        // It may vanish at any time.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => dirs.push(entry.path()),
                Ok(found) => bytes += found.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

async fn wait_for_part(data_dir: &Path) -> u64 {
    until("a part of a snapshot", WELL_AGAIN, || async {
        let bytes = received(data_dir);
        if bytes > PART { Ok(bytes) } else { Err(bytes) }
    })
    .await
}

/// Waits until no log goes back to the beginning any more: only a snapshot can help an empty disk then.
async fn wait_for_purge(stage: &Stage) {
    until("shorter logs", PURGED_WITHIN, || async {
        let status = stage.cluster.status().await?;
        let shards: Vec<u64> = status.shards.iter().map(|shard| shard.group_id).collect();
        let groups = status.nodes.values().flat_map(|reply| &reply.groups);
        let whole = groups.filter(|group| shards.contains(&group.group_id) && group.purged_index == 0).count();
        ensure!(whole == 0, "{whole} logs are whole");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_a_snapshot_is_cut_off_twice() {
    let Some((network, mut stage)) = cuts::set("snapshot").await else { return };
    let api = Api::new(&stage.cluster.addresses());
    for number in 0..WORKFLOWS {
        let bytes: Vec<u8> = (0..BYTES).map(|_| rand::rng().random_range(b'!'..=b'~')).collect();
        let id = format!("large-{number}");
        api.start(&id, "W", "nobody-polls-this", &String::from_utf8_lossy(&bytes), &id).await.expect("started");
    }
    wait_for_purge(&stage).await;
    let before = stage.flow(SPELL).await;
    let rounds = rounds(1);
    for round in 0..rounds {
        let victim = 3 - round % 3;
        let lost = stage.cluster.id_of(victim).await;
        let led = stage.led_by(victim).await;
        stage.measure();
        stage.cluster.node(victim).kill();
        network.narrow(victim, RATE).expect("links can be narrow");
        stage.swap(victim, lost);
        let data_dir = stage.cluster.node(victim).data_dir();
        // Once the cable is pulled, once the receiver dies.
        let first = wait_for_part(&data_dir).await;
        network.cut(victim);
        pass(CUT).await;
        network.heal(victim);
        let second = until("another part", WELL_AGAIN, || async {
            let bytes = received(&data_dir);
            if bytes > PART && bytes != first { Ok(bytes) } else { Err(bytes) }
        })
        .await;
        stage.cluster.node(victim).kill();
        stage.cluster.node(victim).start().expect("the program starts");
        let during = stage.flow(SPELL).await;
        network.widen(victim);
        stage.recover().await;
        stage.note(&led);
        stage.remarks.push(format!(
            "cut off with {} KiB and killed with {} KiB there; before: {before}; meanwhile: {during}",
            first >> 10,
            second >> 10
        ));
    }
    // The replica that was interrupted tells what was acknowledged, when it is alone with one other.
    for number in 0..WORKFLOWS {
        let id = format!("large-{number}");
        api.describe(&id).await.unwrap_or_else(|status| panic!("{id} is lost: {status}"));
    }
    stage.clear("F-20 a snapshot cut off twice", rounds).await;
}
