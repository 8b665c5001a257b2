//! `ClusterStatus`: the cluster as this node sees it, and how each member that answers is.

use bristlecone_proto::admin::ClusterStatusResponse;
use bristlecone_proto::record;
use bristlecone_proto::record::member::State;
use bytes::Bytes;
use futures::future::join_all;

use super::{Admin, STATUS_TIME};

pub(super) async fn cluster_status(admin: &Admin) -> ClusterStatusResponse {
    let view = admin.cluster.meta();
    let asked = view.members().filter(|member| member.state() != State::Removed).map(|member| {
        let node = member.node_id;
        async move { admin.cluster.status_of(node, STATUS_TIME).await.map(|status| (node, status)) }
    });
    let nodes = join_all(asked).await.into_iter().flatten().collect();
    // The key of tokens is nobody's business.
    let cluster = record::Cluster { token_key: Bytes::new(), ..view.cluster.clone() };
    ClusterStatusResponse {
        cluster: Some(cluster),
        members: view.members().map(|member| (**member).clone()).collect(),
        shards: view.shards().map(|shard| (**shard).clone()).collect(),
        nodes,
        answered_by: admin.cluster.node().node_id,
    }
}
