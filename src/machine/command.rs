//! The commands with which a worker completes a workflow task: one file each.
//!
//! # Contract
//! Commands are applied in order, each by `apply` in its file. The first that is refused ends the
//! whole completion: its draft is dropped, and the workflow task fails with the command's cause.
//! Validation messages are those of the API's original server.

mod cancel_timer;
mod cancel_workflow;
mod complete_workflow;
mod continue_as_new;
mod fail_workflow;
mod modify_properties;
mod record_marker;
mod request_cancel_activity;
mod request_cancel_external;
mod schedule_activity;
mod signal_external;
pub(crate) mod start_child;
mod start_timer;
mod upsert_search_attributes;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::temporal::api::command::v1::Command;
use bristlecone_proto::temporal::api::command::v1::command::Attributes as A;
use bristlecone_proto::temporal::api::common::v1::Payload;
use bristlecone_proto::temporal::api::enums::v1::{CommandType, WorkflowTaskFailedCause as Cause};
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes as EventAttributes;
use bristlecone_proto::temporal::api::protocol::v1::Message as ProtocolMessage;

use crate::draft::Draft;
use crate::stamp::Limits;
use crate::{close, event, update};

/// What the commands of one completion share.
#[derive(Debug)]
pub(crate) struct CommandContext {
    pub run_id: String,
    /// Id of the WorkflowTaskCompleted event.
    pub completed_event_id: i64,
    /// Identity of the worker.
    pub identity: String,
    /// Events arrived while the worker was at it: then the run can't be closed.
    pub has_buffered: bool,
    /// An activity was canceled before it started, which the workflow has to hear.
    pub activity_canceled: bool,
    /// Workflow ids of the children that were initiated by earlier commands of this completion.
    pub children: BTreeSet<String>,
    /// Scheduled event ids of activities that the worker wants to have at once.
    pub eager_activities: Vec<i64>,
    /// What the worker says of updates, as far as no command has named it yet.
    pub messages: Vec<ProtocolMessage>,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommandFailure {
    pub cause: Cause,
    /// Empty when the cause says it all.
    pub message: String,
    /// The workflow is terminated besides: what it asked for will never fit.
    pub terminate: bool,
}

impl CommandFailure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), terminate: false }
    }

    /// As [`CommandFailure::new`], for what ends the workflow too.
    pub fn fatal(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), terminate: true }
    }

    /// What the worker and the history are told.
    pub fn text(&self) -> String {
        let cause = cause_name(self.cause);
        if self.message.is_empty() { cause } else { format!("{cause}: {}", self.message) }
    }
}

/// Applies one command.
pub(crate) fn apply(draft: &mut Draft<'_>, ctx: &mut CommandContext, command: &Command) -> Result<(), CommandFailure> {
    let attributes = command.attributes.as_ref().filter(|attributes| type_of(attributes) == command.command_type());
    let Some(attributes) = attributes else { return Err(without_attributes(command.command_type())) };
    match attributes {
        A::ScheduleActivityTaskCommandAttributes(a) => schedule_activity::apply(draft, ctx, command, a),
        A::RequestCancelActivityTaskCommandAttributes(a) => request_cancel_activity::apply(draft, ctx, command, a),
        A::StartTimerCommandAttributes(a) => start_timer::apply(draft, ctx, command, a),
        A::CancelTimerCommandAttributes(a) => cancel_timer::apply(draft, ctx, command, a),
        A::CompleteWorkflowExecutionCommandAttributes(a) => complete_workflow::apply(draft, ctx, command, a),
        A::FailWorkflowExecutionCommandAttributes(a) => fail_workflow::apply(draft, ctx, command, a),
        A::CancelWorkflowExecutionCommandAttributes(a) => cancel_workflow::apply(draft, ctx, command, a),
        A::ContinueAsNewWorkflowExecutionCommandAttributes(a) => continue_as_new::apply(draft, ctx, command, a),
        A::StartChildWorkflowExecutionCommandAttributes(a) => start_child::apply(draft, ctx, command, a),
        A::SignalExternalWorkflowExecutionCommandAttributes(a) => signal_external::apply(draft, ctx, command, a),
        A::RequestCancelExternalWorkflowExecutionCommandAttributes(a) => {
            request_cancel_external::apply(draft, ctx, command, a)
        }
        A::RecordMarkerCommandAttributes(a) => record_marker::apply(draft, ctx, command, a),
        A::UpsertWorkflowSearchAttributesCommandAttributes(a) => {
            upsert_search_attributes::apply(draft, ctx, command, a)
        }
        A::ModifyWorkflowPropertiesCommandAttributes(a) => modify_properties::apply(draft, ctx, command, a),
        A::ProtocolMessageCommandAttributes(a) => update::message::take(draft, ctx, &a.message_id),
        A::ScheduleNexusOperationCommandAttributes(_) | A::RequestCancelNexusOperationCommandAttributes(_) => {
            Err(CommandFailure::new(Cause::FeatureDisabled, "Nexus operations disabled"))
        }
    }
}

