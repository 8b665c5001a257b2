//! SIGNAL_EXTERNAL_WORKFLOW_EXECUTION: a message to the other workflow's chain (`external.rs`).

use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::{ChainId, Input, RunRef, SignalExternal, input};
use bristlecone_proto::temporal::api::command::v1::{Command, SignalExternalWorkflowExecutionCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::SignalExternalWorkflowExecutionInitiatedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, check_namespace, pending_limit};
use crate::draft::Draft;
use crate::{ids, validate};

const CAUSE: Cause = Cause::BadSignalWorkflowExecutionAttributes;

pub(crate) fn apply(
    draft: &mut Draft<'_>,
    ctx: &mut CommandContext,
    command: &Command,
    attributes: &SignalExternalWorkflowExecutionCommandAttributes,
) -> Result<(), CommandFailure> {
    let limits = draft.at().limits;
    let Some(target) = &attributes.execution else {
        let message = "Execution is not set on SignalExternalWorkflowExecutionCommand.";
        return Err(CommandFailure::new(CAUSE, message));
    };
    check_namespace(draft, &attributes.namespace, CAUSE)?;
    check(attributes, &target.workflow_id, &target.run_id, limits.id_bytes_max)
        .and_then(|()| validate::user_metadata(command.user_metadata.as_ref(), limits))
        .map_err(|message| CommandFailure::new(CAUSE, message))?;
    let pending = draft.run(&ctx.run_id).external_signals.len();
    let cause = Cause::PendingSignalsLimitExceeded;
    pending_limit(pending, limits.pending_signals_max, "pending signals to external workflows", cause)?;
    if !validate::payloads_fit(attributes.input.as_ref(), limits) {
        let message = "SignalExternalWorkflowExecutionCommandAttributes.Input exceeds size limit.";
        return Err(CommandFailure::fatal(CAUSE, message));
    }

    let initiated = SignalExternalWorkflowExecutionInitiatedEventAttributes {
        workflow_task_completed_event_id: ctx.completed_event_id,
        namespace: attributes.namespace.clone(),
        namespace_id: draft.id().namespace_id.clone(),
        workflow_execution: Some(target.clone()),
        signal_name: attributes.signal_name.clone(),
        input: attributes.input.clone(),
        control: attributes.control.clone(),
        child_workflow_only: attributes.child_workflow_only,
        header: attributes.header.clone(),
    };
    let initiated = Attributes::SignalExternalWorkflowExecutionInitiatedEventAttributes(initiated);
    let initiated_event_id = draft.add_command_event(&ctx.run_id, initiated, command.user_metadata.as_ref());
    let message = SignalExternal {
        sender: Some(RunRef { chain: Some(draft.id().clone()), run_id: ctx.run_id.clone() }),
        initiated_event_id,
        run_id: target.run_id.clone(),
        signal_name: attributes.signal_name.clone(),
        input: attributes.input.clone(),
        header: attributes.header.clone(),
        child_workflow_only: attributes.child_workflow_only,
        request_id: ids::derived(&ctx.run_id, initiated_event_id),
    };
    let chain = ChainId { workflow_id: target.workflow_id.clone(), ..draft.id().clone() };
    let input = Input { kind: Some(input::Kind::SignalExternal(message)), ..Input::default() };
    draft.send(&ctx.run_id, chain, input);
    Ok(())
}

fn check(
    attributes: &SignalExternalWorkflowExecutionCommandAttributes,
    workflow_id: &str,
    run_id: &str,
    limit: usize,
) -> Result<(), String> {
    let (namespace, signal) = (&attributes.namespace, &attributes.signal_name);
    if workflow_id.is_empty() {
        return Err(format!(
            "WorkflowId is not set on SignalExternalWorkflowExecutionCommand. \
             Namespace={namespace} RunId={run_id} SignalName={signal}"
        ));
    }
    if workflow_id.len() > limit {
        return Err(format!(
            "WorkflowId on SignalExternalWorkflowExecutionCommand exceeds length limit. WorkflowId={workflow_id} \
             Length={} Limit={limit} Namespace={namespace} RunId={run_id} SignalName={signal}",
            workflow_id.len()
        ));
    }
    if !run_id.is_empty() && !ids::is_uuid(run_id) {
        return Err(format!(
            "Invalid RunId set on SignalExternalWorkflowExecutionCommand. \
             WorkflowId={workflow_id} Namespace={namespace} RunId={run_id} SignalName={signal}"
        ));
    }
    if signal.is_empty() {
        return Err(format!(
            "SignalName is not set on SignalExternalWorkflowExecutionCommand. \
             WorkflowId={workflow_id} Namespace={namespace} RunId={run_id}"
        ));
    }
    Ok(())
}
