//! The loop of one epoch: take what waits, decide, have it applied, answer; again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_machine::{self as machine, Chain};
use bristlecone_proto::chain::{ChainId, Input, Purge, Wake, input};
use bristlecone_proto::node::QueueKey;
use bristlecone_raft::{Epoch, Group};
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::runtime::{Clock, UnixNanos};
use bristlecone_storage::state::keys::{self, Slot};
use futures::FutureExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::backlog::{self, Backlog};
use super::commit::Pending;
use super::deadlines::{self, Deadlines};
use super::live::{Chains, Entry, Live};
use super::load::{self, LoadError};
use super::mailbox::{Answer, Body, Lane, Mail, Mailbox, QueryNews, Respond};
use super::mend::Mend;
use super::outbox::Outbox;
use super::queries::{self, Queries};
use super::retention::{self, Expired};
use super::updates::UpdateWaits;
use super::{CallError, ChainKey, Surroundings};

/// Inputs taken from each lane for one batch.
const TAKE: [(Lane, usize); 4] =
    [(Lane::Completions, 512), (Lane::Changes, 256), (Lane::Starts, 256), (Lane::Reads, 256)];
/// Bytes at which a batch is closed; one larger transition still goes, alone.
const BATCH_BYTES: usize = 1 << 20;
/// Inputs that wait for one chain to be loaded.
const WAITING_MAX: usize = 1_024;
/// How often queries and readers that ran out of time are looked for.
const EXPIRE: Duration = Duration::from_millis(250);

/// Why an epoch is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    #[error("this node does not lead the shard any more")]
    NotLeader,
    #[error("a proposal was refused or its outcome is unknown")]
    Unknown,
    #[error("the rows cannot be read")]
    Storage,
    #[error("the shard stops deciding so that another node can lead")]
    Handover,
}

/// What reader tasks bring back.
#[derive(Debug)]
pub enum Event {
    Loaded { key: ChainKey, loaded: Box<Result<Loaded, LoadError>> },
    Deadlines(Result<deadlines::Found, bristlecone_storage::state::Error>),
    Expired(Result<Vec<Expired>, bristlecone_storage::state::Error>),
    Refill { queue: QueueKey, rows: Result<Vec<backlog::Row>, bristlecone_storage::state::Error> },
}

/// A chain, or further runs of one that is in memory.
#[derive(Debug)]
pub struct Loaded {
    pub chain: Option<Chain>,
    pub runs: Vec<(String, Option<machine::Run>)>,
}

/// The owner of a shard during one epoch.
pub struct Actor {
    pub around: Arc<Surroundings>,
    pub group: Group,
    pub mailbox: Mailbox,
    pub reoffer: Arc<Notify>,
    pub slots: Range<Slot>,
    pub epoch: Epoch,
    /// Number of the last decision in this epoch.
    pub number: u64,
    pub time: ShardTime,
    pub chains: Chains,
    /// Inputs whose chains were in memory when they were taken.
    pub ready: VecDeque<Mail>,
    pub pending: Pending,
    /// Rows behind listings that wait to be made right.
    pub mends: VecDeque<(Slot, Box<Mend>, Answer)>,
    pub deadlines: Deadlines,
    pub backlog: Backlog,
    pub outbox: Outbox,
    pub queries: Queries,
    pub update_waits: UpdateWaits,
    pub events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    pub expire_at: Instant,
    /// When to look for runs whose retention is over; `None` while a look is under way.
    pub sweep_at: Option<Instant>,
    /// Queues whose rows are being read.
    pub refilling: Vec<QueueKey>,
    /// Asked to hand the leadership over: no new batches.
    pub stop: watch::Receiver<bool>,
}

/// The shard's clock: never backwards, and never faster than the wall clock when that was set back.
#[derive(Debug, Clone, Copy)]
pub struct ShardTime {
    now: UnixNanos,
    read_at: Instant,
}

