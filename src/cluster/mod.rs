//! The cluster as the API sees it: calls to chains wherever they live, polls, listings, metadata.
//!
//! ```text
//! route.rs   chain → shard → leader, and again when that fails     tasks.rs   polls, and what workers get
//! updates.rs updates, resets
//! list.rs    listings and counts over all shards                   serve.rs   what other nodes ask of this one
//! check.rs   whether the rows behind listings are right            workers.rs, remains.rs
//! ```
//!
//! # Contract
//! Every method may be called on any node; it finds the leader of the shard concerned, repeats what
//! is safe to repeat within the caller's deadline, and answers when the answer is durable and
//! linearizable. Errors are [`Rejection`]s: a gRPC status with its typed detail.
//!
//! # Used by
//! `src/grpc` (one file per RPC), and the shard actors for effects on other chains.

mod check;
mod list;
mod remains;
mod route;
mod serve;
mod tasks;
mod updates;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::chain::{
    ChainId, HistoryEnd, HistoryHead, Input, QueryTaskToken, Rejection, Reply, input, reply::Kind as ReplyKind,
};
use bristlecone_proto::node::{
    AwaitHistory, DescribeQueue, EventPage, HistoryRead, MetaReply, QueryAnswer, QueueDescription, QueueKey, Request,
    ShardControl, StatusReply, StatusRequest, TaskKind, meta_call, request, response, shard_control,
};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    QueryWorkflowRequest, QueryWorkflowResponse, RespondQueryTaskCompletedRequest,
};
use bristlecone_raft::Groups;
use bristlecone_storage::runtime::{Clock, Entropy, Tasks};
use bristlecone_storage::state::StateStore;
use bristlecone_storage::state::keys::slot_of;
use tokio::time::{Instant, timeout_at};

pub use serve::Server;
pub use workers::Workers;

use crate::dynamic::{Dynamic, Settings};
use crate::health::Health;
use crate::meta::{Meta, MetaView};
use crate::node::{Clocks, Disk};
use crate::peer::Peers;
use crate::queue::Queues;
use crate::shard::history::Wanted;
use crate::shard::{EventReader, Shards, Surroundings};
use crate::token::Tokens;
use route::{Ask, unavailable};

pub type Result<T> = std::result::Result<T, Rejection>;

/// The cluster, from one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Arc<Parts>,
}

/// What the cluster's front is made of.
#[derive(Debug)]
pub struct Parts {
    pub me: u64,
    pub info: NodeInfo,
    pub meta: Meta,
    pub groups: GroupsHandle,
    pub shards: Shards,
    pub surroundings: Arc<Surroundings>,
    pub queues: Queues,
    pub peers: Peers,
    pub store: Arc<dyn StateStore>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub tasks: Tasks,
    pub tokens: Tokens,
    pub dynamic: Arc<Dynamic>,
    pub health: Arc<Health>,
    pub clocks: Arc<Clocks>,
    pub disk: Disk,
    pub workers: Workers,
}

/// The groups of the node, in a form that can be printed.
#[derive(Clone)]
pub struct GroupsHandle(pub Groups);

impl std::fmt::Debug for GroupsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Groups")
    }
}

/// Who this node is, for people.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub node_id: u64,
    pub name: String,
    pub version: String,
    pub api_address: String,
    pub internal_address: String,
    pub started: Instant,
}

impl Cluster {
    pub fn new(parts: Parts) -> Self {
        Self { inner: Arc::new(parts) }
    }

    /// Sends an input to a chain and waits for its reply; a `rejected` reply comes back as `Err`.
    pub async fn call(&self, chain: &ChainId, input: input::Kind, deadline: Instant) -> Result<ReplyKind> {
        let input = Input { kind: Some(input), origin: None };
        kind_of(self.ask(chain, Ask::Input(Box::new(input)), deadline).await?)
    }

    /// Delivers an outbox row: any reply, a rejection too, is an answer.
    ///
    /// # Errors
    /// The cluster's own rejections: the outcome is unknown or nothing was done.
    pub async fn deliver(&self, chain: &ChainId, input: Input, deadline: Instant) -> Result<Reply> {
        self.ask(chain, Ask::Input(Box::new(input)), deadline).await
    }

    /// Where a run's history ends. With `wait_after`, answers when `next_event_id` exceeds it, the run is
    /// closed, or the deadline has passed (then with the current end).
    pub async fn history_end(
        &self,
        chain: &ChainId,
        head: HistoryHead,
        wait_after: Option<i64>,
        deadline: Instant,
    ) -> Result<HistoryEnd> {
        let wait_after_event_id = wait_after.unwrap_or(0);
        let head = AwaitHistory {
            chain: Some(chain.clone()),
            head: Some(head),
            wait_after_event_id,
            group_id: 0,
            generation: 0,
        };
        let now = AwaitHistory { wait_after_event_id: 0, ..head.clone() };
        let limit = if wait_after.is_some() { deadline } else { deadline.max(Instant::now() + ASK_TIME) };
        let reply = match timeout_at(limit, self.ask(chain, Ask::AwaitHistory(head), deadline + ASK_TIME)).await {
            Ok(reply) => reply?,
            Err(_) => self.ask(chain, Ask::AwaitHistory(now), Instant::now() + ASK_TIME).await?,
        };
        match kind_of(reply)? {
            ReplyKind::HistoryEnd(end) => Ok(end),
            other => Err(nonsense(&other)),
        }
    }

