//! COMPLETE_WORKFLOW_EXECUTION: the run ends well; with a cron schedule the next one follows.

use bristlecone_proto::temporal::api::command::v1::{Command, CompleteWorkflowExecutionCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionCompletedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, close, nothing_buffered};
use crate::draft::Draft;
use crate::{successor, validate};

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &CommandContext,
    command: &Command,
    attributes: &CompleteWorkflowExecutionCommandAttributes,
) -> Result<(), CommandFailure> {
    nothing_buffered(ctx)?;
    if !validate::payloads_fit(attributes.result.as_ref(), draft.at().limits) {
        // The original server names this cause here, and dashboards know it.
        let message = "CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit.";
        return Err(CommandFailure::fatal(Cause::BadScheduleActivityAttributes, message));
    }
    let plan = successor::after_success(draft.run(&ctx.run_id), draft.now());
    let new_run_id = plan.as_ref().map(|_| draft.new_run_id()).unwrap_or_default();
    let completed = WorkflowExecutionCompletedEventAttributes {
        result: attributes.result.clone(),
        workflow_task_completed_event_id: ctx.completed_event_id,
        new_execution_run_id: new_run_id.clone(),
    };
    close(draft, ctx, command, Attributes::WorkflowExecutionCompletedEventAttributes(completed));
    if let Some(plan) = plan {
        successor::start_again(draft, &ctx.run_id, new_run_id, &plan, attributes.result.clone(), None);
    }
    Ok(())
}
