//! The workflow task: scheduled, started, then completed, failed or timed out.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::SearchAttributes;
use bristlecone_proto::temporal::api::enums::v1::{
    TaskQueueKind, TimeoutType, VersioningBehavior, WorkflowTaskFailedCause,
};
use bristlecone_proto::temporal::api::history::v1::{
    HistoryEvent, WorkflowTaskCompletedEventAttributes, WorkflowTaskFailedEventAttributes,
    WorkflowTaskScheduledEventAttributes, WorkflowTaskStartedEventAttributes, WorkflowTaskTimedOutEventAttributes,
};
use bristlecone_proto::temporal::api::workflow::v1::ResetPointInfo;

use crate::chain::Run;
use crate::command::camel;
use crate::payload;
use crate::stamp::Limits;

pub fn scheduled(run: &mut Run, event: &HistoryEvent, a: &WorkflowTaskScheduledEventAttributes) {
    let sticky = a.task_queue.as_ref().is_some_and(|queue| queue.kind() == TaskQueueKind::Sticky);
    run.head.first_task_backoff_until = None;
    run.head.awaits_parent = false;
    run.head.workflow_task = Some(record::WorkflowTask {
        scheduled_event_id: event.event_id,
        attempt: a.attempt,
        scheduled_time: event.event_time,
        original_scheduled_time: event.event_time,
        start_to_close_timeout: a.start_to_close_timeout,
        queue: a.task_queue.clone(),
        schedule_to_start_timeout: if sticky {
            run.head.sticky.as_ref().and_then(|sticky| sticky.schedule_to_start_timeout)
        } else {
            None
        },
        priority: run.head.priority.clone(),
        ..record::WorkflowTask::default()
    });
}

pub fn started(run: &mut Run, event: &HistoryEvent, a: &WorkflowTaskStartedEventAttributes) {
    let Some(task) = &mut run.head.workflow_task else { return };
    task.started_event_id = event.event_id;
    task.started_time = event.event_time;
    task.request_id.clone_from(&a.request_id);
    task.identity.clone_from(&a.identity);
    task.started_event = Some(event.clone());
}

pub fn completed(run: &mut Run, event: &HistoryEvent, a: &WorkflowTaskCompletedEventAttributes, limits: &Limits) {
    let head = &mut run.head;
    head.workflow_task = None;
    head.next_workflow_task_attempt = 1;
    head.workflow_task_problems = 0;
    head.last_problem.clear();
    head.close_attempted = false;
    head.previous_started_event_id = a.started_event_id;
    head.worker_version.clone_from(&a.worker_version);
    take_versioning(head, a);
    forget_problem(run);
    add_reset_point(run, event, a, limits);
}

/// The behaviour and deployment that the worker reported become those of the run.
fn take_versioning(head: &mut record::Head, a: &WorkflowTaskCompletedEventAttributes) {
    if a.versioning_behavior == VersioningBehavior::Unspecified as i32 {
        if let Some(versioning) = &mut head.versioning {
            versioning.behavior = a.versioning_behavior;
            versioning.deployment_version = None;
        }
        return;
    }
    let versioning = head.versioning.get_or_insert_default();
    versioning.behavior = a.versioning_behavior;
    versioning.deployment_version.clone_from(&a.deployment_version);
}

/// The first completion by each build is a point to which the run can be reset.
fn add_reset_point(run: &mut Run, event: &HistoryEvent, a: &WorkflowTaskCompletedEventAttributes, limits: &Limits) {
    let build_id = match (&a.deployment_version, &a.worker_version) {
        (Some(version), _) => &version.build_id,
        (None, Some(version)) => &version.build_id,
        (None, None) => "",
    };
    let resettable = run.children.is_empty() && run.external_cancels.is_empty() && run.external_signals.is_empty();
    let points = &mut run.head.auto_reset_points.get_or_insert_default().points;
    if points.iter().any(|point| point.binary_checksum == a.binary_checksum && point.build_id == *build_id) {
        return;
    }
    points.push(ResetPointInfo {
        build_id: build_id.into(),
        binary_checksum: a.binary_checksum.clone(),
        run_id: run.id.clone(),
        first_workflow_task_completed_id: event.event_id,
        create_time: event.event_time,
        expire_time: None,
        resettable,
    });
    let excess = points.len().saturating_sub(limits.reset_points_max);
    points.drain(..excess);
}

pub fn failed_event(run: &mut Run, a: &WorkflowTaskFailedEventAttributes) {
    let cause = camel(a.cause().as_str_name().trim_start_matches("WORKFLOW_TASK_FAILED_CAUSE_"));
    run.head.last_problem = format!("category=WorkflowTaskFailed,cause=WorkflowTaskFailedCause{cause}");
    failed(run, a.cause());
}

/// A workflow task failed, whether or not an event was written for it.
pub fn failed(run: &mut Run, cause: WorkflowTaskFailedCause) {
    not_completed(run, true);
    match cause {
        WorkflowTaskFailedCause::ResetWorkflow | WorkflowTaskFailedCause::FailoverCloseCommand => {
            run.head.next_workflow_task_attempt = 1;
        }
        WorkflowTaskFailedCause::UnhandledCommand => run.head.close_attempted = true,
        _ => {}
    }
}

pub fn timed_out_event(run: &mut Run, a: &WorkflowTaskTimedOutEventAttributes) {
    if a.timeout_type() == TimeoutType::StartToClose {
        run.head.last_problem = "category=WorkflowTaskTimedOut,cause=WorkflowTaskTimedOutCauseStartToClose".into();
    }
    not_completed(run, a.timeout_type() != TimeoutType::ScheduleToStart);
}

/// The workflow task failed or timed out. On a sticky queue the next attempt is again a first one, on
/// the normal queue; otherwise it is counted up (and no event is written for it until it completes).
pub fn not_completed(run: &mut Run, count_attempt: bool) {
    let head = &mut run.head;
    let Some(task) = head.workflow_task.take() else { return };
    if task.started_event_id != 0 {
        head.close_attempted = false;
    }
    let was_sticky = head.sticky.take().is_some();
    if count_attempt && !was_sticky {
        head.next_workflow_task_attempt = task.attempt.max(1).saturating_add(1);
        head.workflow_task_problems = head.workflow_task_problems.saturating_add(1);
        head.workflow_task_stamp = head.workflow_task_stamp.wrapping_add(1);
    } else {
        head.next_workflow_task_attempt = 1;
    }
    if head.workflow_task_problems >= REPORTED_FROM {
        report_problem(run);
    }
}

/// So many failures and timeouts in a row show in listings.
const REPORTED_FROM: i32 = 5;
const REPORTED_PROBLEMS: &str = "TemporalReportedProblems";

fn report_problem(run: &mut Run) {
    let words: Vec<&str> = run.head.last_problem.split(',').collect();
    let problems = payload::keyword_list(&words);
    let known = run.fields.search_attributes.as_ref().and_then(|a| a.indexed_fields.get(REPORTED_PROBLEMS));
    if known != Some(&problems) {
        let attributes = Arc::make_mut(&mut run.fields).search_attributes.get_or_insert_default();
        attributes.indexed_fields.insert(REPORTED_PROBLEMS.into(), problems);
    }
}

fn forget_problem(run: &mut Run) {
    let reported = |a: &SearchAttributes| a.indexed_fields.contains_key(REPORTED_PROBLEMS);
    if run.fields.search_attributes.as_ref().is_some_and(reported)
        && let Some(attributes) = &mut Arc::make_mut(&mut run.fields).search_attributes
    {
        attributes.indexed_fields.remove(REPORTED_PROBLEMS);
    }
}