    /// Whole batches with events in [first, end), oldest first (newest first with `reverse`), up to
    /// `max_events` or 2 MiB. `next_event_id` of the page is where to go on (reverse: the new `end`); 0
    /// when nothing is left.
    #[expect(clippy::too_many_arguments, reason = "they are the request")]
    pub async fn read_events(
        &self,
        chain: &ChainId,
        run_id: &str,
        first: i64,
        end: i64,
        max_events: u32,
        reverse: bool,
        deadline: Instant,
    ) -> Result<EventPage> {
        let read = HistoryRead {
            chain: Some(chain.clone()),
            run_id: run_id.to_string(),
            first_event_id: first,
            end_event_id: end,
            max_events,
            reverse,
            group_id: 0,
            generation: 0,
        };
        loop {
            let view = self.meta();
            let shard = view.shard_of(slot_of(&chain.namespace_id, &chain.workflow_id));
            let leader = shard.and_then(|shard| self.leader_of(shard));
            // A node that leads no more may be behind: then the leader is asked once it is known.
            if leader == Some(self.inner.me)
                && let Ok(page) = self.read_events_here(&read).await
            {
                return Ok(page);
            }
            if let Some(node) = leader.filter(|node| *node != self.inner.me) {
                let request = Request { timeout_ms: 0, kind: Some(request::Kind::History(read.clone())) };
                let left = deadline.saturating_duration_since(Instant::now());
                let answer = self.inner.peers.call(node, request, left).await;
                if let Ok(Some(response::Kind::History(page))) = answer.map(|response| response.kind) {
                    return Ok(page);
                }
            }
            if Instant::now() + READ_PAUSE >= deadline {
                return Err(unavailable("the history cannot be read at the moment"));
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    async fn read_events_here(&self, read: &HistoryRead) -> Result<EventPage> {
        let chain = read.chain.clone().unwrap_or_default();
        let reader = EventReader { store: Arc::clone(&self.inner.store), tasks: self.inner.tasks.clone() };
        let wanted = Wanted {
            run_id: read.run_id.clone(),
            first: read.first_event_id,
            end: read.end_event_id,
            max_events: i64::from(read.max_events.max(1)),
            reverse: read.reverse,
        };
        let slot = slot_of(&chain.namespace_id, &chain.workflow_id);
        reader.read(slot, wanted).await.map_err(|error| unavailable(&error.to_string()))
    }

    /// The whole of a query: routed, handed to a worker, answered.
    pub async fn query(
        &self,
        chain: &ChainId,
        request: QueryWorkflowRequest,
        deadline: Instant,
    ) -> Result<QueryWorkflowResponse> {
        match self.call(chain, input::Kind::Query(request), deadline).await? {
            ReplyKind::Query(response) => Ok(response),
            other => Err(nonsense(&other)),
        }
    }

    /// A worker's answer to a query that it got by itself.
    pub async fn respond_query(
        &self,
        token: QueryTaskToken,
        request: RespondQueryTaskCompletedRequest,
        deadline: Instant,
    ) -> Result<()> {
        let node = token.node_id;
        let answer = QueryAnswer {
            query_id: token.query_id,
            request: Some(request),
            chain: Some(ChainId {
                namespace_id: token.namespace_id,
                workflow_id: token.workflow_id,
                namespace: String::new(),
            }),
        };
        let answered = if node == self.inner.me {
            self.serve_query_answer(answer).await
        } else {
            let request = Request { timeout_ms: 0, kind: Some(request::Kind::QueryAnswer(answer)) };
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.inner.peers.call(node, request, left).await;
            answer.ok().and_then(|response| response.kind).unwrap_or_else(query_gone)
        };
        match answered {
            response::Kind::Reply(reply) => kind_of(reply).map(|_| ()),
            response::Kind::Failed(rejection) => Err(rejection),
            _ => Err(reply::not_found(QUERY_GONE)),
        }
    }

    async fn serve_query_answer(&self, answer: QueryAnswer) -> response::Kind {
        let chain = answer.chain.unwrap_or_default();
        let Some(shard) = self.inner.shards.of_chain(&chain) else { return query_gone() };
        match shard.answer_query(chain, answer.query_id, answer.request.unwrap_or_default()).await {
            Ok(reply) => response::Kind::Reply(reply),
            // Whoever led the shard when the query was asked does not any more: the query has failed.
            Err(_) => query_gone(),
        }
    }

    pub async fn describe_queue(
        &self,
        namespace_id: &str,
        name: &str,
        kind: TaskKind,
        deadline: Instant,
    ) -> Result<QueueDescription> {
        let queue = QueueKey { namespace_id: namespace_id.to_string(), name: name.to_string(), kind: kind.into() };
        let broker = self.inner.queues.broker_of(&queue);
        if broker == self.inner.me {
            return Ok(self.inner.queues.describe(&queue));
        }
        let describe = DescribeQueue { queue: Some(queue) };
        let request = Request { timeout_ms: 0, kind: Some(request::Kind::DescribeQueue(describe)) };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.inner.peers.call(broker, request, left).await.map(|response| response.kind) {
            Ok(Some(response::Kind::Queue(description))) => Ok(description),
            Ok(_) => Err(unavailable("the task queue's broker gave no answer")),
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }

    /// Metadata as this node knows it: local and without I/O.
    pub fn meta(&self) -> Arc<MetaView> {
        self.inner.meta.view()
    }

    /// Changes metadata through the meta group's leader; answered when applied there and here.
    pub async fn meta_call(&self, call: meta_call::Kind, deadline: Instant) -> Result<MetaReply> {
        self.inner.meta.call(call, deadline).await
    }

    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// The settings that hold where no namespace is asked for.
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.dynamic.all()
    }

    /// The settings of a namespace.
    pub fn settings_of(&self, namespace: &str) -> Arc<Settings> {
        self.inner.dynamic.of(namespace)
    }

    pub fn node(&self) -> &NodeInfo {
        &self.inner.info
    }

    pub fn parts(&self) -> &Parts {
        &self.inner
    }

    /// A fresh uuid.
    pub fn new_id(&self) -> String {
        uuid::Builder::from_random_bytes(self.inner.entropy.next().to_be_bytes()).into_uuid().to_string()
    }

    /// The wall clock, Unix nanoseconds.
    pub fn wall(&self) -> i64 {
        self.inner.clock.wall()
    }

    /// The status of a member, this node included; `None` when it gives no answer.
    pub async fn status_of(&self, node_id: u64, time: Duration) -> Option<StatusReply> {
        if node_id == self.inner.me {
            return Some(self.status_here());
        }
        let request = Request { timeout_ms: 0, kind: Some(request::Kind::Status(StatusRequest {})) };
        match self.inner.peers.call(node_id, request, time).await.ok()?.kind {
            Some(response::Kind::Status(status)) => Some(status),
            _ => None,
        }
    }

    /// Hands the leadership of a group to one of its replicas, whoever leads it now.
    pub async fn transfer_leader(&self, group_id: u64, to: u64, deadline: Instant) -> Result<()> {
        let group = self.inner.groups.0.group(group_id);
        let known = group.and_then(|group| group.leadership().borrow().leader);
        let leader = known.or_else(|| self.meta().shard(group_id).map(|shard| shard.preferred_leader));
        let Some(leader) = leader else { return Err(unavailable("the group has no leader at the moment")) };
        if leader == self.inner.me {
            return self.hand_over(group_id, to).await;
        }
        let control = ShardControl { group_id, kind: Some(shard_control::Kind::TransferTo(to)) };
        let request = Request { timeout_ms: 0, kind: Some(request::Kind::ShardControl(control)) };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.inner.peers.call(leader, request, left).await.map(|response| response.kind) {
            Ok(Some(response::Kind::Done(_))) => Ok(()),
            Ok(Some(response::Kind::Failed(rejection))) => Err(rejection),
            Ok(_) => Err(unavailable("the leader gave no answer")),
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }

    /// Shards of which the map gives a node a replica.
    pub fn replicas_on(&self, node_id: u64) -> usize {
        self.meta().shards().filter(|shard| shard.replicas.contains(&node_id)).count()
    }

    /// Groups that this node believes another (or itself) to lead.
    pub fn leaderships_of(&self, node_id: u64) -> usize {
        let led = |group: &bristlecone_raft::Group| group.leadership().borrow().leader == Some(node_id);
        self.inner.groups.0.list().iter().filter(|group| led(group)).count()
    }
}

/// How long an internal question may take beyond its caller's own deadline.
const ASK_TIME: Duration = Duration::from_secs(2);
const READ_PAUSE: Duration = Duration::from_millis(50);
const QUERY_GONE: &str = "query task not found, or already expired";

fn query_gone() -> response::Kind {
    response::Kind::Failed(reply::not_found(QUERY_GONE))
}

fn kind_of(reply: Reply) -> Result<ReplyKind> {
    match reply.kind {
        Some(ReplyKind::Rejected(rejection)) => Err(rejection),
        Some(kind) => Ok(kind),
        None => Err(reply::plain(reply::code::INTERNAL, "an empty reply")),
    }
}

fn nonsense(reply: &ReplyKind) -> Rejection {
    tracing::error!(?reply, "a reply of the wrong kind");
    reply::plain(reply::code::INTERNAL, "a reply of the wrong kind")
}
