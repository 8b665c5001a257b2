//! REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION: a message to the other workflow's chain (`external.rs`).

use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::{CancelExternal, ChainId, Input, RunRef, input};
use bristlecone_proto::temporal::api::command::v1::{Command, RequestCancelExternalWorkflowExecutionCommandAttributes};
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, check_namespace, pending_limit};
use crate::draft::Draft;
use crate::{ids, validate};

const CAUSE: Cause = Cause::BadRequestCancelExternalWorkflowExecutionAttributes;

pub(crate) fn apply(
    draft: &mut Draft<'_>,
    ctx: &mut CommandContext,
    command: &Command,
    attributes: &RequestCancelExternalWorkflowExecutionCommandAttributes,
) -> Result<(), CommandFailure> {
    let limits = draft.at().limits;
    check_namespace(draft, &attributes.namespace, CAUSE)?;
    check(attributes, ctx, limits.id_bytes_max)
        .and_then(|()| validate::user_metadata(command.user_metadata.as_ref(), limits))
        .map_err(|message| CommandFailure::new(CAUSE, message))?;
    let pending = draft.run(&ctx.run_id).external_cancels.len();
    let cause = Cause::PendingRequestCancelLimitExceeded;
    pending_limit(pending, limits.pending_cancels_max, "pending requests to cancel external workflows", cause)?;

    let initiated = RequestCancelExternalWorkflowExecutionInitiatedEventAttributes {
        workflow_task_completed_event_id: ctx.completed_event_id,
        namespace: attributes.namespace.clone(),
        namespace_id: draft.id().namespace_id.clone(),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: attributes.workflow_id.clone(),
            run_id: attributes.run_id.clone(),
        }),
        control: attributes.control.clone(),
        child_workflow_only: attributes.child_workflow_only,
        reason: attributes.reason.clone(),
    };
    let initiated = Attributes::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(initiated);
    let initiated_event_id = draft.add_command_event(&ctx.run_id, initiated, command.user_metadata.as_ref());
    let message = CancelExternal {
        sender: Some(RunRef { chain: Some(draft.id().clone()), run_id: ctx.run_id.clone() }),
        initiated_event_id,
        run_id: attributes.run_id.clone(),
        child_workflow_only: attributes.child_workflow_only,
        reason: attributes.reason.clone(),
        request_id: ids::derived(&ctx.run_id, initiated_event_id),
    };
    let chain = ChainId { workflow_id: attributes.workflow_id.clone(), ..draft.id().clone() };
    let input = Input { kind: Some(input::Kind::CancelExternal(message)), ..Input::default() };
    draft.send(&ctx.run_id, chain, input);
    Ok(())
}

fn check(
    attributes: &RequestCancelExternalWorkflowExecutionCommandAttributes,
    ctx: &CommandContext,
    limit: usize,
) -> Result<(), String> {
    let (namespace, workflow_id, run_id) = (&attributes.namespace, &attributes.workflow_id, &attributes.run_id);
    let named = format!("WorkflowId={workflow_id} RunId={run_id} Namespace={namespace}");
    if workflow_id.is_empty() {
        return Err(format!(
            "WorkflowId is not set on RequestCancelExternalWorkflowExecutionCommand. \
             Namespace={namespace} RunId={run_id}"
        ));
    }
    if workflow_id.len() > limit {
        return Err(format!(
            "WorkflowId on RequestCancelExternalWorkflowExecutionCommand exceeds length limit. \
             WorkflowId={workflow_id} Length={} Limit={limit} RunId={run_id} Namespace={namespace}",
            workflow_id.len()
        ));
    }
    if !run_id.is_empty() && !ids::is_uuid(run_id) {
        return Err(format!("Invalid RunId set on RequestCancelExternalWorkflowExecutionCommand. {named}"));
    }
    if ctx.children.contains(workflow_id) {
        return Err(format!(
            "Start and RequestCancel for child workflow is not allowed in same workflow task. {named}"
        ));
    }
    Ok(())
}
