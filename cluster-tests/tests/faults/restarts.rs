//! All nodes begin anew with very many open workflows, of which many are due at once.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::node::program;
use bristlecone_cluster_tests::wait::pass;
use bristlecone_cluster_tests::{Cluster, until};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::rounds;

/// Of a thousand open workflows so many are due while no node runs.
const DUE: usize = 100;
const STARTERS: usize = 32;
/// So many starts a second go through at least.
const STARTS_PER_SECOND: u32 = 150;
const MARGIN: Duration = Duration::from_secs(6);
/// Generous: this machine does other things.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
const FIRED_WITHIN: Duration = Duration::from_secs(120);

/// Workflows whose timer is due in a day, each made by a worker; and some more that time out after `time`.
async fn fill(cluster: &Cluster, count: usize, due: usize, time: Duration) {
    let mut bench = Command::new(program());
    bench.args(["bench", "open", "--quiet", "--warmup", "0", "--concurrency", "256", "--pollers", "64"]);
    bench.args(["--count", &count.to_string(), "--target", &cluster.addresses().join(",")]);
    let filled = tokio::task::spawn_blocking(move || bench.stdout(Stdio::null()).status());
    assert!(filled.await.expect("it ends").expect("the program runs").success(), "the cluster was not filled");
    let mut starters = JoinSet::new();
    for starter in 0..STARTERS {
        let api = Api::new(&cluster.addresses());
        starters.spawn(async move {
            for number in (starter..due).step_by(STARTERS) {
                api.start_timed(&format!("due-{number}"), time).await.expect("started");
            }
        });
    }
    starters.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_a_restart_with_many_open_workflows() {
    let thousands = rounds(2);
    let (open, due) = (thousands * (1_000 - DUE), thousands * DUE);
    let mut cluster = Cluster::start("restart", 3).await;
    let time = MARGIN + Duration::from_secs(due as u64) / STARTS_PER_SECOND;
    fill(&cluster, open, due, time).await;
    let last_due = Instant::now() + time;
    let fired_before = Api::new(&cluster.addresses()).count("ExecutionStatus = 'TimedOut'").await.expect("counted");
    for number in cluster.numbers() {
        cluster.node(number).kill();
    }
    // All that is due comes due while nobody is there.
    sleep_until(last_due).await;
    let begun = Instant::now();
    for number in cluster.numbers() {
        cluster.node(number).start().expect("the program starts");
    }
    let api = Api::new(&cluster.addresses()).with_times(Duration::from_secs(5), Duration::ZERO);
    until("an answer about all shards", SERVES_WITHIN, || api.count("ExecutionStatus = 'Running'")).await;
    let serves = begun.elapsed();
    until("all that was due", FIRED_WITHIN, || async {
        let fired = api.count("ExecutionStatus = 'TimedOut'").await?;
        ensure!(fired >= due as i64, "{fired} of {due} fired");
        Ok(())
    })
    .await;
    let fired = begun.elapsed();
    cluster.wait_healthy().await;
    // Nothing else fires afterwards.
    pass(Duration::from_secs(1)).await;
    let count = |status: &str| format!("ExecutionStatus = '{status}'");
    assert_eq!(api.count(&count("TimedOut")).await.expect("counted"), due as i64, "more fired than was due");
    assert_eq!(api.count(&count("Running")).await.expect("counted"), open as i64, "open workflows are lost");
    let memory = cluster.memory();
    println!(
        "F-22 a restart with {} open workflows, {} due meanwhile: serving after {serves:.1?}, all due ones fired after \
         {fired:.1?}, {memory} MiB a node at most; lost 0",
        open + due,
        due as i64 - fired_before
    );
}
