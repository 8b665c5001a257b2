//! A worker, or a client by the activity's id, ends an attempt: completed, failed, canceled.

use alloc::vec::Vec;

use bristlecone_proto::chain::{CancelActivity, CompleteActivity, FailActivity, reply::Kind as ReplyKind};
use bristlecone_proto::temporal::api::common::v1::WorkerVersionStamp;
use bristlecone_proto::temporal::api::enums::v1::RetryState;
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    ActivityTaskCanceledEventAttributes, ActivityTaskCompletedEventAttributes, ActivityTaskFailedEventAttributes,
};
use bristlecone_proto::temporal::api::workflowservice::v1::RespondActivityTaskFailedResponse;

use super::{Found, add_started, find, find_started, is_started, retry};
use crate::draft::Draft;
use crate::stamp::timestamp;
use crate::validate::{self, failure};
use crate::{Step, reply, standalone};

/// Completed. By id, a workflow's activity that no worker has started can be completed too.
pub(crate) fn complete_activity(mut draft: Draft<'_>, input: &CompleteActivity) -> Step {
    let by_id = input.activity.as_ref().is_some_and(|activity| activity.by_id);
    let by_id = by_id && !standalone::is_standalone(draft.id());
    let fits = validate::payloads_fit(input.result.as_ref(), draft.at().limits);
    let found = if by_id && fits {
        find(&draft, input.activity.as_ref(), &input.identity)
    } else {
        find_started(&draft, input.activity.as_ref(), &input.identity)
    };
    let Found { run_id, mut activity } = match found {
        Ok(found) => found,
        Err(rejection) => return draft.reject(rejection),
    };
    draft.begin_transition(&run_id);
    if !fits {
        let failure = failure::server(failure::RESULT_TOO_LARGE, true);
        end_failed(&mut draft, &Found { run_id, activity }, Some(failure), &input.identity, None);
        return draft.finish(reply::done());
    }
    if !is_started(&activity) {
        activity.started_time = Some(timestamp(draft.now()));
        activity.identity.clone_from(&input.identity);
        activity.request_id.clear();
    }
    add_started(&mut draft, &run_id, &activity, input.worker_version.as_ref());
    let attributes = ActivityTaskCompletedEventAttributes {
        result: input.result.clone(),
        scheduled_event_id: activity.scheduled_event_id,
        identity: input.identity.clone(),
        ..ActivityTaskCompletedEventAttributes::default()
    };
    draft.add(&run_id, Attributes::ActivityTaskCompletedEventAttributes(attributes));
    draft.schedule_workflow_task(&run_id);
    draft.finish(reply::done())
}

/// Failed: the next attempt follows, or the activity closes.
pub(crate) fn fail_activity(mut draft: Draft<'_>, input: &FailActivity) -> Step {
    let limits = draft.at().limits;
    if let Some(failure) = &input.failure
        && !matches!(failure.failure_info, Some(FailureInfo::ApplicationFailureInfo(_)))
    {
        return draft.reject(reply::invalid_argument("Failure must have ApplicationFailureInfo."));
    }
    let found = match find_started(&draft, input.activity.as_ref(), &input.identity) {
        Ok(found) => found,
        Err(rejection) => return draft.reject(rejection),
    };
    draft.begin_transition(&found.run_id);
    let mut failures = Vec::new();
    if let Some(details) = &input.last_heartbeat_details {
        if validate::payloads_fit(Some(details), limits) {
            let now = timestamp(draft.now());
            let activities = &mut draft.run_mut(&found.run_id).activities;
            if let Some(activity) = activities.get_mut(&found.activity.scheduled_event_id) {
                activity.heartbeat_details = Some(details.clone());
                activity.last_heartbeat_time = Some(now);
            }
        } else {
            failures.push(failure::server(failure::HEARTBEAT_TOO_LARGE, true));
        }
    }
    let mut failure = input.failure.clone();
    if let Some(replaced) = failure.as_ref().and_then(|failure| failure::replaced_in_history(failure, limits)) {
        failures.push(replaced.clone());
        failure = Some(replaced);
    }
    end_failed(&mut draft, &found, failure, &input.identity, input.worker_version.as_ref());
    draft.finish(reply::of(ReplyKind::ActivityFailed(RespondActivityTaskFailedResponse { failures })))
}

/// Canceled, which only an activity that was asked to cancel can be.
pub(crate) fn cancel_activity(mut draft: Draft<'_>, input: &CancelActivity) -> Step {
    let found = match find_started(&draft, input.activity.as_ref(), &input.identity) {
        Ok(found) => found,
        Err(rejection) => return draft.reject(rejection),
    };
    if !validate::payloads_fit(input.details.as_ref(), draft.at().limits) {
        draft.begin_transition(&found.run_id);
        let failure = failure::server(failure::CANCEL_DETAILS_TOO_LARGE, true);
        end_failed(&mut draft, &found, Some(failure), &input.identity, None);
        return draft.finish(reply::done());
    }
    let Found { run_id, activity } = found;
    if !activity.cancel_requested && standalone::is_standalone(draft.id()) {
        return draft.reject(reply::failed_precondition("invalid transition from Started"));
    }
    if !activity.cancel_requested {
        return draft.reject(reply::invalid_argument(
            "unable to mark activity as canceled without activity being request canceled first",
        ));
    }
    draft.begin_transition(&run_id);
    add_started(&mut draft, &run_id, &activity, input.worker_version.as_ref());
    let attributes = ActivityTaskCanceledEventAttributes {
        details: input.details.clone(),
        latest_cancel_requested_event_id: activity.cancel_requested_event_id,
        scheduled_event_id: activity.scheduled_event_id,
        identity: input.identity.clone(),
        ..ActivityTaskCanceledEventAttributes::default()
    };
    draft.add(&run_id, Attributes::ActivityTaskCanceledEventAttributes(attributes));
    draft.schedule_workflow_task(&run_id);
    draft.finish(reply::done())
}

/// Ends the started attempt with a failure: the next attempt follows, or the activity closes.
/// The transition must have begun.
pub(super) fn end_failed(
    draft: &mut Draft<'_>,
    found: &Found,
    failure: Option<Failure>,
    identity: &str,
    worker_version: Option<&WorkerVersionStamp>,
) {
    let Found { run_id, activity } = found;
    let retry_state = match retry::follow(draft, run_id, activity, failure.as_ref()) {
        Ok(()) => return,
        Err(state) => state,
    };
    close_failed(draft, found, failure, retry_state, identity, worker_version);
}

fn close_failed(
    draft: &mut Draft<'_>,
    found: &Found,
    failure: Option<Failure>,
    retry_state: RetryState,
    identity: &str,
    worker_version: Option<&WorkerVersionStamp>,
) {
    let Found { run_id, activity } = found;
    add_started(draft, run_id, activity, worker_version);
    let attributes = ActivityTaskFailedEventAttributes {
        failure,
        scheduled_event_id: activity.scheduled_event_id,
        identity: identity.into(),
        retry_state: retry_state.into(),
        ..ActivityTaskFailedEventAttributes::default()
    };
    draft.add(run_id, Attributes::ActivityTaskFailedEventAttributes(attributes));
    draft.schedule_workflow_task(run_id);
}
