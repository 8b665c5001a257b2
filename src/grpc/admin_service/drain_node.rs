//! `DrainNode`: a node's leaderships go elsewhere, and no new ones come.

use bristlecone_machine::reply;
use bristlecone_proto::admin::{DrainNodeRequest, DrainNodeResponse};
use bristlecone_proto::record::member::State;
use tokio::time::Instant;

use super::super::Result;
use super::{Admin, LOOK_EVERY, STATUS_TIME};

pub(super) async fn drain_node(admin: &Admin, request: DrainNodeRequest, by: Instant) -> Result<DrainNodeResponse> {
    let node_id = request.node_id;
    match admin.member_state(node_id)? {
        State::Active => {
            admin.require_another(node_id)?;
            admin.set_state(node_id, State::Draining, by).await?;
        }
        State::Draining => {}
        state => {
            return Err(reply::failed_precondition(format!(
                "node {node_id} is {}: it cannot be drained",
                state.as_str_name()
            )));
        }
    }
    loop {
        // A node that does not answer leads nothing for longer than an election takes.
        let left = match admin.cluster.status_of(node_id, STATUS_TIME).await {
            Some(status) => status.groups.iter().filter(|group| group.leader == node_id).count(),
            None => 0,
        };
        if left == 0 || Instant::now() + LOOK_EVERY >= by {
            return Ok(DrainNodeResponse { leaderships_left: u32::try_from(left).unwrap_or(u32::MAX) });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
