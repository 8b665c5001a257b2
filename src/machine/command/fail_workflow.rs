//! FAIL_WORKFLOW_EXECUTION: the run fails; a retry or the next cron start may follow.

use bristlecone_proto::temporal::api::command::v1::{Command, FailWorkflowExecutionCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::{ContinueAsNewInitiator, WorkflowTaskFailedCause as Cause};
use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionFailedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, close, nothing_buffered};
use crate::draft::Draft;
use crate::{successor, validate};

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &CommandContext,
    command: &Command,
    attributes: &FailWorkflowExecutionCommandAttributes,
) -> Result<(), CommandFailure> {
    const CAUSE: Cause = Cause::BadFailWorkflowExecutionAttributes;
    nothing_buffered(ctx)?;
    let Some(failure) = &attributes.failure else {
        return Err(CommandFailure::new(CAUSE, "Failure is not set on FailWorkflowExecutionCommand."));
    };
    if !validate::blob_fits(validate::encoded_len(Some(failure)), draft.at().limits) {
        let message = "FailWorkflowExecutionCommandAttributes.Failure exceeds size limit.";
        return Err(CommandFailure::fatal(CAUSE, message));
    }
    let (plan, retry_state) = successor::after_failure(draft.run(&ctx.run_id), failure, draft.now());
    let new_run_id = plan.as_ref().map(|_| draft.new_run_id()).unwrap_or_default();
    let failed = WorkflowExecutionFailedEventAttributes {
        failure: Some(failure.clone()),
        retry_state: retry_state.into(),
        workflow_task_completed_event_id: ctx.completed_event_id,
        new_execution_run_id: new_run_id.clone(),
    };
    close(draft, ctx, command, Attributes::WorkflowExecutionFailedEventAttributes(failed));
    if let Some(plan) = plan {
        // The result of the last good run is what cron runs build on; a retry begins anew.
        let last_result = match plan.initiator {
            ContinueAsNewInitiator::CronSchedule => draft.run(&ctx.run_id).started.last_completion_result.clone(),
            _ => None,
        };
        successor::start_again(draft, &ctx.run_id, new_run_id, &plan, last_result, Some(failure.clone()));
    }
    Ok(())
}
