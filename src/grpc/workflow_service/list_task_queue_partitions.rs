//! ListTaskQueuePartitions: a queue is one piece here.

use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueuePartitionMetadata;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ListTaskQueuePartitionsRequest, ListTaskQueuePartitionsResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check};

pub async fn handle(
    edge: Edge,
    _: Call,
    request: ListTaskQueuePartitionsRequest,
) -> Result<ListTaskQueuePartitionsResponse> {
    edge.namespace(&request.namespace)?;
    let queue = check::task_queue(request.task_queue.as_ref(), &edge.cluster().settings().core)?;
    let whole =
        vec![TaskQueuePartitionMetadata { key: queue.name, owner_host_name: edge.cluster().node().name.clone() }];
    Ok(ListTaskQueuePartitionsResponse {
        activity_task_queue_partitions: whole.clone(),
        workflow_task_queue_partitions: whole,
    })
}
