//! Requests and commands as workers and clients send them.

use bristlecone_machine::rules::{Compare, Condition, Field, Is, Rule};
use bristlecone_machine::stamp::duration;
use bristlecone_proto::chain::input::Kind;
use bristlecone_proto::temporal::api::command::v1::command::Attributes;
use bristlecone_proto::temporal::api::command::v1::{
    CancelTimerCommandAttributes, CancelWorkflowExecutionCommandAttributes, Command,
    CompleteWorkflowExecutionCommandAttributes, ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes, ModifyWorkflowPropertiesCommandAttributes, RecordMarkerCommandAttributes,
    RequestCancelActivityTaskCommandAttributes, RequestCancelExternalWorkflowExecutionCommandAttributes,
    ScheduleActivityTaskCommandAttributes, SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes, StartTimerCommandAttributes,
};
use bristlecone_proto::temporal::api::common::v1::{
    ActivityType, Memo, Payload, Priority, RetryPolicy, WorkflowExecution, WorkflowType,
};
use bristlecone_proto::temporal::api::enums::v1::CommandType;
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflow::v1::versioning_override::Override;
use bristlecone_proto::temporal::api::workflow::v1::{OnConflictOptions, VersioningOverride, WorkflowExecutionOptions};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PauseActivityRequest, PauseWorkflowExecutionRequest, ResetActivityRequest, StartWorkflowExecutionRequest,
    UnpauseActivityRequest, UnpauseWorkflowExecutionRequest, UpdateWorkflowExecutionOptionsRequest,
    pause_activity_request, reset_activity_request, unpause_activity_request,
};
use prost_types::FieldMask;

use super::ops::{Cmd, Shape};
use crate::shell::SECOND;

const ACTIVITY_TYPE: &str = "A";

pub fn name(workflow: u8) -> String {
    format!("w{workflow}")
}

pub fn queue() -> TaskQueue {
    TaskQueue { name: "q".into(), ..TaskQueue::default() }
}

pub fn workflow_type() -> WorkflowType {
    WorkflowType { name: "T".into() }
}

fn some_seconds(seconds: i64) -> Option<prost_types::Duration> {
    (seconds > 0).then(|| duration(seconds * SECOND))
}

fn retry_policy(attempts: i32) -> RetryPolicy {
    RetryPolicy { maximum_attempts: attempts, initial_interval: some_seconds(1), ..RetryPolicy::default() }
}

/// What an operator does to all activities of type `A`.
pub fn operate(execution: WorkflowExecution, what: u8) -> Kind {
    let workflow_id = execution.workflow_id.clone();
    let execution = Some(execution);
    match what {
        0 | 1 => Kind::PauseActivity(PauseActivityRequest {
            execution,
            activity: Some(pause_activity_request::Activity::Type(ACTIVITY_TYPE.into())),
            ..PauseActivityRequest::default()
        }),
        2 | 3 => Kind::UnpauseActivity(UnpauseActivityRequest {
            execution,
            reset_attempts: what == 3,
            reset_heartbeat: what == 3,
            jitter: Some(duration(SECOND)),
            activity: Some(unpause_activity_request::Activity::UnpauseAll(true)),
            ..UnpauseActivityRequest::default()
        }),
        6 | 7 => pause_workflow(workflow_id),
        8..=10 => unpause_workflow(workflow_id),
        11..=14 => update_options(execution, what),
        _ => Kind::ResetActivity(ResetActivityRequest {
            execution,
            keep_paused: what == 4,
            reset_heartbeat: what == 5,
            activity: Some(reset_activity_request::Activity::MatchAll(true)),
            ..ResetActivityRequest::default()
        }),
    }
}

/// A rule that pauses activities: all, or those that have failed before, or those of one workflow.
pub fn rule(what: u8) -> Option<Rule> {
    let test = |field, is| Condition::Test(field, is);
    let attempts = |least| test(Field::Attempts, Is::Number(Compare::GreaterEqual, least));
    let (workflow, activity) = match what {
        0 => (None, attempts(1)),
        1 => (None, attempts(2)),
        2 => (Some(test(Field::WorkflowId, Is::Text(Compare::Equal, name(0)))), attempts(1)),
        _ => return None,
    };
    Some(Rule {
        id: "rule".into(),
        identity: String::new(),
        description: String::new(),
        expires: None,
        pauses: true,
        workflow,
        activity,
    })
}

