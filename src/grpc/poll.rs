//! What the polls of workflow, activity and Nexus tasks have in common.

use std::sync::Arc;

use bristlecone_proto::chain::Poll;
use bristlecone_proto::temporal::api::common::v1::WorkerVersionCapabilities;
use bristlecone_proto::temporal::api::deployment::v1::WorkerDeploymentOptions;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use tokio::time::Instant;

use super::waits::Place;
use super::{Call, Edge, Result, check};
use crate::dynamic::TaskType;
use crate::meta::NamespaceEntry;

/// The parts of a poll's request that all kinds have.
pub(super) struct Polled {
    pub task_type: TaskType,
    pub namespace: String,
    pub queue: Option<TaskQueue>,
    pub identity: String,
    pub version: Option<WorkerVersionCapabilities>,
    pub deployment: Option<WorkerDeploymentOptions>,
    pub worker_instance_key: String,
    /// Rate that the worker asks for the whole queue.
    pub tasks_per_second_max: Option<f64>,
}

/// A poll that may wait; the cluster gives it its ids.
pub(super) struct Waiting {
    pub namespace: Arc<NamespaceEntry>,
    pub poll: Poll,
    pub until: Instant,
    /// Held as long as it waits.
    pub _place: Option<Place>,
}

impl Edge {
    pub(super) fn accept_poll(&self, call: &Call, polled: Polled) -> Result<Waiting> {
        let settings = self.cluster().settings();
        let limits = &settings.core;
        let namespace = self.namespace(&polled.namespace)?;
        check::identity(&polled.identity, limits)?;
        let queue = check::task_queue(polled.queue.as_ref(), limits)?;
        let longest = self.cluster().parts().dynamic.poll_time(&polled.namespace, &queue.name, polled.task_type);
        let until = call.poll_until(longest)?;
        let build = polled.version.as_ref().map(|version| (version.build_id.as_str(), version.use_versioning));
        check::versioning(build, polled.deployment.as_ref(), Some(&queue), &settings)?;
        let poll = Poll {
            node_id: self.cluster().node().node_id,
            poll_id: 0,
            request_id: String::new(),
            identity: polled.identity,
            queue: Some(queue),
            version: polled.version,
            deployment: polled.deployment,
            worker_instance_key: polled.worker_instance_key,
            tasks_per_second_max: polled.tasks_per_second_max,
        };
        Ok(Waiting { namespace, poll, until, _place: self.wait_in(&polled.namespace)? })
    }
}
