//! Answers what other nodes' replicas ask of this node's.
//!
//! # Used by
//! The node's transport, through [`Groups::handle`].

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::Snapshot;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use prost::Message;

use crate::NodeId;
use crate::frame::{
    self, AppendAnswer, Kind, Quarantine, Request, SnapshotAnswer, SnapshotChunk, SnapshotDone, SnapshotOpen, Status,
    TransferAnswer, TransferAsk, VoteAnswer, VoteAsk,
};
use crate::group::Group;
use crate::groups::{Groups, Node};
use crate::log_store::decode_vote;
use crate::transport::Lane;
use crate::types::{self, LogId, Vote};

impl Groups {
    /// Takes a request that `from` sent with [`crate::Transport::call`] and gives the answer to return.
    ///
    /// Requests of one lane are taken in the order in which this function is called; the futures may be
    /// polled in any order. Dropping a future abandons the answer.
    pub fn handle(&self, from: NodeId, _lane: Lane, request: Bytes) -> BoxFuture<'static, Bytes> {
        let node = self.node.clone();
        let mut answer = match frame::decode_request(request) {
            Err(status) => return std::future::ready(frame::refusal(status)).boxed(),
            Ok(request) => tokio::task::unconstrained(async move {
                match serve(&node, from, request).await {
                    Ok(answer) => answer,
                    Err(status) => frame::refusal(status),
                }
            })
            .boxed(),
        };
        // The first poll hands the request to the group's core, in order.
        match (&mut answer).now_or_never() {
            Some(ready) => std::future::ready(ready).boxed(),
            None => answer,
        }
    }
}

async fn serve(node: &Node, from: NodeId, request: Request) -> Result<Bytes, Status> {
    let group = node.group(request.group).ok_or(Status::NoSuchGroup)?;
    match request.kind {
        Kind::Append => append(&group, from, request.body).await,
        Kind::Vote => vote(&group, request.body, false).await,
        Kind::PreVote => vote(&group, request.body, true).await,
        Kind::Transfer => transfer(&group, request.body).await,
        Kind::SnapshotOpen => {
            let open: SnapshotOpen = decode(request.body)?;
            if group.is_quarantined() {
                return Err(Status::Quarantined);
            }
            Ok(snapshot_answer(node.snapshots.open(request.group, &open)))
        }
        Kind::SnapshotChunk => {
            let (chunk, bytes) = frame::decode_sized::<SnapshotChunk>(request.body).ok_or(Status::Malformed)?;
            Ok(snapshot_answer(node.snapshots.chunk(request.group, chunk, bytes).await))
        }
        Kind::SnapshotDone => snapshot_done(node, &group, request.body).await,
        Kind::Quarantine => quarantine(&group, from, request.body),
    }
}

async fn append(group: &Group, from: NodeId, body: Bytes) -> Result<Bytes, Status> {
    let (head, entries) = frame::decode_append(body).ok_or(Status::Malformed)?;
    let vote = head.vote.as_ref().map(types::vote_from).ok_or(Status::Malformed)?;
    let previous = head.previous.as_ref().map(types::log_id_from);
    if vote.leader_id.node_id != from || !vote.committed || !consecutive(previous, &entries) {
        return Err(Status::Malformed);
    }
    if group.is_quarantined() {
        return Err(Status::Quarantined);
    }
    let request = AppendEntriesRequest {
        vote,
        prev_log_id: previous,
        entries,
        leader_commit: head.committed.as_ref().map(types::log_id_from),
    };
    let response = group.inner.core.append_entries(request).await.map_err(|_| Status::Stopped)?;
    if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
        group.inner.pulse.hear();
    }
    let (outcome, matched, vote) = match response {
        AppendEntriesResponse::Success => (AppendAnswer::ACCEPTED, None, None),
        AppendEntriesResponse::PartialSuccess(matched) => (AppendAnswer::PARTLY, matched, None),
        AppendEntriesResponse::Conflict => (AppendAnswer::CONFLICT, None, None),
        AppendEntriesResponse::HigherVote(vote) => (AppendAnswer::HIGHER_VOTE, None, Some(vote)),
    };
    Ok(frame::answer(&AppendAnswer {
        outcome,
        matched: matched.as_ref().map(types::log_id_to),
        vote: vote.as_ref().map(types::vote_to),
    }))
}

