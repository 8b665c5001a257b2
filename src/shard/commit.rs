//! From a batch to its consequences: proposed or confirmed, then answered, offered, delivered.

use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::chain::{
    ActivityStarted, ChainId, Harden, Input, Reply, UndoActivityStart, UndoWorkflowTaskStart, input,
};
use bristlecone_proto::node::claim_result::Outcome;
use bristlecone_proto::node::{Deliver, EventPage, QueryDelivery, WorkflowDelivery, deliver};
use bristlecone_proto::temporal::api::history::v1::{History, history_event::Attributes};
use bristlecone_raft::{Decision, ProposeError};
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::state::BatchBuilder;
use bristlecone_storage::state::keys::Slot;
use prost::Message;
use tokio::time::Instant;

use super::actor::{Actor, Over, refuse};
use super::history::{EventReader, Wanted};
use super::mailbox::{Answer, Body, Claim, Mail, Respond};
use super::{CallError, ChainKey, outbox};

/// Events of the first page that a worker gets with its task.
pub const PAGE_EVENTS: i64 = 256;
/// Format of the rows that this version writes.
const FEATURE_LEVEL: u16 = 0;

/// The batch that is being built, and what happens once it is applied.
#[derive(Debug, Default)]
pub struct Pending {
    pub rows: BatchBuilder,
    releases: Vec<Release>,
    /// Chains that the batch changes: they stay in memory until it is applied, because the rows are
    /// older than what was decided.
    pub touched: Vec<ChainKey>,
    /// Chains whose histories grew.
    pub grown: Vec<ChainKey>,
    /// Outbox rows that were removed: sender, sequence, receiver.
    pub forgets: Vec<(ChainId, u64, ChainId)>,
}

/// Something that must not leave before the batch is applied.
#[derive(Debug)]
pub enum Release {
    Reply { respond: Answer, reply: Box<Reply> },
    Claim { claim: Box<Claim>, outcome: Outcome, delivery: Option<Delivery> },
    OfferQuery(u64),
}

/// A task on its way to a worker.
#[derive(Debug)]
pub enum Delivery {
    Workflow(Box<WorkflowDelivery>),
    Activity(Box<ActivityStarted>),
    Query(Box<QueryDelivery>),
}

impl Pending {
    pub fn release(&mut self, release: Release) {
        self.releases.push(release);
    }

    pub fn reply(&mut self, respond: Answer, reply: Reply) {
        self.release(Release::Reply { respond, reply: Box::new(reply) });
    }

    pub fn bytes(&self) -> usize {
        self.rows.bytes_len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.releases.is_empty()
    }
}

