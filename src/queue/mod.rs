//! Task queues: brokers match waiting polls with the tasks that shards offer; polls wait on the node
//! that the client called.
//!
//! ```text
//! polls.rs    the polls that wait on this node, and what is delivered to them
//! broker.rs   the queues that this node brokers: polls × offers → claims
//! fair.rs     the order of tasks: by priority, then fairly among fairness keys
//! pace.rs     how fast tasks may go, and advice on the number of polls
//! ```
//!
//! # Contract
//! Everything here is soft state. A queue's broker is the first live member in rendezvous order; two
//! brokers at once are safe, because a match is only a claim, and the shard that owns the task decides.
//! Polls are registered again, and shards offer again, on every change of the live members and every
//! ten seconds, so that whatever is lost comes back.
//!
//! # Depends on
//! `peer` (notices, claims), `shard` (local claims).

mod broker;
mod fair;
mod pace;
mod polls;
mod rendezvous;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bristlecone_proto::node::claim_result::Outcome;
use bristlecone_proto::node::{
    Claim, ClaimResult, Deliver, Notice, Offer, OfferedTask, PollCancel, PollRegister, QueueDescription, QueueKey,
    Request, Undelivered, notice, request, response,
};
use bristlecone_storage::runtime::{Clock, Tasks};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use polls::{Delivered, Parked};

use crate::meta::MetaView;
use crate::peer::Peers;
use crate::shard::Shards;

/// How often polls are registered and backlogs offered again.
pub const REPEAT: Duration = Duration::from_secs(10);
/// How long a broker waits for the outcome of a claim.
const CLAIM_TIME: Duration = Duration::from_secs(5);

/// The task queues as one node sees them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queues {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    me: u64,
    /// Live members, in no particular order; never empty.
    members: RwLock<Vec<u64>>,
    peers: Peers,
    shards: Shards,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    polls: polls::Polls,
    brokers: Mutex<broker::Brokers>,
    /// Hears in which namespaces (by id) there are tasks for the server's own workers.
    own_work: OnceLock<mpsc::Sender<String>>,
}

