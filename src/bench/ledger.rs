//! What became of each workflow, and how long it took.

use std::collections::BTreeMap;
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
    called: AtomicU64,
    /// Tasks that came although many of a higher priority waited.
    overtaken: AtomicU64,
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
    /// Workflows by priority that no worker has had yet, while their order is looked at.
    waiting_by_priority: Option<BTreeMap<u64, u64>>,
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
    /// From when a signal, an update or a page was due to its answer.
    pub call: Histogram<u64>,
    /// Likewise of counts.
    pub count: Histogram<u64>,
    /// From the second in which a schedule was due to its workflow's start.
    pub due_to_start: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are in order");
        Self {
            start: histogram(),
            schedule_to_start: histogram(),
            completed: histogram(),
            call: histogram(),
            count: histogram(),
            due_to_start: histogram(),
        }
    }
}

impl Ledger {
    pub fn new(workflows: u64) -> Self {
        let workflows = vec![Workflow::default(); usize::try_from(workflows).expect("fits into memory")];
        Self {
            begun: Instant::now(),
            inner: Mutex::new(Inner {
                workflows,
                waiting: Default::default(),
                latencies: Latencies::default(),
                waiting_by_priority: None,
            }),
            started: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            called: AtomicU64::new(0),
            overtaken: AtomicU64::new(0),
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

    pub fn called(&self, due: Instant) {
        self.called.fetch_add(1, Ordering::Relaxed);
        self.inner.lock().latencies.call.saturating_record(micros(due.elapsed()));
    }

    pub fn counted(&self, due: Instant) {
        self.called.fetch_add(1, Ordering::Relaxed);
        self.inner.lock().latencies.count.saturating_record(micros(due.elapsed()));
    }

    /// A schedule's workflow has reached a worker, so long after it was due.
    pub fn was_due(&self, number: u64, run_id: &str, start_after: Duration) {
        let due = self.begun.elapsed().saturating_sub(start_after);
        let mut inner = self.inner.lock();
        inner.latencies.due_to_start.saturating_record(micros(start_after));
        if let Some(workflow) = inner.at(number) {
            workflow.run_id = run_id.to_string();
            workflow.due = Some(due);
        }
    }

    /// From now on the order is looked at in which workflows of these priorities reach a worker.
    pub fn expect_in_order(&self, priorities: impl Iterator<Item = u64>) {
        let mut waiting = BTreeMap::new();
        priorities.for_each(|priority| *waiting.entry(priority).or_default() += 1);
        self.inner.lock().waiting_by_priority = Some(waiting);
    }

    /// A workflow has reached a worker; `at_once` of them may be on their way there without any order.
    pub fn came(&self, priority: u64, at_once: u64) {
        let mut inner = self.inner.lock();
        let Some(waiting) = &mut inner.waiting_by_priority else { return };
        if waiting.range(..priority).any(|(_, left)| *left > at_once) {
            self.overtaken.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(left) = waiting.get_mut(&priority) {
            *left = left.saturating_sub(1);
        }
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

    pub fn called_count(&self) -> u64 {
        self.called.load(Ordering::Relaxed)
    }

    pub fn overtaken(&self) -> u64 {
        self.overtaken.load(Ordering::Relaxed)
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

    #[test]
    fn what_overtakes_many_of_a_higher_priority_is_counted() {
        let ledger = Ledger::new(0);
        ledger.came(2, 1);
        ledger.expect_in_order([1, 1, 1, 2, 2].into_iter());
        ledger.came(2, 2);
        assert_eq!(ledger.overtaken(), 1);
        ledger.came(1, 2);
        ledger.came(2, 2);
        assert_eq!(ledger.overtaken(), 1, "two may be on their way");
    }
}
