//! PollActivityTaskQueue: waits for a task; an empty answer says that there was none.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    PollActivityTaskQueueRequest, PollActivityTaskQueueResponse,
};

use crate::dynamic::TaskType;
use crate::grpc::call::Call;
use crate::grpc::poll::Polled;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: PollActivityTaskQueueRequest,
) -> Result<PollActivityTaskQueueResponse> {
    let waiting = edge.accept_poll(
        &call,
        Polled {
            task_type: TaskType::Activity,
            namespace: request.namespace,
            queue: request.task_queue,
            identity: request.identity,
            version: request.worker_version_capabilities,
            deployment: request.deployment_options,
            worker_instance_key: request.worker_instance_key,
            tasks_per_second_max: request.task_queue_metadata.and_then(|metadata| metadata.max_tasks_per_second),
        },
    )?;
    let poll = edge.cluster().poll_activity_task(&waiting.namespace.record, waiting.poll, waiting.until);
    let task = edge.unless_draining(poll).await.transpose()?.flatten();
    Ok(task.unwrap_or_default())
}
