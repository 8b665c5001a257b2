//! ResetWorkflowExecution: a run begins anew from a point of another's history.
//!
//! # Contract
//! The new run's history is a copy of the base run's up to the workflow task that is named, which then
//! fails; activities that were started by then fail, the others are offered again, and what others said
//! to the workflow after the point is applied again (`reset/reapply.rs`). The current run, if it is open,
//! is terminated in the same step. Timeouts begin anew.
//!
//! Histories come with the input, since the core reads no rows; a run that has gone on since they were
//! read refuses with `ABORTED`, and the caller reads again.

mod reapply;
mod resend;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::chain::{Rejection, Reset, RunHistory, reply::Kind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{EventType, RetryState, WorkflowTaskFailedCause};
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::failure::v1::{Failure, ResetWorkflowFailureInfo};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    ActivityTaskFailedEventAttributes, History, HistoryEvent, WorkflowTaskFailedEventAttributes,
    WorkflowTaskStartedEventAttributes,
};
use bristlecone_proto::temporal::api::workflow::v1::post_reset_operation::{UpdateWorkflowOptions, Variant};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse,
};
use prost::Message;

use crate::chain::Run;
use crate::draft::Draft;
use crate::stamp::timestamp;
use crate::terminate::{self, Terminate};
use crate::{Step, activity, child, options, rebuild, reply};

const SERVER: &str = "history-service";
const RESETTER: &str = "history-resetter";

pub(crate) fn reset(mut draft: Draft<'_>, input: &Reset) -> Step {
    let Some(request) = &input.request else { return draft.reject(reply::invalid_argument("Request is nil.")) };
    if let Some(run_id) = done_before(&draft, request) {
        return draft.unchanged(answer(run_id));
    }
    match carry_out(&mut draft, request, &input.runs) {
        Ok(run_id) => draft.finish(answer(run_id)),
        Err(rejection) => draft.reject(rejection),
    }
}

fn answer(run_id: String) -> bristlecone_proto::chain::Reply {
    reply::of(Kind::Reset(ResetWorkflowExecutionResponse { run_id }))
}

/// The current run, if this request made it.
fn done_before(draft: &Draft<'_>, request: &ResetWorkflowExecutionRequest) -> Option<String> {
    let record = draft.record()?;
    record.request_ids.contains_key(&request.request_id).then(|| record.current_run_id.clone())
}

fn carry_out(
    draft: &mut Draft<'_>,
    request: &ResetWorkflowExecutionRequest,
    runs: &[RunHistory],
) -> Result<String, Rejection> {
    let base_id = draft.find(request.workflow_execution.as_ref())?;
    let finish = request.workflow_task_finish_event_id;
    if finish <= 1 || finish >= draft.run(&base_id).head.next_event_id {
        return Err(reply::invalid_argument("Workflow task finish ID must be > 1 && <= workflow last event ID."));
    }
    let operations = operations(request)?;
    let mut histories = read(draft, &base_id, runs)?;
    let new_run_id = draft.new_run_id();
    let was_open = draft.run(&base_id).is_running();
    end_current(draft, request, &base_id, &new_run_id, &mut histories);

    let (before, after) = split(histories, finish);
    create(draft, &base_id, &new_run_id, &before, &request.request_id)?;
    fail_workflow_task(draft, &base_id, &new_run_id, finish, &request.reason)?;
    fail_started_activities(draft, &new_run_id, &before, &request.reason);
    reapply::reapply(draft, &new_run_id, &after, request);
    resend::resend(draft, &base_id, &new_run_id, &before);
    if !was_open {
        child::await_children(draft, &new_run_id);
    }
    for operation in operations {
        add_options(draft, &new_run_id, operation)?;
    }
    draft.schedule_workflow_task(&new_run_id);
    Ok(new_run_id)
}

