//! What became of each workflow, and how long it took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

/// A run in which nothing completes for so long has lost what is missing.
const STALL: Duration = Duration::from_secs(60);
/// Latencies are kept in microseconds, up to an hour.
const LATENCY_MAX: u64 = 3_600_000_000;

/// The workflows of a run by number.
#[derive(Debug)]
pub struct Ledger {
    begun: Instant,
    inner: Mutex<Inner>,
    started: AtomicU64,
    completed: AtomicU64,
    signalled: AtomicU64,
    /// Completions of workflows that had completed already.
    duplicates: AtomicU64,
    finished: Notify,
}

#[derive(Debug)]
struct Inner {
    workflows: Vec<Workflow>,
    /// Who waits for a workflow to complete.
    waiting: std::collections::HashMap<u64, oneshot::Sender<()>>,
    latencies: Latencies,
}

#[derive(Debug, Clone, Default)]
struct Workflow {
    /// When its start was due, since the ledger began.
    due: Option<Duration>,
    run_id: String,
    completed: bool,
}

/// In microseconds.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// From when a start was due to its answer.
    pub start: Histogram<u64>,
    /// From the scheduling of a workflow task to its arrival at the worker.
    pub schedule_to_start: Histogram<u64>,
    /// From when a start was due to the answer to the workflow's completion.
    pub completed: Histogram<u64>,
    /// From when a signal was due to its answer.
    pub signal: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are in order");
        Self { start: histogram(), schedule_to_start: histogram(), completed: histogram(), signal: histogram() }
    }
}

impl Ledger {
    pub fn new(workflows: u64) -> Self {
        let workflows = vec![Workflow::default(); usize::try_from(workflows).expect("fits into memory")];
        Self {
            begun: Instant::now(),
            inner: Mutex::new(Inner { workflows, waiting: Default::default(), latencies: Latencies::default() }),
            started: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            signalled: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            finished: Notify::new(),
        }
    }

    /// A start is due now or was due then; returns what completes with the workflow.
    pub fn due(&self, number: u64, due: Instant) -> oneshot::Receiver<()> {
        let (done, completed) = oneshot::channel();
        let mut inner = self.inner.lock();
        if let Some(workflow) = inner.at(number) {
            workflow.due = Some(due.duration_since(self.begun));
        }
        inner.waiting.insert(number, done);
        completed
    }

    pub fn started(&self, number: u64, run_id: String, due: Instant) {
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        inner.latencies.start.saturating_record(micros(due.elapsed()));
        if let Some(workflow) = inner.at(number) {
            workflow.run_id = run_id;
        }
    }

    pub fn signalled(&self, due: Instant) {
        self.signalled.fetch_add(1, Ordering::Relaxed);
        self.inner.lock().latencies.signal.saturating_record(micros(due.elapsed()));
    }

    pub fn task_arrived(&self, after: Duration) {
        self.inner.lock().latencies.schedule_to_start.saturating_record(micros(after));
    }

    /// The worker's completion of a workflow was accepted.
    pub fn completed(&self, number: u64) {
        let now = self.begun.elapsed();
        let mut inner = self.inner.lock();
        let Some(workflow) = inner.at(number) else { return };
        if std::mem::replace(&mut workflow.completed, true) {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let due = workflow.due.unwrap_or(now);
        inner.latencies.completed.saturating_record(micros(now.saturating_sub(due)));
        let waiting = inner.waiting.remove(&number);
        let all = inner.workflows.len() as u64;
        drop(inner);
        // Nobody waits for it when starts go at a rate.
        waiting.map(|done| done.send(()));
        if self.completed.fetch_add(1, Ordering::Relaxed) + 1 == all {
            self.finished.notify_one();
        }
    }

    /// Waits until all have completed.
    ///
    /// # Errors
    /// Nothing has completed for a minute.
    pub async fn wait_all(&self) -> anyhow::Result<()> {
        let all = self.inner.lock().workflows.len() as u64;
        loop {
            let before = self.completed_count();
            if before == all {
                return Ok(());
            }
            if timeout(STALL, self.finished.notified()).await.is_err() && self.completed_count() == before {
                bail!("{before} of {all} workflows have completed, and none in the last {} s", STALL.as_secs());
            }
        }
    }

    pub fn started_count(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    pub fn completed_count(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    pub fn signalled_count(&self) -> u64 {
        self.signalled.load(Ordering::Relaxed)
    }

    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    pub fn latencies(&self) -> Latencies {
        self.inner.lock().latencies.clone()
    }

    /// The run that a start's answer named; empty when it was not started.
    pub fn run_id(&self, number: u64) -> String {
        self.inner.lock().at(number).map(|workflow| workflow.run_id.clone()).unwrap_or_default()
    }
}

impl Inner {
    fn at(&mut self, number: u64) -> Option<&mut Workflow> {
        self.workflows.get_mut(usize::try_from(number).ok()?)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn latencies_count_from_when_a_start_was_due_and_a_second_completion_is_a_duplicate() {
        let ledger = Ledger::new(2);
        let due = Instant::now();
        let done = ledger.due(0, due);
        tokio::time::advance(Duration::from_millis(10)).await;
        ledger.started(0, "run".into(), due);
        tokio::time::advance(Duration::from_millis(10)).await;
        ledger.completed(0);
        done.await.expect("it completed");
        ledger.completed(0);
        assert_eq!((ledger.completed_count(), ledger.duplicates(), ledger.run_id(0)), (1, 1, "run".into()));
        let latencies = ledger.latencies();
        assert!((9_900..=10_100).contains(&latencies.start.max()));
        assert!((19_900..=20_100).contains(&latencies.completed.max()));
        assert!(ledger.wait_all().await.expect_err("one is missing").to_string().contains("1 of 2"));
        ledger.completed(1);
        ledger.wait_all().await.expect("all");
    }
}
