//! More requests than the cluster can do: it does what it can, refuses the rest early, and elects nobody for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::wait::pass;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, interval};
use tonic::{Code, Status};

use super::{Stage, WELL_AGAIN, percentile, rounds};

/// Starts at once, when the most is looked for that goes through.
const AT_ONCE: usize = 96;
/// How many times as much comes then.
const TIMES: f64 = 10.0;
/// How long is looked for the most, and how long one round of overload is.
const SPELL: Duration = Duration::from_secs(8);
/// How long whoever asks waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests on their way at once: as many as a generator on the same machine can bear.
const ON_THEIR_WAY_MAX: usize = 8_000;
/// Connections to each node.
const CONNECTIONS: usize = 4;
/// How often requests leave.
const TICK: Duration = Duration::from_millis(10);
/// Acknowledged workflows that are looked for in the end.
const LOOKED_FOR: usize = 300;

/// What became of starts.
#[derive(Debug, Default)]
struct Outcomes {
    number: AtomicU64,
    done: AtomicU64,
    shed: AtomicU64,
    unavailable: AtomicU64,
    unanswered: AtomicU64,
    /// Refusals that no overload explains.
    wrong: Mutex<Vec<Status>>,
    /// Some of those that were acknowledged.
    acknowledged: Mutex<Vec<String>>,
    /// How long a refusal took.
    shed_after: Mutex<Vec<Duration>>,
}

impl Outcomes {
    async fn start(&self, api: &Api, prefix: &str) {
        let id = format!("{prefix}-{}", self.number.fetch_add(1, Ordering::Relaxed));
        let begun = Instant::now();
        let answer = api.start(&id, "W", "nobody-polls-this", &(), &id).await;
        match answer.as_ref().map_err(Status::code) {
            Ok(_) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                let mut acknowledged = self.acknowledged.lock();
                if acknowledged.len() < LOOKED_FOR {
                    acknowledged.push(id);
                }
            }
            Err(Code::ResourceExhausted) => {
                self.shed.fetch_add(1, Ordering::Relaxed);
                self.shed_after.lock().push(begun.elapsed());
            }
            Err(Code::Unavailable) => drop(self.unavailable.fetch_add(1, Ordering::Relaxed)),
            Err(Code::DeadlineExceeded | Code::Cancelled) => drop(self.unanswered.fetch_add(1, Ordering::Relaxed)),
            Err(_) => self.wrong.lock().extend(answer.err()),
        }
    }

    fn done(&self) -> f64 {
        self.done.load(Ordering::Relaxed) as f64
    }
}

fn connections(addresses: &[String]) -> Vec<Api> {
    let connect = |address: &String| Api::once(address).with_times(PATIENCE, Duration::ZERO);
    (0..CONNECTIONS).flat_map(|_| addresses.iter().map(connect)).collect()
}

/// So many at once, for a while; how many a second were done.
async fn at_once(apis: &[Api], outcomes: &Arc<Outcomes>) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let starters: Vec<_> = apis
        .iter()
        .cycle()
        .take(AT_ONCE)
        .map(|api| {
            let (api, outcomes, stop) = (api.clone(), Arc::clone(outcomes), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    outcomes.start(&api, "most").await;
                }
            })
        })
        .collect();
    let begun = Instant::now();
    pass(SPELL).await;
    let most = outcomes.done() / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for starter in starters {
        starter.await.expect("a starter ends well");
    }
    most
}

/// So many a second, whatever becomes of them; how many could not even leave, and were done a second.
async fn at_rate(apis: &[Api], outcomes: &Arc<Outcomes>, rate: f64, time: Duration) -> (u64, f64) {
    let room = Arc::new(Semaphore::new(ON_THEIR_WAY_MAX));
    let mut apis = apis.iter().cycle();
    let mut ticks = interval(TICK);
    let begun = Instant::now();
    let (mut due, mut kept_back) = (0u64, 0u64);
    while begun.elapsed() < time {
        ticks.tick().await;
        while due < (begun.elapsed().as_secs_f64() * rate) as u64 {
            due += 1;
            let (Ok(permit), Some(api)) = (Arc::clone(&room).try_acquire_owned(), apis.next()) else {
                kept_back += 1;
                continue;
            };
            let (api, outcomes) = (api.clone(), Arc::clone(outcomes));
            tokio::spawn(async move {
                outcomes.start(&api, "storm").await;
                drop(permit);
            });
        }
    }
    let done = outcomes.done() / begun.elapsed().as_secs_f64();
    // Those under way end: their patience is short.
    drop(room.acquire_many(ON_THEIR_WAY_MAX as u32).await);
    (kept_back, done)
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_ten_times_as_much_as_it_can_do() {
    let rounds = rounds(1);
    let mut stage = Stage::set("overload").await;
    let apis = connections(&stage.cluster.addresses());
    let calm = Arc::new(Outcomes::default());
    let most = at_once(&apis, &calm).await;
    let (memory, terms) = (stage.memory(), stage.terms().await);
    let storm = Arc::new(Outcomes::default());
    stage.measure();
    let (kept_back, done) = at_rate(&apis, &storm, most * TIMES, SPELL * rounds as u32).await;
    let memory_then = stage.memory();
    let begun = Instant::now();
    stage.probes.wait_answering(WELL_AGAIN).await;
    let back = begun.elapsed();
    let shards = stage.shards().await;
    stage.note(&shards);
    let elections = stage.terms().await - terms;
    stage.recover().await;
    let mut shed_after = storm.shed_after.lock().clone();
    shed_after.sort();
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
    stage.remarks.push(format!(
        "most {most:.0} starts/s; of ten times as many were done {done:.0}/s ({:.0} %), refused {} with \
         RESOURCE_EXHAUSTED (p99 after {:.0?}), {} with UNAVAILABLE, {} not answered in {PATIENCE:?}, {kept_back} not sent \
         ({ON_THEIR_WAY_MAX} were on their way)",
        done / most * 100.0,
        count(&storm.shed),
        percentile(&shed_after, 99),
        count(&storm.unavailable),
        count(&storm.unanswered),
    ));
    stage.remarks.push(format!(
        "{elections} elections; memory of a node {memory} MiB before, {memory_then} then; well again after {back:.1?}"
    ));
    let wrong = std::mem::take(&mut *storm.wrong.lock());
    assert!(wrong.is_empty(), "{wrong:?}");
    let api = Api::new(&stage.cluster.addresses());
    let acknowledged = storm.acknowledged.lock().clone();
    for id in &acknowledged {
        api.describe(id).await.unwrap_or_else(|status| panic!("{id} was acknowledged and is lost: {status}"));
    }
    assert!(!acknowledged.is_empty(), "nothing was done");
    stage.clear("F-19 ten times too much", rounds).await;
}
