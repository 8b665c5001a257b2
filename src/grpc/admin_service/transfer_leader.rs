//! `TransferLeader`: another replica leads a group, and for a shard the map remembers that it is to.

use bristlecone_machine::reply;
use bristlecone_proto::admin::{TransferLeaderRequest, TransferLeaderResponse};
use bristlecone_proto::node::meta_call;
use bristlecone_proto::record::Shard;
use bristlecone_proto::record::member::State;
use tokio::time::Instant;

use super::super::Result;
use super::Admin;
use crate::meta::META_GROUP;

pub(super) async fn transfer_leader(
    admin: &Admin,
    request: TransferLeaderRequest,
    by: Instant,
) -> Result<TransferLeaderResponse> {
    let TransferLeaderRequest { group_id, node_id } = request;
    if admin.member_state(node_id)? != State::Active {
        return Err(reply::failed_precondition(format!("node {node_id} is not active: it takes no leaderships")));
    }
    if group_id != META_GROUP {
        let view = admin.cluster.meta();
        let shard = view.shard(group_id).ok_or_else(|| reply::not_found(format!("there is no group {group_id}")))?;
        if !shard.replicas.contains(&node_id) {
            return Err(reply::failed_precondition(format!("node {node_id} has no replica of group {group_id}")));
        }
        // Otherwise the keeper would give it back to the one that the map prefers.
        if shard.preferred_leader != node_id {
            let preferred = Shard { preferred_leader: node_id, ..(**shard).clone() };
            admin.cluster.meta_call(meta_call::Kind::PutShard(preferred), by).await?;
        }
    }
    admin.cluster.transfer_leader(group_id, node_id, by).await?;
    Ok(TransferLeaderResponse {})
}
