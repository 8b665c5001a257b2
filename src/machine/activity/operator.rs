//! What operators do to pending activities: pause them, let them go on, begin them again, change what
//! was asked for. No event tells of it.
//!
//! # Contract
//! | of a paused activity | |
//! |---|---|
//! | waits for a worker, or for its next attempt | taken out of the backlog; no timeout runs |
//! | in a worker's hands | goes on; its heartbeats say that it is paused; a failure is not tried again yet |
//!
//! Whatever puts an activity back changes its stamp, so that a task already offered is not started.

use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::{Rejection, reply::Kind as ReplyKind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::activity::v1::ActivityOptions;
use bristlecone_proto::temporal::api::common::v1::{RetryPolicy, WorkflowExecution};
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PauseActivityRequest, ResetActivityRequest, UnpauseActivityRequest, UpdateActivityOptionsRequest,
    UpdateActivityOptionsResponse, pause_activity_request, reset_activity_request, unpause_activity_request,
    update_activity_options_request,
};

use super::{is_started, options};
use crate::draft::{Draft, normal_queue};
use crate::stamp::{UnixNanos, duration_nanos, nanos, timestamp};
use crate::{Step, fold, reply, retry};

/// Which pending activities of a run are meant.
enum Wanted<'a> {
    Id(&'a str),
    Type(&'a str),
    All,
}

pub(crate) fn pause_activity(mut draft: Draft<'_>, request: &PauseActivityRequest) -> Step {
    use pause_activity_request::Activity as A;
    let wanted = request.activity.as_ref().map(|activity| match activity {
        A::Id(id) => Wanted::Id(id),
        A::Type(activity_type) => Wanted::Type(activity_type),
    });
    let (run_id, mut ids) = match select(&draft, request.execution.as_ref(), wanted) {
        Ok(selected) => selected,
        Err(rejection) => return draft.reject(rejection),
    };
    let paused = |id: &i64| draft.run(&run_id).activities.get(id).is_some_and(|activity| activity.paused);
    ids.retain(|id| !paused(id));
    if ids.is_empty() {
        return draft.unchanged(reply::done());
    }
    let now = timestamp(draft.now());
    draft.begin_transition(&run_id);
    for id in ids {
        change(&mut draft, &run_id, id, |activity| {
            if !is_started(activity) {
                activity.stamp = activity.stamp.wrapping_add(1);
            }
            activity.paused = true;
            activity.paused_time = Some(now);
            activity.paused_by.clone_from(&request.identity);
            activity.pause_reason.clone_from(&request.reason);
            activity.offered = false;
        });
    }
    fold::activity::note_pauses(draft.run_mut(&run_id));
    draft.finish(reply::done())
}

pub(crate) fn unpause_activity(mut draft: Draft<'_>, request: &UnpauseActivityRequest) -> Step {
    use unpause_activity_request::Activity as A;
    let wanted = request.activity.as_ref().map(|activity| match activity {
        A::Id(id) => Wanted::Id(id),
        A::Type(activity_type) => Wanted::Type(activity_type),
        A::UnpauseAll(_) => Wanted::All,
    });
    let (run_id, mut ids) = match select(&draft, request.execution.as_ref(), wanted) {
        Ok(selected) => selected,
        Err(rejection) => return draft.reject(rejection),
    };
    let paused = |id: &i64| draft.run(&run_id).activities.get(id).is_some_and(|activity| activity.paused);
    ids.retain(paused);
    if ids.is_empty() {
        return draft.unchanged(reply::done());
    }
    let now = draft.now();
    draft.begin_transition(&run_id);
    for id in ids {
        let at = now.saturating_add(draft.random_below(duration_nanos(request.jitter.as_ref())));
        change(&mut draft, &run_id, id, |activity| {
            go_on(activity);
            if request.reset_attempts {
                activity.attempt = 1;
            }
            if request.reset_heartbeat {
                forget_heartbeat(activity);
            }
            if !is_started(activity) {
                reschedule(activity, at, now);
            }
        });
    }
    fold::activity::note_pauses(draft.run_mut(&run_id));
    draft.finish(reply::done())
}

/// Attempts are counted from 1 again. An attempt in a worker's hands ends as it ends; one that waits is
/// offered anew.
pub(crate) fn reset_activity(mut draft: Draft<'_>, request: &ResetActivityRequest) -> Step {
    use reset_activity_request::Activity as A;
    let wanted = request.activity.as_ref().map(|activity| match activity {
        A::Id(id) => Wanted::Id(id),
        A::Type(activity_type) => Wanted::Type(activity_type),
        A::MatchAll(_) => Wanted::All,
    });
    let (run_id, ids) = match select(&draft, request.execution.as_ref(), wanted) {
        Ok(selected) => selected,
        Err(rejection) => return draft.reject(rejection),
    };
    let now = draft.now();
    draft.begin_transition(&run_id);
    for id in ids {
        let at = now.saturating_add(draft.random_below(duration_nanos(request.jitter.as_ref())));
        change(&mut draft, &run_id, id, |activity| {
            activity.attempt = 1;
            activity.reset_requested = true;
            activity.reset_heartbeats |= request.reset_heartbeat;
            if request.restore_original_options {
                restore(activity);
                activity.stamp = activity.stamp.wrapping_add(1);
            }
            if is_started(activity) || (activity.paused && request.keep_paused) {
                return;
            }
            if activity.paused {
                go_on(activity);
            } else {
                activity.stamp = activity.stamp.wrapping_add(1);
            }
            if request.reset_heartbeat {
                forget_heartbeat(activity);
            }
            reschedule(activity, at, now);
        });
    }
    fold::activity::note_pauses(draft.run_mut(&run_id));
    draft.finish(reply::done())
}

/// Changes what the mask names, or everything back to what the workflow asked for.
pub(crate) fn update_activity_options(mut draft: Draft<'_>, request: &UpdateActivityOptionsRequest) -> Step {
    use update_activity_options_request::Activity as A;
    let paths = options::paths(request.update_mask.as_ref());
    if request.restore_original && !paths.is_empty() {
        return draft.reject(reply::invalid_argument("Both UpdateMask and RestoreOriginal are provided"));
    }
    let wanted = request.activity.as_ref().map(|activity| match activity {
        A::Id(id) => Wanted::Id(id),
        A::Type(activity_type) => Wanted::Type(activity_type),
        A::MatchAll(_) => Wanted::All,
    });
    let (run_id, ids) = match select(&draft, request.execution.as_ref(), wanted) {
        Ok(selected) => selected,
        Err(rejection) => return draft.reject(rejection),
    };
    let given = match (&request.activity_options, &request.update_mask) {
        _ if request.restore_original => None,
        (None, _) => return draft.reject(reply::invalid_argument("ActivityOptions are not provided")),
        (_, None) => return draft.reject(reply::invalid_argument("UpdateMask is not provided")),
        (Some(given), Some(_)) => Some(given),
    };
    let (now, limits) = (draft.now(), draft.at().limits);
    draft.begin_transition(&run_id);
    let mut last = None;
    for id in ids {
        let run = draft.run(&run_id);
        let Some(activity) = run.activities.get(&id) else { continue };
        let wanted = match given {
            None => activity.original_options.clone().unwrap_or_else(|| of(activity)),
            Some(given) => match options::merged(of(activity), given, &paths)
                .and_then(|merged| options::checked(activity, merged, normal_queue(run), limits))
            {
                Ok(options) => options,
                Err(text) => return draft.reject(reply::invalid_argument(text)),
            },
        };
        let mut answer = wanted.clone();
        change(&mut draft, &run_id, id, |activity| {
            if activity.original_options.is_none() {
                activity.original_options = Some(of(activity));
            }
            set(activity, wanted);
            activity.stamp = activity.stamp.wrapping_add(1);
            if !is_started(activity) {
                reschedule(activity, due_again(activity), now);
            }
        });
        if !request.restore_original
            && let Some(policy) = &mut answer.retry_policy
        {
            policy.non_retryable_error_types.clear();
        }
        last = Some(answer);
    }
    let response = UpdateActivityOptionsResponse { activity_options: last };
    draft.finish(reply::of(ReplyKind::ActivityOptions(response)))
}

/// The open run and the scheduled event ids of the activities that are meant, at least one.
fn select(
    draft: &Draft<'_>,
    execution: Option<&WorkflowExecution>,
    wanted: Option<Wanted<'_>>,
) -> Result<(String, Vec<i64>), Rejection> {
    let Some(wanted) = wanted else {
        return Err(reply::invalid_argument("Either Activity.Id or Activity.Type should be set on request."));
    };
    let run_id = draft.find_running(execution)?;
    let run = draft.run(&run_id);
    let ids: Vec<i64> = match wanted {
        Wanted::Id(id) => run.activity_ids.get(&String::from(id)).copied().into_iter().collect(),
        Wanted::Type(activity_type) => run
            .activities
            .iter()
            .filter(|(_, activity)| activity.activity_type == activity_type)
            .map(|(id, _)| *id)
            .collect(),
        Wanted::All => run.activities.iter().map(|(id, _)| *id).collect(),
    };
    if ids.is_empty() {
        return Err(reply::not_found(
            "Can't find pending activity with such ID. Invalid activityID or activity already completed",
        ));
    }
    Ok((run_id, ids))
}

fn change(draft: &mut Draft<'_>, run_id: &str, scheduled_event_id: i64, change: impl FnOnce(&mut record::Activity)) {
    if let Some(activity) = draft.run_mut(run_id).activities.get_mut(&scheduled_event_id) {
        change(activity);
    }
}

fn go_on(activity: &mut record::Activity) {
    activity.paused = false;
    activity.paused_time = None;
    activity.paused_by.clear();
    activity.pause_reason.clear();
    activity.paused_by_rule.clear();
    activity.stamp = activity.stamp.wrapping_add(1);
}

fn forget_heartbeat(activity: &mut record::Activity) {
    activity.heartbeat_details = None;
    activity.last_heartbeat_time = None;
}

/// Puts an attempt that nobody has back, to be offered then.
fn reschedule(activity: &mut record::Activity, at: UnixNanos, now: UnixNanos) {
    activity.scheduled_time = Some(timestamp(at));
    activity.offered = !activity.paused && at <= now;
    activity.last_failure = None;
    if activity.reset_heartbeats {
        forget_heartbeat(activity);
    }
    activity.reset_requested = false;
    activity.reset_heartbeats = false;
}

/// When the attempt that waits is due by the policy as it is now.
fn due_again(activity: &record::Activity) -> UnixNanos {
    let scheduled = activity.scheduled_time.as_ref().map_or(0, nanos);
    let (Some(policy), Some(ended)) = (&activity.retry_policy, &activity.last_attempt_complete_time) else {
        return scheduled;
    };
    if activity.attempt <= 1 {
        return scheduled;
    }
    let maximum = duration_nanos(policy.maximum_interval.as_ref());
    let interval = match retry::exponential(policy, activity.attempt) {
        interval if maximum != 0 && (interval <= 0 || interval > maximum) => maximum,
        interval => interval,
    };
    if interval > 0 { nanos(ended).saturating_add(interval) } else { scheduled }
}

/// The options of an activity as they are.
fn of(activity: &record::Activity) -> ActivityOptions {
    ActivityOptions {
        task_queue: Some(TaskQueue { name: activity.task_queue.clone(), ..TaskQueue::default() }),
        schedule_to_close_timeout: activity.schedule_to_close_timeout,
        schedule_to_start_timeout: activity.schedule_to_start_timeout,
        start_to_close_timeout: activity.start_to_close_timeout,
        heartbeat_timeout: activity.heartbeat_timeout,
        retry_policy: activity.retry_policy.clone(),
        priority: activity.priority.clone(),
        ..ActivityOptions::default()
    }
}

fn set(activity: &mut record::Activity, options: ActivityOptions) {
    if let Some(queue) = options.task_queue {
        activity.task_queue = queue.name;
    }
    activity.schedule_to_close_timeout = options.schedule_to_close_timeout;
    activity.schedule_to_start_timeout = options.schedule_to_start_timeout;
    activity.start_to_close_timeout = options.start_to_close_timeout;
    activity.heartbeat_timeout = options.heartbeat_timeout;
    activity.priority = options.priority;
    // Which failures are final stays as the workflow asked for.
    let final_types = activity.retry_policy.take().map(|policy| policy.non_retryable_error_types);
    activity.retry_policy = options
        .retry_policy
        .map(|policy| RetryPolicy { non_retryable_error_types: final_types.unwrap_or_default(), ..policy });
}

fn restore(activity: &mut record::Activity) {
    // They stay known: the priority is not among what a reset brings back, but may still be asked for.
    if let Some(original) = activity.original_options.clone() {
        let priority = activity.priority.clone();
        set(activity, ActivityOptions { priority, ..original });
    }
}
