//! ListClusters: this one.

use bristlecone_proto::temporal::api::operatorservice::v1::{
    ClusterMetadata, ListClustersRequest, ListClustersResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, _: Call, _: ListClustersRequest) -> Result<ListClustersResponse> {
    let meta = edge.cluster().meta();
    let this = ClusterMetadata {
        cluster_name: meta.cluster.name.clone(),
        cluster_id: meta.cluster.cluster_id.clone(),
        address: edge.cluster().node().api_address.clone(),
        initial_failover_version: 1,
        history_shard_count: i32::try_from(meta.shards().count()).unwrap_or(i32::MAX),
        is_connection_enabled: true,
        ..ClusterMetadata::default()
    };
    Ok(ListClustersResponse { clusters: vec![this], ..ListClustersResponse::default() })
}
