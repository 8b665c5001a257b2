//! `JoinNode` on a node that is a member already; `unjoined.rs` has the other case.

use bristlecone_machine::reply;
use bristlecone_proto::admin::JoinNodeResponse;

use super::super::Result;
use super::Admin;

pub(super) fn join_node(admin: &Admin) -> Result<JoinNodeResponse> {
    let (node, view) = (admin.cluster.node().node_id, admin.cluster.meta());
    let cluster = &view.cluster.cluster_id;
    Err(reply::failed_precondition(format!(
        "this is node {node} of cluster {cluster} already; only a node with an empty data directory joins"
    )))
}
