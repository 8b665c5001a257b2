//! SignalWithStartWorkflowExecution: the open run is signaled, or a new one is started with the signal as
//! its second event.

use alloc::string::String;

use bristlecone_proto::chain::{Reply, reply};
use bristlecone_proto::temporal::api::enums::v1::WorkflowIdConflictPolicy;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    SignalWithStartWorkflowExecutionRequest, SignalWithStartWorkflowExecutionResponse, StartWorkflowExecutionRequest,
};

use crate::draft::Draft;
use crate::signal::{self, Signal};
use crate::start::policy::{self, Decision};
use crate::{Step, new_run, start};

pub(crate) fn signal_with_start(draft: Draft<'_>, request: &SignalWithStartWorkflowExecutionRequest) -> Step {
    let signal = Signal {
        name: &request.signal_name,
        input: request.signal_input.as_ref(),
        header: request.header.as_ref(),
        identity: &request.identity,
        request_id: &request.request_id,
        links: &request.links,
        sender: None,
    };
    if request.workflow_id_conflict_policy() == WorkflowIdConflictPolicy::Fail {
        return draft.reject(crate::reply::invalid_argument(
            "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this operation.",
        ));
    }
    let checked = signal::check_texts(&draft, &signal)
        .and_then(|()| start::checked(&draft, &start_request(request), WorkflowIdConflictPolicy::UseExisting));
    let checked = match checked {
        Ok(checked) => checked,
        Err(rejection) => return draft.reject(rejection),
    };
    match policy::decide(&draft, checked.workflow_id_reuse_policy(), checked.workflow_id_conflict_policy()) {
        _ if started_current(&draft, &request.request_id) => repeated(draft),
        Err(rejection) => draft.reject(rejection),
        Ok(Decision::UseExisting(run_id)) => signal_existing(draft, &run_id, &signal),
        Ok(Decision::Create) => create(draft, checked, &signal, None),
        Ok(Decision::TerminateExisting(run_id)) => create(draft, checked, &signal, Some(&run_id)),
    }
}

/// Whether the request is the one that started the current run.
fn started_current(draft: &Draft<'_>, request_id: &str) -> bool {
    draft.record().is_some_and(|record| record.request_ids.contains_key(request_id))
}

/// The request is repeated: the run it started has its signal since its second event.
fn repeated(draft: Draft<'_>) -> Step {
    let run_id = draft.record().map(|record| record.current_run_id.clone()).unwrap_or_default();
    draft.unchanged(answer(run_id, false))
}

/// The signal skips a start delay of the run.
fn signal_existing(mut draft: Draft<'_>, run_id: &str, signal: &Signal<'_>) -> Step {
    if let Err(rejection) = signal::check(&draft, run_id, signal) {
        return draft.reject(rejection);
    }
    if signal::is_repeated(&draft, run_id, signal) {
        return draft.unchanged(answer(run_id.into(), false));
    }
    signal::deliver(&mut draft, run_id, signal);
    draft.schedule_workflow_task(run_id);
    draft.finish(answer(run_id.into(), false))
}

fn create(
    mut draft: Draft<'_>,
    request: StartWorkflowExecutionRequest,
    signal: &Signal<'_>,
    terminated: Option<&str>,
) -> Step {
    let run_id = draft.new_run_id();
    if let Some(existing) = terminated {
        start::terminate_existing(&mut draft, existing, &run_id);
    }
    let backoff = start::first_backoff(&draft, &request);
    let new = start::new_run(&draft, request, run_id.clone(), backoff, false);
    draft.create_run(new);
    signal::deliver(&mut draft, &run_id, signal);
    new_run::first_task(&mut draft, &run_id);
    draft.finish(answer(run_id, true))
}

fn answer(run_id: String, started: bool) -> Reply {
    crate::reply::of(reply::Kind::SignalWithStart(SignalWithStartWorkflowExecutionResponse {
        run_id,
        started,
        ..SignalWithStartWorkflowExecutionResponse::default()
    }))
}

fn start_request(request: &SignalWithStartWorkflowExecutionRequest) -> StartWorkflowExecutionRequest {
    let request = request.clone();
    StartWorkflowExecutionRequest {
        namespace: request.namespace,
        workflow_id: request.workflow_id,
        workflow_type: request.workflow_type,
        task_queue: request.task_queue,
        input: request.input,
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: request.workflow_run_timeout,
        workflow_task_timeout: request.workflow_task_timeout,
        identity: request.identity,
        request_id: request.request_id,
        workflow_id_reuse_policy: request.workflow_id_reuse_policy,
        workflow_id_conflict_policy: request.workflow_id_conflict_policy,
        retry_policy: request.retry_policy,
        cron_schedule: request.cron_schedule,
        memo: request.memo,
        search_attributes: request.search_attributes,
        header: request.header,
        workflow_start_delay: request.workflow_start_delay,
        user_metadata: request.user_metadata,
        links: request.links,
        versioning_override: request.versioning_override,
        priority: request.priority,
        time_skipping_config: request.time_skipping_config,
        ..StartWorkflowExecutionRequest::default()
    }
}
