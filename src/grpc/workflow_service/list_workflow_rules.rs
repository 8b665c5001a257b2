//! ListWorkflowRules: all of a namespace, by their ids; there are few.

use bristlecone_proto::temporal::api::workflowservice::v1::{ListWorkflowRulesRequest, ListWorkflowRulesResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, _call: Call, request: ListWorkflowRulesRequest) -> Result<ListWorkflowRulesResponse> {
    edge.check_workflow_rules(&request.namespace, "ListWorkflowRules")?;
    let namespace = edge.namespace(&request.namespace)?;
    let rules = namespace.record.workflow_rules.values().filter_map(|kept| kept.rule.clone()).collect();
    Ok(ListWorkflowRulesResponse { rules, ..ListWorkflowRulesResponse::default() })
}
