//! REQUEST_CANCEL_ACTIVITY_TASK: a worker hears of it with its next heartbeat; an activity that no worker
//! has is canceled at once.

use alloc::format;

use bristlecone_proto::temporal::api::command::v1::{Command, RequestCancelActivityTaskCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::ActivityTaskCancelRequestedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure};
use crate::draft::Draft;
use crate::{activity, validate};

pub(crate) fn apply(
    draft: &mut Draft<'_>,
    ctx: &mut CommandContext,
    command: &Command,
    attributes: &RequestCancelActivityTaskCommandAttributes,
) -> Result<(), CommandFailure> {
    const CAUSE: Cause = Cause::BadRequestCancelActivityAttributes;
    let id = attributes.scheduled_event_id;
    if id <= 0 {
        let message = "ScheduledEventId is not set on RequestCancelActivityTaskCommand.";
        return Err(CommandFailure::new(CAUSE, message));
    }
    validate::user_metadata(command.user_metadata.as_ref(), draft.at().limits)
        .map_err(|message| CommandFailure::new(CAUSE, message))?;
    let pending = draft.run(&ctx.run_id).activities.get(&id);
    let (is_pending, not_started) = (pending.is_some(), pending.is_some_and(|a| !activity::is_started(a)));
    let possible = match pending {
        Some(activity) => !activity.cancel_requested,
        None => draft.any_buffered(&ctx.run_id, |event| closes(event, id)),
    };
    if !possible {
        return Err(CommandFailure::new(
            CAUSE,
            format!(
                "invalid history builder state for action: add-activitytask-cancel-requested-event, \
                 ScheduledEventID: {id}"
            ),
        ));
    }
    let requested = ActivityTaskCancelRequestedEventAttributes {
        scheduled_event_id: id,
        workflow_task_completed_event_id: ctx.completed_event_id,
    };
    let requested = Attributes::ActivityTaskCancelRequestedEventAttributes(requested);
    draft.add_command_event(&ctx.run_id, requested, command.user_metadata.as_ref());
    if is_pending && not_started {
        activity::cancel_not_started(draft, &ctx.run_id, id, &ctx.identity);
        ctx.activity_canceled = true;
    }
    Ok(())
}

/// Whether the event ends the activity.
fn closes(event: &Attributes, scheduled_event_id: i64) -> bool {
    let closed = match event {
        Attributes::ActivityTaskCompletedEventAttributes(a) => a.scheduled_event_id,
        Attributes::ActivityTaskFailedEventAttributes(a) => a.scheduled_event_id,
        Attributes::ActivityTaskTimedOutEventAttributes(a) => a.scheduled_event_id,
        Attributes::ActivityTaskCanceledEventAttributes(a) => a.scheduled_event_id,
        _ => return false,
    };
    closed == scheduled_event_id
}