/// A command after one that closes the run, or one that nobody knows: the whole answer is refused.
pub(crate) fn check_sequence(commands: &[Command]) -> Result<(), String> {
    let mut closed_by = None;
    for command in commands {
        if let Some(closing) = closed_by {
            let names: Vec<String> = commands.iter().map(|command| type_name(command.command_type())).collect();
            return Err(format!(
                "invalid command sequence: [{}], command {} must be the last command.",
                names.join(", "),
                type_name(closing)
            ));
        }
        let command_type = CommandType::try_from(command.command_type).unwrap_or(CommandType::Unspecified);
        match command_type {
            CommandType::CompleteWorkflowExecution
            | CommandType::FailWorkflowExecution
            | CommandType::CancelWorkflowExecution
            | CommandType::ContinueAsNewWorkflowExecution => closed_by = Some(command_type),
            CommandType::Unspecified => return Err(format!("unknown command type: {}", command.command_type)),
            CommandType::ScheduleActivityTask
            | CommandType::RequestCancelActivityTask
            | CommandType::StartTimer
            | CommandType::CancelTimer
            | CommandType::RequestCancelExternalWorkflowExecution
            | CommandType::RecordMarker
            | CommandType::StartChildWorkflowExecution
            | CommandType::SignalExternalWorkflowExecution
            | CommandType::UpsertWorkflowSearchAttributes
            | CommandType::ProtocolMessage
            | CommandType::ModifyWorkflowProperties
            | CommandType::ScheduleNexusOperation
            | CommandType::RequestCancelNexusOperation => {}
        }
    }
    Ok(())
}

/// A run has at most so many pending things of a kind.
pub(crate) fn pending_limit(pending: usize, most: usize, what: &str, cause: Cause) -> Result<(), CommandFailure> {
    if most == 0 || pending < most {
        return Ok(());
    }
    let message = format!("the number of {what}, {pending}, has reached the per-workflow limit of {most}");
    Err(CommandFailure::new(cause, message))
}

/// Commands reach only workflows of their own namespace, which they may name or leave empty.
fn check_namespace(draft: &Draft<'_>, name: &str, cause: Cause) -> Result<(), CommandFailure> {
    let own = draft.id();
    if name.is_empty() || name == own.namespace || name == draft.at().namespace.name {
        return Ok(());
    }
    Err(CommandFailure::new(cause, "cross namespace commands are not allowed"))
}

/// The id of a timer, or what is wrong with it.
fn timer_id<'a>(id: &'a str, command: &str, cause: Cause, limits: &Limits) -> Result<&'a str, CommandFailure> {
    if id.is_empty() {
        return Err(CommandFailure::new(cause, format!("TimerId is not set on {command}.")));
    }
    let (length, limit) = (id.len(), limits.id_bytes_max);
    if length > limit {
        let message = format!("TimerId on {command} exceeds length limit. TimerId={id} Length={length} Limit={limit}");
        return Err(CommandFailure::new(cause, message));
    }
    Ok(id)
}

/// Bytes of names and data.
fn map_bytes(fields: &BTreeMap<String, Payload>) -> usize {
    fields.iter().map(|(name, payload)| name.len() + payload.data.len()).sum()
}

/// Ends the run with this event.
fn close(draft: &mut Draft<'_>, ctx: &CommandContext, command: &Command, attributes: EventAttributes) {
    let event = event::new(draft.now(), attributes);
    close::close(draft, &ctx.run_id, HistoryEvent { user_metadata: command.user_metadata.clone(), ..event });
}

/// A run can't be closed while events wait that the workflow has not seen.
fn nothing_buffered(ctx: &CommandContext) -> Result<(), CommandFailure> {
    if ctx.has_buffered { Err(CommandFailure::new(Cause::UnhandledCommand, "")) } else { Ok(()) }
}

