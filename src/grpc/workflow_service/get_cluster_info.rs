//! GetClusterInfo: which server this is.

use bristlecone_proto::temporal::api::version::v1::{ReleaseInfo, VersionInfo};
use bristlecone_proto::temporal::api::workflowservice::v1::{GetClusterInfoRequest, GetClusterInfoResponse};

use crate::grpc::call::Call;
use crate::grpc::version::{self, CLIENTS};
use crate::grpc::{Edge, Result, SERVER_VERSION};

pub async fn handle(edge: Edge, _: Call, _: GetClusterInfoRequest) -> Result<GetClusterInfoResponse> {
    let meta = edge.cluster().meta();
    let store = format!("bristlecone {}", edge.cluster().node().version);
    let release = ReleaseInfo { version: SERVER_VERSION.to_owned(), ..ReleaseInfo::default() };
    Ok(GetClusterInfoResponse {
        supported_clients: CLIENTS
            .iter()
            .map(|(name, limit)| ((*name).to_owned(), version::supported(*limit)))
            .collect(),
        server_version: SERVER_VERSION.to_owned(),
        cluster_id: meta.cluster.cluster_id.clone(),
        version_info: Some(VersionInfo { current: Some(release), ..VersionInfo::default() }),
        cluster_name: meta.cluster.name.clone(),
        history_shard_count: i32::try_from(meta.shards().count()).unwrap_or(i32::MAX),
        persistence_store: store.clone(),
        visibility_store: store,
        initial_failover_version: 1,
        failover_version_increment: 10,
    })
}
