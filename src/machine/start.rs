//! StartWorkflowExecution.
//!
//! # Contract
//! | current run | outcome |
//! |---|---|
//! | answers to the request id | the same answer again |
//! | none | a new run |
//! | open, conflict policy FAIL | `ALREADY_EXISTS` |
//! | open, USE_EXISTING | that run; what is to be attached to it is an OptionsUpdated event |
//! | open, TERMINATE_EXISTING | it is terminated and a new run is started, in one step |
//! | closed | a new run, if the reuse policy allows it |

mod answer;
pub(crate) mod policy;
mod request;

use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{ContinueAsNewInitiator, EventType, WorkflowIdConflictPolicy};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    WorkflowExecutionOptionsUpdatedEventAttributes, WorkflowExecutionStartedEventAttributes,
};
use bristlecone_proto::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;

use crate::draft::Draft;
use crate::new_run::{self, NewRun};
use crate::stamp::{duration, duration_nanos};
use crate::workflow_task::start as task_start;
use crate::{Step, cron, event, payload, reply, terminate};
pub(crate) use answer::{existing, newly_started};
use policy::Decision;
pub(crate) use request::checked;

pub(crate) fn start(mut draft: Draft<'_>, request: &StartWorkflowExecutionRequest) -> Step {
    let mut request = match checked(&draft, request, WorkflowIdConflictPolicy::Fail) {
        Ok(request) => request,
        Err(rejection) => return draft.reject(rejection),
    };
    if request.request_id.is_empty() {
        request.request_id = draft.new_id();
    }
    if let Some(info) = draft.record().and_then(|record| record.request_ids.get(&request.request_id)) {
        let info = *info;
        return again(draft, &request, info);
    }
    match policy::decide(&draft, request.workflow_id_reuse_policy(), request.workflow_id_conflict_policy()) {
        Err(rejection) => draft.reject(rejection),
        Ok(Decision::Create) => create(draft, request, None),
        Ok(Decision::TerminateExisting(run_id)) => create(draft, request, Some(run_id)),
        Ok(Decision::UseExisting(run_id)) => use_existing(draft, &request, &run_id),
    }
}

/// A request that was served before.
fn again(draft: Draft<'_>, request: &StartWorkflowExecutionRequest, info: record::RequestIdInfo) -> Step {
    let reply = if info.event_type == EventType::WorkflowExecutionStarted as i32 {
        answer::started_before(&draft, request)
    } else {
        answer::attached(&draft, request)
    };
    draft.unchanged(reply)
}

/// Starts a new run, in the place of an open one if that is named; its id.
pub(crate) fn create_run(
    draft: &mut Draft<'_>,
    request: StartWorkflowExecutionRequest,
    terminated: Option<&str>,
) -> String {
    let run_id = draft.new_run_id();
    if let Some(existing) = terminated {
        terminate_existing(draft, existing, &run_id);
    }
    let backoff = first_backoff(draft, &request);
    let eager = request.request_eager_execution && backoff == 0;
    let new = new_run(draft, request, run_id.clone(), backoff, eager);
    draft.create_run(new);
    new_run::first_task(draft, &run_id);
    run_id
}

fn create(mut draft: Draft<'_>, request: StartWorkflowExecutionRequest, terminated: Option<String>) -> Step {
    let identity = request.identity.clone();
    let request_id = request.request_id.clone();
    let run_id = create_run(&mut draft, request, terminated.as_deref());
    let eager = draft.run(&run_id).started.eager_execution_accepted;
    if !eager {
        let reply = answer::started(&draft, &run_id, None);
        return draft.finish(reply);
    }
    task_start::start_now(&mut draft, &run_id, &request_id, &identity, None);
    let events = draft.new_events(&run_id).cloned().collect();
    let reply = answer::started(&draft, &run_id, Some(events));
    draft.finish(reply)
}

/// Closes a running run to make room for another one.
pub(crate) fn terminate_existing(draft: &mut Draft<'_>, existing: &str, new_run_id: &str) {
    let details = payload::texts(&format!("terminated by new runID: {new_run_id}"));
    let terminate = terminate::Terminate {
        reason: "TerminateIfRunning WorkflowIdReusePolicy",
        details: Some(details),
        identity: "history-service",
        links: &[],
    };
    terminate::run(draft, existing, terminate);
}

