//! What one group says to its other replicas: openraft's network over the [`Transport`].
//!
//! # Contract
//! - Appends to a replica are pipelined: several are in flight, answers are taken in order.
//! - A commit without entries waits for a moment for entries to ride with.
//! - A replica that answers as if it had lost entries which it acknowledged is *quarantined*: nothing is
//!   sent to it any more but that news, and openraft never hears of the conflict, which it would take
//!   for impossible. It stays so until it is taken out of the membership.
//!
//! # Used by
//! openraft's replication, heartbeat, election and snapshot tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bristlecone_proto::record;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;
use prost::Message;

use crate::NodeId;
use crate::config::RaftConfig;
use crate::frame::{
    self, AppendAnswer, AppendHead, Kind, Quarantine, Status, TransferAnswer, TransferAsk, VoteAnswer, VoteAsk,
};
use crate::pipeline::Pipeline;
use crate::shared::Shared;
use crate::snapshot::{SnapshotData, Snapshots};
use crate::transport::{Lane, Transport, TransportError};
use crate::types::{self, LogId, Member, TypeConfig, Vote};

pub(crate) type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// One group's connections; openraft makes its clients from it.
#[derive(Debug)]
pub(crate) struct Link {
    pub me: NodeId,
    pub shared: Arc<Shared>,
    pub transport: Arc<dyn Transport>,
    pub snapshots: Arc<Snapshots>,
    pub config: RaftConfig,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

/// What the leader remembers of a replica, for as long as one replication task serves it.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The greatest id that it acknowledged.
    acknowledged: Mutex<Option<LogId>>,
    quarantined: AtomicBool,
}

/// openraft's clients for one replica: each serves one task.
#[derive(Debug)]
pub(crate) struct Client {
    link: Arc<Link>,
    to: NodeId,
    role: Role,
    /// Set by the first append of a replication task.
    peer: Option<Arc<Peer>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Votes, leadership transfers, and replication.
    Main,
    Heartbeat,
    Snapshot,
}

/// Makes the clients of one group.
#[derive(Debug)]
pub(crate) struct Factory(pub Arc<Link>);

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Client;

    async fn new_client(&mut self, to: NodeId, _: &Member) -> Client {
        Client { link: self.0.clone(), to, role: Role::Main, peer: None }
    }

    async fn new_heartbeat_client(&mut self, to: NodeId, _: &Member) -> Client {
        Client { link: self.0.clone(), to, role: Role::Heartbeat, peer: None }
    }

    async fn new_snapshot_client(&mut self, to: NodeId, _: &Member) -> Client {
        Client { link: self.0.clone(), to, role: Role::Snapshot, peer: None }
    }
}

impl Link {
    pub fn new(
        me: NodeId,
        shared: Arc<Shared>,
        transport: Arc<dyn Transport>,
        snapshots: Arc<Snapshots>,
        config: RaftConfig,
    ) -> Self {
        Self { me, shared, transport, snapshots, config, peers: Mutex::new(BTreeMap::new()) }
    }

    /// Replicas that lost entries which they had acknowledged to this node.
    pub fn quarantined(&self) -> Vec<NodeId> {
        let peers = self.peers.lock();
        peers.iter().filter(|(_, peer)| peer.is_quarantined()).map(|(node, _)| *node).collect()
    }

    fn peer(&self, to: NodeId) -> Arc<Peer> {
        self.peers.lock().entry(to).or_default().clone()
    }

    /// A replication task begins: what was known of the replica may be of an earlier membership.
    fn new_peer(&self, to: NodeId) -> Arc<Peer> {
        let peer = Arc::new(Peer::default());
        self.peers.lock().insert(to, peer.clone());
        peer
    }

    async fn ask<A: Message + Default>(&self, to: NodeId, lane: Lane, request: Bytes, timeout: Duration) -> Rpc<A> {
        match self.transport.call(to, lane, request, timeout).await {
            Ok(answer) => frame::decode_answer(answer).map_err(|status| refused(to, status)),
            Err(error) => Err(self.failed(to, error, timeout)),
        }
    }

    pub fn failed(&self, to: NodeId, error: TransportError, timeout: Duration) -> RPCError<TypeConfig> {
        match error {
            TransportError::Unreachable => RPCError::Unreachable(Unreachable::from_string(error)),
            TransportError::Timeout => {
                RPCError::Timeout(Timeout { action: RPCTypes::AppendEntries, id: self.me, target: to, timeout })
            }
        }
    }
}

impl Peer {
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Acquire)
    }

    pub fn quarantine(&self) {
        self.quarantined.store(true, Ordering::Release);
    }

    pub fn acknowledge(&self, id: Option<LogId>) {
        let mut acknowledged = self.acknowledged.lock();
        *acknowledged = (*acknowledged).max(id);
    }

    pub fn acknowledged(&self) -> Option<LogId> {
        *self.acknowledged.lock()
    }
}

