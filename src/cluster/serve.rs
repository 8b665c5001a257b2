//! What other nodes ask of this one: the handler behind the internal port.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::node::{
    ClaimResult, Done, JoinReply, NodeStatus, Notice, Request, Response, StatusReply, notice, request, response,
    shard_control,
};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::Cluster;
use super::route::{Ask, unavailable};
use crate::meta::META_GROUP;
use crate::peer::{Handler, Lane, PeerIdentity};
use bristlecone_raft::Lane as RaftLane;

/// How long a request without a time limit may take.
const DEFAULT_TIME: Duration = Duration::from_secs(30);

/// Answers peers once the node is put together; before that it says that it is starting.
#[derive(Debug, Default, Clone)]
pub struct Server {
    cluster: Arc<OnceLock<Cluster>>,
    groups: Arc<OnceLock<super::GroupsHandle>>,
}

impl Server {
    /// From now on Raft messages are taken.
    pub fn set_groups(&self, groups: super::GroupsHandle) {
        // It is set once, while the node is put together.
        drop(self.groups.set(groups));
    }

    /// From now on everything is answered.
    pub fn set_cluster(&self, cluster: Cluster) {
        drop(self.cluster.set(cluster));
    }
}

impl Handler for Server {
    fn request(&self, from: PeerIdentity, request: Request) -> BoxFuture<'static, Response> {
        let Some(cluster) = self.cluster.get().cloned() else {
            let starting = response::Kind::Failed(unavailable("the node is starting"));
            return async { Response { kind: Some(starting) } }.boxed();
        };
        async move {
            let time = if request.timeout_ms == 0 { DEFAULT_TIME } else { Duration::from_millis(request.timeout_ms) };
            let kind = match request.kind {
                Some(kind) => cluster.answer(&from, kind, Instant::now() + time).await,
                None => response::Kind::Failed(reply::invalid_argument("an empty request")),
            };
            Response { kind: Some(kind) }
        }
        .boxed()
    }

    fn notice(&self, from: &PeerIdentity, notice: Notice) {
        if let (Some(cluster), Some(kind)) = (self.cluster.get(), notice.kind) {
            match kind {
                notice::Kind::Clock(reading) => cluster.inner.clocks.heard(from.node_id, reading),
                kind => cluster.inner.queues.notice(from.node_id, kind),
            }
        }
    }

    fn raft(&self, from: &PeerIdentity, lane: Lane, message: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let Some(groups) = self.groups.get() else {
            return async { Err("the node is starting".to_string()) }.boxed();
        };
        // What a frame is about stands in the frame; the lane was for the transport.
        let _ = lane;
        groups.0.handle(from.node_id, RaftLane::Control, message).map(Ok).boxed()
    }
}

impl Cluster {
    async fn answer(&self, from: &PeerIdentity, kind: request::Kind, deadline: Instant) -> response::Kind {
        match kind {
            request::Kind::Chain(call) => {
                let chain = call.chain.unwrap_or_default();
                self.serve_chain(call.group_id, &chain, Ask::Input(Box::new(call.input.unwrap_or_default())), deadline)
                    .await
            }
            request::Kind::AwaitHistory(head) => {
                let chain = head.chain.clone().unwrap_or_default();
                self.serve_chain(head.group_id, &chain, Ask::AwaitHistory(head), deadline).await
            }
            request::Kind::History(read) => match self.read_events_here(&read).await {
                Ok(page) => response::Kind::History(page),
                Err(rejection) => response::Kind::Failed(rejection),
            },
            request::Kind::Claim(claim) => {
                let outcome = self.inner.shards.claim(claim).await;
                response::Kind::Claimed(ClaimResult { outcome: outcome.into(), ..ClaimResult::default() })
            }
            question @ (request::Kind::List(_) | request::Kind::CheckListings(_)) => {
                self.serve_rows(question, deadline).await
            }
            request::Kind::Meta(call) => match call.kind {
                Some(kind) => self.inner.meta.serve(kind).await,
                None => response::Kind::Failed(reply::invalid_argument("an empty change")),
            },
            request::Kind::AwaitMetaIndex(index) => {
                self.inner.meta.await_index(index, deadline.saturating_duration_since(Instant::now())).await;
                response::Kind::Done(Done {})
            }
            request::Kind::Join(join) => response::Kind::Join(self.serve_join(from, join, deadline).await),
            request::Kind::Status(_) => response::Kind::Status(self.status_here()),
            request::Kind::DescribeQueue(describe) => {
                response::Kind::Queue(self.inner.queues.describe(&describe.queue.unwrap_or_default()))
            }
            request::Kind::QueryAnswer(answer) => self.serve_query_answer(answer).await,
            request::Kind::ListWorkers(list) => self.serve_list_workers(&list.namespace_id),
            request::Kind::ShutWorker(shut) => {
                self.serve_shut_worker(&shut);
                response::Kind::Done(Done {})
            }
            request::Kind::ShardControl(control) => {
                let Some(shard_control::Kind::TransferTo(to)) = control.kind else {
                    return response::Kind::Failed(reply::invalid_argument("an empty request"));
                };
                match self.hand_over(control.group_id, to).await {
                    Ok(()) => response::Kind::Done(Done {}),
                    Err(rejection) => response::Kind::Failed(rejection),
                }
            }
            request::Kind::ReadSnapshot(_) => {
                response::Kind::Failed(reply::plain(reply::code::UNIMPLEMENTED, "snapshots come by Raft"))
            }
        }
    }

