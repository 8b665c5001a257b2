//! A node with an empty data directory that was not told what to become: it waits for `cluster join`.
//!
//! # Depends on
//! `crate::grpc::admin_service` (the one RPC that it answers).

use anyhow::Context;
use tokio::net::TcpListener;

use super::serve::Signals;
use crate::grpc::admin_service::unjoined;
use crate::node::NodeConfig;

/// Whether no node has used the data directory yet.
pub(super) fn is_unused(config: &NodeConfig) -> bool {
    config.data_dir.as_ref().is_some_and(|dir| !dir.join("identity").exists())
}

/// Listens where the API will be until somebody names a seed; `None` when a signal came instead.
pub(super) async fn wait(config: &NodeConfig) -> anyhow::Result<Option<String>> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "belongs to no cluster: waits for `bristlecone cluster join --address {address} SEED`");
    tokio::select! {
        seed = unjoined::serve(listener) => {
            let seed = seed?;
            tracing::info!(seed, "was told to join");
            Ok(Some(seed))
        }
        name = signals.next() => {
            tracing::info!("{name}: stops");
            Ok(None)
        }
    }
}
