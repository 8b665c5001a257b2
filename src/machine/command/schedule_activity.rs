//! SCHEDULE_ACTIVITY_TASK: an activity task is offered to workers, or given to the one that asks for it.

use alloc::format;

use bristlecone_proto::temporal::api::command::v1::{Command, ScheduleActivityTaskCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::ActivityTaskScheduledEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, pending_limit};
use crate::draft::Draft;
use crate::stamp::duration_nanos;
use crate::validate;

pub(crate) fn apply(
    draft: &mut Draft<'_>,
    ctx: &mut CommandContext,
    command: &Command,
    attributes: &ScheduleActivityTaskCommandAttributes,
) -> Result<(), CommandFailure> {
    let limits = draft.at().limits;
    let run = draft.run(&ctx.run_id);
    let bad = |message| CommandFailure::new(Cause::BadScheduleActivityAttributes, message);
    let run_timeout = duration_nanos(run.started.workflow_run_timeout.as_ref());
    let workflow_queue = run.started.task_queue.as_ref().map_or("", |queue| queue.name.as_str());

    let asked = with_fairness_of_id(attributes);
    let activity = validate::activity::complete(&asked, run_timeout, workflow_queue, limits).map_err(bad)?;
    let queue = activity.task_queue.as_ref().map_or("", |queue| queue.name.as_str());
    if activity.use_workflow_build_id && queue != workflow_queue {
        return Err(bad("Activity with UseCompatibleVersion cannot run on different task queue.".into()));
    }
    validate::user_metadata(command.user_metadata.as_ref(), limits).map_err(bad)?;
    if !validate::payloads_fit(activity.input.as_ref(), limits) {
        let message = "ScheduleActivityTaskCommandAttributes.Input exceeds size limit.";
        return Err(CommandFailure::fatal(Cause::BadScheduleActivityAttributes, message));
    }
    let cause = Cause::PendingActivitiesLimitExceeded;
    pending_limit(run.activities.len(), limits.pending_activities_max, "pending activities", cause)?;
    if run.activity_ids.contains(&activity.activity_id) {
        return Err(CommandFailure::new(
            Cause::ScheduleActivityDuplicateId,
            format!(
                "invalid history builder state for action: add-activitytask-scheduled-event, ActivityID: {}",
                activity.activity_id
            ),
        ));
    }

    let eager = activity.request_eager_execution && limits.eager_activities && !run.is_paused();
    let attributes = ActivityTaskScheduledEventAttributes {
        activity_id: activity.activity_id,
        activity_type: activity.activity_type,
        task_queue: activity.task_queue,
        header: activity.header,
        input: activity.input,
        schedule_to_close_timeout: activity.schedule_to_close_timeout,
        schedule_to_start_timeout: activity.schedule_to_start_timeout,
        start_to_close_timeout: activity.start_to_close_timeout,
        heartbeat_timeout: activity.heartbeat_timeout,
        workflow_task_completed_event_id: ctx.completed_event_id,
        retry_policy: activity.retry_policy,
        use_workflow_build_id: activity.use_workflow_build_id,
        priority: activity.priority,
    };
    let attributes = Attributes::ActivityTaskScheduledEventAttributes(attributes);
    let scheduled_event_id = draft.add_command_event(&ctx.run_id, attributes, command.user_metadata.as_ref());
    if eager {
        ctx.eager_activities.push(scheduled_event_id);
    }
    Ok(())
}

/// An activity id may carry a fairness key and weight: `x-temporal-internal-fairness-key[key:weight]…`.
fn with_fairness_of_id(attributes: &ScheduleActivityTaskCommandAttributes) -> ScheduleActivityTaskCommandAttributes {
    let mut attributes = attributes.clone();
    let fairness = attributes
        .activity_id
        .strip_prefix("x-temporal-internal-fairness-key[")
        .and_then(|rest| rest.split_once(']'))
        .and_then(|(inside, _)| inside.split_once(':'))
        .and_then(|(key, weight)| Some((alloc::string::String::from(key), weight.parse::<f32>().ok()?)));
    if let Some((key, weight)) = fairness {
        let priority = attributes.priority.get_or_insert_default();
        priority.fairness_key = key;
        priority.fairness_weight = weight;
    }
    attributes
}