impl ShardTime {
    pub fn new(last: UnixNanos) -> Self {
        Self { now: last, read_at: Instant::now() }
    }

    /// max(wall, shard time); while the log is ahead of the wall, time passes at the monotonic rate.
    pub fn read(&mut self, wall: UnixNanos) -> UnixNanos {
        let passed = UnixNanos::try_from(self.read_at.elapsed().as_nanos()).unwrap_or(0);
        self.read_at = Instant::now();
        self.now = if wall > self.now { wall } else { self.now.saturating_add(passed) };
        self.now
    }

    pub fn last(&self) -> UnixNanos {
        self.now
    }
}

impl Actor {
    /// Decides until the epoch is over.
    pub async fn run(&mut self) -> Over {
        loop {
            if *self.stop.borrow() {
                self.harden_all();
                return self.commit().await.err().unwrap_or(Over::Handover);
            }
            // A shard that is never idle has to hear of it too.
            if self.reoffer.notified().now_or_never().is_some() {
                self.offer_again();
            }
            self.take_mail();
            self.wake_due();
            self.expire();
            while let Some(mail) = self.ready.pop_front() {
                self.decide(mail);
                if self.pending.bytes() >= BATCH_BYTES {
                    break;
                }
            }
            let idle = self.pending.is_empty();
            if let Err(over) = self.commit().await {
                return over;
            }
            // What is applied is all that there is: nothing else may be decided before it.
            if let Some((slot, mend, respond)) = self.mends.pop_front() {
                if let Err(over) = self.mend(slot, &mend, respond) {
                    return over;
                }
                continue;
            }
            if !idle {
                continue;
            }
            // Offers and effects of a new epoch, or of rows that were read, wait for no batch.
            self.pursue();
            if self.ready.is_empty()
                && let Err(over) = self.wait().await
            {
                return over;
            }
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self) -> Result<(), Over> {
        let wake_at = self.next_wake();
        let mut leadership = self.group.leadership();
        if !leadership.borrow_and_update().is_local {
            return Err(Over::NotLeader);
        }
        tokio::select! {
            () = self.mailbox.arrived() => {}
            event = self.events.1.recv() => {
                if let Some(event) = event {
                    self.take_event(event)?;
                }
            }
            () = sleep_until(wake_at) => {}
            () = self.reoffer.notified() => self.offer_again(),
            _ = self.stop.changed() => {}
            changed = leadership.changed() => {
                if changed.is_err() || !leadership.borrow().is_local {
                    return Err(Over::NotLeader);
                }
            }
        }
        Ok(())
    }

    fn next_wake(&mut self) -> Instant {
        let now = self.now();
        let now_at = Instant::now();
        let due = self.deadlines.next().map(|due| {
            let left = u64::try_from(due.saturating_sub(now)).unwrap_or(0);
            now_at + Duration::from_nanos(left)
        });
        // The horizon has to be moved now and then in any case.
        let latest = now_at + Duration::from_secs(10);
        let waits = !self.queries.is_empty() || !self.update_waits.is_empty();
        due.unwrap_or(latest).min(latest).min(if waits { self.expire_at } else { latest })
    }

    pub fn now(&mut self) -> UnixNanos {
        self.time.read(self.around.clocks.wall())
    }

    /// Takes messages out of the mailbox; those whose chains are not in memory wait for a reader task.
    pub fn take_mail(&mut self) {
        let mut taken = VecDeque::new();
        for (lane, max) in TAKE {
            self.mailbox.take(lane, max, &mut taken);
        }
        for mail in taken {
            // Nothing is fetched for a caller who is gone.
            if mail.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                refuse(mail, CallError::Busy);
            } else {
                self.admit(mail);
            }
        }
    }

