//! StartBatchOperation: one operation on many executions begins.

use bristlecone_machine::reply::invalid_argument;
use bristlecone_proto::temporal::api::workflowservice::v1::{StartBatchOperationRequest, StartBatchOperationResponse};

use crate::batch;
use crate::filter::Filter;
use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: StartBatchOperationRequest,
) -> Result<StartBatchOperationResponse> {
    let cluster = edge.cluster();
    let limits = &cluster.settings_of(&request.namespace).core;
    edge.check_batches(&request.namespace)?;
    batch::check(&request)?;
    let namespace = edge.namespace(&request.namespace)?;
    if !request.visibility_query.is_empty() {
        Filter::parse(&request.visibility_query, &namespace.record.search_attributes)
            .map_err(|error| invalid_argument(format!("invalid visibility query: {error}")))?;
    }
    check::workflow_id(&request.job_id, limits)?;
    let open = edge.count_by_query(&call, &request.namespace, batch::OPEN_JOBS).await?.count;
    if open >= limits.batch_jobs_max {
        return Err(errors::too_many_batches());
    }
    let chain = chain_id(&namespace.record, &request.job_id);
    let start = batch::start_request(&request, cluster.new_id());
    cluster.start_workflow(&chain, start, call.answer_by()).await?;
    Ok(StartBatchOperationResponse {})
}
