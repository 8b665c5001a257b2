//! Nodes that are slow and not dead: a disk that takes its time, a processor that others use.

use std::time::Duration;

use bristlecone_cluster_tests::limits::Limit;
use bristlecone_cluster_tests::wait::pass;

use super::{Stage, power, rounds};

/// How long is measured, before and under the fault.
const SPELL: Duration = Duration::from_secs(8);
/// How long a disk may be slow, and a node starved, until it must matter no more.
const DISK_SETTLES: Duration = Duration::from_secs(10);
const CPU_SETTLES: Duration = Duration::from_secs(15);
/// A sync writes twice: so few writes a second make it take 200 ms longer.
const WRITES_PER_SECOND: u32 = 10;
const BYTES_PER_SECOND: u32 = 1 << 20;
const CPU_PERCENT: u32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn f8_a_disk_is_slow() {
    let Some((disks, mut stage)) = power::on_disks("slow-disk").await else { return };
    let rounds = rounds(1);
    for round in 0..rounds {
        let disk = &disks[2 - round % 3];
        let limit = || Limit::writes(&disk.dir, WRITES_PER_SECOND, BYTES_PER_SECOND);
        if slowed(&mut stage, 3 - round % 3, limit, DISK_SETTLES).await.is_none() {
            return;
        }
    }
    stage.clear("F-8 a slow disk", rounds).await;
    drop(disks);
}

#[tokio::test(flavor = "multi_thread")]
async fn f24_a_node_is_starved() {
    let mut stage = Stage::set("starved").await;
    let rounds = rounds(1);
    for round in 0..rounds {
        let Some(leads) = slowed(&mut stage, 3 - round % 3, || Limit::cpu(CPU_PERCENT), CPU_SETTLES).await else {
            return;
        };
        assert_eq!(leads, 0, "a starved node goes on leading");
    }
    stage.clear("F-24 a node with 5 % of a core", rounds).await;
}

/// One node under a limit: what goes through before, and once it has settled; how many shards it still leads then.
/// `None` where there are no such limits.
async fn slowed(
    stage: &mut Stage,
    victim: usize,
    limit: impl Fn() -> anyhow::Result<Limit>,
    settles: Duration,
) -> Option<usize> {
    let limit = match limit() {
        Ok(limit) => limit,
        Err(error) => {
            println!("skipped: {error:#}");
            return None;
        }
    };
    let led = stage.led_by(victim).await;
    let before = stage.flow(SPELL).await;
    let terms = stage.terms().await;
    stage.measure();
    limit.hold(stage.cluster.node(victim).pid().expect("it runs")).expect("it runs");
    pass(settles).await;
    stage.note(&led);
    let during = stage.flow(SPELL).await;
    let leads = stage.led_by(victim).await.len();
    let felt = limit.felt();
    drop(limit);
    stage.recover().await;
    let elections = stage.terms().await - terms;
    stage.remarks.push(format!("before: {before}"));
    stage.remarks.push(format!(
        "after {settles:?} of it: {during}; the node ({felt} in all) led {} shards and then {leads}, {elections} \
         elections with those after its end",
        led.len()
    ));
    assert!(during.signals > 0.0, "nothing goes through");
    Some(leads)
}