    async fn serve_join(
        &self,
        from: &PeerIdentity,
        join: bristlecone_proto::node::JoinRequest,
        deadline: Instant,
    ) -> JoinReply {
        use bristlecone_proto::node::{AllocateNode, meta_call};
        let allocate = AllocateNode { member: join.member, request_key: join.request_key };
        tracing::info!(address = %from.address, "a node asks to join");
        match self.meta_call(meta_call::Kind::AllocateNode(allocate), deadline).await {
            Ok(reply) => JoinReply {
                cluster: reply.cluster,
                member: reply.member,
                members: self.meta().present_members().map(|member| (**member).clone()).collect(),
                refused: String::new(),
            },
            Err(rejection) => JoinReply { refused: rejection.message, ..JoinReply::default() },
        }
    }

    /// This node and its groups, for status.
    pub fn status_here(&self) -> StatusReply {
        let info = &self.inner.info;
        let (data_bytes, free_bytes) = self.inner.disk.usage();
        let node = NodeStatus {
            node_id: self.inner.me,
            name: info.name.clone(),
            version: info.version.clone(),
            uptime: Some(bristlecone_machine::stamp::duration(
                i64::try_from(info.started.elapsed().as_nanos()).unwrap_or(i64::MAX),
            )),
            data_bytes,
            free_bytes,
            memory_bytes: crate::process::resident_bytes(),
            ready: self.inner.health.is_ready(),
            shedding: self.inner.health.shedding(),
            polls: self.inner.queues.polls().len() as u64,
            api_address: info.api_address.clone(),
            internal_address: info.internal_address.clone(),
        };
        let groups = self.inner.groups.0.list().iter().map(bristlecone_raft::Group::status).collect();
        StatusReply { node: Some(node), groups }
    }

    /// Hands the leadership of a group that this node leads to another replica, without a failed request:
    /// the shard stops deciding, the other catches up, then it is elected.
    pub async fn hand_over(&self, group_id: u64, to: u64) -> super::Result<()> {
        let Some(group) = self.inner.groups.0.group(group_id) else {
            return Err(reply::not_found(format!("group {group_id} has no replica here")));
        };
        if !group.leadership().borrow().is_local {
            return Err(reply::failed_precondition(format!("this node does not lead group {group_id}")));
        }
        if to == self.inner.me {
            return Ok(());
        }
        let shard = (group_id != META_GROUP).then(|| self.inner.shards.get(group_id)).flatten();
        if let Some(shard) = &shard {
            shard.set_stopped(true);
            let mut leads = shard.leads();
            // The batch under way ends first; a shard that hangs is handed over all the same.
            drop(tokio::time::timeout(Duration::from_secs(1), leads.wait_for(|leads| !leads)).await);
        }
        let transferred = group.transfer_leader(to).await;
        if let Some(shard) = &shard {
            shard.set_stopped(false);
        }
        transferred.map_err(|error| unavailable(&format!("group {group_id}: {error}")))
    }
}
