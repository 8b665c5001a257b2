//! START_TIMER.

use alloc::format;

use bristlecone_proto::temporal::api::command::v1::{Command, StartTimerCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::TimerStartedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, timer_id};
use crate::draft::Draft;
use crate::validate;

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &CommandContext,
    command: &Command,
    attributes: &StartTimerCommandAttributes,
) -> Result<(), CommandFailure> {
    const CAUSE: Cause = Cause::BadStartTimerAttributes;
    let id = timer_id(&attributes.timer_id, "StartTimerCommand", CAUSE, draft.at().limits)?;
    let start_to_fire_timeout = validate::duration(attributes.start_to_fire_timeout.as_ref()).map_err(|error| {
        let message = format!("An invalid StartToFireTimeout is set on StartTimerCommand: {error}. TimerId={id}");
        CommandFailure::new(CAUSE, message)
    })?;
    if draft.run(&ctx.run_id).timer_ids.contains(&attributes.timer_id) {
        let message = format!("invalid history builder state for action: add-timer-started-event, TimerID: {id}");
        return Err(CommandFailure::new(Cause::StartTimerDuplicateId, message));
    }
    let started = TimerStartedEventAttributes {
        timer_id: attributes.timer_id.clone(),
        start_to_fire_timeout,
        workflow_task_completed_event_id: ctx.completed_event_id,
    };
    let started = Attributes::TimerStartedEventAttributes(started);
    draft.add_command_event(&ctx.run_id, started, command.user_metadata.as_ref());
    Ok(())
}
