//! Failures that the server makes, and failures that are too large to keep.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;

use bristlecone_proto::temporal::api::enums::v1::TimeoutType;
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::failure::v1::{
    ApplicationFailureInfo, Failure, ServerFailureInfo, TimeoutFailureInfo,
};
use prost::Message;

use crate::stamp::Limits;

pub(crate) const FAILURE_TOO_LARGE: &str = "Failure exceeds size limit.";
pub(crate) const RESULT_TOO_LARGE: &str = "Complete result exceeds size limit.";
pub(crate) const CANCEL_DETAILS_TOO_LARGE: &str = "Cancel details exceed size limit.";
pub(crate) const HEARTBEAT_TOO_LARGE: &str = "Heartbeat details exceed size limit.";

/// Causes that are kept of a truncated failure.
const CAUSES_MAX: usize = 20;

/// A failure that the server itself reports.
pub(crate) fn server(message: &str, non_retryable: bool) -> Failure {
    Failure {
        message: message.to_owned(),
        failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo { non_retryable })),
        ..Failure::default()
    }
}

pub(crate) fn timeout(message: String, timeout_type: TimeoutType) -> Failure {
    let info = TimeoutFailureInfo { timeout_type: timeout_type.into(), last_heartbeat_details: None };
    Failure {
        message,
        source: "Server".to_owned(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(info)),
        ..Failure::default()
    }
}

/// What goes to history in place of a failure that a worker sent: `None` when it fits.
pub(crate) fn replaced_in_history(failure: &Failure, limits: &Limits) -> Option<Failure> {
    const KEPT_PART: usize = 4;
    if failure.encoded_len() <= limits.blob_bytes_max {
        return None;
    }
    let cause = truncated(failure, limits.blob_bytes_max / KEPT_PART);
    Some(Failure { cause: Some(Box::new(cause)), ..server(FAILURE_TOO_LARGE, true) })
}

/// What is kept with a pending activity of the failure of its last attempt.
pub(crate) fn kept_for_retry(failure: &Failure, limits: &Limits) -> Failure {
    if failure.encoded_len() <= limits.activity_failure_bytes_max {
        return failure.clone();
    }
    let cause = truncated(failure, limits.activity_failure_bytes_max);
    Failure { cause: Some(Box::new(cause)), ..server(FAILURE_TOO_LARGE, false) }
}

/// About the first `bytes` of a failure: type, source, message, stack trace, then the same of its causes.
fn truncated(failure: &Failure, bytes: usize) -> Failure {
    truncated_to_depth(failure, bytes, CAUSES_MAX)
}

fn truncated_to_depth(failure: &Failure, bytes: usize, depth: usize) -> Failure {
    let mut left = Left(bytes);
    let failure_info = match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            let kept = ApplicationFailureInfo {
                non_retryable: info.non_retryable,
                r#type: left.take(&info.r#type),
                ..ApplicationFailureInfo::default()
            };
            left.spend(8);
            Some(FailureInfo::ApplicationFailureInfo(kept))
        }
        Some(FailureInfo::ServerFailureInfo(info)) => {
            left.spend(4);
            Some(FailureInfo::ServerFailureInfo(*info))
        }
        _ => None,
    };
    let source = left.take(&failure.source);
    let message = left.take(&failure.message);
    let stack_trace = left.take(&failure.stack_trace);
    let cause = match &failure.cause {
        Some(cause) if left.0 > FIELD_OVERHEAD && depth > 0 => {
            Some(Box::new(truncated_to_depth(cause, left.0 - FIELD_OVERHEAD, depth - 1)))
        }
        _ => None,
    };
    Failure { message, source, stack_trace, cause, failure_info, ..Failure::default() }
}

/// Bytes that a field takes beside its content, roughly.
const FIELD_OVERHEAD: usize = 4;

/// Bytes that may still be kept.
struct Left(usize);

impl Left {
    /// As much of the text as fits, cut between characters.
    fn take(&mut self, text: &str) -> String {
        let kept = text.get(..text.floor_char_boundary(self.0)).unwrap_or_default();
        self.spend(kept.len());
        if !kept.is_empty() {
            self.spend(FIELD_OVERHEAD);
        }
        kept.to_owned()
    }

    fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn application(message: String, cause: Option<Failure>) -> Failure {
        let info = ApplicationFailureInfo { r#type: "Mine".to_string(), ..ApplicationFailureInfo::default() };
        Failure {
            message,
            stack_trace: "at line 1".to_string(),
            cause: cause.map(Box::new),
            failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
            ..Failure::default()
        }
    }

    #[test]
    fn a_small_failure_is_kept_whole() {
        let limits = Limits::default();
        let failure = application("small".to_string(), Some(application("cause".to_string(), None)));
        assert_eq!(kept_for_retry(&failure, &limits), failure);
        assert_eq!(replaced_in_history(&failure, &limits), None);
    }

    #[test]
    fn a_large_one_is_cut_between_characters() {
        let limits = Limits { activity_failure_bytes_max: 64, ..Limits::default() };
        let kept = kept_for_retry(&application("ä".repeat(100), None), &limits);
        assert_eq!(kept.message, FAILURE_TOO_LARGE);
        let cause = kept.cause.expect("the failure itself is the cause");
        assert!(cause.encoded_len() <= 64, "{} bytes", cause.encoded_len());
        assert!(cause.message.len() > 30 && cause.message.chars().all(|c| c == 'ä'), "{}", cause.message);
        assert_eq!(cause.stack_trace, "");
        let Some(FailureInfo::ApplicationFailureInfo(info)) = cause.failure_info else {
            panic!("the kind of failure is kept")
        };
        assert_eq!(info.r#type, "Mine");
    }

    #[test]
    fn a_long_row_of_causes_ends() {
        let limits = Limits { activity_failure_bytes_max: 4096, ..Limits::default() };
        let mut failure = application("first".to_string(), None);
        for _ in 0..200 {
            failure = application("next".to_string(), Some(failure));
        }
        let mut kept = kept_for_retry(&failure, &limits);
        let mut depth = 0;
        while let Some(cause) = kept.cause.take() {
            kept = *cause;
            depth += 1;
        }
        assert_eq!(depth, 1 + CAUSES_MAX);
    }

    #[test]
    fn what_goes_to_history_says_that_it_was_replaced() {
        let limits = Limits { blob_bytes_max: 400, ..Limits::default() };
        let replaced = replaced_in_history(&application("x".repeat(500), None), &limits).expect("it is too large");
        assert_eq!(replaced.failure_info, server("", true).failure_info);
        assert_eq!(replaced.cause.map(|cause| cause.message.len()), Some(100 - 4 - FIELD_OVERHEAD - 8));
    }
}
