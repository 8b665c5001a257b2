//! Whether a failure is tried again, and after how long.
//!
//! # Used by
//! Retries of activities and of whole workflows, which share this arithmetic.

use alloc::string::String;

use bristlecone_proto::temporal::api::common::v1::RetryPolicy;
use bristlecone_proto::temporal::api::enums::v1::{RetryState, TimeoutType};
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;

use crate::stamp::{UnixNanos, duration_nanos};

/// Nanoseconds until the next attempt, or why there is none. `expiration` is when it all has to be over;
/// `delay_beats_maximum`: a delay that the failure asks for may be longer than the policy's intervals.
pub(crate) fn backoff(
    now: UnixNanos,
    attempt: i32,
    policy: &RetryPolicy,
    expiration: Option<UnixNanos>,
    failure: Option<&Failure>,
    delay_beats_maximum: bool,
) -> Result<i64, RetryState> {
    if !is_retryable(failure, &policy.non_retryable_error_types) {
        return Err(RetryState::NonRetryableFailure);
    }
    let attempt = attempt.max(1);
    if policy.maximum_attempts > 0 && attempt >= policy.maximum_attempts {
        return Err(RetryState::MaximumAttemptsReached);
    }
    let delay = next_retry_delay(failure);
    let maximum = match delay {
        Some(delay) if delay_beats_maximum => delay,
        _ => duration_nanos(policy.maximum_interval.as_ref()),
    };
    let mut interval = delay.unwrap_or_else(|| exponential(policy, attempt));
    if maximum == 0 && interval <= 0 {
        return Err(RetryState::Timeout);
    }
    if maximum != 0 && (interval <= 0 || interval > maximum) {
        interval = maximum;
    }
    if expiration.is_some_and(|expiration| now.saturating_add(interval) > expiration) {
        return Err(RetryState::Timeout);
    }
    Ok(interval)
}

/// Whether a failure of this kind may be tried again at all.
pub(crate) fn is_retryable(failure: Option<&Failure>, non_retryable_types: &[String]) -> bool {
    match failure.and_then(|failure| failure.failure_info.as_ref()) {
        Some(FailureInfo::TerminatedFailureInfo(_) | FailureInfo::CanceledFailureInfo(_)) => false,
        Some(FailureInfo::TimeoutFailureInfo(info)) => match info.timeout_type() {
            TimeoutType::StartToClose => !lists(non_retryable_types, "TemporalTimeout:StartToClose"),
            TimeoutType::Heartbeat => !lists(non_retryable_types, "TemporalTimeout:Heartbeat"),
            TimeoutType::Unspecified | TimeoutType::ScheduleToStart | TimeoutType::ScheduleToClose => false,
        },
        Some(FailureInfo::ServerFailureInfo(info)) => !info.non_retryable,
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            !info.non_retryable && !lists(non_retryable_types, &info.r#type)
        }
        _ => true,
    }
}

/// The delay that an application failure asks for, in nanoseconds.
pub(crate) fn next_retry_delay(failure: Option<&Failure>) -> Option<i64> {
    match failure?.failure_info.as_ref()? {
        FailureInfo::ApplicationFailureInfo(info) => {
            info.next_retry_delay.as_ref().map(|delay| duration_nanos(Some(delay)))
        }
        _ => None,
    }
}

fn lists(types: &[String], wanted: &str) -> bool {
    types.iter().any(|listed| listed == wanted)
}

/// `initial × coefficient^(attempt − 1)`; 0 when that is beyond all measure.
pub(crate) fn exponential(policy: &RetryPolicy, attempt: i32) -> i64 {
    const BEYOND: f64 = 9.2e18;
    let initial = duration_nanos(policy.initial_interval.as_ref()) as f64;
    let mut exponent = attempt.unsigned_abs() - 1;
    let mut factor = 1.0_f64;
    let mut power = policy.backoff_coefficient;
    while exponent > 0 {
        if exponent & 1 == 1 {
            factor *= power;
        }
        power *= power;
        exponent >>= 1;
    }
    let interval = initial * factor;
    if interval.is_finite() && interval < BEYOND { interval as i64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::duration;
    use bristlecone_proto::temporal::api::failure::v1::ApplicationFailureInfo;

    const SECOND: i64 = 1_000_000_000;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            initial_interval: Some(duration(SECOND)),
            backoff_coefficient: 2.0,
            maximum_interval: Some(duration(100 * SECOND)),
            ..RetryPolicy::default()
        }
    }

    fn delayed(delay: i64) -> Failure {
        let info = ApplicationFailureInfo { next_retry_delay: Some(duration(delay)), ..Default::default() };
        Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Failure::default() }
    }

    #[test]
    fn intervals_double_up_to_the_maximum() {
        let of = |attempt| backoff(0, attempt, &policy(), None, None, false);
        assert_eq!(of(1), Ok(SECOND));
        assert_eq!(of(2), Ok(2 * SECOND));
        assert_eq!(of(7), Ok(64 * SECOND));
        assert_eq!(of(8), Ok(100 * SECOND));
        assert_eq!(of(i32::MAX), Ok(100 * SECOND));
    }

    #[test]
    fn without_a_maximum_an_overflow_is_a_timeout() {
        let endless = RetryPolicy { maximum_interval: None, ..policy() };
        assert_eq!(backoff(0, 100, &endless, None, None, false), Err(RetryState::Timeout));
    }

    #[test]
    fn attempts_and_expiration_end_it() {
        let three = RetryPolicy { maximum_attempts: 3, ..policy() };
        assert_eq!(backoff(0, 2, &three, None, None, false), Ok(2 * SECOND));
        assert_eq!(backoff(0, 3, &three, None, None, false), Err(RetryState::MaximumAttemptsReached));
        assert_eq!(backoff(0, 1, &policy(), Some(SECOND), None, false), Ok(SECOND));
        assert_eq!(backoff(1, 1, &policy(), Some(SECOND), None, false), Err(RetryState::Timeout));
    }

    #[test]
    fn a_delay_replaces_the_interval() {
        let failure = delayed(300 * SECOND);
        assert_eq!(backoff(0, 1, &policy(), None, Some(&failure), true), Ok(300 * SECOND));
        assert_eq!(backoff(0, 1, &policy(), None, Some(&failure), false), Ok(100 * SECOND));
    }

    #[test]
    fn listed_types_are_not_retried() {
        let info = ApplicationFailureInfo { r#type: "Fatal".into(), ..Default::default() };
        let failure = Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Failure::default() };
        let picky = RetryPolicy { non_retryable_error_types: alloc::vec!["Fatal".into()], ..policy() };
        assert_eq!(backoff(0, 1, &picky, None, Some(&failure), false), Err(RetryState::NonRetryableFailure));
        assert_eq!(backoff(0, 1, &policy(), None, Some(&failure), false), Ok(SECOND));
    }
}
