//! Other clusters, other nodes' directories, and bytes that mean nothing.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::node::{Becomes, Place};
use bristlecone_cluster_tests::{Cluster, until};
use rand::{Rng, SeedableRng};

const TIME: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_cluster() {
    let mut ours = Cluster::start("ours", 1).await;
    let mut other = Cluster::start("other", 1).await;
    let seed = ours.node(1).place.internal.clone();

    // A member of one cluster cannot join another.
    let output = other.cli(1, &["join", &seed]);
    super::refused(&output, "");
    assert!(!super::stderr(&output).is_empty());

    // Its data directory does not help either.
    other.node(1).stop().await;
    other.node(1).set_becomes(Becomes::Member { seeds: vec![seed] });
    other.node(1).start().expect("the program starts");
    let ended = other.node(1).wait_end(TIME).await;
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert!(other.node(1).log().contains("is another cluster than"), "{}", other.node(1).log());
    ours.wait_healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_another_cluster_took_over() {
    let mut ours = Cluster::start("two", 3).await;
    let place = ours.node(3).place.clone();
    ours.node(3).kill();
    let mut other = Cluster::empty("taken");
    other.add_at(place);
    // Nodes of the one dial the other, and both say why nothing comes of it.
    for (cluster, number) in [(&mut ours, 1), (&mut other, 1)] {
        until("a refusal in the log", TIME, || {
            let log = cluster.node(number).log();
            async move {
                ensure!(log.contains("is another cluster than"), "{log}");
                Ok(())
            }
        })
        .await;
    }
    let api = Api::new(&[ours.address(1)]);
    api.start("goes-on", "W", "q", &(), "goes-on").await.expect("two of three are enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directories_of_others() {
    let mut cluster = Cluster::start("dirs", 3).await;

    // In use.
    let twin = cluster.create(Place::local(), Becomes::Unjoined);
    let taken = cluster.node(2).data_dir();
    cluster.node(twin).set_data_dir(taken.clone());
    cluster.node(twin).start().expect("the program starts");
    assert_eq!(cluster.node(twin).wait_end(TIME).await.code(), Some(1));
    assert!(cluster.node(twin).log().contains("another process uses"), "{}", cluster.node(twin).log());

    // A copy of it, brought to life beside the original: the cluster talks to one of them only.
    cluster.node(2).stop().await;
    let copied = cluster.node(twin).dir.join("copy");
    copy_dir(&taken, &copied);
    cluster.node(2).start().expect("the program starts");
    cluster.wait_healthy().await;
    cluster.node(twin).set_data_dir(copied);
    cluster.node(twin).start().expect("the program starts");
    let complaint = "copy of its data directory";
    until("a complaint about the copy", TIME, || {
        let logs: Vec<String> = (1..=4).map(|number| cluster.node(number).log()).collect();
        async move {
            ensure!(logs.iter().any(|log| log.contains(complaint)), "nobody complains");
            Ok(())
        }
    })
    .await;
    cluster.node(twin).kill();

    // No node's directory at all, and one whose identity is gone.
    let stranger = cluster.node(twin).dir.join("stranger");
    fs::create_dir_all(stranger.join("log")).expect("made");
    fs::write(stranger.join("log").join("notes.txt"), "mine").expect("written");
    cluster.node(twin).set_data_dir(stranger.clone());
    cluster.node(twin).set_becomes(Becomes::Founder);
    cluster.node(twin).start().expect("the program starts");
    assert_eq!(cluster.node(twin).wait_end(TIME).await.code(), Some(1));
    assert!(cluster.node(twin).log().contains("no identity file"), "{}", cluster.node(twin).log());
    assert!(stranger.join("log").join("notes.txt").exists());
    cluster.forget(twin);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_mean_nothing() {
    let mut cluster = Cluster::start("garbage", 3).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for number in cluster.numbers() {
        let place = cluster.node(number).place.clone();
        for port in [place.internal, place.api] {
            for length in [1, 9, 1_000, 100_000] {
                let mut bytes = vec![0; length];
                random.fill_bytes(&mut bytes);
                // The other side may hang up at any byte.
                let sent = TcpStream::connect(&port).and_then(|mut stream| stream.write_all(&bytes));
                drop(sent);
            }
            // A frame, or a header, that announces more than anybody may send.
            let sent = TcpStream::connect(&port).and_then(|mut stream| stream.write_all(&[0xff; 64]));
            drop(sent);
            let sent = TcpStream::connect(&port).and_then(|mut stream| stream.write_all(b"GET / HTTP/1.1\r\n\r\n"));
            drop(sent);
        }
    }
    cluster.fail_on_ended_node();
    cluster.wait_healthy().await;
    for number in cluster.numbers() {
        let id = format!("after-garbage-{number}");
        Api::once(&cluster.address(number)).start(&id, "W", "q", &(), &id).await.expect("it serves");
        let log = cluster.node(number).log();
        assert!(!log.contains("panic"), "{log}");
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("there") {
        let entry = entry.expect("readable");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_dir(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copied");
        }
    }
}

#[test]
fn a_reader_that_is_gone() {
    // `bristlecone … | head` ends quietly.
    let mut command = std::process::Command::new(bristlecone_cluster_tests::node::program());
    let command = command.args(["debug", "rpcs"]).stdout(std::process::Stdio::piped());
    let mut process = command.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    drop(process.stdout.take());
    let output = process.wait_with_output().expect("it ends");
    assert_eq!(super::done(&output), "");
    assert_eq!(super::stderr(&output), "");
}