pub fn pause_workflow(workflow_id: String) -> Kind {
    Kind::PauseWorkflow(PauseWorkflowExecutionRequest {
        workflow_id,
        reason: "to look at it".into(),
        ..PauseWorkflowExecutionRequest::default()
    })
}

pub fn unpause_workflow(workflow_id: String) -> Kind {
    Kind::UnpauseWorkflow(UnpauseWorkflowExecutionRequest { workflow_id, ..UnpauseWorkflowExecutionRequest::default() })
}

/// Another priority, or workers of another kind.
fn update_options(execution: Option<WorkflowExecution>, what: u8) -> Kind {
    let path = if what.is_multiple_of(2) { "priority" } else { "versioning_override" };
    let upgrade = VersioningOverride { r#override: Some(Override::AutoUpgrade(true)), ..VersioningOverride::default() };
    let options = WorkflowExecutionOptions {
        priority: Some(Priority { priority_key: i32::from(what) - 10, ..Priority::default() }),
        versioning_override: (what == 11).then_some(upgrade),
        ..WorkflowExecutionOptions::default()
    };
    Kind::UpdateWorkflowOptions(UpdateWorkflowExecutionOptionsRequest {
        workflow_execution: execution,
        workflow_execution_options: Some(options),
        update_mask: Some(FieldMask { paths: vec![path.into()] }),
        ..UpdateWorkflowExecutionOptionsRequest::default()
    })
}

pub fn unpause(execution: WorkflowExecution) -> Kind {
    operate(execution, 2)
}

pub fn start(workflow: u8, request: u8, conflict: i32, reuse: i32, shape: &Shape) -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        workflow_id: name(workflow),
        workflow_type: Some(workflow_type()),
        task_queue: Some(queue()),
        request_id: format!("start-{request}"),
        workflow_id_conflict_policy: conflict,
        workflow_id_reuse_policy: reuse,
        workflow_run_timeout: some_seconds(shape.run_timeout_s),
        workflow_execution_timeout: some_seconds(shape.execution_timeout_s),
        retry_policy: shape.retries.then(|| retry_policy(3)),
        cron_schedule: if shape.cron { "@every 5s".into() } else { String::new() },
        workflow_start_delay: some_seconds(shape.delay_s),
        request_eager_execution: shape.eager,
        on_conflict_options: shape.attach.then(|| OnConflictOptions { attach_request_id: true, ..Default::default() }),
        ..StartWorkflowExecutionRequest::default()
    }
}

/// `pending`: scheduled event ids of the activities that the worker knows of.
pub fn command(cmd: &Cmd, pending: &[i64]) -> Command {
    let (command_type, attributes) = match cmd {
        Cmd::Activity { id, timeouts: [close, start, work, beat], attempts, eager } => (
            CommandType::ScheduleActivityTask,
            Attributes::ScheduleActivityTaskCommandAttributes(ScheduleActivityTaskCommandAttributes {
                activity_id: format!("a{id}"),
                activity_type: Some(ActivityType { name: ACTIVITY_TYPE.into() }),
                task_queue: Some(queue()),
                schedule_to_close_timeout: some_seconds(*close),
                schedule_to_start_timeout: some_seconds(*start),
                start_to_close_timeout: some_seconds((*work).max(1)),
                heartbeat_timeout: some_seconds(*beat),
                retry_policy: Some(retry_policy(*attempts)),
                request_eager_execution: *eager,
                ..ScheduleActivityTaskCommandAttributes::default()
            }),
        ),
        Cmd::CancelActivity { which } => (
            CommandType::RequestCancelActivityTask,
            Attributes::RequestCancelActivityTaskCommandAttributes(RequestCancelActivityTaskCommandAttributes {
                scheduled_event_id: pick(pending, *which).copied().unwrap_or(i64::from(*which)),
            }),
        ),
        Cmd::Timer { id, seconds } => (
            CommandType::StartTimer,
            Attributes::StartTimerCommandAttributes(StartTimerCommandAttributes {
                timer_id: format!("t{id}"),
                start_to_fire_timeout: Some(duration(seconds * SECOND)),
            }),
        ),
        Cmd::CancelTimer { id } => (
            CommandType::CancelTimer,
            Attributes::CancelTimerCommandAttributes(CancelTimerCommandAttributes { timer_id: format!("t{id}") }),
        ),
        Cmd::Child { workflow, policy, reuse, run_timeout_s, retries } => (
            CommandType::StartChildWorkflowExecution,
            Attributes::StartChildWorkflowExecutionCommandAttributes(StartChildWorkflowExecutionCommandAttributes {
                workflow_id: name(*workflow),
                workflow_type: Some(workflow_type()),
                workflow_run_timeout: some_seconds(*run_timeout_s),
                retry_policy: retries.then(|| retry_policy(3)),
                parent_close_policy: *policy,
                workflow_id_reuse_policy: *reuse,
                ..StartChildWorkflowExecutionCommandAttributes::default()
            }),
        ),
        other => return end_or_message(other),
    };
    of(command_type, attributes)
}

