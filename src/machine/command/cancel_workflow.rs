//! CANCEL_WORKFLOW_EXECUTION: the run ends because it was asked to. Nothing follows.

use bristlecone_proto::temporal::api::command::v1::{CancelWorkflowExecutionCommandAttributes, Command};
use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionCanceledEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, close, nothing_buffered};
use crate::draft::Draft;

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &CommandContext,
    command: &Command,
    attributes: &CancelWorkflowExecutionCommandAttributes,
) -> Result<(), CommandFailure> {
    nothing_buffered(ctx)?;
    let canceled = WorkflowExecutionCanceledEventAttributes {
        workflow_task_completed_event_id: ctx.completed_event_id,
        details: attributes.details.clone(),
    };
    close(draft, ctx, command, Attributes::WorkflowExecutionCanceledEventAttributes(canceled));
    Ok(())
}
