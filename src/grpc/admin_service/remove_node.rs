//! `RemoveNode`: a dead node is a member no more, and its id never comes back.

use bristlecone_machine::reply;
use bristlecone_proto::admin::{RemoveNodeRequest, RemoveNodeResponse};
use bristlecone_proto::record::member::State;
use tokio::time::Instant;

use super::super::Result;
use super::{Admin, STATUS_TIME};

pub(super) async fn remove_node(admin: &Admin, request: RemoveNodeRequest, by: Instant) -> Result<RemoveNodeResponse> {
    let node_id = request.node_id;
    admin.member_state(node_id)?;
    admin.require_another(node_id)?;
    if !request.force && admin.cluster.status_of(node_id, STATUS_TIME).await.is_some() {
        return Err(reply::failed_precondition(format!(
            "node {node_id} answers: let it leave, or force its removal if its replicas may go at once"
        )));
    }
    admin.set_state(node_id, State::Removed, by).await?;
    Ok(RemoveNodeResponse {})
}
