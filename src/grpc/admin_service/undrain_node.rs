//! `UndrainNode`: a drained node may lead again. It also calls off a departure that is under way.

use bristlecone_machine::reply;
use bristlecone_proto::admin::{UndrainNodeRequest, UndrainNodeResponse};
use bristlecone_proto::record::member::State;
use tokio::time::Instant;

use super::super::Result;
use super::Admin;

pub(super) async fn undrain_node(
    admin: &Admin,
    request: UndrainNodeRequest,
    by: Instant,
) -> Result<UndrainNodeResponse> {
    let node_id = request.node_id;
    match admin.member_state(node_id)? {
        State::Draining | State::Leaving => admin.set_state(node_id, State::Active, by).await?,
        State::Active => {}
        state => {
            let state = state.as_str_name();
            return Err(reply::failed_precondition(format!("node {node_id} is {state}: it was not drained")));
        }
    }
    Ok(UndrainNodeResponse {})
}
