//! Files whose bytes have changed: named, refused, and repaired from the other replicas.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bristlecone_cluster_tests::Cluster;
use bristlecone_cluster_tests::api::Api;

const TIME: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log() {
    let mut cluster = Cluster::start("log", 3).await;
    let told = write(&cluster).await;
    cluster.node(3).stop().await;
    let segment = first_file(&cluster.node(3).data_dir().join("log"), |bytes| bytes.iter().any(|byte| *byte != 0));
    // In what had been synced long ago, not at the end, where a crash may have torn it.
    flip(&segment, 4_500);
    refuses(&mut cluster, &segment).await;
    repair(&mut cluster, &told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table() {
    let mut cluster = Cluster::start("table", 3).await;
    let told = write(&cluster).await;
    // A stop flushes the rows.
    cluster.node(3).stop().await;
    let state = cluster.node(3).data_dir().join("state");
    let table = largest_file(&state, "sst");
    let middle = fs::metadata(&table).expect("there").len() / 3;
    flip(&table, middle);
    refuses(&mut cluster, &table).await;
    repair(&mut cluster, &told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_identity() {
    let mut cluster = Cluster::start("identity", 3).await;
    let told = write(&cluster).await;
    cluster.node(3).stop().await;
    let identity = cluster.node(3).data_dir().join("identity");
    flip(&identity, 20);
    refuses(&mut cluster, &identity).await;
    repair(&mut cluster, &told).await;
}

/// Workflows with input enough for some files, and their histories.
async fn write(cluster: &Cluster) -> Vec<(String, Vec<u8>)> {
    let api = Api::new(&cluster.addresses());
    let mut told = Vec::new();
    for number in 0..60 {
        let id = format!("kept-{number}");
        api.start(&id, "Kept", "nobody-polls-this", &format!("{number:02000}"), &id).await.expect("started");
        told.push((id.clone(), history(&api, &id).await));
    }
    told
}

async fn history(api: &Api, id: &str) -> Vec<u8> {
    let events = api.history(id, "").await.expect("it is there");
    events.iter().flat_map(prost::Message::encode_to_vec).collect()
}

/// The node does not serve, and says which file is to blame.
async fn refuses(cluster: &mut Cluster, file: &Path) {
    let node = cluster.node(3);
    node.start().expect("the program starts");
    let ended = node.wait_end(TIME).await;
    assert!(!ended.success());
    let name = file.file_name().expect("a file").to_string_lossy().into_owned();
    let log = node.log();
    assert!(log.lines().rev().take(5).any(|line| line.contains(&name)), "{name} is not named:\n{log}");
}

/// A new member with an empty disk takes the damaged one's place, and knows everything.
async fn repair(cluster: &mut Cluster, told: &[(String, Vec<u8>)]) {
    let removed = cluster.cli(1, &["remove", "n3"]);
    super::done(&removed);
    cluster.replace(3);
    cluster.node(3).start().expect("the program starts");
    cluster.wait_healthy().await;
    for number in cluster.numbers() {
        let api = Api::once(&cluster.address(number));
        for (id, expected) in told {
            assert!(history(&api, id).await == *expected, "node {number} differs about {id}");
        }
    }
}

fn flip(file: &Path, offset: u64) {
    let open = OpenOptions::new().read(true).write(true).open(file).expect("there");
    let mut byte = [0];
    open.read_exact_at(&mut byte, offset).expect("long enough");
    open.write_all_at(&[byte[0] ^ 0x10], offset).expect("writable");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).expect("there").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

fn first_file(dir: &Path, wanted: impl Fn(&[u8]) -> bool) -> PathBuf {
    let found = files(dir).into_iter().find(|path| wanted(&fs::read(path).expect("readable")));
    found.expect("one of them")
}

fn largest_file(dir: &Path, extension: &str) -> PathBuf {
    let tables = files(dir).into_iter().filter(|path| path.extension().is_some_and(|found| found == extension));
    tables.max_by_key(|path| fs::metadata(path).expect("there").len()).expect("one of them")
}
