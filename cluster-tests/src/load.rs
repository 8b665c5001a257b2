//! Work under way while things break, and the record of what was acknowledged.
//!
//! # Contract
//! A writer starts a workflow, signals it a few times, and waits for its result; each call is repeated, with its
//! request id, until it is answered. In the end every workflow must have completed once with the result that follows
//! from what was acknowledged, and every node must tell the same history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::task::JoinHandle;

use crate::api::{Api, check_history, result};
use crate::wait::until;

/// Signals of one workflow.
const SIGNALS: u32 = 3;
/// How long one workflow may take while everything breaks.
const STUCK_AFTER: Duration = Duration::from_secs(90);

const ATTEMPT_TIME: Duration = Duration::from_secs(3);

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    writers: Vec<JoinHandle<Vec<Run>>>,
}

#[derive(Debug)]
struct Run {
    workflow_id: String,
    run_id: String,
}

impl Load {
    /// Starts writers that call any of `addresses`; workers must poll `queue`.
    pub fn start(name: &str, addresses: &[String], queue: &str, writers: u32) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let writer = |number: u32| {
            let mut addresses = addresses.to_vec();
            // Each begins with another node.
            let first = number as usize % addresses.len();
            addresses.rotate_left(first);
            let api = Api::new(&addresses).with_times(ATTEMPT_TIME, STUCK_AFTER);
            let prefix = format!("load-{name}-{number}");
            tokio::spawn(write(api, prefix, queue.to_string(), Arc::clone(&stop), Arc::clone(&done)))
        };
        let writers = (0..writers).map(writer).collect();
        Self { stop, done, writers }
    }

    /// Workflows that have completed so far.
    pub fn done(&self) -> u32 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `more` further workflows have completed.
    pub async fn wait_for(&self, more: u32) {
        let goal = self.done() + more;
        until("progress of the load", STUCK_AFTER, || async {
            if self.done() >= goal { Ok(()) } else { Err(self.done()) }
        })
        .await;
        assert!(self.writers.iter().all(|writer| !writer.is_finished()), "a writer has given up");
    }

    /// Stops the writers, and checks everything that they were told against every node. How many workflows there were.
    pub async fn finish(self, addresses: &[String]) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut runs = Vec::new();
        for writer in self.writers {
            runs.extend(writer.await.expect("a writer ends well"));
        }
        let nodes: Vec<Api> = addresses.iter().map(|address| Api::new(std::slice::from_ref(address))).collect();
        for (number, run) in runs.iter().enumerate() {
            // One node is asked about each, all nodes about some.
            let asked = if number % 10 == 0 { nodes.len() } else { 1 };
            let mut told: Vec<Vec<u8>> = Vec::new();
            for node in nodes.iter().cycle().skip(number % nodes.len()).take(asked) {
                told.push(check_run(node, run).await);
            }
            assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "nodes differ about {}", run.workflow_id);
        }
        assert!(!runs.is_empty(), "no load was under way");
        runs.len()
    }
}

async fn write(api: Api, prefix: String, queue: String, stop: Arc<AtomicBool>, done: Arc<AtomicU32>) -> Vec<Run> {
    let mut runs = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let workflow_id = format!("{prefix}-{}", runs.len());
        let run_id = api.start(&workflow_id, "Doubles", &queue, &SIGNALS, &format!("{workflow_id}-start")).await;
        let run_id = run_id.unwrap_or_else(|status| panic!("{workflow_id} was not started: {status}"));
        for number in 0..SIGNALS {
            let sent = api.signal(&workflow_id, "add", &number, &format!("{workflow_id}-{number}")).await;
            sent.unwrap_or_else(|status| panic!("{workflow_id} was not signalled: {status}"));
        }
        let closing = api.closed(&workflow_id, &run_id).await;
        let closing = closing.unwrap_or_else(|status| panic!("{workflow_id} is stuck: {status}"));
        let doubled: Vec<u32> = result(&closing).unwrap_or_else(|error| panic!("{workflow_id}: {error:#}"));
        assert_eq!(doubled, expected(), "{workflow_id}");
        runs.push(Run { workflow_id, run_id });
        done.fetch_add(1, Ordering::Relaxed);
    }
    runs
}

/// What one node tells of a run, encoded, after checking it.
async fn check_run(node: &Api, run: &Run) -> Vec<u8> {
    let Run { workflow_id, run_id } = run;
    let events = node.history(workflow_id, run_id).await;
    let events = events.unwrap_or_else(|status| panic!("{workflow_id} is lost: {status}"));
    check_history(&events).unwrap_or_else(|error| panic!("{workflow_id}: {error:#}"));
    let doubled: Vec<u32> =
        result(events.last().expect("events")).unwrap_or_else(|error| panic!("{workflow_id}: {error:#}"));
    assert_eq!(doubled, expected(), "{workflow_id}");
    let runs = node.list(&format!("WorkflowId = '{workflow_id}'")).await.expect("listed");
    assert_eq!(runs.len(), 1, "{workflow_id} ran more than once");
    events.iter().flat_map(Message::encode_to_vec).collect()
}

/// Signals are acknowledged one after another: their order is known.
fn expected() -> Vec<u32> {
    (0..SIGNALS).map(|number| number * 2).collect()
}
