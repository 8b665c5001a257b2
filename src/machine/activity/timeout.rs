//! What time does to a pending activity: the next attempt is offered, or a timeout ends the attempt.

use alloc::boxed::Box;
use alloc::format;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{RetryState, TimeoutType};
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::history::v1::ActivityTaskTimedOutEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use prost_types::{Duration, Timestamp};

use super::{add_started, is_started, retry};
use crate::draft::Draft;
use crate::stamp::{UnixNanos, duration_nanos, nanos};
use crate::validate::failure;
use crate::{rules, standalone};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    TimeOut(TimeoutType),
    /// The backoff is over: the next attempt is offered.
    Offer,
}

/// When the activity next needs attention: a timeout, or the dispatch of its next attempt.
pub(crate) fn due(activity: &record::Activity) -> Option<UnixNanos> {
    next(activity).map(|(at, _)| at)
}

/// Does whatever is due of the activity by now, and says whether the workflow has to see it. The
/// transition must have begun; the workflow task is the caller's business.
pub(crate) fn wake(draft: &mut Draft<'_>, run_id: &str, scheduled_event_id: i64) -> bool {
    // Each round closes the activity or begins another attempt or its offer, whose times lie ahead;
    // the bound only guards against a clock that stands still with intervals of nothing.
    const ROUNDS_MAX: usize = 4;
    for _ in 0..ROUNDS_MAX {
        let Some(activity) = draft.run(run_id).activities.get(&scheduled_event_id).cloned() else { return true };
        match next(&activity) {
            Some((at, what)) if at <= draft.now() => match what {
                What::Offer => offer(draft, run_id, scheduled_event_id),
                What::TimeOut(timeout_type) => time_out(draft, run_id, &activity, timeout_type),
            },
            _ => return false,
        }
    }
    !draft.run(run_id).activities.contains(&scheduled_event_id)
}

fn offer(draft: &mut Draft<'_>, run_id: &str, scheduled_event_id: i64) {
    if rules::paused(draft, run_id, scheduled_event_id) {
        return;
    }
    if let Some(activity) = draft.run_mut(run_id).activities.get_mut(&scheduled_event_id) {
        activity.offered = true;
    }
}

fn time_out(draft: &mut Draft<'_>, run_id: &str, activity: &record::Activity, timeout_type: TimeoutType) {
    let name = crate::command::camel(timeout_type.as_str_name().trim_start_matches("TIMEOUT_TYPE_"));
    let timeout = failure::timeout(format!("activity {name} timeout"), timeout_type);
    let retry_state = match retry::follow(draft, run_id, activity, Some(&timeout)) {
        Ok(()) => return,
        Err(state) => state,
    };
    let out_of_time = retry_state == RetryState::Timeout && timeout_type != TimeoutType::ScheduleToStart;
    // Who started the activity alone is told the timeout itself: what the attempts came to is described.
    let timeout = match standalone::is_standalone(draft.id()) {
        true => timeout,
        false if out_of_time => with_last_attempt(no_time_left(), activity),
        false => with_last_attempt(timeout, activity),
    };
    add_started(draft, run_id, activity, None);
    let attributes = ActivityTaskTimedOutEventAttributes {
        failure: Some(timeout),
        scheduled_event_id: activity.scheduled_event_id,
        retry_state: retry_state.into(),
        ..ActivityTaskTimedOutEventAttributes::default()
    };
    draft.add(run_id, Attributes::ActivityTaskTimedOutEventAttributes(attributes));
}

fn no_time_left() -> Failure {
    let message = "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying";
    failure::timeout(message.into(), TimeoutType::ScheduleToClose)
}

/// The timeout tells what the last attempts came to.
fn with_last_attempt(mut timeout: Failure, activity: &record::Activity) -> Failure {
    timeout.cause = activity.last_failure.clone().map(Box::new);
    if let Some(FailureInfo::TimeoutFailureInfo(info)) = &mut timeout.failure_info {
        info.last_heartbeat_details.clone_from(&activity.heartbeat_details);
    }
    timeout
}

