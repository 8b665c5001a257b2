//! PollWorkflowTaskQueue: waits for a task; an empty answer says that there was none.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse,
};

use crate::dynamic::TaskType;
use crate::grpc::call::Call;
use crate::grpc::poll::Polled;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: PollWorkflowTaskQueueRequest,
) -> Result<PollWorkflowTaskQueueResponse> {
    let waiting = edge.accept_poll(
        &call,
        Polled {
            task_type: TaskType::Workflow,
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
    if namespace.bad_binaries.contains_key(&request.binary_checksum) {
        let message = format!("Binary {} already marked as bad deployment.", request.binary_checksum);
        return Err(reply::invalid_argument(message));
    }
    let poll = edge.cluster().poll_workflow_task(namespace, waiting.poll, waiting.until);
    let task = edge.unless_draining(poll).await.transpose()?.flatten();
    Ok(task.unwrap_or_default())
}
