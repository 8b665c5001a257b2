//! The workers that report themselves: their latest heartbeats, kept where they arrive.

use std::collections::HashMap;
use std::time::Duration;

use bristlecone_proto::node::{ListWorkersRequest, QueueKey, Request, ShutWorker, TaskKind, request, response};
use bristlecone_proto::temporal::api::worker::v1::WorkerHeartbeat;
use bristlecone_proto::temporal::api::workflowservice::v1::ShutdownWorkerRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Cluster;

/// Workers that one node remembers.
const WORKERS_MAX: usize = 100_000;
/// A worker that has not reported for so long is forgotten.
const MEMORY: Duration = Duration::from_secs(300);
/// How long other nodes are waited for.
const ASK_TIME: Duration = Duration::from_secs(2);

/// By namespace id and worker instance key.
#[derive(Debug, Default)]
pub struct Workers {
    known: Mutex<HashMap<(String, String), (Instant, WorkerHeartbeat)>>,
}

impl Workers {
    fn record(&self, namespace_id: &str, heartbeats: Vec<WorkerHeartbeat>) {
        let now = Instant::now();
        let mut known = self.known.lock();
        for heartbeat in heartbeats {
            let key = (namespace_id.to_string(), heartbeat.worker_instance_key.clone());
            if known.len() < WORKERS_MAX || known.contains_key(&key) {
                known.insert(key, (now, heartbeat));
            }
        }
        if known.len() >= WORKERS_MAX {
            known.retain(|_, (at, _)| now.duration_since(*at) < MEMORY);
        }
    }

    pub(super) fn of(&self, namespace_id: &str) -> Vec<WorkerHeartbeat> {
        let now = Instant::now();
        let known = self.known.lock();
        let live = known
            .iter()
            .filter(|((namespace, _), (at, _))| namespace == namespace_id && now.duration_since(*at) < MEMORY);
        live.map(|(_, (_, heartbeat))| heartbeat.clone()).collect()
    }
}

impl Cluster {
    /// Remembers what workers report of themselves, on this node.
    pub fn record_worker_heartbeats(&self, namespace_id: &str, heartbeats: Vec<WorkerHeartbeat>) {
        self.inner.workers.record(namespace_id, heartbeats);
    }

    /// The latest report of every worker of a namespace, from all nodes that answer.
    pub async fn worker_heartbeats(&self, namespace_id: &str) -> Vec<WorkerHeartbeat> {
        let others = self.other_members().into_iter().map(|node| {
            let list = ListWorkersRequest { namespace_id: namespace_id.to_string() };
            let request = Request { timeout_ms: 0, kind: Some(request::Kind::ListWorkers(list)) };
            self.inner.peers.call(node, request, ASK_TIME)
        });
        let mut latest: HashMap<String, WorkerHeartbeat> = HashMap::new();
        let answers = futures::future::join_all(others).await.into_iter().flatten();
        let lists = answers.filter_map(|answer| match answer.kind {
            Some(response::Kind::Workers(list)) => Some(list.heartbeats),
            _ => None,
        });
        for heartbeat in lists.flatten().chain(self.inner.workers.of(namespace_id)) {
            let time = |h: &WorkerHeartbeat| h.heartbeat_time.as_ref().map_or(0, bristlecone_machine::stamp::nanos);
            let known = latest.get(&heartbeat.worker_instance_key);
            if known.is_none_or(|known| time(known) <= time(&heartbeat)) {
                latest.insert(heartbeat.worker_instance_key.clone(), heartbeat);
            }
        }
        latest.into_values().collect()
    }

    /// A worker says goodbye: its parked polls end on every node, and its sticky queue is given up.
    pub async fn shutdown_worker(&self, namespace_id: &str, request: ShutdownWorkerRequest) {
        let shut = ShutWorker {
            namespace_id: namespace_id.to_string(),
            sticky_queue: request.sticky_task_queue,
            worker_instance_key: request.worker_instance_key,
            task_queue: request.task_queue,
        };
        if let Some(heartbeat) = request.worker_heartbeat {
            self.record_worker_heartbeats(namespace_id, vec![heartbeat]);
        }
        let others = self.other_members().into_iter().map(|node| {
            let request = Request { timeout_ms: 0, kind: Some(request::Kind::ShutWorker(shut.clone())) };
            self.inner.peers.call(node, request, ASK_TIME)
        });
        let others = futures::future::join_all(others);
        self.serve_shut_worker(&shut);
        // A node that does not answer ends the polls when their time is up.
        drop(others.await);
    }

    pub(super) fn serve_shut_worker(&self, shut: &ShutWorker) {
        let instance = &shut.worker_instance_key;
        if !instance.is_empty() {
            self.inner.queues.worker_gone(instance);
        }
        self.inner.queues.end_polls(|queue, poll| {
            let sticky = !shut.sticky_queue.is_empty() && queue.name == shut.sticky_queue;
            let own = !instance.is_empty() && poll.worker_instance_key == *instance;
            queue.namespace_id == shut.namespace_id && (sticky || own)
        });
        if !shut.sticky_queue.is_empty() {
            self.inner.queues.shut(&QueueKey {
                namespace_id: shut.namespace_id.clone(),
                name: shut.sticky_queue.clone(),
                kind: TaskKind::Workflow.into(),
            });
        }
    }

    pub(super) fn serve_list_workers(&self, namespace_id: &str) -> response::Kind {
        response::Kind::Workers(bristlecone_proto::node::WorkerList { heartbeats: self.inner.workers.of(namespace_id) })
    }

    /// Members other than this node.
    pub(super) fn other_members(&self) -> Vec<u64> {
        let me = self.inner.me;
        self.meta().present_members().map(|member| member.node_id).filter(|node| *node != me).collect()
    }
}
