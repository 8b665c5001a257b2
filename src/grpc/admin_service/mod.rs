//! The operator's service: what `bristlecone cluster …` calls, on the API's port of any node.
//!
//! # Contract
//! One file per RPC. What takes long (drain, leave) is asked for at once and then waited for until the caller's
//! deadline; the answer says what is left, and asking again goes on waiting.
//!
//! # Depends on
//! `crate::cluster`; the metadata's member states, which every node's keeper acts upon.
//!
//! # Used by
//! `crate::grpc::serve`; `unjoined.rs` by nodes that belong to no cluster yet.

mod check_visibility;
mod cluster_status;
mod drain_node;
mod join_node;
mod leave_node;
mod remove_node;
mod transfer_leader;
mod undrain_node;
pub mod unjoined;

use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::admin::admin_service_server::{AdminService, AdminServiceServer};
use bristlecone_proto::admin::{
    CheckVisibilityRequest, CheckVisibilityResponse, ClusterStatusRequest, ClusterStatusResponse, DrainNodeRequest,
    DrainNodeResponse, JoinNodeRequest, JoinNodeResponse, LeaveNodeRequest, LeaveNodeResponse, RemoveNodeRequest,
    RemoveNodeResponse, TransferLeaderRequest, TransferLeaderResponse, UndrainNodeRequest, UndrainNodeResponse,
};
use bristlecone_proto::node::{SetMemberState, meta_call};
use bristlecone_proto::record::member::State;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Result, call::Call, status};
use crate::cluster::Cluster;

/// How long one node may take to say how it is.
const STATUS_TIME: Duration = Duration::from_secs(1);
/// How often a wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A wait ends this long before the caller's deadline, so that its answer arrives in time.
const ANSWER_TAIL: Duration = Duration::from_millis(500);

/// The service of a node that is a member.
#[derive(Debug, Clone)]
pub struct Admin {
    cluster: Cluster,
}

impl Admin {
    pub fn server(cluster: Cluster) -> AdminServiceServer<Self> {
        AdminServiceServer::new(Self { cluster })
    }

    async fn set_state(&self, node_id: u64, state: State, deadline: Instant) -> Result<()> {
        let change = SetMemberState { node_id, state: state.into() };
        self.cluster.meta_call(meta_call::Kind::SetMemberState(change), deadline).await.map(|_| ())
    }

    /// The state of a member that is still one.
    fn member_state(&self, node_id: u64) -> Result<State> {
        let view = self.cluster.meta();
        let member =
            view.member(node_id).ok_or_else(|| reply::not_found(format!("the cluster has no node {node_id}")))?;
        match member.state() {
            State::Removed => Err(reply::failed_precondition(format!("node {node_id} was removed"))),
            state => Ok(state),
        }
    }

    /// Refuses what would leave the cluster without an active member.
    fn require_another(&self, node_id: u64) -> Result<()> {
        let view = self.cluster.meta();
        let another = view.members().any(|member| member.node_id != node_id && member.state() == State::Active);
        if another {
            return Ok(());
        }
        Err(reply::failed_precondition(format!("node {node_id} is the last active member of the cluster")))
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> std::result::Result<Response<ClusterStatusResponse>, Status> {
        Ok(Response::new(cluster_status::cluster_status(self).await))
    }

    async fn drain_node(
        &self,
        request: Request<DrainNodeRequest>,
    ) -> std::result::Result<Response<DrainNodeResponse>, Status> {
        let by = answer_by(&request);
        answer(drain_node::drain_node(self, request.into_inner(), by).await)
    }

    async fn undrain_node(
        &self,
        request: Request<UndrainNodeRequest>,
    ) -> std::result::Result<Response<UndrainNodeResponse>, Status> {
        let by = answer_by(&request);
        answer(undrain_node::undrain_node(self, request.into_inner(), by).await)
    }

    async fn leave_node(
        &self,
        request: Request<LeaveNodeRequest>,
    ) -> std::result::Result<Response<LeaveNodeResponse>, Status> {
        let by = answer_by(&request);
        answer(leave_node::leave_node(self, request.into_inner(), by).await)
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> std::result::Result<Response<RemoveNodeResponse>, Status> {
        let by = answer_by(&request);
        answer(remove_node::remove_node(self, request.into_inner(), by).await)
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> std::result::Result<Response<TransferLeaderResponse>, Status> {
        let by = answer_by(&request);
        answer(transfer_leader::transfer_leader(self, request.into_inner(), by).await)
    }

    async fn join_node(&self, _: Request<JoinNodeRequest>) -> std::result::Result<Response<JoinNodeResponse>, Status> {
        answer(join_node::join_node(self))
    }

    async fn check_visibility(
        &self,
        request: Request<CheckVisibilityRequest>,
    ) -> std::result::Result<Response<CheckVisibilityResponse>, Status> {
        let by = answer_by(&request);
        answer(check_visibility::check_visibility(self, request.into_inner(), by).await)
    }
}

fn answer<T>(outcome: Result<T>) -> std::result::Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(status::of)
}

/// Until when the work may go on.
fn answer_by<T>(request: &Request<T>) -> Instant {
    let now = Instant::now();
    let by = Call::of(request.metadata().as_ref(), now).deadline.unwrap_or(now + Duration::from_secs(30));
    by.checked_sub(ANSWER_TAIL).map_or(now, |by| by.max(now))
}
