//! Actions: what passes between a schedule's chain and those of the workflows that it starts.
//!
//! # Contract
//! | the workflow closes before its start is answered | its end counts as the answer, too |
//! | the start is refused (the id is taken) | the action is dropped, and counts as none |
//! | the workflow is retried, continued or reset | the end of its last run is told |
//! | the schedule is deleted meanwhile | what was sent happens, and nobody hears of it |

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bristlecone_proto::chain::{
    ChainId, Input, Rejection, ScheduledClosed, ScheduledStart, ScheduledWatch, input, reply::Kind as ReplyKind,
};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{SearchAttributes, WorkflowExecution};
use bristlecone_proto::temporal::api::enums::v1::{
    WorkflowExecutionStatus as Status, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::schedule::v1::ScheduleActionResult;
use bristlecone_proto::temporal::api::workflow::v1::NewWorkflowExecutionInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, StartWorkflowExecutionRequest, StartWorkflowExecutionResponse,
    TerminateWorkflowExecutionRequest,
};
use jiff::Timestamp;
use prost::Message;

use super::{SECOND, advance, show};
use crate::draft::Draft;
use crate::stamp::{UnixNanos, nanos, timestamp};
use crate::start::policy::{self, Decision};
use crate::{Step, reply, start as workflow_start};

const RECENT_ACTIONS: usize = 10;
/// Of a result or failure that is kept for the next run, less than a blob by this.
const OVERHEAD_BYTES: usize = 1_024;

// ---------------------------------------------------------------- from the schedule

/// Sends what starts the workflow of an action.
pub(super) fn send_start(
    draft: &mut Draft<'_>,
    workflow: &NewWorkflowExecutionInfo,
    start: &record::ScheduleBuffered,
    overlapping: bool,
) {
    let Some(schedule) = draft.chain().schedule.clone() else { return };
    let nominal = start.nominal_time.as_ref().map_or(0, nanos);
    let time = seconds_text(nominal);
    let keeps_id = schedule.definition.policies.is_some_and(|policies| policies.keep_original_workflow_id);
    let workflow_id = if keeps_id { workflow.workflow_id.clone() } else { format!("{}-{time}", workflow.workflow_id) };
    // The same time is never acted on twice by itself, but an id without a time comes again.
    let reuse_policy = if start.manual || keeps_id {
        WorkflowIdReusePolicy::AllowDuplicate
    } else {
        WorkflowIdReusePolicy::RejectDuplicate
    };
    let mut attributes = workflow.search_attributes.clone().unwrap_or_default();
    for (name, kind, value) in [
        ("TemporalScheduledStartTime", "Datetime", format!("{time:?}")),
        ("TemporalScheduledById", "Keyword", json_text(&schedule.definition.schedule_id)),
    ] {
        attributes.indexed_fields.insert(name.to_string(), show::json_payload(kind, value));
    }
    let last = if overlapping { Default::default() } else { (*schedule.result).clone() };
    let request = StartWorkflowExecutionRequest {
        namespace: draft.id().namespace.clone(),
        workflow_id: workflow_id.clone(),
        workflow_type: workflow.workflow_type.clone(),
        task_queue: workflow.task_queue.clone(),
        input: workflow.input.clone(),
        workflow_execution_timeout: workflow.workflow_execution_timeout,
        workflow_run_timeout: workflow.workflow_run_timeout,
        workflow_task_timeout: workflow.workflow_task_timeout,
        identity: identity(draft, &schedule.definition),
        request_id: draft.new_id(),
        workflow_id_reuse_policy: reuse_policy.into(),
        retry_policy: workflow.retry_policy.clone(),
        memo: workflow.memo.clone(),
        search_attributes: Some(SearchAttributes { indexed_fields: attributes.indexed_fields }),
        header: workflow.header.clone(),
        last_completion_result: last.last_completion_result,
        continued_failure: last.continued_failure,
        user_metadata: workflow.user_metadata.clone(),
        versioning_override: workflow.versioning_override.clone(),
        priority: workflow.priority.clone(),
        ..StartWorkflowExecutionRequest::default()
    };
    // The sequence of the row that carries it: no other action ever has the same.
    let action = draft.record_mut().next_send;
    let message = ScheduledStart { schedule: Some(draft.id().clone()), action, request: Some(request) };
    send(draft, &workflow_id, input::Kind::ScheduledStart(message.into()));
    if let Some(schedule) = draft.schedule_mut() {
        let schedule_time = start.actual_time;
        schedule.head.starting.push(record::ScheduleStarting { action, workflow_id, schedule_time, overlapping });
    }
}

