//! Shards: on its leader, one actor owns a shard and takes all of its decisions, one batch after another.
//!
//! ```text
//! mailbox.rs   what waits for the actor            load.rs       rows → chain
//! host.rs      epochs: begins, ends, begins again   rows.rs       the core's rows → operations of a batch
//! actor.rs     the loop: take, decide, commit       visibility.rs rows behind listings
//! decide.rs    one input: load, step, collect       deadlines.rs  when chains have to be woken
//! commit.rs    what follows an applied batch        backlog.rs    tasks that wait, by queue
//! live.rs      chains in memory                     outbox.rs     effects on other chains
//! queries.rs   queries that wait for a worker       history.rs    reading events
//! updates.rs   callers who wait for updates         search.rs     the shard's part of a listing
//! retention.rs closed runs that are old enough to go  audit.rs, mend.rs  are rows behind listings right? make them
//! ```
//!
//! # Contract
//! Whenever the actor decides, its memory equals what is applied, save the batch that it is building.
//! An answer leaves when the batch that it rode with is applied, or, when the batch wrote nothing, after
//! a read barrier that began after it was decided. The first failure ends the epoch: memory is dropped,
//! callers hear «unknown», and a new epoch begins while this node still leads.
//!
//! # Depends on
//! `raft` (propose, read barrier), `storage` (rows), `machine` (decisions).

mod actor;
mod audit;
mod backlog;
mod commit;
mod deadlines;
mod decide;
pub mod history;
mod host;
mod live;
mod load;
mod mailbox;
mod mend;
mod outbox;
mod queries;
mod retention;
mod rows;
mod search;
mod updates;
mod visibility;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bristlecone_proto::chain::{ChainId, Input, Reply, StickyUnavailable, input};
use bristlecone_proto::node::claim_result::Outcome;
use bristlecone_proto::node::{AwaitHistory, Claim, ClaimResult, Undelivered};
use bristlecone_proto::temporal::api::workflowservice::v1::{QueryWorkflowRequest, RespondQueryTaskCompletedRequest};
use bristlecone_raft::Group;
use bristlecone_storage::runtime::{Entropy, Tasks};
use bristlecone_storage::state::keys::{Slot, slot_of};
use bristlecone_storage::state::{Error as StoreError, StateStore};
use parking_lot::RwLock;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

pub use audit::{Listing, audit};
pub use history::EventReader;
pub use mend::{AT_ONCE as MENDED_AT_ONCE, Mend};
pub use search::search;

use crate::cluster::Cluster;
use crate::dynamic::Dynamic;
use crate::meta::MetaView;
use crate::node::Clocks;
use crate::queue::Queues;
use mailbox::{Body, Mail, Mailbox, QueryNews, Respond};

/// Names a chain within its shard; clones share the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainKey(Arc<(String, String)>);

impl ChainKey {
    pub fn new(namespace_id: &str, workflow_id: &str) -> Self {
        Self(Arc::new((namespace_id.to_string(), workflow_id.to_string())))
    }

    pub fn of(id: &ChainId) -> Self {
        Self::new(&id.namespace_id, &id.workflow_id)
    }

    pub fn namespace_id(&self) -> &str {
        &self.0.0
    }

    pub fn workflow_id(&self) -> &str {
        &self.0.1
    }

    pub fn slot(&self) -> Slot {
        slot_of(&self.0.0, &self.0.1)
    }
}

/// Why a call to a shard brought no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Surely not carried out: ask the leader.
    #[error("not the leader")]
    NotLeader { hint: Option<u64> },
    /// Surely not carried out: the slot is another shard's.
    #[error("another shard owns the slot")]
    WrongShard,
    /// Surely not carried out: the shard has too much to do.
    #[error("the shard is overloaded")]
    Busy,
    /// It may or may not have been carried out.
    #[error("the outcome is unknown")]
    Unknown,
    /// The chain is damaged and out of service.
    #[error("{0}")]
    Quarantined(String),
}

