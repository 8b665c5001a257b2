//! Activities: from the command that schedules one to the event that closes it.
//!
//! # Contract
//! | state of the row | offered | started_time | what wakes it |
//! |---|---|---|---|
//! | waits for a worker | yes | – | its task row; schedule-to-start, schedule-to-close |
//! | in a worker's hands | no | set | the worker; start-to-close, heartbeat, schedule-to-close |
//! | waits for its next attempt | no | – | `scheduled_time`; schedule-to-close |
//! | paused between attempts | no | – | an operator |
//!
//! ```text
//! scheduled ─ offered ─ started ─┬─ completed, canceled ──────────────► closed
//!                ▲               ├─ failed, timed out ─ no retry ─────► closed
//!                └── backoff ◄───┘        (also schedule-to-start/close: closed at once)
//! ```
//! No event tells of attempts: the started event is written only when the activity closes, just before
//! the closing event, with the time at which the last attempt really started. An accepted answer of a
//! worker ends the attempt, so each attempt has at most one.
//!
//! # Used by
//! `lib.rs` (inputs), `wake.rs` ([`wake`]), `command/schedule_activity.rs`,
//! `command/request_cancel_activity.rs`, `workflow_task/complete.rs` ([`start_eagerly`]).

mod answer;
mod heartbeat;
mod operator;
mod options;
mod retry;
mod start;
mod timeout;

use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::{ActivityRef, Rejection};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkerVersionStamp;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    ActivityTaskCanceledEventAttributes, ActivityTaskStartedEventAttributes, HistoryEvent,
};

use crate::draft::Draft;
use crate::{event, payload, reply, standalone, validate};

pub(crate) use answer::{cancel_activity, complete_activity, fail_activity};
pub(crate) use heartbeat::heartbeat_activity;
pub(crate) use operator::{pause_activity, reset_activity, unpause_activity, update_activity_options};
pub(crate) use start::{start_activity, start_eagerly, undo_activity_start};
pub(crate) use timeout::{due, wake};

/// Whether the current attempt is in a worker's hands.
pub(crate) fn is_started(activity: &record::Activity) -> bool {
    activity.started_time.is_some()
}

/// An activity that was found: valid until something changes in the draft.
struct Found {
    run_id: String,
    activity: record::Activity,
}

/// The pending activity that a worker, or a client, with this identity speaks of.
fn find(draft: &Draft<'_>, activity: Option<&ActivityRef>, identity: &str) -> Result<Found, Rejection> {
    let Some(wanted) = activity else { return Err(reply::invalid_argument("Request is nil.")) };
    validate::length(identity, "Identity", draft.at().limits).map_err(reply::invalid_argument)?;
    let run_id = draft.find_run(&wanted.run_id)?;
    let run = draft.run(&run_id);
    if !run.is_running() {
        return Err(not_wanted(draft, reply::workflow_completed));
    }
    let scheduled_event_id = if wanted.by_id {
        if wanted.activity_id.is_empty() {
            return Err(reply::invalid_argument("activityID cannot be empty"));
        }
        *run.activity_ids.get(&wanted.activity_id).ok_or_else(|| {
            let id = &wanted.activity_id;
            reply::not_found(format!(
                "cannot find pending activity with ActivityID {id}, check workflow execution history for more details"
            ))
        })?
    } else {
        wanted.scheduled_event_id
    };
    let gone = || not_wanted(draft, reply::activity_not_found);
    let activity = run.activities.get(&scheduled_event_id).ok_or_else(gone)?.clone();
    if !wanted.by_id {
        // A start that was taken back leaves a token of the same attempt; its time tells it apart.
        let same_start = wanted.started_time.is_none() || wanted.started_time == activity.started_time;
        if wanted.attempt != activity.attempt || !same_start {
            return Err(gone());
        }
    }
    Ok(Found { run_id, activity })
}

/// As [`find`], for what only an attempt in a worker's hands can do.
fn find_started(draft: &Draft<'_>, activity: Option<&ActivityRef>, identity: &str) -> Result<Found, Rejection> {
    let found = find(draft, activity, identity)?;
    if is_started(&found.activity) { Ok(found) } else { Err(not_wanted(draft, reply::activity_not_found)) }
}

/// Why nobody waits for what a worker says: in other words of a workflow than of a standalone activity.
fn not_wanted(draft: &Draft<'_>, of_workflow: fn() -> Rejection) -> Rejection {
    if standalone::is_standalone(draft.id()) { standalone::not_found(draft.id()) } else { of_workflow() }
}

/// Writes the started event of the attempt that is about to close, if it was started.
fn add_started(
    draft: &mut Draft<'_>,
    run_id: &str,
    activity: &record::Activity,
    worker_version: Option<&WorkerVersionStamp>,
) {
    if !is_started(activity) {
        return;
    }
    let reported = activity.last_worker_version.as_ref().filter(|version| version.use_versioning);
    let attributes = ActivityTaskStartedEventAttributes {
        scheduled_event_id: activity.scheduled_event_id,
        identity: activity.identity.clone(),
        request_id: activity.request_id.clone(),
        attempt: activity.attempt,
        last_failure: activity.last_failure.clone(),
        worker_version: worker_version.or(reported).cloned(),
        ..ActivityTaskStartedEventAttributes::default()
    };
    let event = event::new(draft.now(), Attributes::ActivityTaskStartedEventAttributes(attributes));
    draft.add_event(run_id, HistoryEvent { event_time: activity.started_time, ..event });
}

/// Closes an activity that is canceled before any worker has it.
pub(crate) fn cancel_not_started(draft: &mut Draft<'_>, run_id: &str, scheduled_event_id: i64, identity: &str) {
    let Some(activity) = draft.run(run_id).activities.get(&scheduled_event_id) else { return };
    let details = match &draft.run(run_id).head.standalone {
        Some(standalone) => payload::texts(&standalone.cancel_reason),
        None => payload::texts("ACTIVITY_ID_NOT_STARTED"),
    };
    let attributes = ActivityTaskCanceledEventAttributes {
        details: Some(details),
        latest_cancel_requested_event_id: activity.cancel_requested_event_id,
        scheduled_event_id,
        identity: identity.into(),
        ..ActivityTaskCanceledEventAttributes::default()
    };
    draft.add(run_id, Attributes::ActivityTaskCanceledEventAttributes(attributes));
}
