//! A node whose wall clock is off, or jumps to and fro: it leads nothing, says why, and no timer fires early.

use std::time::Duration;

use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::skew::{Skew, Skews};
use bristlecone_cluster_tests::wait::pass;
use bristlecone_cluster_tests::{Cluster, until};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{PROGRESS, Stage, WELL_AGAIN, rounds};

const HOUR: i64 = 3_600;
const SAYS: &str = "away from the others'";
/// Timers that are under way while the clock is wrong: in the API's clock they must never be early.
const TIMERS: usize = 60;
const TIMER: Duration = Duration::from_secs(12);
/// By how much a timer may be late here: failovers, on a machine that is busy.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Strobes, and how long each lasts.
const STROBES: u32 = 20;
const STROBE: Duration = Duration::from_millis(200);

/// Three nodes whose wall clocks can be set; `None` where no such library can be built.
async fn set(name: &str) -> Option<(Vec<Skew>, Stage)> {
    let mut cluster = Cluster::unstarted(name, 3);
    let mut skews = Vec::new();
    for number in cluster.numbers() {
        let node = cluster.node(number);
        let made = Skews::new(&node.dir).and_then(|skews| skews.clock(node.dir.join("skew")));
        let skew = match made {
            Ok(skew) => skew,
            Err(error) => {
                println!("skipped: no clocks that can be set: {error:#}");
                return None;
            }
        };
        node.environment = skew.environment();
        node.start().expect("the program starts");
        skews.push(skew);
    }
    cluster.wait_healthy().await;
    Some((skews, Stage::at_work(name, cluster).await))
}

/// Workflows that time out: how much later than they had to, by a clock that nobody changes.
async fn timers(addresses: Vec<String>, round: usize) -> Vec<Duration> {
    let mut under_way = JoinSet::new();
    for number in 0..TIMERS {
        let api = Api::new(&addresses);
        under_way.spawn(async move {
            let id = format!("timer-{round}-{number}");
            let begun = Instant::now();
            let run_id = api.start_timed(&id, TIMER).await.expect("started");
            let started = Instant::now();
            api.closed(&id, &run_id).await.expect("it times out");
            assert!(begun.elapsed() >= TIMER, "{id} timed out after {:?} of {TIMER:?}", begun.elapsed());
            started.elapsed().saturating_sub(TIMER)
        });
    }
    let mut late = under_way.join_all().await;
    late.sort();
    late
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_clock_is_wrong() {
    let Some((skews, mut stage)) = set("clocks").await else { return };
    let rounds = rounds(1);
    let (mut late, mut gone, mut elections) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let victim = 3 - round % 3;
        let ahead = if round % 2 == 0 { HOUR } else { -HOUR };
        let skew = &skews[victim - 1];
        let timers = tokio::spawn(timers(stage.cluster.addresses(), round));
        let led = stage.led_by(victim).await;
        let said = stage.cluster.node(victim).log().matches(SAYS).count();
        stage.measure();
        let terms = stage.terms().await;
        let begun = Instant::now();
        skew.set(ahead);
        until("leaders elsewhere", WELL_AGAIN, || async {
            let led = stage.led_by(victim).await;
            if led.is_empty() { Ok(()) } else { Err(led) }
        })
        .await;
        gone.push(begun.elapsed());
        stage.probes.wait_answering(WELL_AGAIN).await;
        stage.note(&led);
        stage.load.wait_for(PROGRESS).await;
        let elected = stage.terms().await - terms;
        // Once for each shard, and the metadata; the node is not handed any of them again.
        assert!(elected <= 2 * (led.len() as u64 + 1), "{elected} elections for {led:?}");
        elections.push((elected, begun.elapsed()));
        assert!(stage.cluster.node(victim).log().matches(SAYS).count() > said, "the node says why");
        for strobe in 0..STROBES {
            skew.set(if strobe % 2 == 0 { 0 } else { -ahead });
            pass(STROBE).await;
        }
        skew.set(0);
        late.extend(timers.await.expect("timers keep time"));
        stage.recover().await;
    }
    late.sort();
    stage.remarks.push(format!(
        "an hour off, then to and fro: led nothing any more after {gone:.0?}, elections {elections:.1?}; of {} timers 0 fired early, late at most \
         {:.0?}",
        late.len(),
        late.last().copied().unwrap_or_default()
    ));
    assert!(late.last().is_some_and(|late| *late < LATE_MAX), "{late:?}");
    stage.clear("F-13 a clock an hour off", rounds).await;
}
