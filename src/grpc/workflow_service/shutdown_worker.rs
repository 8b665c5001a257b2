//! ShutdownWorker: its polls end, and what waits on its sticky queue goes to the normal one.

use bristlecone_proto::temporal::api::workflowservice::v1::{ShutdownWorkerRequest, ShutdownWorkerResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, _: Call, request: ShutdownWorkerRequest) -> Result<ShutdownWorkerResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    edge.cluster().shutdown_worker(&namespace.record.id, request).await;
    Ok(ShutdownWorkerResponse {})
}