/// The type that goes with the attributes.
fn type_of(attributes: &A) -> CommandType {
    match attributes {
        A::ScheduleActivityTaskCommandAttributes(_) => CommandType::ScheduleActivityTask,
        A::StartTimerCommandAttributes(_) => CommandType::StartTimer,
        A::CompleteWorkflowExecutionCommandAttributes(_) => CommandType::CompleteWorkflowExecution,
        A::FailWorkflowExecutionCommandAttributes(_) => CommandType::FailWorkflowExecution,
        A::RequestCancelActivityTaskCommandAttributes(_) => CommandType::RequestCancelActivityTask,
        A::CancelTimerCommandAttributes(_) => CommandType::CancelTimer,
        A::CancelWorkflowExecutionCommandAttributes(_) => CommandType::CancelWorkflowExecution,
        A::RequestCancelExternalWorkflowExecutionCommandAttributes(_) => {
            CommandType::RequestCancelExternalWorkflowExecution
        }
        A::RecordMarkerCommandAttributes(_) => CommandType::RecordMarker,
        A::ContinueAsNewWorkflowExecutionCommandAttributes(_) => CommandType::ContinueAsNewWorkflowExecution,
        A::StartChildWorkflowExecutionCommandAttributes(_) => CommandType::StartChildWorkflowExecution,
        A::SignalExternalWorkflowExecutionCommandAttributes(_) => CommandType::SignalExternalWorkflowExecution,
        A::UpsertWorkflowSearchAttributesCommandAttributes(_) => CommandType::UpsertWorkflowSearchAttributes,
        A::ProtocolMessageCommandAttributes(_) => CommandType::ProtocolMessage,
        A::ModifyWorkflowPropertiesCommandAttributes(_) => CommandType::ModifyWorkflowProperties,
        A::ScheduleNexusOperationCommandAttributes(_) => CommandType::ScheduleNexusOperation,
        A::RequestCancelNexusOperationCommandAttributes(_) => CommandType::RequestCancelNexusOperation,
    }
}

fn without_attributes(command_type: CommandType) -> CommandFailure {
    let cause = match command_type {
        CommandType::ScheduleActivityTask => Cause::BadScheduleActivityAttributes,
        CommandType::RequestCancelActivityTask => Cause::BadRequestCancelActivityAttributes,
        CommandType::StartTimer => Cause::BadStartTimerAttributes,
        CommandType::CancelTimer => Cause::BadCancelTimerAttributes,
        CommandType::CompleteWorkflowExecution => Cause::BadCompleteWorkflowExecutionAttributes,
        CommandType::FailWorkflowExecution => Cause::BadFailWorkflowExecutionAttributes,
        CommandType::CancelWorkflowExecution => Cause::BadCancelWorkflowExecutionAttributes,
        CommandType::ContinueAsNewWorkflowExecution => Cause::BadContinueAsNewAttributes,
        CommandType::RecordMarker => Cause::BadRecordMarkerAttributes,
        CommandType::StartChildWorkflowExecution => Cause::BadStartChildExecutionAttributes,
        CommandType::SignalExternalWorkflowExecution => Cause::BadSignalWorkflowExecutionAttributes,
        CommandType::RequestCancelExternalWorkflowExecution => {
            Cause::BadRequestCancelExternalWorkflowExecutionAttributes
        }
        CommandType::UpsertWorkflowSearchAttributes => Cause::BadSearchAttributes,
        CommandType::ModifyWorkflowProperties => Cause::BadModifyWorkflowPropertiesAttributes,
        CommandType::ScheduleNexusOperation => Cause::BadScheduleNexusOperationAttributes,
        CommandType::RequestCancelNexusOperation => Cause::BadRequestCancelNexusOperationAttributes,
        CommandType::ProtocolMessage => Cause::BadUpdateWorkflowExecutionMessage,
        CommandType::Unspecified => Cause::UnhandledCommand,
    };
    let name = type_name(command_type);
    CommandFailure::new(cause, format!("{name}CommandAttributes is not set on {name}Command."))
}

/// `StartTimer`, `CompleteWorkflowExecution`.
fn type_name(command_type: CommandType) -> String {
    camel(command_type.as_str_name().trim_start_matches("COMMAND_TYPE_"))
}

/// The cause as people read it: `UnhandledCommand`.
pub(crate) fn cause_name(cause: Cause) -> String {
    camel(cause.as_str_name().trim_start_matches("WORKFLOW_TASK_FAILED_CAUSE_"))
}

/// `UPPER_SNAKE` as `UpperSnake`.
pub(crate) fn camel(upper_snake: &str) -> String {
    let mut text = String::with_capacity(upper_snake.len());
    for word in upper_snake.split('_') {
        let mut chars = word.chars();
        text.extend(chars.next());
        text.push_str(&chars.as_str().to_ascii_lowercase());
    }
    text
}