pub(super) fn send_watch(draft: &mut Draft<'_>, first_run_id: &str) {
    let Some(run) = running_mut(draft, first_run_id) else { return };
    run.asked = true;
    let workflow_id = run.workflow_id.clone();
    let message = ScheduledWatch { first_run_id: first_run_id.to_string() };
    send(draft, &workflow_id, input::Kind::ScheduledWatch(message));
}

/// Asks all that run to cancel, once.
pub(super) fn send_cancel(draft: &mut Draft<'_>) {
    for run in take_running(draft, |run| core::mem::replace(&mut run.cancel_sent, true)) {
        let message = RequestCancelWorkflowExecutionRequest {
            namespace: draft.id().namespace.clone(),
            workflow_execution: Some(of_workflow(&run.workflow_id)),
            identity: own_identity(draft),
            request_id: draft.new_id(),
            first_execution_run_id: run.first_run_id,
            reason: "cancelled by schedule overlap policy".to_string(),
            ..RequestCancelWorkflowExecutionRequest::default()
        };
        send(draft, &run.workflow_id, input::Kind::RequestCancel(message));
    }
}

pub(super) fn send_terminate(draft: &mut Draft<'_>) {
    for run in take_running(draft, |run| core::mem::replace(&mut run.terminate_sent, true)) {
        let message = TerminateWorkflowExecutionRequest {
            namespace: draft.id().namespace.clone(),
            workflow_execution: Some(of_workflow(&run.workflow_id)),
            reason: "terminated by schedule overlap policy".to_string(),
            identity: own_identity(draft),
            first_execution_run_id: run.first_run_id,
            ..TerminateWorkflowExecutionRequest::default()
        };
        send(draft, &run.workflow_id, input::Kind::Terminate(message));
    }
}

/// The workflows that run and were not marked so before.
fn take_running(
    draft: &mut Draft<'_>,
    mark: impl Fn(&mut record::ScheduleRunning) -> bool,
) -> Vec<record::ScheduleRunning> {
    let Some(schedule) = draft.schedule_mut() else { return Vec::new() };
    let fresh = |run: &mut record::ScheduleRunning| (!mark(run)).then(|| run.clone());
    schedule.head.running.iter_mut().filter_map(fresh).collect()
}

fn running_mut<'a>(draft: &'a mut Draft<'_>, first_run_id: &str) -> Option<&'a mut record::ScheduleRunning> {
    let schedule = draft.schedule_mut()?;
    schedule.head.running.iter_mut().find(|run| run.first_run_id == first_run_id)
}

/// The run itself is not named: the latest is meant, if it belongs to the chain of runs.
fn of_workflow(workflow_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.to_string(), run_id: String::new() }
}

fn send(draft: &mut Draft<'_>, workflow_id: &str, kind: input::Kind) {
    let target = ChainId { workflow_id: workflow_id.to_string(), ..draft.id().clone() };
    draft.send("", target, Input { kind: Some(kind), ..Input::default() });
}

fn own_identity(draft: &Draft<'_>) -> String {
    draft.chain().schedule.as_ref().map(|schedule| identity(draft, &schedule.definition)).unwrap_or_default()
}

fn identity(draft: &Draft<'_>, schedule: &record::Schedule) -> String {
    format!("temporal-scheduler-{}-{}", draft.id().namespace, schedule.schedule_id)
}

/// `2024-01-02T03:04:05Z`
fn seconds_text(at: UnixNanos) -> String {
    Timestamp::from_second(at.div_euclid(SECOND)).map(|at| at.to_string()).unwrap_or_default()
}