impl Actor {
    /// Has the batch applied, or (when it writes nothing) the leadership confirmed; then lets go of
    /// what waited for that. Meanwhile further chains are fetched, but nothing is decided.
    pub async fn commit(&mut self) -> Result<(), Over> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let Pending { rows, releases, touched, grown, forgets } = std::mem::take(&mut self.pending);
        let confirmed = if rows.is_empty() {
            let (group, epoch) = (self.group.clone(), self.epoch);
            self.meanwhile(async move { group.confirm(&epoch).await.map_err(|_| Over::Unknown) }).await
        } else {
            let mutations = rows.finish().map_err(|error| {
                tracing::error!(%error, "a batch breaks a limit");
                Over::Unknown
            });
            match mutations {
                Ok(mutations) => self.propose(mutations).await,
                Err(over) => Err(over),
            }
        };
        match confirmed {
            Ok(()) => {
                for key in touched {
                    if let Some(live) = self.chains.loaded(&key) {
                        live.in_flight = false;
                    }
                }
                self.let_go(releases, grown, forgets);
                Ok(())
            }
            Err(over) => {
                for release in releases {
                    fail(release, &CallError::Unknown);
                }
                Err(over)
            }
        }
    }

    async fn propose(&mut self, mutations: bristlecone_storage::state::Batch) -> Result<(), Over> {
        self.number += 1;
        let decision = Decision {
            number: self.number,
            time: self.time.last(),
            meta_index: self.around.meta.borrow().index,
            feature_level: FEATURE_LEVEL,
            mutations,
        };
        let (group, epoch) = (self.group.clone(), self.epoch);
        let outcome = self.meanwhile(async move { group.propose(&epoch, decision).await }).await;
        if planted::has(Bug::LostMemoryApplied) && matches!(outcome, Err(ProposeError::Unknown)) {
            return Ok(());
        }
        if planted::has(Bug::HoleApplied) && outcome.is_err() && self.group.leadership().borrow().is_local {
            return Ok(());
        }
        outcome.map(|_| ()).map_err(|error| match error {
            ProposeError::NotLeader { .. } => Over::NotLeader,
            // Nothing of a batch that is too large was written; a fresh start takes its inputs in
            // smaller ones.
            ProposeError::TooLarge { .. } | ProposeError::Refused | ProposeError::Unknown => Over::Unknown,
        })
    }

    /// Waits for a future while messages are taken in and reader tasks report.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> T {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                done = &mut future => return done,
                event = self.events.1.recv() => {
                    // A failure shows again when the actor looks the next time.
                    if let Some(event) = event
                        && let Err(over) = self.take_event(event)
                    {
                        tracing::warn!(reason = %over, "while a batch was under way");
                    }
                }
                () = self.mailbox.arrived(), if self.ready.len() < READY_MAX => self.take_mail(),
            }
        }
    }

    fn let_go(&mut self, releases: Vec<Release>, grown: Vec<ChainKey>, forgets: Vec<(ChainId, u64, ChainId)>) {
        for release in releases {
            match release {
                // A caller that is gone needs no answer.
                Release::Reply { respond, reply } => drop(respond.send(Ok(*reply))),
                Release::OfferQuery(id) => self.offer_query(id),
                Release::Claim { claim, outcome, delivery } => self.finish_claim(*claim, outcome, delivery),
            }
        }
        for (sender, sequence, target) in forgets {
            self.around.tasks.spawn(outbox::forget(Arc::clone(&self.around), sender, sequence, target));
        }
        self.wake_readers(grown);
        self.pursue();
    }

    /// Offers what waits, and sends effects on their way.
    pub fn pursue(&mut self) {
        for offer in self.backlog.offers(self.group.id()) {
            self.around.queues.offer(offer);
        }
        self.refill_backlog();
        for (sender, sequence, send) in self.outbox.take_ready() {
            let sender = ChainId {
                namespace_id: sender.namespace_id().to_string(),
                workflow_id: sender.workflow_id().to_string(),
                namespace: String::new(),
            };
            let (around, mailbox) = (Arc::clone(&self.around), self.mailbox.clone());
            self.around.tasks.spawn(outbox::deliver(around, mailbox, sender, sequence, send));
        }
    }

    /// Readers whose run has grown look again, with the next batch.
    fn wake_readers(&mut self, grown: Vec<ChainKey>) {
        for key in grown {
            let Some(live) = self.chains.loaded(&key) else { continue };
            let chain = live.chain.id.clone();
            for waiter in std::mem::take(&mut live.waiters) {
                let body = Body::AwaitHistory { head: waiter.head, respond: waiter.respond };
                self.ready.push_back(Mail { chain: chain.clone(), body, deadline: Some(waiter.deadline) });
            }
        }
    }

    // ---------------------------------------------------------------- deliveries

    /// Adds the events that the task needs when they were written lately.
    pub fn with_events_at_hand(&mut self, key: &ChainKey, delivery: Delivery) -> Delivery {
        let Some(wanted) = delivery.wanted() else { return delivery };
        let page = self
            .chains
            .loaded(key)
            .and_then(|live| live.recent.page(&wanted.run_id, wanted.first, wanted.end, wanted.max_events));
        match page {
            Some((batches, next_event_id)) => delivery.with(EventPage { batches, next_event_id }),
            None => delivery,
        }
    }

    fn finish_claim(&self, claim: Claim, outcome: Outcome, delivery: Option<Delivery>) {
        let Claim { task, poll, backlog_count_hint, poller_delta, done, .. } = claim;
        // The broker may be gone; the task is started all the same.
        let _ = done.send(outcome);
        let Some(delivery) = delivery else { return };
        let chain = task.chain.unwrap_or_default();
        let undo = delivery.undo(&poll.request_id);
        let envelope = Deliver {
            poll_id: poll.poll_id,
            chain: Some(chain.clone()),
            undo,
            group_id: self.group.id(),
            backlog_count_hint,
            poller_delta,
            query_id: task.query_id,
            task: None,
        };
        let queues = self.around.queues.clone();
        match delivery.wanted() {
            None => queues.deliver(poll.node_id, Deliver { task: Some(delivery.task()), ..envelope }.into()),
            Some(wanted) => {
                let reader = EventReader { store: Arc::clone(&self.around.store), tasks: self.around.tasks.clone() };
                let slot = ChainKey::of(&chain).slot();
                self.around.tasks.spawn(async move {
                    match read(&reader, slot, wanted).await {
                        Some(page) => {
                            let task = Some(delivery.with(page).task());
                            queues.deliver(poll.node_id, Deliver { task, ..envelope }.into());
                        }
                        None => tracing::error!("the events of a task cannot be read; it will time out"),
                    }
                });
            }
        }
    }

    /// The epoch is over: everybody who waits hears so.
    pub fn fail(&mut self, error: &CallError) {
        for release in std::mem::take(&mut self.pending).releases {
            fail(release, error);
        }
        for mail in std::mem::take(&mut self.ready) {
            refuse(mail, CallError::NotLeader { hint: None });
        }
        for query in self.queries.drain() {
            drop(query.respond.send(Err(CallError::Unknown)));
        }
        for (_, entry) in self.chains.drain() {
            for mail in entry.waiting.into_iter().flatten() {
                refuse(mail, CallError::NotLeader { hint: None });
            }
            let Some(live) = entry.live else { continue };
            for query in live.queries {
                drop(query.respond.send(Err(CallError::Unknown)));
            }
            for update in live.updates {
                drop(update.into_respond().send(Err(CallError::NotLeader { hint: None })));
            }
            for waiter in live.waiters {
                drop(waiter.respond.send(Err(CallError::NotLeader { hint: None })));
            }
        }
    }

    /// Makes soft starts durable, so that the next leader finds them.
    pub fn harden_all(&mut self) {
        for (run_id, id) in self.chains.soft_starts() {
            let input = Input { kind: Some(input::Kind::Harden(Harden { run_id })), origin: None };
            let body = Body::Input { input: Box::new(input), respond: Respond::Nobody };
            self.decide(Mail { chain: id, body, deadline: None });
        }
    }
}

