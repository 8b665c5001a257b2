//! QueryWorkflow: a worker answers.

use bristlecone_machine::reply::{code, invalid_argument, plain};
use bristlecone_machine::validate;
use bristlecone_proto::temporal::api::workflowservice::v1::{QueryWorkflowRequest, QueryWorkflowResponse};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check};

pub async fn handle(edge: Edge, call: Call, request: QueryWorkflowRequest) -> Result<QueryWorkflowResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    edge.check_queries(&request.namespace)?;
    let settings = edge.cluster().settings_of(&request.namespace);
    let limits = &settings.core;
    let execution = check::execution(request.execution.as_ref(), limits)?;
    let query = request.query.as_ref().ok_or_else(|| invalid_argument("WorkflowQuery is not set on request."))?;
    if query.query_type.is_empty() {
        return Err(invalid_argument("QueryType is not set on request."));
    }
    if !validate::payloads_fit(query.query_args.as_ref(), limits) {
        return Err(invalid_argument(validate::BLOB_TOO_LARGE));
    }
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    let _place = edge.wait_in(&request.namespace)?;
    let answer = edge.cluster().query(&chain, request, call.answer_by()).await;
    answer.map_err(|rejection| match rejection.code {
        code::DEADLINE_EXCEEDED => plain(code::DEADLINE_EXCEEDED, "query timed out before a worker could process it"),
        _ => rejection,
    })
}
