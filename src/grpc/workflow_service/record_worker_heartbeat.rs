//! RecordWorkerHeartbeat: what workers tell of themselves, for people to look at.

use bristlecone_proto::temporal::api::workflowservice::v1::{
    RecordWorkerHeartbeatRequest, RecordWorkerHeartbeatResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    _: Call,
    request: RecordWorkerHeartbeatRequest,
) -> Result<RecordWorkerHeartbeatResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    edge.cluster().record_worker_heartbeats(&namespace.record.id, request.worker_heartbeat);
    Ok(RecordWorkerHeartbeatResponse {})
}
