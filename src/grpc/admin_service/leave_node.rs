//! `LeaveNode`: a live node's replicas go elsewhere, then it is a member no more.

use bristlecone_proto::admin::{LeaveNodeRequest, LeaveNodeResponse};
use bristlecone_proto::record::member::State;
use tokio::time::Instant;

use super::super::Result;
use super::{Admin, LOOK_EVERY, STATUS_TIME};
use crate::meta::META_GROUP;

pub(super) async fn leave_node(admin: &Admin, request: LeaveNodeRequest, by: Instant) -> Result<LeaveNodeResponse> {
    let node_id = request.node_id;
    if admin.member_state(node_id)? != State::Leaving {
        admin.require_another(node_id)?;
        admin.set_state(node_id, State::Leaving, by).await?;
    }
    loop {
        let left = replicas_on(admin, node_id).await;
        if left == 0 {
            admin.set_state(node_id, State::Removed, by).await?;
            return Ok(LeaveNodeResponse { replicas_left: 0 });
        }
        if Instant::now() + LOOK_EVERY >= by {
            return Ok(LeaveNodeResponse { replicas_left: left });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Shards that the map places on the node, or of which it still votes or learns. Its replica of the
/// metadata goes with its membership.
async fn replicas_on(admin: &Admin, node_id: u64) -> u32 {
    let view = admin.cluster.meta();
    let mapped = view.shards().filter(|shard| shard.replicas.contains(&node_id)).count();
    let held = match admin.cluster.status_of(node_id, STATUS_TIME).await {
        Some(status) => {
            let leads_meta = status.groups.iter().any(|group| group.group_id == META_GROUP && group.leader == node_id);
            let shards = status.groups.iter().filter(|group| group.group_id != META_GROUP);
            shards.filter(|group| group.voters.contains(&node_id)).count() + usize::from(leads_meta)
        }
        // It died on its way out: what the map says is all there is to wait for.
        None => 0,
    };
    u32::try_from(mapped.max(held)).unwrap_or(u32::MAX)
}
