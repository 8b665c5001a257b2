//! Clients end a standalone activity: ask it to cancel, terminate it, delete it.

use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    ActivityTaskCanceledEventAttributes, WorkflowExecutionTerminatedEventAttributes,
};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DeleteActivityExecutionRequest, RequestCancelActivityExecutionRequest, TerminateActivityExecutionRequest,
};

use super::{SCHEDULED_EVENT_ID, find, length};
use crate::activity::is_started;
use crate::chain::Run;
use crate::draft::Draft;
use crate::stamp::Limits;
use crate::{Step, payload, reply, validate};

/// An attempt in a worker's hands hears of it with its next heartbeat; one that nobody has is canceled at once.
pub(crate) fn request_cancel(mut draft: Draft<'_>, request: &RequestCancelActivityExecutionRequest) -> Step {
    let (reason, limits) = (&request.reason, draft.at().limits);
    let run_id = match checked(&draft, (&request.activity_id, &request.run_id), limits, |limits| {
        texts(&request.request_id, &request.identity, reason, limits)
    }) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&run_id);
    let Some(activity) = run.activities.get(&SCHEDULED_EVENT_ID).filter(|_| run.is_running()) else {
        let rejection = invalid_transition(run);
        return draft.reject(rejection);
    };
    if activity.cancel_requested {
        let first = known(run).map_or("", |known| &known.cancel_request_id);
        if first == request.request_id {
            return draft.unchanged(reply::done());
        }
        let text = format!("cancellation already requested with request ID {first}");
        return draft.reject(reply::failed_precondition(text));
    }
    let started = is_started(activity);
    draft.begin_transition(&run_id);
    let run = draft.run_mut(&run_id);
    let known: &mut record::Standalone = run.head.standalone.get_or_insert_default();
    known.cancel_request_id.clone_from(&request.request_id);
    known.cancel_identity.clone_from(&request.identity);
    known.cancel_reason.clone_from(reason);
    if let Some(activity) = run.activities.get_mut(&SCHEDULED_EVENT_ID) {
        activity.cancel_requested = true;
    }
    if !started {
        let attributes = ActivityTaskCanceledEventAttributes {
            details: Some(payload::texts(reason)),
            ..ActivityTaskCanceledEventAttributes::default()
        };
        draft.add(&run_id, Attributes::ActivityTaskCanceledEventAttributes(attributes));
    }
    draft.finish(reply::done())
}

pub(crate) fn terminate(mut draft: Draft<'_>, request: &TerminateActivityExecutionRequest) -> Step {
    let (reason, limits) = (&request.reason, draft.at().limits);
    let run_id = match checked(&draft, (&request.activity_id, &request.run_id), limits, |limits| {
        texts(&request.request_id, &request.identity, reason, limits)
    }) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&run_id);
    if run.head.status() == Status::Terminated {
        let first = known(run).map_or("", |known| &known.terminate_request_id);
        if first == request.request_id {
            return draft.unchanged(reply::done());
        }
        let text = format!("already terminated with request ID {first}");
        return draft.reject(reply::failed_precondition(text));
    }
    if !run.is_running() {
        let rejection = invalid_transition(run);
        return draft.reject(rejection);
    }
    draft.begin_transition(&run_id);
    let known: &mut record::Standalone = draft.run_mut(&run_id).head.standalone.get_or_insert_default();
    known.terminate_request_id.clone_from(&request.request_id);
    let attributes = WorkflowExecutionTerminatedEventAttributes {
        reason: reason.clone(),
        identity: request.identity.clone(),
        ..WorkflowExecutionTerminatedEventAttributes::default()
    };
    draft.add(&run_id, Attributes::WorkflowExecutionTerminatedEventAttributes(attributes));
    draft.finish(reply::done())
}

/// Nothing of the run stays; an attempt in a worker's hands finds nobody who wants its answer.
pub(crate) fn delete(mut draft: Draft<'_>, request: &DeleteActivityExecutionRequest) -> Step {
    let run_id = match find(&draft, &request.activity_id, &request.run_id) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    draft.purge(&run_id);
    draft.finish(reply::done())
}

fn checked(
    draft: &Draft<'_>,
    (activity_id, run_id): (&str, &str),
    limits: &Limits,
    texts: impl Fn(&Limits) -> Result<(), Rejection>,
) -> Result<String, Rejection> {
    let found = find(draft, activity_id, run_id);
    // What is wrong with the request itself goes first.
    match &found {
        Err(rejection) if rejection.code == reply::code::INVALID_ARGUMENT => found,
        _ => texts(limits).and(found),
    }
}

fn texts(request_id: &str, identity: &str, reason: &str, limits: &Limits) -> Result<(), Rejection> {
    length(request_id, "request ID", limits)?;
    length(identity, "identity", limits)?;
    if validate::blob_fits(reason.len(), limits) {
        Ok(())
    } else {
        Err(reply::invalid_argument("reason exceeds length limit"))
    }
}

fn known(run: &Run) -> Option<&record::Standalone> {
    run.head.standalone.as_deref()
}

fn invalid_transition(run: &Run) -> Rejection {
    let state = crate::command::camel(run.head.status().as_str_name().trim_start_matches("WORKFLOW_EXECUTION_STATUS_"));
    reply::failed_precondition(format!("invalid transition from {state}"))
}
