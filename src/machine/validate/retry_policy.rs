//! Retry policies: unset fields get their defaults, then everything is checked.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use bristlecone_proto::temporal::api::common::v1::RetryPolicy;
use prost_types::Duration;

use super::duration;
use crate::stamp;

/// Begins the names of timeouts among the error types that are not retried.
pub(crate) const TIMEOUT_PREFIX: &str = "TemporalTimeout:";

/// The policy with its defaults filled in, or what is wrong with it.
pub(crate) fn complete(policy: &RetryPolicy) -> Result<RetryPolicy, String> {
    let policy = with_defaults(policy);
    if policy.maximum_attempts == 1 {
        // Nothing is ever retried, so the rest does not matter.
        return Ok(policy);
    }
    let initial_interval = duration(policy.initial_interval.as_ref())
        .map_err(|error| format!("invalid InitialInterval set on retry policy: {error}"))?;
    // Written so that «not a number» is refused too.
    if policy.backoff_coefficient.is_nan() || policy.backoff_coefficient < 1.0 {
        return Err("BackoffCoefficient cannot be less than 1 on retry policy.".to_owned());
    }
    let maximum_interval = duration(policy.maximum_interval.as_ref())
        .map_err(|error| format!("invalid MaximumInterval set on retry policy: {error}"))?;
    let policy = RetryPolicy { initial_interval, maximum_interval, ..policy };
    let maximum = stamp::duration_nanos(policy.maximum_interval.as_ref());
    if maximum > 0 && maximum < stamp::duration_nanos(policy.initial_interval.as_ref()) {
        return Err("MaximumInterval cannot be less than InitialInterval on retry policy.".to_owned());
    }
    if policy.maximum_attempts < 0 {
        return Err("MaximumAttempts cannot be negative on retry policy.".to_owned());
    }
    for name in policy.non_retryable_error_types.iter().filter_map(|name| name.strip_prefix(TIMEOUT_PREFIX)) {
        if !is_timeout(name) {
            return Err(format!("Invalid timeout type value: {name}."));
        }
    }
    Ok(policy)
}

fn with_defaults(policy: &RetryPolicy) -> RetryPolicy {
    const INITIAL: Duration = Duration { seconds: 1, nanos: 0 };
    const COEFFICIENT: f64 = 2.0;
    const MAXIMUM_PER_INITIAL: i64 = 100;
    let mut policy = policy.clone();
    if stamp::duration_nanos(policy.initial_interval.as_ref()) == 0 {
        policy.initial_interval = Some(INITIAL);
    }
    if stamp::duration_nanos(policy.maximum_interval.as_ref()) == 0 {
        let initial = stamp::duration_nanos(policy.initial_interval.as_ref());
        policy.maximum_interval = Some(stamp::duration(initial.saturating_mul(MAXIMUM_PER_INITIAL)));
    }
    if policy.backoff_coefficient == 0.0 {
        policy.backoff_coefficient = COEFFICIENT;
    }
    policy
}

fn is_timeout(name: &str) -> bool {
    matches!(
        name,
        "StartToClose"
            | "ScheduleToStart"
            | "ScheduleToClose"
            | "Heartbeat"
            | "TIMEOUT_TYPE_START_TO_CLOSE"
            | "TIMEOUT_TYPE_SCHEDULE_TO_START"
            | "TIMEOUT_TYPE_SCHEDULE_TO_CLOSE"
            | "TIMEOUT_TYPE_HEARTBEAT"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    const fn seconds(seconds: i64) -> Option<Duration> {
        Some(Duration { seconds, nanos: 0 })
    }

    #[test]
    fn an_empty_policy_is_the_default_one() {
        let policy = complete(&RetryPolicy::default()).expect("the defaults are valid");
        assert_eq!((policy.initial_interval, policy.maximum_interval), (seconds(1), seconds(100)));
        assert_eq!((policy.backoff_coefficient, policy.maximum_attempts), (2.0, 0));
        let policy = complete(&RetryPolicy { initial_interval: seconds(3), ..RetryPolicy::default() });
        assert_eq!(policy.expect("valid").maximum_interval, seconds(300));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |policy: RetryPolicy| complete(&policy).expect_err("the policy is wrong");
        let base = RetryPolicy::default();
        assert_eq!(
            error(RetryPolicy { backoff_coefficient: 0.5, ..base.clone() }),
            "BackoffCoefficient cannot be less than 1 on retry policy."
        );
        assert_eq!(
            error(RetryPolicy { backoff_coefficient: f64::NAN, ..base.clone() }),
            "BackoffCoefficient cannot be less than 1 on retry policy."
        );
        assert_eq!(
            error(RetryPolicy { initial_interval: seconds(-1), ..base.clone() }),
            "invalid InitialInterval set on retry policy: negative duration"
        );
        assert_eq!(
            error(RetryPolicy { initial_interval: seconds(5), maximum_interval: seconds(4), ..base.clone() }),
            "MaximumInterval cannot be less than InitialInterval on retry policy."
        );
        assert_eq!(
            error(RetryPolicy { maximum_attempts: -1, ..base.clone() }),
            "MaximumAttempts cannot be negative on retry policy."
        );
        let types = vec!["Mine".to_string(), "TemporalTimeout:Nap".to_string()];
        assert_eq!(
            error(RetryPolicy { non_retryable_error_types: types, ..base.clone() }),
            "Invalid timeout type value: Nap."
        );
        let once = RetryPolicy { maximum_attempts: 1, backoff_coefficient: 0.5, ..base };
        assert!(complete(&once).is_ok(), "without retries the rest is not looked at");
    }
}
