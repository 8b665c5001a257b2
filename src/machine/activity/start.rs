//! A worker takes an activity task, or gives it back.

use bristlecone_proto::chain::{
    ActivityStarted, ActivityTaskToken, Poll, Rejection, StartActivity, UndoActivityStart, reply::Kind as ReplyKind,
};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkerVersionStamp;
use bristlecone_proto::temporal::api::deployment::v1::WorkerDeploymentVersion;
use bristlecone_proto::temporal::api::enums::v1::WorkerVersioningMode;
use bristlecone_proto::temporal::api::history::v1::ActivityTaskScheduledEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::is_started;
use crate::draft::Draft;
use crate::stamp::timestamp;
use crate::{Step, reply, rules, standalone, tasks};

/// Claims the offered attempt for a poll. A claim repeated with the poll's request id is answered again;
/// any other claim of a started attempt is refused, and the broker drops the task. So it does when a rule of the
/// namespace pauses the activity instead.
pub(crate) fn start_activity(mut draft: Draft<'_>, input: &StartActivity) -> Step {
    let Some(poll) = &input.poll else { return draft.reject(reply::invalid_argument("Request is nil.")) };
    let (run_id, id) = (&input.run_id, input.scheduled_event_id);
    match claim(&draft, input, poll) {
        Err(rejection) => return draft.reject(rejection),
        Ok(Claim::Repeated) => {
            let answer = started(&draft, run_id, id, None);
            return match answer {
                Some(answer) => draft.unchanged(reply::of(ReplyKind::ActivityStarted(answer.into()))),
                None => draft.reject(reply::activity_not_found()),
            };
        }
        Ok(Claim::New) => {}
    }
    draft.begin_transition(run_id);
    if rules::paused(&mut draft, run_id, id) {
        return draft.finish(reply::rejected(stale()));
    }
    take(&mut draft, run_id, id, poll);
    match started(&draft, run_id, id, None) {
        Some(answer) => draft.finish(reply::of(ReplyKind::ActivityStarted(answer.into()))),
        None => draft.reject(reply::activity_not_found()),
    }
}

enum Claim {
    New,
    Repeated,
}

fn claim(draft: &Draft<'_>, input: &StartActivity, poll: &Poll) -> Result<Claim, Rejection> {
    let run_id = draft.find_run(&input.run_id)?;
    let run = draft.run(&run_id);
    if !run.is_running() {
        return Err(reply::workflow_completed());
    }
    let activity = run.activities.get(&input.scheduled_event_id).ok_or_else(reply::activity_not_found)?;
    if is_started(activity) {
        let same = !poll.request_id.is_empty() && activity.request_id == poll.request_id;
        return if same { Ok(Claim::Repeated) } else { Err(reply::not_found("Activity task already started.")) };
    }
    let current = activity.offered && activity.attempt == input.attempt && activity.stamp == input.stamp;
    if !current || activity.paused || run.is_paused() {
        return Err(stale());
    }
    Ok(Claim::New)
}

fn stale() -> Rejection {
    reply::not_found("Activity task rejected; stamp has changed.")
}

/// Starts an activity that was scheduled in this very step, for the worker that scheduled it; `None` when
/// it is not pending any more, or paused by a rule. The transition must have begun.
pub(crate) fn start_eagerly(
    draft: &mut Draft<'_>,
    run_id: &str,
    scheduled_event_id: i64,
    identity: &str,
) -> Option<ActivityStarted> {
    let run = draft.run(run_id);
    let activity = run.activities.get(&scheduled_event_id)?;
    if !run.is_running() || run.is_paused() || is_started(activity) {
        return None;
    }
    let scheduled = match draft.new_event(run_id, scheduled_event_id)?.attributes.as_ref()? {
        Attributes::ActivityTaskScheduledEventAttributes(scheduled) => scheduled.clone(),
        _ => return None,
    };
    if rules::paused(draft, run_id, scheduled_event_id) {
        return None;
    }
    let request_id = draft.new_id();
    let poll = Poll { request_id, identity: identity.into(), ..Poll::default() };
    take(draft, run_id, scheduled_event_id, &poll);
    started(draft, run_id, scheduled_event_id, Some(scheduled))
}

