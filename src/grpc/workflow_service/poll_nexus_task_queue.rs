//! PollNexusTaskQueue: waits and answers empty, because there are no Nexus tasks. Workers poll it all the
//! same, and send their heartbeats with it.

use bristlecone_proto::temporal::api::workflowservice::v1::{PollNexusTaskQueueRequest, PollNexusTaskQueueResponse};

use crate::dynamic::TaskType;
use crate::grpc::call::Call;
use crate::grpc::poll::Polled;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, call: Call, request: PollNexusTaskQueueRequest) -> Result<PollNexusTaskQueueResponse> {
    let waiting = edge.accept_poll(
        &call,
        Polled {
            task_type: TaskType::Nexus,
            namespace: request.namespace,
            queue: request.task_queue,
            identity: request.identity,
            version: request.worker_version_capabilities,
            deployment: request.deployment_options,
            worker_instance_key: request.worker_instance_key,
            tasks_per_second_max: None,
        },
    )?;
    let namespace = &waiting.namespace.record;
    if !request.worker_heartbeat.is_empty() {
        edge.cluster().record_worker_heartbeats(&namespace.id, request.worker_heartbeat);
    }
    let poll = edge.cluster().poll_nexus_task(namespace, waiting.poll, waiting.until);
    edge.unless_draining(poll).await.transpose()?;
    Ok(PollNexusTaskQueueResponse::default())
}
