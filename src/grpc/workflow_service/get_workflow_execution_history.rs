//! GetWorkflowExecutionHistory; how it is read stands in `grpc/history.rs`.

use bristlecone_proto::temporal::api::workflowservice::v1::GetWorkflowExecutionHistoryRequest;

use crate::grpc::call::Call;
use crate::grpc::history::{HistoryResponse, Reading};
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, call: Call, request: GetWorkflowExecutionHistoryRequest) -> Result<HistoryResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let filter = request.history_event_filter_type();
    let execution = request.execution.unwrap_or_default();
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    let cluster = edge.cluster();
    let settings = cluster.settings_of(&request.namespace);
    let known = (cluster.tokens(), &*settings);
    let _place = request.wait_new_event.then(|| edge.wait_in(&request.namespace)).transpose()?;
    let mut reading = Reading::begin(chain, execution, request.maximum_page_size, &request.next_page_token, known)?;
    reading.filter = filter;
    reading.wait = request.wait_new_event;
    reading.forward(&edge, &call, cluster.tokens()).await
}
