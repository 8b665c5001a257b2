//! DescribeWorkflowRule.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeWorkflowRuleRequest, DescribeWorkflowRuleResponse,
};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};
use crate::meta::rules;

pub async fn handle(
    edge: Edge,
    _call: Call,
    request: DescribeWorkflowRuleRequest,
) -> Result<DescribeWorkflowRuleResponse> {
    edge.check_workflow_rules(&request.namespace, "DescribeWorkflowRule")?;
    let namespace = edge.namespace(&request.namespace)?;
    if request.rule_id.is_empty() {
        return Err(reply::invalid_argument("Workflow Rule ID is not set."));
    }
    let kept = namespace.record.workflow_rules.get(&request.rule_id).ok_or_else(rules::not_found)?;
    Ok(DescribeWorkflowRuleResponse { rule: kept.rule.clone() })
}
