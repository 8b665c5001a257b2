//! GetWorkflowExecutionHistoryReverse: newest first.

use bristlecone_proto::temporal::api::workflowservice::v1::GetWorkflowExecutionHistoryReverseRequest;

use crate::grpc::call::Call;
use crate::grpc::history::{HistoryResponse, Reading};
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: GetWorkflowExecutionHistoryReverseRequest,
) -> Result<HistoryResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let execution = request.execution.unwrap_or_default();
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    let cluster = edge.cluster();
    let settings = cluster.settings_of(&request.namespace);
    let known = (cluster.tokens(), &*settings);
    let reading = Reading::begin(chain, execution, request.maximum_page_size, &request.next_page_token, known)?;
    reading.backward(&edge, &call, cluster.tokens()).await
}
