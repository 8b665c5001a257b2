//! CreateWorkflowRule: a rule by which activities of the namespace are paused before they begin.

use bristlecone_machine::reply;
use bristlecone_proto::node::{CreateRule, meta_call};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::rules::v1::WorkflowRule;
use bristlecone_proto::temporal::api::workflowservice::v1::{CreateWorkflowRuleRequest, CreateWorkflowRuleResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(edge: Edge, call: Call, request: CreateWorkflowRuleRequest) -> Result<CreateWorkflowRuleResponse> {
    edge.check_workflow_rules(&request.namespace, "CreateWorkflowRule")?;
    let namespace = edge.namespace(&request.namespace)?;
    let settings = edge.cluster().settings_of(&request.namespace);
    let spec = request.spec.ok_or_else(|| reply::invalid_argument("Rule Specification is not set."))?;
    let id = spec.id.clone();
    if id.is_empty() {
        return Err(reply::invalid_argument("Workflow Rule ID is not set."));
    }
    if id.len() > settings.core.id_bytes_max {
        return Err(reply::invalid_argument("Workflow Rule Id length exceeds limit."));
    }
    let rule = WorkflowRule {
        create_time: None,
        spec: Some(spec),
        created_by_identity: request.identity,
        description: request.description,
    };
    let create = CreateRule {
        namespace_id: namespace.record.id.clone(),
        rule: Some(record::WorkflowRule { rule: Some(rule), request_id: request.request_id }),
        rules_max: settings.edge.workflow_rules_max,
    };
    let reply = edge.cluster().meta_call(meta_call::Kind::CreateRule(create), call.answer_by()).await?;
    let created = reply.namespace.and_then(|mut namespace| namespace.workflow_rules.remove(&id)?.rule);
    let rule = Some(created.ok_or_else(errors::unexpected_reply)?);
    Ok(CreateWorkflowRuleResponse { rule, job_id: String::new() })
}