/// A new run as the client asks for it.
pub(crate) fn new_run(
    draft: &Draft<'_>,
    request: StartWorkflowExecutionRequest,
    run_id: String,
    backoff: i64,
    eager: bool,
) -> NewRun {
    let initiator = if request.cron_schedule.is_empty() {
        ContinueAsNewInitiator::Unspecified
    } else {
        ContinueAsNewInitiator::CronSchedule
    };
    let attributes = WorkflowExecutionStartedEventAttributes {
        workflow_type: request.workflow_type,
        task_queue: request.task_queue,
        input: request.input,
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: request.workflow_run_timeout,
        workflow_task_timeout: request.workflow_task_timeout,
        initiator: initiator.into(),
        continued_failure: request.continued_failure,
        last_completion_result: request.last_completion_result,
        original_execution_run_id: run_id.clone(),
        identity: request.identity,
        first_execution_run_id: run_id.clone(),
        retry_policy: request.retry_policy,
        attempt: 1,
        workflow_execution_expiration_time: new_run::expiration(
            draft.now(),
            request.workflow_execution_timeout.as_ref(),
        ),
        cron_schedule: request.cron_schedule,
        first_workflow_task_backoff: Some(duration(backoff)),
        memo: new_run::memo(request.memo),
        search_attributes: new_run::search_attributes(request.search_attributes),
        header: request.header,
        workflow_id: request.workflow_id,
        completion_callbacks: request.completion_callbacks,
        versioning_override: request.versioning_override,
        priority: request.priority,
        eager_execution_accepted: eager,
        time_skipping_config: request.time_skipping_config,
        ..WorkflowExecutionStartedEventAttributes::default()
    };
    NewRun {
        run_id,
        request_id: request.request_id,
        attributes,
        user_metadata: request.user_metadata,
        links: request.links,
    }
}

/// Nanoseconds until the first workflow task: the start delay, or the time to the first cron start.
pub(crate) fn first_backoff(draft: &Draft<'_>, request: &StartWorkflowExecutionRequest) -> i64 {
    let delay = duration_nanos(request.workflow_start_delay.as_ref());
    if delay > 0 {
        return delay;
    }
    cron::backoff(&request.cron_schedule, draft.now(), draft.now()).unwrap_or(0)
}

fn callbacks_fit(draft: &Draft<'_>, run_id: &str, request: &StartWorkflowExecutionRequest) -> Result<(), Rejection> {
    let run = draft.run(run_id);
    let most = draft.at().limits.callbacks_max;
    let attached = run.started.completion_callbacks.len() + run.head.attached_callbacks.len();
    if attached + request.completion_callbacks.len() <= most {
        return Ok(());
    }
    let text =
        format!("cannot attach more than {most} callbacks to a workflow ({attached} callbacks already attached)");
    Err(reply::failed_precondition(text))
}

/// The run that is open already takes what the request wants to attach to it.
fn use_existing(mut draft: Draft<'_>, request: &StartWorkflowExecutionRequest, run_id: &str) -> Step {
    let Some(options) = &request.on_conflict_options else {
        let reply = answer::of(existing(&draft, run_id));
        return draft.unchanged(reply);
    };
    if options.attach_completion_callbacks
        && let Err(rejection) = callbacks_fit(&draft, run_id, request)
    {
        return draft.reject(rejection);
    }
    draft.begin_transition(run_id);
    let attached_request_id = if options.attach_request_id { request.request_id.clone() } else { String::new() };
    let attached_completion_callbacks =
        if options.attach_completion_callbacks { request.completion_callbacks.clone() } else { Default::default() };
    let attributes = WorkflowExecutionOptionsUpdatedEventAttributes {
        attached_request_id,
        attached_completion_callbacks,
        ..WorkflowExecutionOptionsUpdatedEventAttributes::default()
    };
    let mut event = event::new(draft.now(), Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(attributes));
    event.worker_may_ignore = true;
    if options.attach_links {
        event.links.clone_from(&request.links);
    }
    draft.add_event(run_id, event);
    let reply = if options.attach_request_id {
        answer::attached(&draft, request)
    } else {
        answer::of(existing(&draft, run_id))
    };
    draft.finish(reply)
}