/// What comes next, and when. Of several at one time the first here wins: an eager activity starts in
/// the very moment in which it is scheduled, and yet its schedule is the older of the two.
fn next(activity: &record::Activity) -> Option<(UnixNanos, What)> {
    if activity.paused {
        return None;
    }
    let started = is_started(activity);
    let waits = !started && activity.offered;
    let time = |time: &Option<Timestamp>| time.as_ref().map(nanos);
    let scheduled = time(&activity.scheduled_time);
    let alive = time(&activity.started_time).max(time(&activity.last_heartbeat_time));
    let events = [
        (waits, scheduled, activity.schedule_to_start_timeout, TimeoutType::ScheduleToStart),
        (true, time(&activity.first_scheduled_time), activity.schedule_to_close_timeout, TimeoutType::ScheduleToClose),
        (started, time(&activity.started_time), activity.start_to_close_timeout, TimeoutType::StartToClose),
        (started, alive, activity.heartbeat_timeout, TimeoutType::Heartbeat),
    ];
    let timeouts =
        events.into_iter().filter(|(applies, ..)| *applies).filter_map(|(_, from, timeout, timeout_type)| {
            Some((after(from?, timeout.as_ref())?, What::TimeOut(timeout_type)))
        });
    let offer = scheduled.filter(|_| !started && !activity.offered).map(|at| (at, What::Offer));
    timeouts.chain(offer).min_by_key(|(at, _)| *at)
}

/// The end of a timeout; `None` when there is none.
fn after(from: UnixNanos, timeout: Option<&Duration>) -> Option<UnixNanos> {
    let timeout = duration_nanos(timeout);
    (timeout > 0).then(|| from.saturating_add(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{duration, timestamp};

    const SECOND: i64 = 1_000_000_000;

    /// Scheduled at 10 s; every timeout is set.
    fn offered() -> record::Activity {
        record::Activity {
            offered: true,
            attempt: 1,
            first_scheduled_time: Some(timestamp(10 * SECOND)),
            scheduled_time: Some(timestamp(10 * SECOND)),
            schedule_to_close_timeout: Some(duration(100 * SECOND)),
            schedule_to_start_timeout: Some(duration(5 * SECOND)),
            start_to_close_timeout: Some(duration(20 * SECOND)),
            heartbeat_timeout: Some(duration(3 * SECOND)),
            ..record::Activity::default()
        }
    }

    fn started() -> record::Activity {
        record::Activity { offered: false, started_time: Some(timestamp(12 * SECOND)), ..offered() }
    }

    #[test]
    fn each_state_waits_for_something_else() {
        use TimeoutType as T;
        let time_out = |at: i64, timeout_type| Some((at * SECOND, What::TimeOut(timeout_type)));
        assert_eq!(next(&offered()), time_out(15, T::ScheduleToStart));
        assert_eq!(next(&started()), time_out(15, T::Heartbeat));
        let alive = record::Activity { last_heartbeat_time: Some(timestamp(30 * SECOND)), ..started() };
        assert_eq!(next(&alive), time_out(32, T::StartToClose));
        let silent = record::Activity { heartbeat_timeout: None, ..started() };
        assert_eq!(next(&silent), time_out(32, T::StartToClose));
        let backing_off =
            record::Activity { offered: false, scheduled_time: Some(timestamp(50 * SECOND)), ..offered() };
        assert_eq!(next(&backing_off), Some((50 * SECOND, What::Offer)));
        let late = record::Activity { scheduled_time: Some(timestamp(200 * SECOND)), ..backing_off };
        assert_eq!(next(&late), time_out(110, T::ScheduleToClose));
        assert_eq!(next(&record::Activity { paused: true, ..started() }), None);
    }

    #[test]
    fn a_heartbeat_of_an_earlier_attempt_does_not_count() {
        let activity = record::Activity { last_heartbeat_time: Some(timestamp(SECOND)), ..started() };
        assert_eq!(next(&activity), Some((15 * SECOND, What::TimeOut(TimeoutType::Heartbeat))));
    }

    #[test]
    fn of_two_timeouts_at_once_the_one_that_began_first_goes_first() {
        use TimeoutType as T;
        let at_once = record::Activity { started_time: Some(timestamp(10 * SECOND)), ..started() };
        let whole = record::Activity { schedule_to_close_timeout: Some(duration(3 * SECOND)), ..at_once.clone() };
        assert_eq!(next(&whole), Some((13 * SECOND, What::TimeOut(T::ScheduleToClose))));
        let attempt = record::Activity { start_to_close_timeout: Some(duration(3 * SECOND)), ..at_once };
        assert_eq!(next(&attempt), Some((13 * SECOND, What::TimeOut(T::StartToClose))));
        let never_started = record::Activity { schedule_to_start_timeout: Some(duration(100 * SECOND)), ..offered() };
        assert_eq!(next(&never_started), Some((110 * SECOND, What::TimeOut(T::ScheduleToStart))));
    }
}