impl Queues {
    pub fn new(me: u64, peers: Peers, shards: Shards, tasks: Tasks, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            me,
            members: RwLock::new(vec![me]),
            peers,
            shards,
            tasks,
            clock,
            polls: polls::Polls::default(),
            brokers: Mutex::default(),
            own_work: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Names the namespaces, by id, in which tasks are offered to the server's own workers. To be called once.
    pub fn own_work(&self) -> mpsc::Receiver<String> {
        const NAMESPACES_MAX: usize = 256;
        let (sender, receiver) = mpsc::channel(NAMESPACES_MAX);
        drop(self.inner.own_work.set(sender));
        receiver
    }

    /// Keeps polls registered, tasks offered, and to what operators set; runs until the node stops.
    pub async fn run(self, mut meta: watch::Receiver<Arc<MetaView>>) {
        let mut every = tokio::time::interval(REPEAT);
        meta.mark_changed();
        loop {
            tokio::select! {
                _ = every.tick() => {}
                Ok(()) = meta.changed() => {
                    let configs = Arc::clone(meta.borrow_and_update().queue_configs());
                    let matches = self.inner.brokers.lock().configure(&configs, Instant::now());
                    self.claim_all(matches);
                    continue;
                }
            }
            self.inner.brokers.lock().expire(Instant::now());
            self.register_all();
            self.inner.shards.reoffer();
        }
    }

    /// The members that answer, as of now. Polls move to their new brokers.
    pub fn set_members(&self, mut members: Vec<u64>) {
        if !members.contains(&self.inner.me) {
            members.push(self.inner.me);
        }
        members.sort_unstable();
        let changed = {
            let mut known = self.inner.members.write();
            std::mem::replace(&mut *known, members.clone()) != members
        };
        if changed {
            self.register_all();
            self.inner.shards.reoffer();
        }
    }

    pub fn polls(&self) -> &polls::Polls {
        &self.inner.polls
    }

    /// Parks a poll on this node and registers it with the queue's broker.
    pub fn park(&self, queue: QueueKey, mut poll: bristlecone_proto::chain::Poll, until: Instant) -> Parked {
        poll.node_id = self.inner.me;
        let parked = self.inner.polls.park(self.clone(), queue, poll, until);
        if parked.waits() {
            self.register(parked.registration());
        }
        parked
    }

    /// Ends the polls on this node that the predicate names.
    pub fn end_polls(&self, matches: impl Fn(&QueueKey, &bristlecone_proto::chain::Poll) -> bool) {
        for (queue, poll_id) in self.inner.polls.end(matches) {
            self.cancel(&queue, poll_id);
        }
    }

    /// Polls of this instance of a worker that are still on their way here get nothing.
    pub fn worker_gone(&self, instance: &str) {
        self.inner.polls.worker_gone(instance);
    }

    /// A shard on this node offers tasks.
    pub fn offer(&self, offer: Offer) {
        let Some(queue) = &offer.queue else { return };
        let broker = self.broker_of(queue);
        if broker == self.inner.me {
            self.take_offer(self.inner.me, offer);
        } else {
            // A lost offer is repeated within `REPEAT`.
            drop(self.inner.peers.notify(broker, notice(notice::Kind::Offer(offer))));
        }
    }

    /// A started task for a poll, from a shard on this node.
    pub fn deliver(&self, to: u64, delivery: Box<Deliver>) {
        if to == self.inner.me {
            self.take_delivery(self.inner.me, delivery);
        } else {
            let back = polls::give_back(&delivery);
            if let Err(error) = self.inner.peers.notify(to, notice(notice::Kind::Deliver(delivery))) {
                tracing::debug!(node = to, %error, "a started task could not be delivered, its start is taken back");
                self.inner.shards.undelivered(back);
            }
        }
    }

    /// A message about queues from another node.
    pub fn notice(&self, from: u64, kind: notice::Kind) {
        match kind {
            notice::Kind::PollRegister(register) => self.take_registration(register),
            notice::Kind::PollCancel(cancel) => self.take_cancel(from, cancel),
            notice::Kind::Offer(offer) => self.take_offer(from, offer),
            notice::Kind::Deliver(delivery) => self.take_delivery(from, delivery),
            notice::Kind::Undelivered(undelivered) => self.inner.shards.undelivered(undelivered),
            notice::Kind::ClaimResult(result) => self.inner.shards.claim_result(result),
            notice::Kind::Subscribe(_)
            | notice::Kind::LeaderHint(_)
            | notice::Kind::WorkerHeartbeats(_)
            | notice::Kind::Clock(_) => {}
        }
    }

    /// Who polls a queue that this node brokers, and what waits there.
    pub fn describe(&self, queue: &QueueKey) -> QueueDescription {
        self.inner.brokers.lock().describe(queue, Instant::now(), self.inner.clock.wall())
    }

    /// The node that brokers a queue.
    pub fn broker_of(&self, queue: &QueueKey) -> u64 {
        rendezvous::first(queue, &self.inner.members.read()).unwrap_or(self.inner.me)
    }

    /// Nobody polls this sticky queue any more: its tasks go to the normal queue at once.
    pub fn shut(&self, queue: &QueueKey) {
        let orphans = self.inner.brokers.lock().shut(queue);
        for (node, group_id, task) in orphans {
            self.report(node, group_id, queue, task, Outcome::NoPollers);
        }
    }

    fn register_all(&self) {
        for registration in self.inner.polls.registrations() {
            self.register(registration);
        }
    }

    fn register(&self, registration: PollRegister) {
        let Some(queue) = &registration.queue else { return };
        let broker = self.broker_of(queue);
        if broker == self.inner.me {
            self.take_registration(registration);
        } else {
            drop(self.inner.peers.notify(broker, notice(notice::Kind::PollRegister(registration))));
        }
    }

    /// A poll on this node is over.
    fn cancel(&self, queue: &QueueKey, poll_id: u64) {
        let cancel = PollCancel { queue: Some(queue.clone()), poll_ids: vec![poll_id] };
        let broker = self.broker_of(queue);
        if broker == self.inner.me {
            self.take_cancel(self.inner.me, cancel);
        } else {
            drop(self.inner.peers.notify(broker, notice(notice::Kind::PollCancel(cancel))));
        }
    }

    fn take_registration(&self, register: PollRegister) {
        let matches = self.inner.brokers.lock().register(register, Instant::now(), self.inner.clock.wall());
        self.claim_all(matches);
    }

    fn take_cancel(&self, node: u64, cancel: PollCancel) {
        if let Some(queue) = &cancel.queue {
            self.inner.brokers.lock().cancel(queue, node, &cancel.poll_ids);
        }
    }

    fn take_offer(&self, from: u64, offer: Offer) {
        let Some(queue) = offer.queue.clone() else { return };
        let group_id = offer.group_id;
        if queue.name == crate::batch::TASK_QUEUE
            && !offer.tasks.is_empty()
            && let Some(own_work) = self.inner.own_work.get()
        {
            // What is not heard now is offered again.
            drop(own_work.try_send(queue.namespace_id.clone()));
        }
        let (matches, orphans) = self.inner.brokers.lock().offer(from, offer, Instant::now());
        self.claim_all(matches);
        for task in orphans {
            self.report(from, group_id, &queue, task, Outcome::NoPollers);
        }
    }

    fn take_delivery(&self, from: u64, delivery: Box<Deliver>) {
        let Err(delivery) = self.inner.polls.deliver(from, delivery) else { return };
        tracing::debug!(poll = delivery.poll_id, "the poll is gone, the start of its task is taken back");
        self.give_back(from, polls::give_back(&delivery));
    }

    /// Tells the shard that started a task that nobody has it.
    fn give_back(&self, shard_node: u64, undelivered: Box<Undelivered>) {
        if shard_node == self.inner.me {
            self.inner.shards.undelivered(undelivered);
        } else {
            drop(self.inner.peers.notify(shard_node, notice(notice::Kind::Undelivered(undelivered))));
        }
    }

    fn claim_all(&self, matches: Vec<broker::Match>) {
        let throttled = self.inner.brokers.lock().take_throttled();
        for (queue, pause) in throttled {
            let queues = self.clone();
            self.inner.tasks.spawn(async move {
                tokio::time::sleep(pause).await;
                let matches = queues.inner.brokers.lock().unthrottle(&queue, Instant::now());
                queues.claim_all(matches);
            });
        }
        for matched in matches {
            let queues = self.clone();
            self.inner.tasks.spawn(async move { queues.claim(matched).await });
        }
    }

    /// Asks the task's shard to start it for the poll, and settles what becomes of both.
    async fn claim(self, matched: broker::Match) {
        let claim = Claim {
            queue: Some(matched.queue.clone()),
            group_id: matched.group_id,
            task: Some(matched.task.clone()),
            poll: Some(matched.poll.clone()),
            backlog_count_hint: matched.backlog_count,
            poller_delta: matched.poller_delta,
        };
        let outcome = if matched.node == self.inner.me {
            self.inner.shards.claim(claim).await
        } else {
            let request = Request { timeout_ms: 0, kind: Some(request::Kind::Claim(claim)) };
            match self.inner.peers.call(matched.node, request, CLAIM_TIME).await {
                Ok(response) => match response.kind {
                    Some(response::Kind::Claimed(result)) => result.outcome(),
                    _ => Outcome::Retry,
                },
                Err(_) => Outcome::Retry,
            }
        };
        let matches = self.inner.brokers.lock().settle(matched, outcome, Instant::now());
        self.claim_all(matches);
    }

    fn report(&self, node: u64, group_id: u64, queue: &QueueKey, task: OfferedTask, outcome: Outcome) {
        let result = ClaimResult {
            queue: Some(queue.clone()),
            task: Some(task),
            group_id,
            outcome: outcome.into(),
            ..ClaimResult::default()
        };
        if node == self.inner.me {
            self.inner.shards.claim_result(result);
        } else {
            drop(self.inner.peers.notify(node, notice(notice::Kind::ClaimResult(result))));
        }
    }
}

fn notice(kind: notice::Kind) -> Notice {
    Notice { kind: Some(kind) }
}