impl Client {
    /// Keeps a quarantined replica from electing or being elected, as far as it listens.
    async fn tell_quarantined(&self, peer: &Peer, vote: &Vote) {
        let news = Quarantine {
            vote: Some(types::vote_to(vote)),
            acknowledged: peer.acknowledged().as_ref().map(types::log_id_to),
        };
        let request = frame::request(Kind::Quarantine, self.link.shared.group, &news);
        let told: Rpc<Quarantine> = self.link.ask(self.to, Lane::Control, request, self.link.config.heartbeat).await;
        if let Err(error) = told {
            tracing::debug!(group = self.link.shared.group, node = self.to, %error, "quarantine not told");
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let lane = Lane::Append { group: self.link.shared.group };
        let bytes = encode_append(self.link.shared.group, &request);
        let answer = self.link.ask(self.to, lane, bytes, option.hard_ttl()).await?;
        decode_append_answer(&answer).ok_or_else(|| refused(self.to, Status::Malformed))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let peer = match self.role {
            Role::Heartbeat => self.link.peer(self.to),
            Role::Main | Role::Snapshot => self.peer.get_or_insert_with(|| self.link.new_peer(self.to)).clone(),
        };
        Box::pin(async move {
            if peer.is_quarantined() {
                // Taking the request is what makes openraft wait before it tries again.
                let request = input.next().await;
                // It gets this in place of heartbeats, again and again, as it forgets it when it restarts.
                if let (Role::Heartbeat, Some(request)) = (self.role, request) {
                    self.tell_quarantined(&peer, &request.vote).await;
                }
                return Err(quarantine_error());
            }
            let stream = match self.role {
                Role::Heartbeat => Pipeline::heartbeat(self.link.clone(), self.to, peer, input, option.hard_ttl()),
                Role::Main | Role::Snapshot => Pipeline::replication(self.link.clone(), self.to, peer, input),
            };
            Ok(stream.boxed())
        })
    }

    async fn vote(&mut self, ask: VoteRequest<TypeConfig>, option: RPCOption) -> Rpc<VoteResponse<TypeConfig>> {
        self.ask_vote(Kind::Vote, ask, option).await
    }

    async fn pre_vote(&mut self, ask: VoteRequest<TypeConfig>, option: RPCOption) -> Rpc<VoteResponse<TypeConfig>> {
        self.ask_vote(Kind::PreVote, ask, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::Snapshot<types::CommittedLeaderId, u64, Member, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Rows(shared) = snapshot.snapshot else {
            let error = "only rows of this node are sent";
            return Err(StreamingError::Unreachable(Unreachable::from_string(error)));
        };
        let sent = tokio::select! {
            biased;
            sent = crate::snapshot_send::send(&self.link, self.to, vote, &shared) => sent,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let vote = sent.map_err(|error| StreamingError::Unreachable(Unreachable::from_string(error)))?;
        self.link.peer(self.to).acknowledge(snapshot.meta.last_log_id);
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        ask: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let message = TransferAsk {
            from: Some(types::vote_to(ask.from_leader())),
            to: *ask.to_node_id(),
            last: ask.last_log_id().map(types::log_id_to),
        };
        let request = frame::request(Kind::Transfer, self.link.shared.group, &message);
        let answer: TransferAnswer = self.link.ask(self.to, Lane::Control, request, option.hard_ttl()).await?;
        if answer.refused.is_empty() {
            return Ok(Ok(()));
        }
        Err(RPCError::Unreachable(Unreachable::from_string(answer.refused)))
    }
}

impl Client {
    async fn ask_vote(
        &self,
        kind: Kind,
        ask: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let message = VoteAsk {
            vote: Some(types::vote_to(&ask.vote)),
            last: ask.last_log_id.as_ref().map(types::log_id_to),
            transfer: ask.leadership_transfer,
        };
        let request = frame::request(kind, self.link.shared.group, &message);
        let answer: VoteAnswer = self.link.ask(self.to, Lane::Control, request, option.hard_ttl()).await?;
        let vote = answer.vote.as_ref().ok_or_else(|| refused(self.to, Status::Malformed))?;
        Ok(VoteResponse::new(types::vote_from(vote), answer.last.as_ref().map(types::log_id_from), answer.granted))
    }
}

pub(crate) fn encode_append(group: crate::GroupId, request: &AppendEntriesRequest<TypeConfig>) -> Bytes {
    let head = AppendHead {
        vote: Some(types::vote_to(&request.vote)),
        previous: request.prev_log_id.as_ref().map(types::log_id_to),
        committed: request.leader_commit.as_ref().map(types::log_id_to),
    };
    frame::append_request(group, &head, &request.entries)
}

pub(crate) fn decode_append_answer(answer: &AppendAnswer) -> Option<AppendEntriesResponse<TypeConfig>> {
    let matched = |id: &Option<record::LogId>| id.as_ref().map(types::log_id_from);
    match answer.outcome {
        AppendAnswer::ACCEPTED => Some(AppendEntriesResponse::Success),
        AppendAnswer::PARTLY => Some(AppendEntriesResponse::PartialSuccess(matched(&answer.matched))),
        AppendAnswer::CONFLICT => Some(AppendEntriesResponse::Conflict),
        AppendAnswer::HIGHER_VOTE => Some(AppendEntriesResponse::HigherVote(types::vote_from(answer.vote.as_ref()?))),
        _ => None,
    }
}

/// The called node answered that it cannot serve the group: calling again at once is pointless.
pub(crate) fn refused(to: NodeId, status: Status) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(format!("node {to} answered {status:?}")))
}

pub(crate) fn quarantine_error() -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string("the replica lost entries that it had acknowledged"))
}
