//! CountWorkers: how many workers that sent a heartbeat lately a query finds. None of them is the server's own.

use bristlecone_proto::temporal::api::workflowservice::v1::{CountWorkersRequest, CountWorkersResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, workers};

pub async fn handle(edge: Edge, _: Call, request: CountWorkersRequest) -> Result<CountWorkersResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let all = edge.cluster().worker_heartbeats(&namespace.record.id).await;
    let matching = workers::matching(&request.query, all)?;
    Ok(CountWorkersResponse { count: i64::try_from(matching.len()).unwrap_or(i64::MAX) })
}