fn operations(request: &ResetWorkflowExecutionRequest) -> Result<Vec<&UpdateWorkflowOptions>, Rejection> {
    let of = |operation: &'_ Option<Variant>| match operation {
        Some(Variant::UpdateWorkflowOptions(_)) => Ok(()),
        Some(Variant::SignalWorkflow(_)) => Err("*workflow.PostResetOperation_SignalWorkflow_"),
        None => Err("<nil>"),
    };
    for operation in &request.post_reset_operations {
        of(&operation.variant)
            .map_err(|name| reply::invalid_argument(format!("unsupported post reset operation: {name}")))?;
    }
    let variants = request.post_reset_operations.iter().map(|operation| operation.variant.as_ref());
    Ok(variants
        .filter_map(|variant| match variant {
            Some(Variant::UpdateWorkflowOptions(options)) => Some(options),
            _ => None,
        })
        .collect())
}

/// The events of one run, by batch.
struct RunEvents {
    run_id: String,
    batches: Vec<Vec<HistoryEvent>>,
}

/// The histories, complete as of now: that of the base run first.
fn read(draft: &Draft<'_>, base_id: &str, runs: &[RunHistory]) -> Result<Vec<RunEvents>, Rejection> {
    let stale = || reply::plain(reply::code::ABORTED, "the workflow went on since its history was read");
    if runs.first().is_none_or(|run| run.run_id != base_id) {
        return Err(stale());
    }
    let mut histories = Vec::with_capacity(runs.len());
    for run in runs {
        let mut batches = Vec::with_capacity(run.batches.len());
        for batch in &run.batches {
            let history = History::decode(batch.clone());
            let damaged = |_| reply::plain(reply::code::INTERNAL, "a batch of events cannot be decoded");
            batches.push(history.map_err(damaged)?.events);
        }
        let last = batches.iter().flatten().last().map_or(0, |event| event.event_id);
        // A run that is not loaded is closed, and was when it was read.
        if draft.get(&run.run_id).is_some_and(|known| known.head.next_event_id != last + 1) {
            return Err(stale());
        }
        histories.push(RunEvents { run_id: run.run_id.clone(), batches });
    }
    let continued = histories.last().and_then(|run| draft.get(&run.run_id)).map(|run| &run.head.successor_run_id);
    let is_continued = |id: &String| !id.is_empty() && draft.get(id).is_some_and(Run::is_running);
    if continued.is_some_and(is_continued) && last_is_continue_as_new(&histories) {
        return Err(stale());
    }
    Ok(histories)
}

fn last_is_continue_as_new(histories: &[RunEvents]) -> bool {
    let last = histories.last().and_then(|run| run.batches.last()).and_then(|batch| batch.last());
    last.is_some_and(|event| event.event_type() == EventType::WorkflowExecutionContinuedAsNew)
}

/// Terminates the open run, and notes on both runs that they go on in the new one. What waited in the buffer of the
/// open run becomes part of its history, which is extended by it. The children that it had by the point
/// become those of the new run; the others hear that their parent is gone.
fn end_current(
    draft: &mut Draft<'_>,
    request: &ResetWorkflowExecutionRequest,
    base_id: &str,
    new_run_id: &str,
    histories: &mut [RunEvents],
) {
    let current = draft.chain().current().filter(|run| run.is_running()).map(|run| run.id.clone());
    draft.begin_note(base_id);
    draft.run_mut(base_id).head.reset_run_id = new_run_id.to_string();
    let Some(current) = current else { return };
    draft.begin_transition(&current);
    // One that has only the workflow id in common does not go on in the new run: its parent hears of its end.
    let first_run_id = &draft.run(&current).started.first_execution_run_id;
    if draft.belongs_to_chain(base_id, first_run_id) {
        draft.run_mut(&current).head.reset_run_id = new_run_id.to_string();
    }
    let finish = request.workflow_task_finish_event_id;
    let started = started_before(histories, finish);
    let is_kept = |id: i64, child: &record::Child| {
        if current == base_id { id < finish } else { started.contains(&child.first_run_id) }
    };
    let children = draft.run(&current).children.iter();
    let kept: Vec<i64> = children.filter(|(id, child)| is_kept(**id, child)).map(|(id, _)| *id).collect();
    for id in kept {
        draft.run_mut(&current).children.remove(&id);
    }
    let reason = &request.reason;
    terminate::run(draft, &current, Terminate { reason, details: None, identity: RESETTER, links: &[] });
    if let Some(last) = histories.iter_mut().find(|run| run.run_id == current) {
        last.batches.push(draft.new_events(&current).cloned().collect());
    }
}

