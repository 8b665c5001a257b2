//! DescribeWorker: the last heartbeat of one worker.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::worker::v1::WorkerInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{DescribeWorkerRequest, DescribeWorkerResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, _: Call, request: DescribeWorkerRequest) -> Result<DescribeWorkerResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let workers = edge.cluster().worker_heartbeats(&namespace.record.id).await;
    let key = request.worker_instance_key;
    match workers.into_iter().find(|worker| worker.worker_instance_key == key) {
        Some(worker) => Ok(DescribeWorkerResponse { worker_info: Some(WorkerInfo { worker_heartbeat: Some(worker) }) }),
        None => Err(reply::not_found(format!("Worker {key} not found"))),
    }
}