/// Takes an undelivered start back: the attempt is offered again. Does nothing when it is not that start
/// which stands.
pub(crate) fn undo_activity_start(mut draft: Draft<'_>, input: &UndoActivityStart) -> Step {
    let (run_id, id) = (&input.run_id, input.scheduled_event_id);
    let activity = draft.get(run_id).filter(|run| run.is_running()).and_then(|run| run.activities.get(&id));
    let Some(activity) = activity.filter(|activity| {
        is_started(activity) && activity.attempt == input.attempt && activity.request_id == input.request_id
    }) else {
        return draft.unchanged(reply::done());
    };
    let (cancel_requested, identity) = (activity.cancel_requested, activity.identity.clone());
    draft.begin_transition(run_id);
    if let Some(activity) = draft.run_mut(run_id).activities.get_mut(&id) {
        activity.started_time = None;
        activity.request_id.clear();
        activity.identity.clear();
        activity.offered = !activity.paused;
    }
    if cancel_requested {
        // Nobody has it: as if the request had come before the start.
        super::cancel_not_started(&mut draft, run_id, id, &identity);
        draft.schedule_workflow_task(run_id);
    }
    draft.finish(reply::done())
}

fn take(draft: &mut Draft<'_>, run_id: &str, scheduled_event_id: i64, poll: &Poll) {
    let now = timestamp(draft.now());
    let Some(activity) = draft.run_mut(run_id).activities.get_mut(&scheduled_event_id) else { return };
    activity.started_time = Some(now);
    activity.request_id.clone_from(&poll.request_id);
    activity.identity.clone_from(&poll.identity);
    activity.offered = false;
    if let Some(version) = deployment_version(poll) {
        activity.last_deployment_version = Some(version);
    }
    activity.last_worker_version = poll.version.as_ref().map(|version| WorkerVersionStamp {
        build_id: version.build_id.clone(),
        use_versioning: version.use_versioning,
    });
}

fn deployment_version(poll: &Poll) -> Option<WorkerDeploymentVersion> {
    let options = poll.deployment.as_ref()?;
    let versioned = options.worker_versioning_mode() == WorkerVersioningMode::Versioned;
    versioned.then(|| WorkerDeploymentVersion {
        build_id: options.build_id.clone(),
        deployment_name: options.deployment_name.clone(),
    })
}

/// What the worker is told of the attempt that it has.
fn started(
    draft: &Draft<'_>,
    run_id: &str,
    scheduled_event_id: i64,
    scheduled: Option<ActivityTaskScheduledEventAttributes>,
) -> Option<ActivityStarted> {
    let run = draft.get(run_id)?;
    let activity: &record::Activity = run.activities.get(&scheduled_event_id)?;
    let id = draft.id();
    let token = ActivityTaskToken {
        namespace_id: id.namespace_id.clone(),
        workflow_id: id.workflow_id.clone(),
        run_id: run_id.into(),
        scheduled_event_id,
        activity_id: activity.activity_id.clone(),
        activity_type: activity.activity_type.clone(),
        attempt: activity.attempt,
        started_time: activity.started_time,
        version: 0,
    };
    let scheduled = scheduled.or_else(|| run.head.standalone.as_ref().map(|_| standalone::scheduled(run, activity)));
    Some(ActivityStarted {
        token: Some(token),
        scheduled_batch_id: activity.scheduled_batch_id,
        attempt: activity.attempt,
        heartbeat_details: activity.heartbeat_details.clone(),
        scheduled_time: activity.first_scheduled_time,
        current_attempt_scheduled_time: activity.scheduled_time,
        started_time: activity.started_time,
        schedule_to_close_timeout: activity.schedule_to_close_timeout,
        start_to_close_timeout: activity.start_to_close_timeout,
        heartbeat_timeout: activity.heartbeat_timeout,
        retry_policy: activity.retry_policy.clone(),
        priority: tasks::merge(run.head.priority.as_ref(), activity.priority.as_ref()),
        workflow_type: run.started.workflow_type.clone().filter(|_| run.head.standalone.is_none()),
        workflow_namespace: id.namespace.clone(),
        scheduled,
    })
}