    /// Puts a message where it belongs: among the ready ones, or behind the loading of its chain.
    pub fn admit(&mut self, mail: Mail) {
        if let Body::Mend { slot, mend, respond } = mail.body {
            return self.mends.push_back((slot, mend, respond));
        }
        let key = ChainKey::of(&mail.chain);
        if !self.slots.contains(&key.slot()) {
            return refuse(mail, CallError::WrongShard);
        }
        match self.chains.get(&key) {
            Some(Entry { waiting: Some(waiting), .. }) if waiting.len() < WAITING_MAX || is_wake(&mail.body) => {
                waiting.push_back(mail);
            }
            Some(Entry { waiting: Some(_), .. }) => refuse(mail, CallError::Busy),
            Some(Entry { live: Some(_), waiting: None }) => self.ready.push_back(mail),
            Some(Entry { live: None, waiting: None }) | None => self.admit_first(key, mail),
        }
    }

    fn admit_first(&mut self, key: ChainKey, mail: Mail) {
        if self.is_surely_new(&key, &mail) {
            let live = Some(Box::new(Live::new(Chain::new(mail.chain.clone()))));
            self.chains.insert(key, Entry { live, waiting: None });
            self.ready.push_back(mail);
        } else {
            self.load(&key, mail.chain.clone(), None, explicit_run(&mail.body));
            self.chains.insert(key, Entry { live: None, waiting: Some(VecDeque::from([mail])) });
        }
    }

    /// Whether a chain that is not in memory has no rows either, as far as that can be told without waiting: most
    /// starts are of workflows that nobody has heard of.
    fn is_surely_new(&self, key: &ChainKey, mail: &Mail) -> bool {
        let rows = keys::chain_rows(key.slot(), key.namespace_id(), key.workflow_id());
        explicit_run(&mail.body).is_none() && self.around.store.is_surely_empty(&rows)
    }

    /// Has a reader task fetch a chain, or (with `runs`) further runs of it.
    pub fn load(&self, key: &ChainKey, id: ChainId, runs: Option<Vec<String>>, also: Option<String>) {
        let (store, events) = (Arc::clone(&self.around.store), self.events.0.clone());
        let (key, slot) = (key.clone(), key.slot());
        let tasks = self.around.tasks.clone();
        self.around.tasks.spawn(async move {
            let loaded = tasks.blocking(move || fetch(&*store, slot, &id, runs, also)).await;
            // The epoch may be over.
            drop(events.send(Event::Loaded { key, loaded: Box::new(loaded) }));
        });
    }

    pub fn storage(&self, error: &bristlecone_storage::state::Error) -> Over {
        self.around.unreadable(error);
        Over::Storage
    }

    pub fn take_event(&mut self, event: Event) -> Result<(), Over> {
        match event {
            Event::Loaded { key, loaded } => self.take_loaded(&key, *loaded)?,
            Event::Deadlines(found) => {
                let found = found.map_err(|error| self.storage(&error))?;
                self.deadlines.found(found, ChainKey::of);
            }
            Event::Expired(found) => {
                let found = found.map_err(|error| self.storage(&error))?;
                let pause = if found.len() < retention::RUNS_MAX { retention::EVERY } else { retention::AGAIN };
                self.sweep_at = Some(Instant::now() + pause);
                for Expired { chain, run_id } in found {
                    let input = Box::new(Input { kind: Some(input::Kind::Purge(Purge { run_id })), origin: None });
                    self.admit(Mail { chain, body: Body::Input { input, respond: Respond::Nobody }, deadline: None });
                }
            }
            Event::Refill { queue, rows } => {
                self.refilling.retain(|known| *known != queue);
                self.backlog.found(rows.map_err(|error| self.storage(&error))?);
            }
        }
        Ok(())
    }

