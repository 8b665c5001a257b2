//! The polls that wait on this node.
//!
//! # Contract
//! A poll ends exactly once: by a delivery, by its time, or by its client going away (the [`Parked`]
//! is dropped). A delivery for a poll that is over is handed back, so that its start is taken back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bristlecone_proto::chain::Poll;
use bristlecone_proto::node::{Deliver, PollRegister, QueueKey, Undelivered, deliver};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Queues;

/// Polls that one node holds.
const POLLS_MAX: usize = 200_000;
/// Workers that said goodbye, as far as a node remembers them, and for how long.
const GONE_MAX: usize = 10_000;
const GONE_TIME: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Polls {
    waiting: Arc<Mutex<HashMap<u64, Waiting>>>,
    /// Instances of workers that said goodbye, and when.
    gone: Mutex<HashMap<String, Instant>>,
    last_id: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    queue: QueueKey,
    poll: Poll,
    until: Instant,
    deliver: oneshot::Sender<Option<Delivered>>,
}

/// What a poll gets.
#[derive(Debug)]
pub struct Delivered {
    pub task: deliver::Task,
    pub group_id: u64,
    /// The node that delivered: the shard's leader.
    pub from: u64,
    pub backlog_count_hint: i64,
    /// Polls that the worker should have more or fewer of the queue; 0: no opinion.
    pub poller_delta: i32,
    give_back: Box<Undelivered>,
}

/// A poll that waits; dropping it ends it.
#[derive(Debug)]
pub struct Parked {
    queues: Queues,
    queue: QueueKey,
    id: u64,
    poll: Poll,
    until: Instant,
    delivered: oneshot::Receiver<Option<Delivered>>,
}

impl Polls {
    pub(super) fn park(&self, queues: Queues, queue: QueueKey, mut poll: Poll, until: Instant) -> Parked {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        poll.poll_id = id;
        let (deliver, delivered) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if self.is_gone(&poll.worker_instance_key) {
            // It was under way when its worker said goodbye, who waits for it to end.
            drop(deliver.send(None));
        } else if waiting.len() < POLLS_MAX {
            // Beyond the limit a poll just gets nothing, as when its queue is empty.
            waiting.insert(id, Waiting { queue: queue.clone(), poll: poll.clone(), until, deliver });
        }
        drop(waiting);
        Parked { queues, queue, id, poll, until, delivered }
    }

    pub(super) fn registrations(&self) -> Vec<PollRegister> {
        let now = Instant::now();
        let waiting = self.waiting.lock();
        waiting.values().map(|w| registration(&w.queue, &w.poll, w.until, now)).collect()
    }

    /// Hands a started task to its poll.
    ///
    /// # Errors
    /// The delivery when the poll is over.
    pub(super) fn deliver(&self, from: u64, mut delivery: Box<Deliver>) -> Result<(), Box<Deliver>> {
        let Some(waiting) = self.waiting.lock().remove(&delivery.poll_id) else { return Err(delivery) };
        let Some(task) = delivery.task.take() else { return Ok(()) };
        let delivered = Delivered {
            task,
            group_id: delivery.group_id,
            from,
            backlog_count_hint: delivery.backlog_count_hint,
            poller_delta: delivery.poller_delta,
            give_back: give_back(&delivery),
        };
        waiting.deliver.send(Some(delivered)).map_err(|_| delivery)
    }

    /// From now on polls of this instance of a worker get nothing. What waits is to be ended afterwards.
    pub(super) fn worker_gone(&self, instance: &str) {
        let mut gone = self.gone.lock();
        if gone.len() >= GONE_MAX {
            gone.retain(|_, since| since.elapsed() <= GONE_TIME);
        }
        // Beyond the limit a late poll ends when its time is up.
        if gone.len() < GONE_MAX {
            gone.insert(instance.to_string(), Instant::now());
        }
    }

    fn is_gone(&self, instance: &str) -> bool {
        self.gone.lock().get(instance).is_some_and(|since| since.elapsed() <= GONE_TIME)
    }

    /// Ends the polls that the predicate names, as if their time were up; their broker has to hear of it.
    pub(super) fn end(&self, matches: impl Fn(&QueueKey, &Poll) -> bool) -> Vec<(QueueKey, u64)> {
        let mut waiting = self.waiting.lock();
        let ended: Vec<u64> = waiting.iter().filter(|(_, w)| matches(&w.queue, &w.poll)).map(|(id, _)| *id).collect();
        let ended = ended.into_iter().filter_map(|id| {
            let Waiting { queue, deliver, .. } = waiting.remove(&id)?;
            // The receiver may be gone: then the poll is over anyway.
            drop(deliver.send(None));
            Some((queue, id))
        });
        ended.collect()
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

impl Parked {
    /// Whether a task may still be delivered to it.
    pub(super) fn waits(&self) -> bool {
        self.queues.inner.polls.waiting.lock().contains_key(&self.id)
    }

    pub(super) fn registration(&self) -> PollRegister {
        registration(&self.queue, &self.poll, self.until, Instant::now())
    }

    /// Waits for a task; `None` when the poll's time is up first.
    pub async fn wait(mut self) -> Option<Delivered> {
        match timeout_at(self.until, &mut self.delivered).await {
            Ok(Ok(delivered)) => delivered,
            // The sender is gone when the node has too many polls.
            Ok(Err(_)) => {
                tokio::time::sleep_until(self.until).await;
                None
            }
            Err(_) => {
                // Take the poll out; a delivery that was faster is not lost.
                self.queues.inner.polls.waiting.lock().remove(&self.id);
                self.delivered.try_recv().ok().flatten()
            }
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if self.queues.inner.polls.waiting.lock().remove(&self.id).is_some() {
            self.queues.cancel(&self.queue, self.id);
        }
        // The client went away between the delivery and the answer.
        if let Ok(Some(delivered)) = self.delivered.try_recv() {
            self.queues.give_back(delivered.from, delivered.give_back);
        }
    }
}

/// What the shard has to hear when nobody took the delivery.
pub(super) fn give_back(delivery: &Deliver) -> Box<Undelivered> {
    Box::new(Undelivered { chain: delivery.chain.clone(), undo: delivery.undo.clone(), query_id: delivery.query_id })
}

fn registration(queue: &QueueKey, poll: &Poll, until: Instant, now: Instant) -> PollRegister {
    let left = until.saturating_duration_since(now);
    PollRegister {
        queue: Some(queue.clone()),
        poll: Some(poll.clone()),
        left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    }
}
