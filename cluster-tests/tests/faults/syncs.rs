//! A sync that fails: the node must not go on, because nobody can know what the disk still holds.

use std::process::{Command, Stdio};
use std::time::Duration;

use bristlecone_cluster_tests::until;
use tokio::time::Instant;

use super::{PROGRESS, Stage, WELL_AGAIN, rounds};

/// How soon a node must be gone.
const GONE_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_sync_fails_once() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("skipped: strace is missing");
        return;
    }
    let rounds = rounds(2);
    let mut stage = Stage::set("sync").await;
    let mut gone_after = Vec::new();
    for round in 0..rounds {
        let victim = 3 - round % 3;
        let led = stage.led_by(victim).await;
        let pid = stage.cluster.node(victim).pid().expect("it runs").to_string();
        stage.measure();
        let mut injector = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"])
            .args(["-e", "inject=fdatasync:error=EIO:when=1", "-p", &pid])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace was found");
        let begun = Instant::now();
        let node = stage.cluster.node(victim);
        until("the end of a node whose disk failed", WELL_AGAIN, || {
            let ended = node.ended();
            async move { ended.filter(|status| !status.success()).ok_or("it still runs") }
        })
        .await;
        gone_after.push(begun.elapsed());
        injector.wait().expect("it ends with the process that it follows");
        assert!(stage.cluster.node(victim).log().contains("the log cannot be written"), "the node says why");
        stage.probes.wait_answering(WELL_AGAIN).await;
        stage.note(&led);
        stage.load.wait_for(PROGRESS).await;
        stage.cluster.node(victim).start().expect("the program starts");
        stage.recover().await;
    }
    stage.clear("F-10 a sync fails once", rounds).await;
    println!("F-10: gone after {gone_after:?}, with the time that strace takes to begin");
    assert!(gone_after.iter().all(|time| *time < GONE_WITHIN), "{gone_after:?}");
}
