//! How long shards do not answer, and how soon they do: one writer per shard, as fast as it is answered.
//!
//! # Contract
//! A probe signals a workflow of its shard again and again; each signal is repeated, with its request id, until it
//! is acknowledged. At the end every signal must stand in the histories once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bristlecone_proto::admin::ClusterStatusResponse;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::Api;
use crate::cluster::shard_of;

/// Signals of one workflow; then the probe takes another.
const SIGNALS_MAX: u32 = 1_000;
/// A shard that answers at least as often as this, for so long, is well.
const STEADY_GAP: Duration = Duration::from_millis(500);
const STEADY_TIME: Duration = Duration::from_millis(600);
const PAUSE: Duration = Duration::from_millis(10);
const ATTEMPT_TIME: Duration = Duration::from_millis(400);
const CALL_TIME: Duration = Duration::from_secs(60);
/// Times of answers that are kept between two looks.
const TIMES_MAX: usize = 200_000;

/// Probes of all shards.
#[derive(Debug)]
pub struct Probes {
    stop: Arc<AtomicBool>,
    gaps: BTreeMap<u64, Arc<Gap>>,
    tasks: Vec<JoinHandle<Vec<Written>>>,
}

/// A workflow that a probe wrote to, and how often.
#[derive(Debug)]
struct Written {
    workflow_id: String,
    signals: u32,
}

#[derive(Debug)]
struct Gap(Mutex<Answers>);

/// How a shard answers.
#[derive(Debug)]
struct Answers {
    last: Instant,
    /// The longest time without an answer.
    longest: Duration,
    /// How long each call took.
    times: Vec<Duration>,
}

impl Gap {
    fn new() -> Self {
        Self(Mutex::new(Answers { last: Instant::now(), longest: Duration::ZERO, times: Vec::new() }))
    }

    fn answered(&self, asked: Instant) {
        let mut gap = self.0.lock().expect("no probe panics here");
        let now = Instant::now();
        gap.longest = gap.longest.max(now - gap.last);
        gap.last = now;
        if gap.times.len() < TIMES_MAX {
            gap.times.push(now - asked);
        }
    }

    fn silent(&self) -> Duration {
        self.0.lock().expect("no probe panics here").last.elapsed()
    }

    fn take(&self) -> Duration {
        let mut gap = self.0.lock().expect("no probe panics here");
        let worst = gap.longest.max(gap.last.elapsed());
        gap.longest = Duration::ZERO;
        worst
    }

    fn take_times(&self) -> Vec<Duration> {
        std::mem::take(&mut self.0.lock().expect("no probe panics here").times)
    }
}

impl Probes {
    /// Starts a probe of each shard. `name` must be new to the cluster.
    pub async fn start(name: &str, addresses: &[String], status: &ClusterStatusResponse) -> Self {
        let api = Api::new(addresses).with_times(ATTEMPT_TIME, CALL_TIME);
        let namespace = api.namespace_id().await.expect("the namespace exists");
        let stop = Arc::new(AtomicBool::new(false));
        let mut probes = Self { stop: Arc::clone(&stop), gaps: BTreeMap::new(), tasks: Vec::new() };
        for shard in &status.shards {
            let group = shard.group_id;
            let gap = Arc::new(Gap::new());
            probes.gaps.insert(group, Arc::clone(&gap));
            let ids: Vec<String> = (0..)
                .map(|n| format!("probe-{name}-{n}"))
                .filter(|id| shard_of(status, &namespace, id) == group)
                .take(200)
                .collect();
            probes.tasks.push(tokio::spawn(probe(api.clone(), ids, gap, Arc::clone(&stop))));
        }
        probes
    }

    /// The longest time without an answer since this was last asked, by shard.
    pub fn take(&self) -> BTreeMap<u64, Duration> {
        self.gaps.iter().map(|(group, gap)| (*group, gap.take())).collect()
    }

    /// How long the calls took that were answered since this was last asked, the shortest first.
    pub fn take_times(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.gaps.values().flat_map(|gap| gap.take_times()).collect();
        times.sort();
        times
    }

    /// Waits until every shard has answered steadily for a while: the cluster is well again.
    pub async fn wait_answering(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut steady_since = Instant::now();
        while steady_since.elapsed() < STEADY_TIME {
            if self.gaps.values().any(|gap| gap.silent() > STEADY_GAP) {
                steady_since = Instant::now();
            }
            assert!(Instant::now() < end, "some shard does not answer");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Stops, and checks that every signal that was acknowledged stands in its history, once. How many there were.
    pub async fn finish(self, addresses: &[String]) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let api = Api::new(addresses);
        let mut signals = 0;
        for task in self.tasks {
            for written in task.await.expect("a probe ends well") {
                let events = api.history(&written.workflow_id, "").await.expect("it is there");
                let found: Vec<String> = events.iter().filter_map(signal_input).collect();
                let expected: Vec<String> = (0..written.signals).map(|n| n.to_string()).collect();
                assert_eq!(found, expected, "signals of {}", written.workflow_id);
                signals += written.signals;
            }
        }
        assert!(signals > 0, "no probe wrote anything");
        signals
    }
}

async fn probe(api: Api, ids: Vec<String>, gap: Arc<Gap>, stop: Arc<AtomicBool>) -> Vec<Written> {
    let mut all = Vec::new();
    for workflow_id in ids {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut asked = Instant::now();
        let started = api.start(&workflow_id, "Probe", "nobody-polls-this", &(), &workflow_id).await;
        started.expect("a probe's workflow starts");
        gap.answered(asked);
        let mut written = Written { workflow_id, signals: 0 };
        while written.signals < SIGNALS_MAX && !stop.load(Ordering::Relaxed) {
            let request_id = format!("{}-{}", written.workflow_id, written.signals);
            asked = Instant::now();
            let signalled = api.signal(&written.workflow_id, "beat", &written.signals, &request_id).await;
            signalled.expect("a probe's signal arrives");
            gap.answered(asked);
            written.signals += 1;
            tokio::time::sleep(PAUSE).await;
        }
        all.push(written);
    }
    all
}

fn signal_input(event: &bristlecone_proto::temporal::api::history::v1::HistoryEvent) -> Option<String> {
    let Some(Attributes::WorkflowExecutionSignaledEventAttributes(signaled)) = &event.attributes else { return None };
    let payload = signaled.input.as_ref()?.payloads.first()?;
    Some(String::from_utf8_lossy(&payload.data).into_owned())
}
