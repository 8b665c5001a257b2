//! CONTINUE_AS_NEW_WORKFLOW_EXECUTION: the run ends and goes on with an empty history.

use alloc::format;
use alloc::string::String;

use bristlecone_proto::temporal::api::command::v1::{Command, ContinueAsNewWorkflowExecutionCommandAttributes};
use bristlecone_proto::temporal::api::common::v1::WorkflowType;
use bristlecone_proto::temporal::api::enums::v1::{
    ContinueAsNewInitiator, TaskQueueKind, WorkflowTaskFailedCause as Cause,
};
use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionContinuedAsNewEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use prost_types::Duration;

use super::{CommandContext, CommandFailure, close, nothing_buffered};
use crate::chain::Run;
use crate::draft::{Draft, normal_queue};
use crate::stamp::{Stamp, duration_nanos};
use crate::validate::{self, search_attributes};
use crate::{new_run, successor};

const CAUSE: Cause = Cause::BadContinueAsNewAttributes;

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &CommandContext,
    command: &Command,
    attributes: &ContinueAsNewWorkflowExecutionCommandAttributes,
) -> Result<(), CommandFailure> {
    nothing_buffered(ctx)?;
    let completed = completed(draft.run(&ctx.run_id), attributes, draft.at())?;
    check_sizes(&completed, draft.at())?;
    let new_run_id = draft.new_run_id();
    let event = WorkflowExecutionContinuedAsNewEventAttributes {
        new_execution_run_id: new_run_id.clone(),
        workflow_type: completed.workflow_type.clone(),
        task_queue: completed.task_queue.clone(),
        input: completed.input.clone(),
        workflow_run_timeout: completed.workflow_run_timeout,
        workflow_task_timeout: completed.workflow_task_timeout,
        workflow_task_completed_event_id: ctx.completed_event_id,
        backoff_start_interval: completed.backoff_start_interval,
        initiator: attributes.initiator,
        failure: completed.failure.clone(),
        last_completion_result: completed.last_completion_result.clone(),
        header: completed.header.clone(),
        memo: new_run::memo(completed.memo.clone()),
        search_attributes: new_run::search_attributes(completed.search_attributes.clone()),
        inherit_build_id: completed.inherit_build_id,
        initial_versioning_behavior: completed.initial_versioning_behavior,
    };
    close(draft, ctx, command, Attributes::WorkflowExecutionContinuedAsNewEventAttributes(event));
    successor::continue_as_new(draft, &ctx.run_id, new_run_id, &completed);
    Ok(())
}

/// The command with what it leaves out taken from the run, or what is wrong with it.
fn completed(
    run: &Run,
    attributes: &ContinueAsNewWorkflowExecutionCommandAttributes,
    at: &Stamp<'_>,
) -> Result<ContinueAsNewWorkflowExecutionCommandAttributes, CommandFailure> {
    let mut command = attributes.clone();
    let started = &run.started;
    if command.workflow_type.as_ref().is_none_or(|t| t.name.is_empty()) {
        command.workflow_type.clone_from(&started.workflow_type);
    }
    let name = command.workflow_type.as_ref().map(|t: &WorkflowType| t.name.clone()).unwrap_or_default();
    let (length, limit) = (name.len(), at.limits.id_bytes_max);
    if length > limit {
        return Err(bad(format!(
            "WorkflowType on ContinueAsNewWorkflowExecutionCommand exceeds length limit. \
             WorkflowType={name} Length={length} Limit={limit}"
        )));
    }
    let normal = TaskQueue { kind: TaskQueueKind::Normal.into(), ..TaskQueue::default() };
    let queue = command.task_queue.take().unwrap_or(normal);
    let queue = validate::task_queue(Some(&queue), normal_queue(run), at.limits).map_err(|error| {
        bad(format!(
            "error validating ContinueAsNewWorkflowExecutionCommand TaskQueue: {error}. \
             WorkflowType={name} TaskQueue={}",
            queue.name
        ))
    })?;
    let within = Within { workflow_type: &name, task_queue: &queue.name };
    let run_timeout = within.timeout(command.workflow_run_timeout, "WorkflowRunTimeout")?;
    let task_timeout = within.timeout(command.workflow_task_timeout, "WorkflowTaskTimeout")?;
    command.backoff_start_interval = within.timeout(command.backoff_start_interval, "BackoffStartInterval")?;
    let run_timeout = or(run_timeout, started.workflow_run_timeout);
    let task_timeout = or(task_timeout, started.workflow_task_timeout);
    let execution = started.workflow_execution_timeout.as_ref();
    let run_timeout = new_run::run_timeout(run_timeout.as_ref(), execution).unwrap_or_default();
    command.workflow_task_timeout = new_run::task_timeout(task_timeout.as_ref(), Some(&run_timeout), at.limits);
    command.workflow_run_timeout = Some(run_timeout);
    if let Some(policy) = &command.retry_policy {
        let policy = validate::retry_policy::complete(policy).map_err(|error| {
            bad(within.text(&format!("invalid WorkflowRetryPolicy on ContinueAsNewWorkflowExecutionCommand: {error}")))
        })?;
        command.retry_policy = Some(policy);
    }
    search_attributes::check(command.search_attributes.as_ref(), at).map_err(|error| {
        let text = format!("invalid SearchAttributes on ContinueAsNewWorkflowExecutionCommand: {error}");
        CommandFailure::new(Cause::BadSearchAttributes, within.text(&text))
    })?;
    if command.inherit_build_id && queue.name != normal_queue(run) {
        return Err(bad("ContinueAsNew with UseCompatibleVersion cannot run on different task queue.".into()));
    }
    if command.initiator() == ContinueAsNewInitiator::Unspecified {
        command.set_initiator(ContinueAsNewInitiator::Workflow);
    }
    command.task_queue = Some(queue);
    Ok(command)
}

fn check_sizes(
    command: &ContinueAsNewWorkflowExecutionCommandAttributes,
    at: &Stamp<'_>,
) -> Result<(), CommandFailure> {
    let fatal = |text: &str| CommandFailure::fatal(CAUSE, text);
    if !validate::payloads_fit(command.input.as_ref(), at.limits) {
        return Err(fatal("ContinueAsNewWorkflowExecutionCommandAttributes. Input exceeds size limit."));
    }
    if !validate::memo_fits(command.memo.as_ref(), at.limits) {
        return Err(fatal("ContinueAsNewWorkflowExecutionCommandAttributes. Memo exceeds size limit."));
    }
    search_attributes::check_size(command.search_attributes.as_ref(), at.limits).map_err(|error| fatal(&error))
}

fn bad(message: String) -> CommandFailure {
    CommandFailure::new(CAUSE, message)
}

fn or(asked: Option<Duration>, default: Option<Duration>) -> Option<Duration> {
    if duration_nanos(asked.as_ref()) == 0 { default } else { asked }
}

/// Of what a message speaks.
struct Within<'a> {
    workflow_type: &'a str,
    task_queue: &'a str,
}

impl Within<'_> {
    fn text(&self, message: &str) -> String {
        format!("{message}. WorkflowType={} TaskQueue={}", self.workflow_type, self.task_queue)
    }

    fn timeout(&self, value: Option<Duration>, what: &str) -> Result<Option<Duration>, CommandFailure> {
        validate::duration(value.as_ref()).map_err(|error| {
            bad(self.text(&format!("Invalid {what} on ContinueAsNewWorkflowExecutionCommand: {error}")))
        })
    }
}