/// First runs of the children that the base run knew as started by the point.
fn started_before(histories: &[RunEvents], finish: i64) -> BTreeSet<String> {
    let events = histories.first().into_iter().flat_map(|base| base.batches.iter().flatten());
    let before = events.take_while(|event| event.event_id < finish);
    let child = |event: &HistoryEvent| match &event.attributes {
        Some(Attributes::ChildWorkflowExecutionStartedEventAttributes(a)) => a.workflow_execution.clone(),
        _ => None,
    };
    before.filter_map(child).map(|execution| execution.run_id).collect()
}

/// What the new run begins with, and what happened after the point, in the base run and in those that
/// followed it.
fn split(histories: Vec<RunEvents>, finish: i64) -> (Vec<Vec<HistoryEvent>>, Vec<HistoryEvent>) {
    let mut before = Vec::new();
    let mut after = Vec::new();
    for (at, run) in histories.into_iter().enumerate() {
        for mut batch in run.batches {
            if at == 0 {
                let kept = batch.iter().take_while(|event| event.event_id < finish).count();
                after.extend(batch.split_off(kept));
                if !batch.is_empty() {
                    before.push(batch);
                }
            } else {
                after.extend(batch);
            }
        }
    }
    (before, after)
}

/// The new run, as the base run was at the point. It answers to the request that started the base run.
fn create(
    draft: &mut Draft<'_>,
    base_id: &str,
    new_run_id: &str,
    before: &[Vec<HistoryEvent>],
    request_id: &str,
) -> Result<(), Rejection> {
    let now = draft.now();
    let mut run = rebuild(new_run_id, before, &[], draft.at().limits)
        .ok_or_else(|| reply::plain(reply::code::INTERNAL, "the history has no first event"))?;
    let mut request_ids: BTreeMap<String, record::RequestIdInfo> = draft.run(base_id).head.request_ids.clone();
    request_ids.retain(|_, info| info.event_type == EventType::WorkflowExecutionStarted as i32);
    request_ids.extend(core::mem::take(&mut run.head.request_ids));
    let event_type = EventType::WorkflowTaskFailed.into();
    request_ids.insert(request_id.to_string(), record::RequestIdInfo { event_type, event_id: run.head.next_event_id });
    run.start_time = now;
    run.head.scheduled_by.clone_from(&draft.run(base_id).head.scheduled_by);
    run.head.request_ids = request_ids;
    run.head.reset_start_time = Some(timestamp(now));
    run.head.last_reset_time = Some(timestamp(now));
    run.head.first_task_backoff_until = None;
    run.head.transitions = 1;
    if run.is_running() {
        draft.adopt_run(run, before.to_vec());
        return Ok(());
    }
    Err(reply::invalid_argument("Cannot reset a workflow to a point after its end."))
}

