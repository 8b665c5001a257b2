//! START_CHILD_WORKFLOW_EXECUTION: the child is started by a message to its chain (`child.rs`).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::{ChainId, Input, RunRef, StartChild, input};
use bristlecone_proto::temporal::api::command::v1::{Command, StartChildWorkflowExecutionCommandAttributes};
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::{
    ParentClosePolicy, WorkflowIdReusePolicy, WorkflowTaskFailedCause as Cause,
};
use bristlecone_proto::temporal::api::history::v1::StartChildWorkflowExecutionInitiatedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::sdk::v1::UserMetadata;
use prost_types::Duration;

use super::{CommandContext, CommandFailure, check_namespace, pending_limit};
use crate::draft::Draft;
use crate::{cron, ids, new_run, tasks, validate};

const CAUSE: Cause = Cause::BadStartChildExecutionAttributes;

pub(crate) fn apply(
    draft: &mut Draft<'_>,
    ctx: &mut CommandContext,
    command: &Command,
    attributes: &StartChildWorkflowExecutionCommandAttributes,
) -> Result<(), CommandFailure> {
    let mut attributes = attributes.clone();
    check(draft, &mut attributes, ctx)?;
    let limits = draft.at().limits;
    validate::user_metadata(command.user_metadata.as_ref(), limits)
        .map_err(|message| CommandFailure::new(CAUSE, message))?;
    check_sizes(draft, &attributes)?;
    let pending = draft.run(&ctx.run_id).children.len();
    let cause = Cause::PendingChildWorkflowsLimitExceeded;
    pending_limit(pending, limits.pending_children_max, "pending child workflow executions", cause)?;

    let initiated = initiated(draft, ctx, attributes);
    let event = Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(initiated.clone());
    let initiated_event_id = draft.add_command_event(&ctx.run_id, event, command.user_metadata.as_ref());
    ctx.children.insert(initiated.workflow_id.clone());
    send(draft, &ctx.run_id, initiated_event_id, initiated, command.user_metadata.clone());
    Ok(())
}

/// Asks the child's chain to start it.
pub(crate) fn send(
    draft: &mut Draft<'_>,
    run_id: &str,
    initiated_event_id: i64,
    mut initiated: StartChildWorkflowExecutionInitiatedEventAttributes,
    user_metadata: Option<UserMetadata>,
) {
    let run = draft.run(run_id);
    let child_type = initiated.workflow_type.as_ref().map_or("", |t| &t.name);
    if run.head.former_children.contains(&format!("{child_type}:{}", initiated.workflow_id)) {
        initiated.set_workflow_id_reuse_policy(WorkflowIdReusePolicy::TerminateIfRunning);
    }
    let itself = WorkflowExecution { workflow_id: draft.id().workflow_id.clone(), run_id: run_id.into() };
    let message = StartChild {
        parent: Some(RunRef { chain: Some(draft.id().clone()), run_id: run_id.into() }),
        initiated_event_id,
        root: Some(run.started.root_workflow_execution.clone().unwrap_or(itself)),
        user_metadata,
        request_id: ids::derived(run_id, initiated_event_id),
        priority: tasks::merge(run.head.priority.as_ref(), initiated.priority.as_ref()),
        attributes: Some(initiated),
    };
    let child = message.attributes.as_ref();
    let target =
        ChainId { workflow_id: child.map(|child| child.workflow_id.clone()).unwrap_or_default(), ..draft.id().clone() };
    draft.send(run_id, target, Input { kind: Some(input::Kind::StartChild(message.into())), ..Input::default() });
}

fn initiated(
    draft: &Draft<'_>,
    ctx: &CommandContext,
    command: StartChildWorkflowExecutionCommandAttributes,
) -> StartChildWorkflowExecutionInitiatedEventAttributes {
    let policy = match command.parent_close_policy() {
        ParentClosePolicy::Unspecified => ParentClosePolicy::Terminate,
        policy => policy,
    };
    let reuse = match command.workflow_id_reuse_policy() {
        WorkflowIdReusePolicy::Unspecified => WorkflowIdReusePolicy::AllowDuplicate,
        reuse => reuse,
    };
    StartChildWorkflowExecutionInitiatedEventAttributes {
        namespace: draft.id().namespace.clone(),
        namespace_id: draft.id().namespace_id.clone(),
        workflow_id: command.workflow_id,
        workflow_type: command.workflow_type,
        task_queue: command.task_queue,
        input: command.input,
        workflow_execution_timeout: command.workflow_execution_timeout,
        workflow_run_timeout: command.workflow_run_timeout,
        workflow_task_timeout: command.workflow_task_timeout,
        parent_close_policy: policy.into(),
        control: command.control,
        workflow_task_completed_event_id: ctx.completed_event_id,
        workflow_id_reuse_policy: reuse.into(),
        retry_policy: command.retry_policy,
        cron_schedule: command.cron_schedule,
        header: command.header,
        memo: new_run::memo(command.memo),
        search_attributes: new_run::search_attributes(command.search_attributes),
        inherit_build_id: command.inherit_build_id,
        priority: command.priority,
        versioning_override: command.versioning_override,
        ..StartChildWorkflowExecutionInitiatedEventAttributes::default()
    }
}