    fn take_loaded(&mut self, key: &ChainKey, loaded: Result<Loaded, LoadError>) -> Result<(), Over> {
        let Some(entry) = self.chains.get(key) else { return Ok(()) };
        let waiting = entry.waiting.take().unwrap_or_default();
        match loaded {
            Ok(Loaded { chain, runs }) => {
                if let Some(chain) = chain {
                    entry.live = Some(Box::new(Live::new(chain)));
                }
                if let Some(live) = entry.live.as_deref_mut() {
                    for (run_id, run) in runs {
                        match run {
                            Some(run) => {
                                live.chain.runs.insert(run_id, Arc::new(run));
                            }
                            None => {
                                live.unknown_runs.insert(run_id);
                            }
                        }
                    }
                    let soft = machine::deadline(&live.chain).soft;
                    self.deadlines.set_soft(key, soft);
                }
            }
            Err(LoadError::Store(error)) => return Err(self.storage(&error)),
            Err(LoadError::Damaged(reason)) => {
                tracing::error!(workflow = key.workflow_id(), reason, "a chain cannot be read and is out of service");
                self.chains.remove(key);
                for mail in waiting {
                    refuse(mail, CallError::Quarantined(reason.clone()));
                }
                return Ok(());
            }
        }
        self.ready.extend(waiting);
        Ok(())
    }

    /// Wakes the chains that are due, and keeps the near future in memory.
    fn wake_due(&mut self) {
        let now = self.now();
        for key in self.deadlines.due(now) {
            let chain = ChainId {
                namespace_id: key.namespace_id().to_string(),
                workflow_id: key.workflow_id().to_string(),
                namespace: String::new(),
            };
            let input = Box::new(Input { kind: Some(input::Kind::Wake(Wake {})), origin: None });
            self.admit(Mail { chain, body: Body::Input { input, respond: Respond::Nobody }, deadline: None });
        }
        if let Some((slots, horizon)) = self.deadlines.extend(now)
            && !slots.is_empty()
        {
            let (store, events, tasks) =
                (Arc::clone(&self.around.store), self.events.0.clone(), self.around.tasks.clone());
            self.around.tasks.spawn(async move {
                let found = tasks.blocking(move || deadlines::scan(&*store, &slots, horizon)).await;
                drop(events.send(Event::Deadlines(found)));
            });
        }
    }

    /// Reads task rows of queues that have room for them.
    pub fn refill_backlog(&mut self) {
        for queue in self.backlog.hungry() {
            if self.refilling.contains(&queue) {
                continue;
            }
            self.refilling.push(queue.clone());
            let slots: Vec<Slot> = self.slots.clone().collect();
            let (store, events, tasks) =
                (Arc::clone(&self.around.store), self.events.0.clone(), self.around.tasks.clone());
            self.around.tasks.spawn(async move {
                let wanted = queue.clone();
                let rows = tasks.blocking(move || backlog::refill(&*store, &slots, &wanted)).await;
                drop(events.send(Event::Refill { queue, rows }));
            });
        }
    }

    /// Has a reader task look for runs whose retention is over.
    fn sweep(&mut self) {
        let now = self.now();
        let slots: Vec<Slot> = self.slots.clone().collect();
        let meta = self.around.meta.borrow().clone();
        let retentions =
            meta.namespaces().map(|entry| (entry.record.id.clone(), entry.for_machine.retention)).collect();
        let (store, events, tasks) = (Arc::clone(&self.around.store), self.events.0.clone(), self.around.tasks.clone());
        self.around.tasks.spawn(async move {
            let found = tasks.blocking(move || retention::sweep(&*store, &slots, &retentions, now)).await;
            drop(events.send(Event::Expired(found)));
        });
    }

    fn offer_again(&mut self) {
        if !planted::has(Bug::OfferedOnce) {
            self.backlog.reoffer();
        }
        for id in self.queries.untaken() {
            self.offer_query(id);
        }
    }

    pub fn offer_query(&self, id: u64) {
        if let Some(offer) = self.queries.offer(id, self.group.id()) {
            self.around.queues.offer(offer);
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        if now < self.expire_at {
            return;
        }
        self.expire_at = now + EXPIRE;
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = None;
            self.sweep();
        }
        let expired = self.queries.expire(now);
        for id in expired.off_sticky {
            self.offer_query(id);
        }
        for (query_id, chain, queue) in expired.untaken {
            let asking = ask_for_polls(Arc::clone(&self.around), self.mailbox.clone(), chain, query_id, queue);
            self.around.tasks.spawn(asking);
        }
        self.expire_updates(now);
    }
}