/// What every shard of a node works with.
#[derive(Debug)]
pub struct Surroundings {
    pub me: u64,
    pub store: Arc<dyn StateStore>,
    /// The time that shards go by: the wall clock, without steps that others do not confirm.
    pub clocks: Arc<Clocks>,
    pub entropy: Arc<dyn Entropy>,
    pub tasks: Tasks,
    pub meta: watch::Receiver<Arc<MetaView>>,
    pub dynamic: Arc<Dynamic>,
    pub queues: Queues,
    /// Calls to other chains, wherever they live; set once the node is put together.
    pub cluster: OnceLock<Cluster>,
    /// Chains that one shard keeps in memory when nothing waits for them.
    pub chains_max: usize,
    /// Hears why the process has to stop.
    pub fatal: UnboundedSender<String>,
}

impl Surroundings {
    /// Whether this node's clock may decide.
    pub fn clock_is_good(&self) -> bool {
        self.clocks.is_good()
    }

    /// Notes that rows could not be read. A damaged file ends the node: it must not go on without these rows, and
    /// the other replicas have them.
    pub fn unreadable(&self, error: &StoreError) {
        tracing::error!(%error, "the rows of a shard cannot be read");
        if matches!(error, StoreError::Corrupt { .. }) {
            let reason = format!("{error}: remove this node and join with an empty data directory");
            // Nobody listens any more when the node is stopping already.
            drop(self.fatal.send(reason));
        }
    }
}

/// A handle of one shard's replica on this node; clones are cheap.
#[derive(Debug, Clone)]
pub struct Shard {
    pub group: Group,
    mailbox: Mailbox,
    reoffer: Arc<Notify>,
    leads: watch::Receiver<bool>,
    stop: Arc<watch::Sender<bool>>,
}

impl Shard {
    /// Stops (or resumes) deciding, so that the leadership can be handed over without a failed proposal.
    pub fn set_stopped(&self, stopped: bool) {
        self.stop.send_replace(stopped);
    }

    /// Sends an input to a chain and waits for the reply.
    pub async fn call(&self, chain: ChainId, input: Input, deadline: Option<Instant>) -> Result<Reply, CallError> {
        let (respond, reply) = oneshot::channel();
        let body = Body::Input { input: Box::new(input), respond: Respond::To(respond) };
        self.send(chain, body, deadline)?;
        reply.await.unwrap_or(Err(CallError::Unknown))
    }

    /// Asks a worker; the whole of a query on the shard's side.
    pub async fn query(
        &self,
        chain: ChainId,
        request: QueryWorkflowRequest,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let (respond, reply) = oneshot::channel();
        self.send(chain, Body::Query { request: Box::new(request), respond }, Some(deadline))?;
        reply.await.unwrap_or(Err(CallError::Unknown))
    }

    /// A worker's answer to a query that was handed to it by itself.
    pub async fn answer_query(
        &self,
        chain: ChainId,
        query_id: u64,
        answer: RespondQueryTaskCompletedRequest,
    ) -> Result<Reply, CallError> {
        let (respond, reply) = oneshot::channel();
        self.send(chain, Body::AnswerQuery { query_id, answer: Box::new(answer), respond }, None)?;
        reply.await.unwrap_or(Err(CallError::Unknown))
    }

    /// Where a run's history ends, once it has grown beyond an event.
    pub async fn await_history(&self, head: AwaitHistory, deadline: Instant) -> Result<Reply, CallError> {
        let chain = head.chain.clone().unwrap_or_default();
        let (respond, reply) = oneshot::channel();
        self.send(chain, Body::AwaitHistory { head, respond }, Some(deadline))?;
        reply.await.unwrap_or(Err(CallError::Unknown))
    }

    /// Makes rows behind listings right in one slot.
    pub async fn mend(&self, slot: Slot, mend: Mend, deadline: Instant) -> Result<(), CallError> {
        let (respond, reply) = oneshot::channel();
        let body = Body::Mend { slot, mend: Box::new(mend), respond };
        self.send(ChainId::default(), body, Some(deadline))?;
        reply.await.unwrap_or(Err(CallError::Unknown)).map(drop)
    }