/// openraft takes it for granted.
fn consecutive(previous: Option<LogId>, entries: &[crate::entry::Entry]) -> bool {
    let first = previous.map_or(0, |id| id.index + 1);
    entries.iter().zip(first..).all(|(entry, index)| entry.log_id.index == index)
}

async fn vote(group: &Group, body: Bytes, pre: bool) -> Result<Bytes, Status> {
    let ask: VoteAsk = decode(body)?;
    let candidate = ask.vote.as_ref().map(types::vote_from).ok_or(Status::Malformed)?;
    if group.is_quarantined() {
        // It no longer knows what it promised, so it promises nothing.
        let (vote, last) = local_vote(group);
        let answer = VoteAnswer { vote: vote.as_ref().map(types::vote_to), last, granted: false };
        return Ok(frame::answer(&answer));
    }
    let request = VoteRequest {
        vote: candidate,
        last_log_id: ask.last.as_ref().map(types::log_id_from),
        leadership_transfer: ask.transfer,
    };
    let core = &group.inner.core;
    let response = if pre { core.pre_vote(request).await } else { core.vote(request).await };
    let response = response.map_err(|_| Status::Stopped)?;
    Ok(frame::answer(&VoteAnswer {
        vote: Some(types::vote_to(&response.vote)),
        last: response.last_log_id.as_ref().map(types::log_id_to),
        granted: response.vote_granted,
    }))
}

async fn transfer(group: &Group, body: Bytes) -> Result<Bytes, Status> {
    let ask: TransferAsk = decode(body)?;
    let from = ask.from.as_ref().map(types::vote_from).ok_or(Status::Malformed)?;
    let refused = if group.is_quarantined() {
        "quarantined".to_string()
    } else {
        let request = TransferLeaderRequest::new(from, ask.to, ask.last.as_ref().map(types::log_id_from));
        let response = group.inner.core.handle_transfer_leader(request).await.map_err(|_| Status::Stopped)?;
        response.err().map(|error| error.to_string()).unwrap_or_default()
    };
    Ok(frame::answer(&TransferAnswer { refused }))
}

async fn snapshot_done(node: &Node, group: &Group, body: Bytes) -> Result<Bytes, Status> {
    let done: SnapshotDone = decode(body)?;
    let (vote, meta, snapshot) = match node.snapshots.done(group.id(), done.transfer).await {
        Ok(complete) => complete,
        Err(refused) => return Ok(snapshot_answer(Err(refused))),
    };
    let installed = group.inner.core.install_full_snapshot(vote, Snapshot { meta, snapshot }).await;
    let response = installed.map_err(|_| Status::Stopped)?;
    Ok(frame::answer(&SnapshotAnswer { refused: String::new(), vote: Some(types::vote_to(&response.vote)) }))
}

fn quarantine(group: &Group, from: NodeId, body: Bytes) -> Result<Bytes, Status> {
    let news: Quarantine = decode(body)?;
    let vote = news.vote.as_ref().map(types::vote_from).ok_or(Status::Malformed)?;
    // Only the leader of the present can know.
    let (known, last) = local_vote(group);
    if vote.leader_id.node_id == from && vote.committed && known.is_none_or(|known| known.leader_id <= vote.leader_id) {
        if !group.is_quarantined() {
            tracing::error!(group = group.id(), leader = from, "this replica lost entries: it is quarantined");
        }
        group.quarantine();
    }
    Ok(frame::answer(&Quarantine { vote: known.as_ref().map(types::vote_to), acknowledged: last }))
}

fn local_vote(group: &Group) -> (Option<Vote>, Option<bristlecone_proto::record::LogId>) {
    let state = group.inner.log.state(group.id());
    (state.vote.and_then(|bytes| decode_vote(bytes).ok()), state.last)
}

fn snapshot_answer(result: Result<(), String>) -> Bytes {
    frame::answer(&SnapshotAnswer { refused: result.err().unwrap_or_default(), vote: None })
}

fn decode<M: Message + Default>(body: Bytes) -> Result<M, Status> {
    M::decode(body).map_err(|_| Status::Malformed)
}
