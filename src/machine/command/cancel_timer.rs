//! CANCEL_TIMER: a timer that fired while the worker was at it is canceled all the same, as long as
//! nobody was told.

use alloc::format;

use bristlecone_proto::temporal::api::command::v1::{CancelTimerCommandAttributes, Command};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::TimerCanceledEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, timer_id};
use crate::draft::Draft;

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &mut CommandContext,
    command: &Command,
    attributes: &CancelTimerCommandAttributes,
) -> Result<(), CommandFailure> {
    const CAUSE: Cause = Cause::BadCancelTimerAttributes;
    let id = timer_id(&attributes.timer_id, "CancelTimerCommand", CAUSE, draft.at().limits)?;
    let pending = draft.run(&ctx.run_id).timer_ids.get(&attributes.timer_id).copied();
    let started_event_id = pending.or_else(|| take_fired(draft, &ctx.run_id, id)).ok_or_else(|| {
        let message = format!("invalid history builder state for action: add-timer-canceled-event, TimerID: {id}");
        CommandFailure::new(CAUSE, message)
    })?;
    let canceled = TimerCanceledEventAttributes {
        timer_id: attributes.timer_id.clone(),
        started_event_id,
        workflow_task_completed_event_id: ctx.completed_event_id,
        identity: ctx.identity.clone(),
    };
    let canceled = Attributes::TimerCanceledEventAttributes(canceled);
    draft.add_command_event(&ctx.run_id, canceled, command.user_metadata.as_ref());
    ctx.has_buffered = ctx.has_buffered && draft.has_buffered(&ctx.run_id);
    Ok(())
}

/// Takes the fired event of the timer out of the buffer; returns the id of its started event.
fn take_fired(draft: &mut Draft<'_>, run_id: &str, timer_id: &str) -> Option<i64> {
    let is_fired = |event: &Attributes| match event {
        Attributes::TimerFiredEventAttributes(fired) => fired.timer_id == timer_id,
        _ => false,
    };
    match draft.take_buffered(run_id, is_fired)?.attributes {
        Some(Attributes::TimerFiredEventAttributes(fired)) => Some(fired.started_event_id),
        _ => None,
    }
}