/// Asks the broker of a query's queue whether anybody polls it: the query's caller is better told than kept waiting.
async fn ask_for_polls(around: Arc<Surroundings>, mailbox: Mailbox, chain: ChainId, query_id: u64, queue: QueueKey) {
    let Some(cluster) = around.cluster.get() else { return };
    let by = Instant::now() + queries::NO_POLLER_MARGIN;
    let described = cluster.describe_queue(&queue.namespace_id, &queue.name, queue.kind(), by).await;
    if described.is_ok_and(|described| !described.polled_lately) {
        // A shard that is too busy lets the query time out.
        drop(mailbox.push(Mail {
            chain,
            body: Body::OfQuery { query_id, news: QueryNews::NotPolled },
            deadline: None,
        }));
    }
}

fn fetch(
    store: &dyn bristlecone_storage::state::StateStore,
    slot: Slot,
    id: &ChainId,
    runs: Option<Vec<String>>,
    also: Option<String>,
) -> Result<Loaded, LoadError> {
    let (chain, wanted) = match runs {
        Some(runs) => (None, runs),
        None => {
            let chain = load::chain(store, slot, id)?;
            let current = chain.record.as_ref().map(|record| record.current_run_id.clone());
            let mut wanted: Vec<String> = current.into_iter().filter(|run| !run.is_empty()).collect();
            wanted.extend(also.filter(|run| !run.is_empty() && !wanted.contains(run)));
            (Some(chain), wanted)
        }
    };
    let mut loaded = Vec::with_capacity(wanted.len());
    for run_id in wanted {
        let run = load::run(store, slot, id, &run_id)?;
        loaded.push((run_id, run));
    }
    Ok(Loaded { chain, runs: loaded })
}

/// Nobody repeats a wake: it is never refused.
fn is_wake(body: &Body) -> bool {
    matches!(body, Body::Input { input, .. } if matches!(input.kind, Some(input::Kind::Wake(_))))
}

/// A run that the message names and that is worth fetching together with the chain.
fn explicit_run(body: &Body) -> Option<String> {
    match body {
        Body::Input { input, .. } => machine::load::runs_needed(input, None).into_iter().next(),
        Body::Query { request, .. } => request.execution.as_ref().map(|execution| execution.run_id.clone()),
        Body::AwaitHistory { head, .. } => {
            head.head.as_ref().and_then(|head| head.execution.as_ref()).map(|execution| execution.run_id.clone())
        }
        Body::AnswerQuery { .. } | Body::OfQuery { .. } | Body::Mend { .. } => None,
    }
}

/// Answers a message that was not carried out.
pub fn refuse(mail: Mail, error: CallError) {
    match mail.body {
        Body::Input { respond: Respond::To(respond), .. }
        | Body::Query { respond, .. }
        | Body::AnswerQuery { respond, .. }
        | Body::AwaitHistory { respond, .. }
        | Body::Mend { respond, .. } => drop(respond.send(Err(error))),
        // A claim whose sender is dropped is tried again.
        Body::Input { respond: Respond::Claim(_) | Respond::Nobody, .. } | Body::OfQuery { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shard_time_never_runs_backwards_and_does_not_rush_after_the_wall_was_set_back() {
        let mut time = ShardTime::new(1_000);
        assert_eq!(time.read(5_000), 5_000);
        tokio::time::advance(Duration::from_nanos(300)).await;
        assert_eq!(time.read(10), 5_300);
        tokio::time::advance(Duration::from_nanos(100)).await;
        assert_eq!(time.read(310), 5_400);
        assert_eq!(time.read(9_000), 9_000);
    }
}