/// Checks the command and fills in what follows from its parent.
fn check(
    draft: &Draft<'_>,
    command: &mut StartChildWorkflowExecutionCommandAttributes,
    ctx: &CommandContext,
) -> Result<(), CommandFailure> {
    let at = draft.at();
    check_namespace(draft, &command.namespace, CAUSE)?;
    let namespace = draft.id().namespace.clone();
    let workflow_id = command.workflow_id.clone();
    let workflow_type = command.workflow_type.as_ref().map(|t| t.name.clone()).unwrap_or_default();
    let bad = |message: String| CommandFailure::new(CAUSE, message);
    let named = format!("WorkflowId={workflow_id} WorkflowType={workflow_type} Namespace={namespace}");
    check_ids(&workflow_id, &workflow_type, &namespace, at.limits.id_bytes_max).map_err(bad)?;

    let timeout = |value: Option<Duration>, what: &str| {
        validate::duration(value.as_ref())
            .map_err(|error| bad(format!("Invalid {what} on StartChildWorkflowExecutionCommand: {error}. {named}")))
    };
    command.workflow_execution_timeout = timeout(command.workflow_execution_timeout, "WorkflowExecutionTimeout")?;
    command.workflow_run_timeout = timeout(command.workflow_run_timeout, "WorkflowRunTimeout")?;
    command.workflow_task_timeout = timeout(command.workflow_task_timeout, "WorkflowTaskTimeout")?;
    let invalid =
        |what: &str, error: String| format!("invalid {what} on StartChildWorkflowExecutionCommand: {error}. {named}");
    if let Some(policy) = &command.retry_policy {
        let policy = validate::retry_policy::complete(policy);
        command.retry_policy = Some(policy.map_err(|error| bad(invalid("WorkflowRetryPolicy", error)))?);
    }
    cron::validate(&command.cron_schedule, at.now)
        .map_err(|error| bad(invalid("CronSchedule", error.text().to_owned())))?;
    validate::search_attributes::check(command.search_attributes.as_ref(), at).map_err(|error| {
        let message = format!("invalid SearchAttributes on StartChildWorkflowCommand: {error}. {named}");
        CommandFailure::new(Cause::BadSearchAttributes, message)
    })?;
    validate::priority(command.priority.as_ref()).map_err(|error| bad(error.into()))?;

    let run = draft.run(&ctx.run_id);
    let own_queue = run.started.task_queue.as_ref().map_or("", |queue| queue.name.as_str());
    let asked = command.task_queue.clone().unwrap_or_default();
    let queue = validate::task_queue(Some(&asked), own_queue, at.limits)
        .map_err(|error| bad(format!("{} TaskQueue={}", invalid("TaskQueue", error), asked.name)))?;
    if command.inherit_build_id && queue.name != own_queue {
        let message = "StartChildWorkflowExecution with UseCompatibleVersion cannot run on different task queue.";
        return Err(CommandFailure::new(CAUSE, message));
    }
    command.task_queue = Some(queue);
    let execution = command.workflow_execution_timeout.as_ref();
    let run_timeout = new_run::run_timeout(command.workflow_run_timeout.as_ref(), execution);
    command.workflow_run_timeout = Some(run_timeout.unwrap_or_default());
    let run = command.workflow_run_timeout.as_ref();
    command.workflow_task_timeout = new_run::task_timeout(command.workflow_task_timeout.as_ref(), run, at.limits);
    Ok(())
}

fn check_ids(workflow_id: &str, workflow_type: &str, namespace: &str, limit: usize) -> Result<(), String> {
    if workflow_id.is_empty() {
        return Err(format!(
            "Required field WorkflowId is not set on StartChildWorkflowExecutionCommand. \
             WorkflowType={workflow_type} Namespace={namespace}"
        ));
    }
    if workflow_type.is_empty() {
        return Err(format!(
            "Required field WorkflowType is not set on StartChildWorkflowExecutionCommand. \
             WorkflowId={workflow_id} Namespace={namespace}"
        ));
    }
    if workflow_id.len() > limit {
        return Err(format!(
            "WorkflowId on StartChildWorkflowExecutionCommand exceeds length limit. WorkflowId={workflow_id} \
             Length={} Limit={limit} WorkflowType={workflow_type} Namespace={namespace}",
            workflow_id.len()
        ));
    }
    if workflow_type.len() > limit {
        return Err(format!(
            "WorkflowType on StartChildWorkflowExecutionCommand exceeds length limit. WorkflowId={workflow_id} \
             WorkflowType={workflow_type} Length={} Limit={limit} Namespace={namespace}",
            workflow_type.len()
        ));
    }
    Ok(())
}

fn check_sizes(
    draft: &Draft<'_>,
    command: &StartChildWorkflowExecutionCommandAttributes,
) -> Result<(), CommandFailure> {
    let limits = draft.at().limits;
    if !validate::payloads_fit(command.input.as_ref(), limits) {
        let message = "StartChildWorkflowExecutionCommandAttributes. Input exceeds size limit.";
        return Err(CommandFailure::fatal(CAUSE, message));
    }
    if !validate::memo_fits(command.memo.as_ref(), limits) {
        let message = "StartChildWorkflowExecutionCommandAttributes.Memo exceeds size limit.";
        return Err(CommandFailure::fatal(CAUSE, message));
    }
    validate::search_attributes::check_size(command.search_attributes.as_ref(), limits)
        .map_err(|message| CommandFailure::fatal(CAUSE, message))
}