/// The text as JSON.
fn json_text(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c.is_control() => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

// ---------------------------------------------------------------- in the workflow's chain

/// A schedule starts a workflow.
pub(crate) fn start(mut draft: Draft<'_>, input: &ScheduledStart) -> Step {
    let (Some(schedule), Some(request)) = (&input.schedule, &input.request) else {
        return draft.reject(reply::invalid_argument("Request is nil."));
    };
    let request = match workflow_start::checked(&draft, request, WorkflowIdConflictPolicy::Fail) {
        Ok(request) => request,
        Err(rejection) => return draft.reject(rejection),
    };
    match policy::decide(&draft, request.workflow_id_reuse_policy(), request.workflow_id_conflict_policy()) {
        Ok(Decision::Create) => {}
        Err(rejection) => return draft.reject(rejection),
        Ok(Decision::UseExisting(existing) | Decision::TerminateExisting(existing)) => {
            let message = "Workflow execution is already running.";
            return draft.reject(reply::already_started(message, "", &existing, ""));
        }
    }
    let run_id = workflow_start::create_run(&mut draft, request, None);
    let by = record::ScheduledBy { workflow_id: schedule.workflow_id.clone(), action: input.action };
    draft.run_mut(&run_id).head.scheduled_by = Some(by);
    let response = StartWorkflowExecutionResponse {
        first_execution_run_id: run_id.clone(),
        run_id,
        started: true,
        status: Status::Running.into(),
        ..StartWorkflowExecutionResponse::default()
    };
    draft.finish(reply::of(ReplyKind::Start(response.into())))
}

/// The schedule of a run hears of its end, unless the run goes on in another one.
pub(crate) fn tell(draft: &mut Draft<'_>, run_id: &str, event_id: i64) {
    let run = draft.run(run_id);
    let Some(by) = run.head.scheduled_by.clone() else { return };
    if !run.head.successor_run_id.is_empty() || !run.head.reset_run_id.is_empty() {
        return;
    }
    let most = draft.at().limits.blob_bytes_max.saturating_sub(OVERHEAD_BYTES);
    let status = run.head.status;
    let first_run_id = run.started.first_execution_run_id.clone();
    let (result, failure) = match draft.new_event(run_id, event_id).and_then(|event| event.attributes.clone()) {
        Some(Attributes::WorkflowExecutionCompletedEventAttributes(completed)) => (completed.result, None),
        Some(Attributes::WorkflowExecutionFailedEventAttributes(failed)) => (None, failed.failure),
        _ => (None, None),
    };
    let message = ScheduledClosed {
        action: by.action,
        execution: Some(WorkflowExecution { workflow_id: draft.id().workflow_id.clone(), run_id: first_run_id }),
        status,
        result: result.filter(|result| result.encoded_len() <= most),
        failure: failure.filter(|failure| failure.encoded_len() <= most),
    };
    let target = ChainId { workflow_id: by.workflow_id, ..draft.id().clone() };
    let input = Input { kind: Some(input::Kind::ScheduledClosed(message)), ..Input::default() };
    draft.send(run_id, target, input);
}

/// A schedule asks whether a chain of runs is open still.
pub(crate) fn watch(draft: Draft<'_>, input: &ScheduledWatch) -> Step {
    let open = draft.chain().current().filter(|run| run.is_running());
    if open.is_some_and(|run| run.started.first_execution_run_id == input.first_run_id) {
        return draft.unchanged(reply::done());
    }
    // Its end may be on its way to the schedule.
    let told = draft.chain().sends.iter().find_map(|(_, send)| match send.input.as_ref()?.kind.as_ref()? {
        input::Kind::ScheduledClosed(message) if is_of(message, &input.first_run_id) => Some(message.clone()),
        _ => None,
    });
    match told {
        Some(message) => draft.unchanged(reply::of(ReplyKind::ScheduledClosed(message))),
        None => {
            let rejection = reply::workflow_not_found(&draft.id().workflow_id, "");
            draft.reject(rejection)
        }
    }
}

fn is_of(message: &ScheduledClosed, first_run_id: &str) -> bool {
    message.execution.as_ref().is_some_and(|execution| execution.run_id == first_run_id)
}

// ---------------------------------------------------------------- back in the schedule

/// The workflow's chain answered a start.
pub(crate) fn started(draft: &mut Draft<'_>, message: &ScheduledStart, answer: &Result<ReplyKind, Rejection>) {
    let now = draft.now();
    let Some(schedule) = draft.schedule_mut() else { return };
    let Some(starting) = take_starting(&mut schedule.head, message.action) else { return };
    if let Ok(ReplyKind::Start(response)) = answer {
        note_start(&mut schedule.head, starting, &response.run_id, now);
    }
    advance::go_on(draft);
}

/// A workflow that the schedule started is closed.
pub(crate) fn closed(mut draft: Draft<'_>, message: &ScheduledClosed) -> Step {
    if draft.chain().schedule.is_none() {
        return draft.unchanged(reply::done());
    }
    note_end(&mut draft, message);
    advance::go_on(&mut draft);
    draft.finish(reply::done())
}

/// The workflow's chain told whether it is open still.
pub(crate) fn watched(
    draft: &mut Draft<'_>,
    message: &ScheduledWatch,
    target: &ChainId,
    answer: &Result<ReplyKind, Rejection>,
) {
    if let Some(run) = running_mut(draft, &message.first_run_id) {
        run.asked = false;
    }
    match answer {
        Ok(ReplyKind::ScheduledClosed(closed)) => note_end(draft, closed),
        Ok(_) => {}
        // Nothing is known of it any more.
        Err(_) => {
            let execution =
                WorkflowExecution { workflow_id: target.workflow_id.clone(), run_id: message.first_run_id.clone() };
            note_end(draft, &ScheduledClosed { execution: Some(execution), ..ScheduledClosed::default() });
        }
    }
    if draft.chain().schedule.is_some() {
        advance::go_on(draft);
    }
}

fn take_starting(head: &mut record::ScheduleHead, action: u64) -> Option<record::ScheduleStarting> {
    let at = head.starting.iter().position(|starting| starting.action == action)?;
    Some(head.starting.remove(at))
}

fn note_start(head: &mut record::ScheduleHead, starting: record::ScheduleStarting, run_id: &str, now: UnixNanos) {
    let record::ScheduleStarting { workflow_id, schedule_time, overlapping, .. } = starting;
    head.action_count += 1;
    if head.recent_actions.len() >= RECENT_ACTIONS {
        head.recent_actions.remove(0);
    }
    let execution = WorkflowExecution { workflow_id: workflow_id.clone(), run_id: run_id.to_string() };
    head.recent_actions.push(ScheduleActionResult {
        schedule_time,
        actual_time: Some(timestamp(now)),
        start_workflow_result: Some(execution),
        start_workflow_status: Status::Running.into(),
    });
    if !overlapping {
        let first_run_id = run_id.to_string();
        head.running.push(record::ScheduleRunning { workflow_id, first_run_id, ..Default::default() });
    }
}

/// Notes how a workflow ended, and what follows from it for the next one.
fn note_end(draft: &mut Draft<'_>, message: &ScheduledClosed) {
    let now = draft.now();
    let Some(execution) = &message.execution else { return };
    let Some(schedule) = draft.schedule_mut() else { return };
    let head = &mut *schedule.head;
    if let Some(starting) = take_starting(head, message.action) {
        note_start(head, starting, &execution.run_id, now);
    }
    let recent = head.recent_actions.iter_mut().find(|action| action.start_workflow_result.as_ref() == Some(execution));
    if let Some(action) = recent {
        action.start_workflow_status = message.status;
    }
    let running = head.running.iter().position(|run| run.first_run_id == execution.run_id);
    let Some(running) = running else { return };
    head.running.remove(running);
    let policies = schedule.definition.policies.unwrap_or_default();
    let state = head.state.get_or_insert_default();
    if policies.pause_on_failure && !state.paused {
        let id = &execution.workflow_id;
        let note = match message.status() {
            Status::Failed => {
                let failure = message.failure.as_ref().map_or("", |failure| &failure.message);
                Some(format!("paused due to workflow failure: {id}: {failure}"))
            }
            Status::TimedOut => Some(format!("paused due to workflow timeout: {id}")),
            _ => None,
        };
        if let Some(note) = note {
            state.paused = true;
            state.notes = note;
            head.conflict_token += 1;
        }
    }
    if message.result.is_some() {
        schedule.result.last_completion_result.clone_from(&message.result);
        schedule.result.continued_failure = None;
    } else if message.failure.is_some() {
        schedule.result.continued_failure.clone_from(&message.failure);
    }
}