/// Messages taken out of the mailbox while a batch is under way.
const READY_MAX: usize = 4_096;

fn fail(release: Release, error: &CallError) {
    match release {
        Release::Reply { respond, .. } => drop(respond.send(Err(error.clone()))),
        Release::Claim { claim, .. } => drop(claim.done.send(Outcome::Retry)),
        Release::OfferQuery(_) => {}
    }
}

async fn read(reader: &EventReader, slot: Slot, wanted: Wanted) -> Option<EventPage> {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        match reader.read(slot, wanted.clone()).await {
            Ok(page) => return Some(page),
            Err(error) => tracing::warn!(%error, "events cannot be read"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

impl Delivery {
    /// The events that are still missing.
    fn wanted(&self) -> Option<Wanted> {
        let (run_id, first, end, max_events) = match self {
            Self::Workflow(workflow) if workflow.events.is_none() => {
                let started = workflow.started.as_ref()?;
                let run_id = started.token.as_ref()?.run_id.clone();
                (run_id, started.first_event_id, started.next_event_id, PAGE_EVENTS)
            }
            Self::Activity(activity) if activity.scheduled.is_none() => {
                let token = activity.token.as_ref()?;
                (token.run_id.clone(), token.scheduled_event_id, token.scheduled_event_id + 1, 1)
            }
            Self::Query(query) if query.events.is_none() => (query.run_id.clone(), 1, query.next_event_id, PAGE_EVENTS),
            Self::Workflow(_) | Self::Activity(_) | Self::Query(_) => return None,
        };
        Some(Wanted { run_id, first, end, max_events, reverse: false })
    }

    fn with(self, page: EventPage) -> Self {
        match self {
            Self::Workflow(mut workflow) => {
                workflow.events = Some(page);
                Self::Workflow(workflow)
            }
            Self::Query(mut query) => {
                query.events = Some(page);
                Self::Query(query)
            }
            Self::Activity(mut activity) => {
                let event = activity.token.as_ref().map_or(0, |token| token.scheduled_event_id);
                let histories = page.batches.into_iter().filter_map(|batch| History::decode(batch).ok());
                let found = histories.flat_map(|history| history.events).find(|e| e.event_id == event);
                let scheduled = found.and_then(|event| match event.attributes {
                    Some(Attributes::ActivityTaskScheduledEventAttributes(attributes)) => Some(attributes),
                    _ => None,
                });
                // An event that is not there leaves the activity without input: say so to the worker.
                activity.scheduled = Some(scheduled.unwrap_or_default());
                Self::Activity(activity)
            }
        }
    }

    fn task(self) -> deliver::Task {
        match self {
            Self::Workflow(workflow) => deliver::Task::Workflow(workflow),
            Self::Activity(activity) => deliver::Task::Activity(activity),
            Self::Query(query) => deliver::Task::Query(*query),
        }
    }

    /// What takes the start back.
    fn undo(&self, request_id: &str) -> Option<Input> {
        let request_id = request_id.to_string();
        let kind = match self {
            Self::Workflow(workflow) => {
                let token = workflow.started.as_ref()?.token.as_ref()?;
                input::Kind::UndoWorkflowTaskStart(UndoWorkflowTaskStart {
                    run_id: token.run_id.clone(),
                    scheduled_event_id: token.scheduled_event_id,
                    request_id,
                })
            }
            Self::Activity(activity) => {
                let token = activity.token.as_ref()?;
                input::Kind::UndoActivityStart(UndoActivityStart {
                    run_id: token.run_id.clone(),
                    scheduled_event_id: token.scheduled_event_id,
                    attempt: token.attempt,
                    request_id,
                })
            }
            // It is offered again when its sticky time is over, or fails with its caller.
            Self::Query(_) => return None,
        };
        Some(Input { kind: Some(kind), origin: None })
    }
}
