//! `bristlecone bench` against three nodes: every scenario comes out as planned.

use std::process::Command;

use bristlecone_cluster_tests::Cluster;
use bristlecone_cluster_tests::node::program;

use super::json;

/// Scenarios with how many of what, and their own options.
const SCENARIOS: [(&str, u64, &[&str]); 16] = [
    ("start-only", 40, &[]),
    ("noop", 40, &["--rate", "50"]),
    ("latency", 5, &[]),
    ("activity", 20, &[]),
    ("activities", 5, &["--no-eager", "--no-sticky"]),
    ("fan-out", 2, &[]),
    ("signal-one", 100, &[]),
    ("signal-many", 100, &[]),
    ("timer", 10, &["--timer-ms", "100"]),
    ("child", 10, &[]),
    ("backlog", 100, &[]),
    // More than its two polls can have on their way wait on each level.
    ("priorities", 200, &["--pollers", "2"]),
    ("open", 10, &[]),
    ("update", 250, &["--concurrency", "8"]),
    ("search", 20, &[]),
    ("schedules", 20, &["--lead", "5", "--within", "3"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_comes_out_as_planned() {
    let cluster = Cluster::start("bench", 3).await;
    let targets = cluster.addresses().join(",");
    for (scenario, count, options) in SCENARIOS {
        let count = count.to_string();
        let ran = Command::new(program())
            .args(["bench", scenario, "--target", &targets, "--quiet", "--output", "json"])
            .args(["--count", &count, "--warmup", "10"])
            .args(options)
            .output()
            .expect("the program runs");
        let report = json(&ran, 0);
        let figure = |name: &str| report[name].as_u64();
        let wrong = ["wrong", "duplicates", "missing", "overtaken"].map(figure);
        assert_eq!(wrong, [Some(0); 4], "{scenario}: {report}");
        let measured = if figure("calls") == Some(0) { figure("workflows") } else { figure("calls") };
        assert_eq!(measured.map(|n| n.to_string()), Some(count), "{scenario}: {report}");
        let asked = report["verified_at_server"].as_u64();
        assert_eq!(asked, figure("workflows"), "{scenario}: {report}");
    }
}
