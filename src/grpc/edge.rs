//! What every handler has in hand: the cluster, and whether the node serves or is about to stop.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Result;
use super::rates::{Quota, Rates};
use super::waits::{Place, Waits};
use crate::cluster::Cluster;

/// The names under which health is asked for: the node as a whole, and its two services.
const HEALTH_NAMES: [&str; 3] =
    ["", "temporal.api.workflowservice.v1.WorkflowService", "temporal.api.operatorservice.v1.OperatorService"];

/// The edge of one node. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    inner: Arc<Inner>,
    /// The RPC that is served, and its quota; `None` for what the server does of itself.
    rpc: Option<(&'static str, Quota)>,
}

struct Inner {
    cluster: Cluster,
    health: HealthReporter,
    draining: watch::Sender<bool>,
    rates: Rates,
    waits: Waits,
}

impl Edge {
    /// What health checks answer is set by [`Edge::set_serving`] or [`Edge::follow_readiness`].
    pub fn new(cluster: Cluster) -> Self {
        let draining = watch::Sender::new(false);
        let health = HealthReporter::new();
        let inner = Inner { cluster, health, draining, rates: Rates::default(), waits: Waits::default() };
        Self { inner: Arc::new(inner), rpc: None }
    }

    /// The edge as a client's call has it, unless the node takes no more of the kind.
    pub(super) fn admit(&self, rpc: &'static str, quota: Quota) -> Result<Self> {
        self.inner.rates.admit_to_node(quota, &self.cluster().settings().edge, || self.nodes())?;
        Ok(Self { inner: Arc::clone(&self.inner), rpc: Some((rpc, quota)) })
    }

    /// Counts a client's call as its namespace's.
    pub(super) fn admit_to(&self, namespace: &str) -> Result<()> {
        let Some((_, quota)) = self.rpc else { return Ok(()) };
        let settings = self.cluster().settings_of(namespace);
        self.inner.rates.admit(namespace, quota, &settings.edge, || self.nodes())
    }

    /// A place for a client's call that is about to wait, to be kept as long as it does.
    pub(super) fn wait_in(&self, namespace: &str) -> Result<Option<Place>> {
        let Some((rpc, _)) = self.rpc else { return Ok(None) };
        let limit = self.cluster().settings_of(namespace).edge.waits.of_node(|| self.nodes());
        self.inner.waits.take(rpc, namespace, limit).map(Some)
    }

    /// Nodes among which what the cluster takes is shared.
    fn nodes(&self) -> usize {
        self.cluster().meta().present_members().count()
    }

    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// What health checks answer: serving while the node has a quorum and is caught up.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            self.inner.health.set_service_status(name, status).await;
        }
    }

    /// Keeps what health checks answer true to the node's own state; never ends.
    pub async fn follow_readiness(&self, mut ready: watch::Receiver<bool>) {
        loop {
            let serving = *ready.borrow_and_update() && !*self.inner.draining.borrow();
            self.set_serving(serving).await;
            if ready.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Ends every long poll with an empty answer, now and from now on: the node is about to stop.
    pub fn drain(&self) {
        self.inner.draining.send_replace(true);
    }

    /// The outcome of something that waits, or `None` when the node stops meanwhile.
    pub(super) async fn unless_draining<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        let mut draining = self.inner.draining.subscribe();
        tokio::select! {
            biased;
            outcome = waiting => Some(outcome),
            _ = draining.wait_for(|draining| *draining) => None,
        }
    }

    pub(super) fn health(&self) -> HealthReporter {
        self.inner.health.clone()
    }
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Edge")
    }
}