fn end_or_message(cmd: &Cmd) -> Command {
    match cmd {
        Cmd::Signal { workflow, child_only } => of(
            CommandType::SignalExternalWorkflowExecution,
            Attributes::SignalExternalWorkflowExecutionCommandAttributes(
                SignalExternalWorkflowExecutionCommandAttributes {
                    execution: Some(WorkflowExecution { workflow_id: name(*workflow), ..WorkflowExecution::default() }),
                    signal_name: "s".into(),
                    child_workflow_only: *child_only,
                    ..SignalExternalWorkflowExecutionCommandAttributes::default()
                },
            ),
        ),
        Cmd::Cancel { workflow, child_only } => of(
            CommandType::RequestCancelExternalWorkflowExecution,
            Attributes::RequestCancelExternalWorkflowExecutionCommandAttributes(
                RequestCancelExternalWorkflowExecutionCommandAttributes {
                    workflow_id: name(*workflow),
                    child_workflow_only: *child_only,
                    ..RequestCancelExternalWorkflowExecutionCommandAttributes::default()
                },
            ),
        ),
        Cmd::Marker => of(
            CommandType::RecordMarker,
            Attributes::RecordMarkerCommandAttributes(RecordMarkerCommandAttributes {
                marker_name: "m".into(),
                ..RecordMarkerCommandAttributes::default()
            }),
        ),
        Cmd::UpsertMemo { key } => {
            let payload = Payload { data: b"1".to_vec().into(), ..Payload::default() };
            let upserted_memo = Some(Memo { fields: [(format!("k{key}"), payload)].into_iter().collect() });
            of(
                CommandType::ModifyWorkflowProperties,
                Attributes::ModifyWorkflowPropertiesCommandAttributes(ModifyWorkflowPropertiesCommandAttributes {
                    upserted_memo,
                }),
            )
        }
        Cmd::Fail => of(
            CommandType::FailWorkflowExecution,
            Attributes::FailWorkflowExecutionCommandAttributes(FailWorkflowExecutionCommandAttributes {
                failure: Some(Failure { message: "no".into(), ..Failure::default() }),
            }),
        ),
        Cmd::CancelSelf => of(
            CommandType::CancelWorkflowExecution,
            Attributes::CancelWorkflowExecutionCommandAttributes(CancelWorkflowExecutionCommandAttributes::default()),
        ),
        Cmd::ContinueAsNew => of(
            CommandType::ContinueAsNewWorkflowExecution,
            Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(
                ContinueAsNewWorkflowExecutionCommandAttributes::default(),
            ),
        ),
        _ => complete(),
    }
}

/// A command that ends a workflow, in one way or another.
pub fn last(which: u64) -> Command {
    let ends = [Cmd::Complete, Cmd::Fail, Cmd::CancelSelf];
    let end = usize::try_from(which).ok().and_then(|which| ends.get(which % ends.len()));
    command(end.unwrap_or(&Cmd::Complete), &[])
}

fn complete() -> Command {
    of(
        CommandType::CompleteWorkflowExecution,
        Attributes::CompleteWorkflowExecutionCommandAttributes(CompleteWorkflowExecutionCommandAttributes::default()),
    )
}

fn of(command_type: CommandType, attributes: Attributes) -> Command {
    Command { command_type: command_type.into(), attributes: Some(attributes), ..Command::default() }
}

/// One of the items, most often one of the last few; `None` when there are none.
pub fn pick_recent<T>(items: &[T], which: u8) -> Option<&T> {
    const RECENT: u8 = 3;
    if which.is_multiple_of(4) { pick(items, which) } else { items.iter().rev().nth(usize::from(which % RECENT)) }
}

/// One of the items; `None` when there are none.
pub fn pick<T>(items: &[T], which: u8) -> Option<&T> {
    items.get(usize::from(which).checked_rem(items.len())?)
}
