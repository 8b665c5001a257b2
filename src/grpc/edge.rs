//! What every handler has in hand.

use std::future::Future;
use std::sync::Arc;

use bristlecone_storage::runtime::{Clock, Entropy, UnixNanos};
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::cluster::Cluster;

/// The names under which health is asked for: the node as a whole, and its two services.
const HEALTH_NAMES: [&str; 3] =
    ["", "temporal.api.workflowservice.v1.WorkflowService", "temporal.api.operatorservice.v1.OperatorService"];

/// The cluster, and what the edge borrows from the operating system. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    health: HealthReporter,
    draining: watch::Sender<bool>,
}

impl Edge {
    /// Health says NOT_SERVING until [`Edge::set_serving`].
    pub fn new(cluster: Cluster, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let draining = watch::Sender::new(false);
        Self { inner: Arc::new(Inner { cluster, clock, entropy, health: HealthReporter::new(), draining }) }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    pub fn now(&self) -> UnixNanos {
        self.inner.clock.wall()
    }

    /// A random UUID.
    pub fn new_id(&self) -> String {
        let bits = self.inner.entropy.next().to_be_bytes();
        uuid::Builder::from_random_bytes(bits).into_uuid().to_string()
    }

    /// What health checks answer: serving while the node has a quorum and is caught up.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            self.inner.health.set_service_status(name, status).await;
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