/// The point is a workflow task: it ends here, so that the workflow goes on from what it had seen by then.
fn fail_workflow_task(
    draft: &mut Draft<'_>,
    base_id: &str,
    new_run_id: &str,
    finish: i64,
    reason: &str,
) -> Result<(), Rejection> {
    let Some(task) = draft.run(new_run_id).head.workflow_task.clone() else {
        return Err(reply::invalid_argument(format!(
            "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]: {finish}"
        )));
    };
    let mut started_event_id = task.started_event_id;
    if started_event_id == 0 {
        let attributes = WorkflowTaskStartedEventAttributes {
            scheduled_event_id: task.scheduled_event_id,
            identity: SERVER.to_string(),
            history_size_bytes: draft.run(new_run_id).head.history_size,
            ..WorkflowTaskStartedEventAttributes::default()
        };
        started_event_id = draft.add(new_run_id, Attributes::WorkflowTaskStartedEventAttributes(attributes));
    }
    let attributes = WorkflowTaskFailedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id,
        cause: WorkflowTaskFailedCause::ResetWorkflow.into(),
        failure: Some(failure(reason, None)),
        identity: SERVER.to_string(),
        base_run_id: base_id.to_string(),
        new_run_id: new_run_id.to_string(),
        ..WorkflowTaskFailedEventAttributes::default()
    };
    let failed = draft.add(new_run_id, Attributes::WorkflowTaskFailedEventAttributes(attributes));
    let head = &mut draft.run_mut(new_run_id).head;
    head.workflow_task_problems = 0;
    head.last_problem.clear();
    for info in head.request_ids.values_mut().filter(|i| i.event_type == EventType::WorkflowTaskFailed as i32) {
        info.event_id = failed;
    }
    Ok(())
}

/// An attempt that a worker had begun belongs to the run that was reset. What waited is offered anew.
fn fail_started_activities(draft: &mut Draft<'_>, run_id: &str, before: &[Vec<HistoryEvent>], reason: &str) {
    let now = timestamp(draft.now());
    let pending: Vec<(i64, record::Activity)> =
        draft.run(run_id).activities.iter().map(|(id, pending)| (*id, pending.clone())).collect();
    for (scheduled_event_id, pending) in pending {
        if !activity::is_started(&pending) {
            if let Some(pending) = draft.run_mut(run_id).activities.get_mut(&scheduled_event_id) {
                pending.first_scheduled_time = Some(now);
                pending.scheduled_time = Some(now);
            }
            continue;
        }
        let started = before.iter().flatten().rev().find(|event| match &event.attributes {
            Some(Attributes::ActivityTaskStartedEventAttributes(a)) => a.scheduled_event_id == scheduled_event_id,
            _ => false,
        });
        let attributes = ActivityTaskFailedEventAttributes {
            failure: Some(failure(reason, pending.heartbeat_details.clone())),
            scheduled_event_id,
            started_event_id: started.map_or(0, |event| event.event_id),
            identity: pending.identity,
            retry_state: RetryState::NonRetryableFailure.into(),
            ..ActivityTaskFailedEventAttributes::default()
        };
        draft.add(run_id, Attributes::ActivityTaskFailedEventAttributes(attributes));
    }
}

fn failure(
    reason: &str,
    last_heartbeat_details: Option<bristlecone_proto::temporal::api::common::v1::Payloads>,
) -> Failure {
    let info = ResetWorkflowFailureInfo { last_heartbeat_details };
    Failure {
        message: reason.to_string(),
        source: "Server".to_string(),
        failure_info: Some(FailureInfo::ResetWorkflowFailureInfo(info)),
        ..Failure::default()
    }
}

/// An operation that goes with the reset: the new run's options change.
fn add_options(draft: &mut Draft<'_>, run_id: &str, operation: &UpdateWorkflowOptions) -> Result<(), Rejection> {
    let options = operation.workflow_execution_options.clone().unwrap_or_default();
    let paths = operation.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    options::apply(draft, run_id, options, paths, "").map(|_| ())
}

impl Draft<'_> {
    /// Makes a run that was put together from another's history the current one. The current one, if it was
    /// open, must have been closed in this step.
    fn adopt_run(&mut self, run: Run, batches: Vec<Vec<HistoryEvent>>) {
        let first_run_id = run.started.first_execution_run_id.clone();
        let record = self.record_mut();
        record.current_run_id.clone_from(&run.id);
        record.first_run_id = first_run_id;
        self.insert_run(Arc::new(run), batches);
    }
}
