//! Prometheus metrics and health over HTTP: `/metrics`, `/healthz` (alive), `/readyz` (serves).

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use bristlecone_storage::runtime::Tasks;
use metrics::gauge;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::cluster::Cluster;

/// How often gauges that nobody pushes are read, and histograms are tidied up.
const READ_EVERY: Duration = Duration::from_secs(5);

/// One recorder a process: nodes of a test share it.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Serves until the node stops.
///
/// # Errors
/// The address cannot be listened on, or another recorder is installed.
pub async fn serve(address: SocketAddr, cluster: Cluster, tasks: &Tasks) -> anyhow::Result<()> {
    let handle = match RECORDER.get() {
        Some(handle) => handle.clone(),
        None => {
            let handle = PrometheusBuilder::new().install_recorder().context("metrics")?;
            RECORDER.get_or_init(|| handle).clone()
        }
    };
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let routes = Router::new()
        .route("/metrics", get(|State((handle, _)): State<(PrometheusHandle, Cluster)>| async move { handle.render() }))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|State((_, cluster)): State<(PrometheusHandle, Cluster)>| async move { ready(&cluster) }))
        .with_state((handle.clone(), cluster.clone()));
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    tasks.spawn(read_gauges(handle, cluster));
    Ok(())
}

fn ready(cluster: &Cluster) -> (StatusCode, &'static str) {
    if cluster.parts().health.is_ready() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no quorum, or not caught up")
    }
}

async fn read_gauges(handle: PrometheusHandle, cluster: Cluster) {
    let mut every = tokio::time::interval(READ_EVERY);
    loop {
        every.tick().await;
        let status = cluster.status_here();
        for group in &status.groups {
            let label = group.group_id.to_string();
            gauge!("raft_term", "group" => label.clone()).set(group.term as f64);
            gauge!("raft_last_index", "group" => label.clone()).set(group.last_index as f64);
            gauge!("raft_applied_index", "group" => label.clone()).set(group.applied_index as f64);
            gauge!("raft_is_leader", "group" => label).set(if group.role == "leader" { 1.0 } else { 0.0 });
        }
        if let Some(node) = status.node {
            gauge!("storage_disk_bytes").set(node.data_bytes as f64);
            gauge!("storage_free_bytes").set(node.free_bytes as f64);
            gauge!("memory_resident_bytes").set(node.memory_bytes as f64);
            gauge!("parked_polls").set(node.polls as f64);
        }
        handle.run_upkeep();
    }
}