    /// Whether this replica's actor decides at the moment.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    fn tell(&self, chain: ChainId, input: input::Kind) {
        let input = Input { kind: Some(input), origin: None };
        let body = Body::Input { input: Box::new(input), respond: Respond::Nobody };
        // What is lost here is repeated by its sender or times out.
        drop(self.send(chain, body, None));
    }

    fn send(&self, chain: ChainId, body: Body, deadline: Option<Instant>) -> Result<(), CallError> {
        if !*self.leads.borrow() {
            let leadership = *self.group.leadership().borrow();
            return Err(CallError::NotLeader { hint: leadership.leader.filter(|_| !leadership.is_local) });
        }
        self.mailbox.push(Mail { chain, body, deadline }).map_err(|_| CallError::Busy)
    }
}

/// The shards of which this node has a replica.
#[derive(Debug, Clone, Default)]
pub struct Shards {
    by_group: Arc<RwLock<BTreeMap<u64, Shard>>>,
}

impl Shards {
    /// Starts to host a group's replica.
    pub fn open(&self, group: Group, surroundings: &Arc<Surroundings>) -> Shard {
        let (shard, host) = host::new(group, Arc::clone(surroundings));
        self.by_group.write().insert(shard.group.id(), shard.clone());
        surroundings.tasks.spawn(host.run());
        shard
    }

    pub fn close(&self, group_id: u64) -> Option<Shard> {
        self.by_group.write().remove(&group_id)
    }

    pub fn get(&self, group_id: u64) -> Option<Shard> {
        self.by_group.read().get(&group_id).cloned()
    }

    pub fn all(&self) -> Vec<Shard> {
        self.by_group.read().values().cloned().collect()
    }

    /// The local replica that holds a chain's slot.
    pub fn of_chain(&self, chain: &ChainId) -> Option<Shard> {
        let slot = u32::from(slot_of(&chain.namespace_id, &chain.workflow_id));
        let shards = self.by_group.read();
        let holds = |shard: &&Shard| shard.group.extent().is_some_and(|e| e.first_slot <= slot && slot < e.end_slot);
        shards.values().find(holds).cloned()
    }

    /// Brokers may have changed: every backlog is offered again.
    pub fn reoffer(&self) {
        for shard in self.by_group.read().values() {
            shard.reoffer.notify_one();
        }
    }

    /// A broker matched a task with a poll.
    pub async fn claim(&self, claim: Claim) -> Outcome {
        let (Some(shard), Some(queue), Some(task), Some(poll)) =
            (self.get(claim.group_id), claim.queue, claim.task, claim.poll)
        else {
            return Outcome::Retry;
        };
        let (done, outcome) = oneshot::channel();
        let chain = task.chain.clone().unwrap_or_default();
        let (backlog_count_hint, poller_delta) = (claim.backlog_count_hint, claim.poller_delta);
        let claim = Box::new(mailbox::Claim { queue, task, poll, backlog_count_hint, poller_delta, done });
        let input = Box::new(claim.input());
        let body = Body::Input { input, respond: Respond::Claim(claim) };
        match shard.send(chain, body, None) {
            Ok(()) => outcome.await.unwrap_or(Outcome::Retry),
            Err(_) => Outcome::Retry,
        }
    }

    /// A broker could do nothing for a task.
    pub fn claim_result(&self, result: ClaimResult) {
        if result.outcome() != Outcome::NoPollers {
            return;
        }
        let Some((shard, task)) = self.get(result.group_id).zip(result.task) else { return };
        let chain = task.chain.unwrap_or_default();
        if task.query_id != 0 {
            drop(shard.send(chain, Body::OfQuery { query_id: task.query_id, news: QueryNews::StickyUnclaimed }, None));
            return;
        }
        let unavailable = StickyUnavailable {
            run_id: task.run_id,
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
        };
        shard.tell(chain, input::Kind::StickyUnavailable(unavailable));
    }

    /// Nobody has the task that was started.
    pub fn undelivered(&self, undelivered: Box<Undelivered>) {
        let Undelivered { chain: Some(chain), undo, query_id } = *undelivered else { return };
        let Some(shard) = self.of_chain(&chain) else { return };
        if query_id != 0 {
            // A shard that is too busy lets the query time out.
            drop(shard.send(chain, Body::OfQuery { query_id, news: QueryNews::Undelivered }, None));
        } else if let Some(Input { kind: Some(kind), .. }) = undo {
            shard.tell(chain, kind);
        }
    }
}
