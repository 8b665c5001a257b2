//! DeleteWorkflowRule: what the rule has paused stays paused.

use bristlecone_machine::reply;
use bristlecone_proto::node::{DeleteRule, meta_call};
use bristlecone_proto::temporal::api::workflowservice::v1::{DeleteWorkflowRuleRequest, DeleteWorkflowRuleResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, call: Call, request: DeleteWorkflowRuleRequest) -> Result<DeleteWorkflowRuleResponse> {
    edge.check_workflow_rules(&request.namespace, "DeleteWorkflowRule")?;
    let namespace = edge.namespace(&request.namespace)?;
    if request.rule_id.is_empty() {
        return Err(reply::invalid_argument("Workflow Rule ID is not set."));
    }
    let delete = DeleteRule { namespace_id: namespace.record.id.clone(), rule_id: request.rule_id };
    edge.cluster().meta_call(meta_call::Kind::DeleteRule(delete), call.answer_by()).await?;
    Ok(DeleteWorkflowRuleResponse {})
}
