//! RespondQueryTaskCompleted: a worker's answer to a query that was handed to it by itself.

use bristlecone_machine::validate;
use bristlecone_proto::chain::QueryTaskToken;
use bristlecone_proto::temporal::api::enums::v1::QueryResultType;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondQueryTaskCompletedRequest, RespondQueryTaskCompletedResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    mut request: RespondQueryTaskCompletedRequest,
) -> Result<RespondQueryTaskCompletedResponse> {
    let token: QueryTaskToken = edge.open_task(&request.task_token)?;
    edge.token_namespace(&token.namespace_id, &request.namespace)?;
    if !validate::payloads_fit(request.query_result.as_ref(), &edge.cluster().settings().core) {
        request = RespondQueryTaskCompletedRequest {
            completed_type: QueryResultType::Failed.into(),
            error_message: validate::BLOB_TOO_LARGE.to_owned(),
            ..RespondQueryTaskCompletedRequest::default()
        };
    }
    edge.cluster().respond_query(token, request, call.answer_by()).await?;
    Ok(RespondQueryTaskCompletedResponse {})
}
