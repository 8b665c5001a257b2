//! What follows an attempt that failed or timed out.

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{RetryState, TimeoutType};
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;

use crate::draft::Draft;
use crate::stamp::{UnixNanos, duration, duration_nanos, nanos, timestamp};
use crate::validate::failure;
use crate::{retry, rules};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Another attempt after so many nanoseconds; `None`: when an operator lets it go on.
    Retry(Option<i64>),
    Close(RetryState),
}

/// Puts the activity back for its next attempt after this failure, paused if a rule of the namespace says so; or says
/// why there is none. The transition must have begun.
pub(super) fn follow(
    draft: &mut Draft<'_>,
    run_id: &str,
    activity: &record::Activity,
    failure: Option<&Failure>,
) -> Result<(), RetryState> {
    let id = activity.scheduled_event_id;
    let rule = rules::pauses(draft, run_id, activity);
    match decide(activity, activity.paused || rule.is_some(), failure, draft.now()) {
        Decision::Close(state) => return Err(state),
        Decision::Retry(interval) => next_attempt(draft, run_id, id, failure, interval),
    }
    if let Some(rule) = rule {
        rules::pause(draft, run_id, id, rule);
    }
    Ok(())
}

/// Whether the activity is tried again after this failure.
fn decide(activity: &record::Activity, paused: bool, failure: Option<&Failure>, now: UnixNanos) -> Decision {
    let Some(policy) = &activity.retry_policy else { return Decision::Close(RetryState::RetryPolicyNotSet) };
    if activity.cancel_requested {
        return Decision::Close(RetryState::CancelRequested);
    }
    if is_schedule_timeout(failure) {
        return Decision::Close(RetryState::Timeout);
    }
    if !retry::is_retryable(failure, &policy.non_retryable_error_types) {
        return Decision::Close(RetryState::NonRetryableFailure);
    }
    if paused {
        return Decision::Retry(None);
    }
    match retry::backoff(now, activity.attempt, policy, expiration(activity), failure, true) {
        Ok(interval) => Decision::Retry(Some(interval)),
        Err(state) => Decision::Close(state),
    }
}

fn next_attempt(
    draft: &mut Draft<'_>,
    run_id: &str,
    scheduled_event_id: i64,
    failure: Option<&Failure>,
    interval: Option<i64>,
) {
    let (now, limits) = (draft.now(), draft.at().limits);
    let activities = &mut draft.run_mut(run_id).activities;
    let Some(activity) = activities.get_mut(&scheduled_event_id) else { return };
    activity.attempt = activity.attempt.saturating_add(1);
    activity.stamp = activity.stamp.wrapping_add(1);
    activity.started_time = None;
    activity.request_id.clear();
    activity.last_worker_identity = core::mem::take(&mut activity.identity);
    activity.last_failure = failure.map(|failure| failure::kept_for_retry(failure, limits));
    activity.last_attempt_complete_time = Some(timestamp(now));
    activity.offered = false;
    if activity.reset_heartbeats {
        activity.heartbeat_details = None;
        activity.last_heartbeat_time = None;
    }
    activity.reset_requested = false;
    activity.reset_heartbeats = false;
    activity.current_retry_interval = interval.map(duration);
    if let Some(interval) = interval {
        activity.scheduled_time = Some(timestamp(now.saturating_add(interval)));
    }
}

/// When all attempts together have to be over, if ever.
fn expiration(activity: &record::Activity) -> Option<UnixNanos> {
    let timeout = duration_nanos(activity.schedule_to_close_timeout.as_ref());
    let first = activity.first_scheduled_time.as_ref().map(nanos)?;
    (timeout > 0).then(|| first.saturating_add(timeout))
}

fn is_schedule_timeout(failure: Option<&Failure>) -> bool {
    match failure.and_then(|failure| failure.failure_info.as_ref()) {
        Some(FailureInfo::TimeoutFailureInfo(info)) => {
            matches!(info.timeout_type(), TimeoutType::ScheduleToStart | TimeoutType::ScheduleToClose)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use bristlecone_proto::temporal::api::common::v1::RetryPolicy;
    use bristlecone_proto::temporal::api::failure::v1::ApplicationFailureInfo;

    const SECOND: i64 = 1_000_000_000;

    fn activity() -> record::Activity {
        record::Activity {
            attempt: 1,
            first_scheduled_time: Some(timestamp(0)),
            retry_policy: Some(RetryPolicy {
                initial_interval: Some(duration(SECOND)),
                backoff_coefficient: 2.0,
                maximum_interval: Some(duration(100 * SECOND)),
                ..RetryPolicy::default()
            }),
            ..record::Activity::default()
        }
    }

    fn application(next_retry_delay: Option<i64>) -> Failure {
        let info = ApplicationFailureInfo {
            next_retry_delay: next_retry_delay.map(duration),
            ..ApplicationFailureInfo::default()
        };
        Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Failure::default() }
    }

    #[test]
    fn a_failure_is_tried_again_until_something_forbids_it() {
        let failure = application(None);
        let decide = |activity: &record::Activity, now| decide(activity, activity.paused, Some(&failure), now);
        assert_eq!(decide(&activity(), 0), Decision::Retry(Some(SECOND)));
        assert_eq!(
            decide(&record::Activity { retry_policy: None, ..activity() }, 0),
            Decision::Close(RetryState::RetryPolicyNotSet)
        );
        assert_eq!(
            decide(&record::Activity { cancel_requested: true, paused: true, ..activity() }, 0),
            Decision::Close(RetryState::CancelRequested)
        );
        assert_eq!(decide(&record::Activity { paused: true, ..activity() }, 0), Decision::Retry(None));
        let short = record::Activity { schedule_to_close_timeout: Some(duration(3 * SECOND)), ..activity() };
        assert_eq!(decide(&short, 2 * SECOND), Decision::Retry(Some(SECOND)));
        assert_eq!(decide(&short, 2 * SECOND + 1), Decision::Close(RetryState::Timeout));
    }

    #[test]
    fn timeouts_before_a_start_and_of_the_whole_are_final() {
        let timeout = |timeout_type| failure::timeout("late".to_string(), timeout_type);
        for (timeout_type, decision) in [
            (TimeoutType::StartToClose, Decision::Retry(Some(SECOND))),
            (TimeoutType::Heartbeat, Decision::Retry(Some(SECOND))),
            (TimeoutType::ScheduleToStart, Decision::Close(RetryState::Timeout)),
            (TimeoutType::ScheduleToClose, Decision::Close(RetryState::Timeout)),
        ] {
            let decided = decide(&activity(), false, Some(&timeout(timeout_type)), 0);
            assert_eq!(decided, decision, "{timeout_type:?}");
        }
    }

    #[test]
    fn a_delay_may_be_longer_than_the_greatest_interval() {
        let late = application(Some(500 * SECOND));
        assert_eq!(decide(&activity(), false, Some(&late), 0), Decision::Retry(Some(500 * SECOND)));
    }
}
