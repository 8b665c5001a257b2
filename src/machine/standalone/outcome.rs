//! How a standalone activity ends: what would be the closing event of a workflow's activity closes the run.

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::Payloads;
use bristlecone_proto::temporal::api::enums::v1::{RetryState, TimeoutType, WorkflowExecutionStatus as Status};
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::failure::v1::{CanceledFailureInfo, Failure, TerminatedFailureInfo};
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes as A;

use super::SCHEDULED_EVENT_ID;
use crate::draft::Draft;
use crate::fold;
use crate::stamp::timestamp;

/// What an attempt, or the whole of it, came to.
struct Outcome {
    status: Status,
    result: Option<Payloads>,
    failure: Option<Failure>,
    retry_state: RetryState,
    /// A worker, or a timeout of its attempt, ended the last attempt.
    of_attempt: bool,
    identity: alloc::string::String,
}

/// Takes what would be an event of a workflow. Nothing of it is written to the history.
pub(crate) fn note(draft: &mut Draft<'_>, run_id: &str, event: HistoryEvent) {
    let failed = |status, failure, retry_state, of_attempt, identity| Outcome {
        status,
        result: None,
        failure,
        retry_state,
        of_attempt,
        identity,
    };
    let nobody = alloc::string::String::new;
    let outcome = match event.attributes {
        Some(A::ActivityTaskCompletedEventAttributes(a)) => Outcome {
            status: Status::Completed,
            result: Some(a.result.unwrap_or_default()),
            failure: None,
            retry_state: RetryState::Unspecified,
            of_attempt: true,
            identity: a.identity,
        },
        Some(A::ActivityTaskFailedEventAttributes(a)) => {
            let retry_state = a.retry_state();
            failed(Status::Failed, Some(a.failure.unwrap_or_default()), retry_state, true, a.identity)
        }
        Some(A::ActivityTaskTimedOutEventAttributes(a)) => {
            let of_attempt =
                matches!(timeout_type(a.failure.as_ref()), TimeoutType::StartToClose | TimeoutType::Heartbeat);
            let retry_state = a.retry_state();
            failed(Status::TimedOut, a.failure, retry_state, of_attempt, nobody())
        }
        Some(A::ActivityTaskCanceledEventAttributes(a)) => {
            let asked = draft.run(run_id).head.standalone.as_deref().map(|known| known.cancel_identity.clone());
            let info = CanceledFailureInfo { details: a.details, identity: asked.unwrap_or_default() };
            let failure = Failure {
                message: "Activity canceled".into(),
                failure_info: Some(FailureInfo::CanceledFailureInfo(info)),
                ..Failure::default()
            };
            failed(Status::Canceled, Some(failure), RetryState::Unspecified, false, a.identity)
        }
        Some(A::WorkflowExecutionTerminatedEventAttributes(a)) => {
            let info = TerminatedFailureInfo { identity: a.identity };
            let failure = Failure {
                message: a.reason,
                failure_info: Some(FailureInfo::TerminatedFailureInfo(info)),
                ..Failure::default()
            };
            failed(Status::Terminated, Some(failure), RetryState::Unspecified, false, nobody())
        }
        _ => return,
    };
    close(draft, run_id, outcome);
}

fn close(draft: &mut Draft<'_>, run_id: &str, outcome: Outcome) {
    let now = timestamp(draft.now());
    let run = draft.run_mut(run_id);
    let mut closed = run.activities.get(&SCHEDULED_EVENT_ID).cloned().unwrap_or_default();
    fold::activity::closed(run, SCHEDULED_EVENT_ID);
    closed.current_retry_interval = None;
    closed.offered = false;
    if outcome.of_attempt {
        closed.last_attempt_complete_time = Some(now);
        if outcome.failure.is_some() {
            closed.last_failure.clone_from(&outcome.failure);
        }
    }
    if !outcome.identity.is_empty() {
        closed.last_worker_identity = outcome.identity;
    }
    run.head.status = outcome.status.into();
    run.head.close_time = Some(now);
    let known: &mut record::Standalone = run.head.standalone.get_or_insert_default();
    known.closed = Some(closed);
    known.result = outcome.result;
    known.failure = outcome.failure;
    known.retry_state = outcome.retry_state.into();
}

fn timeout_type(failure: Option<&Failure>) -> TimeoutType {
    match failure.and_then(|failure| failure.failure_info.as_ref()) {
        Some(FailureInfo::TimeoutFailureInfo(info)) => info.timeout_type(),
        _ => TimeoutType::Unspecified,
    }
}
