//! What workers answer, and the commands of a completion: `timer id=t1 after=5s`, `cancel-timer id=t1`,
//! `activity id=a1 …`, `cancel-activity event=5`, `child id=…`, `signal-external to=…`,
//! `cancel-external to=…`, `marker name=m`, `upsert word=x`, `memo note=x`, `complete result=1`,
//! `fail message=m`, `cancel`, `continue-as-new`, `message id=…`, `nexus`; and what it says of updates:
//! `accept u1`, `reject u1 message=m`, `respond u1 result=1` (`lost`: with the request; their ids: `accept-u1`, …).

use bristlecone_proto::chain::input::Kind;
use bristlecone_proto::chain::{
    ActivityRef, CancelActivity, CompleteActivity, CompleteWorkflowTask, FailActivity, FailWorkflowTask,
    HeartbeatActivity,
};
use bristlecone_proto::temporal::api::command::v1::command::Attributes as A;
use bristlecone_proto::temporal::api::command::v1::{
    CancelTimerCommandAttributes, CancelWorkflowExecutionCommandAttributes, Command,
    CompleteWorkflowExecutionCommandAttributes, ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes, ModifyWorkflowPropertiesCommandAttributes,
    ProtocolMessageCommandAttributes, RecordMarkerCommandAttributes, RequestCancelActivityTaskCommandAttributes,
    RequestCancelExternalWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
    ScheduleNexusOperationCommandAttributes, SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes, StartTimerCommandAttributes,
    UpsertWorkflowSearchAttributesCommandAttributes,
};
use bristlecone_proto::temporal::api::common::v1::{
    ActivityType, Memo, Priority, SearchAttributes, WorkflowExecution, WorkflowType,
};
use bristlecone_proto::temporal::api::enums::v1::{CommandType, ParentClosePolicy, WorkflowTaskFailedCause};
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure};
use bristlecone_proto::temporal::api::protocol::v1::Message;
use bristlecone_proto::temporal::api::sdk::v1::UserMetadata;
use bristlecone_proto::temporal::api::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use bristlecone_proto::temporal::api::update::v1::{Acceptance, Meta, Outcome, Rejection, Response, outcome};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskFailedRequest,
    respond_workflow_task_completed_request::Capabilities,
};
use prost::{Message as _, Name};
use prost_types::Any;

use super::clients::{retry_policy, reuse};
use super::{Commands, Line, Step, duration, payload, payloads, update_request};

impl Commands {
    pub fn complete(&mut self, step: &Step) -> Kind {
        let line = &step.command;
        let sticky = line.value("sticky").map(|queue| StickyExecutionAttributes {
            worker_task_queue: Some(TaskQueue { name: queue.into(), ..TaskQueue::default() }),
            schedule_to_start_timeout: duration(line.nanos("sticky-timeout").or(Some(5_000_000_000))),
        });
        let says = |line: &&Line| matches!(line.name(), "accept" | "reject" | "respond");
        let (messages, commands): (Vec<_>, Vec<_>) = step.more.iter().partition(says);
        let request = RespondWorkflowTaskCompletedRequest {
            commands: commands.into_iter().map(|line| self.command(line)).collect(),
            messages: messages.into_iter().map(message).collect(),
            capabilities: Some(Capabilities { discard_speculative_workflow_task_with_events: !line.has("old") }),
            identity: line.or("identity", "worker"),
            sticky_attributes: sticky,
            return_new_workflow_task: line.has("return"),
            force_create_new_workflow_task: line.has("force"),
            binary_checksum: line.or("checksum", ""),
            ..RespondWorkflowTaskCompletedRequest::default()
        };
        let token = self.tasks.get(line.what()).cloned();
        Kind::CompleteWorkflowTask(CompleteWorkflowTask { token, request: Some(request.into()) })
    }

    pub fn fail(&mut self, line: &Line) -> Kind {
        let cause = match line.or("cause", "").as_str() {
            "" => WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure,
            "too-large" => WorkflowTaskFailedCause::GrpcMessageTooLarge,
            "non-deterministic" => WorkflowTaskFailedCause::NonDeterministicError,
            other => panic!("unknown cause {other}"),
        };
        let request = RespondWorkflowTaskFailedRequest {
            cause: cause.into(),
            failure: line.value("message").map(|message| failure(line, message)),
            identity: "worker".into(),
            ..RespondWorkflowTaskFailedRequest::default()
        };
        let token = self.tasks.get(line.what()).cloned();
        Kind::FailWorkflowTask(FailWorkflowTask { token, request: Some(request.into()) })
    }

    fn command(&self, line: &Line) -> Command {
        let (command_type, attributes) = self.attributes(line);
        let user_metadata =
            line.value("summary").map(|text| UserMetadata { summary: Some(payload(text)), details: None });
        Command {
            command_type: command_type.into(),
            user_metadata,
            attributes: (!line.has("empty")).then_some(attributes),
            ..Command::default()
        }
    }

    fn attributes(&self, line: &Line) -> (CommandType, A) {
        match line.name() {
            "timer" => (
                CommandType::StartTimer,
                A::StartTimerCommandAttributes(StartTimerCommandAttributes {
                    timer_id: line.or("id", ""),
                    start_to_fire_timeout: duration(line.nanos("after")),
                }),
            ),
            "cancel-timer" => (
                CommandType::CancelTimer,
                A::CancelTimerCommandAttributes(CancelTimerCommandAttributes { timer_id: line.or("id", "") }),
            ),
            "activity" => {
                (CommandType::ScheduleActivityTask, A::ScheduleActivityTaskCommandAttributes(schedule_activity(line)))
            }
            "cancel-activity" => (
                CommandType::RequestCancelActivityTask,
                A::RequestCancelActivityTaskCommandAttributes(RequestCancelActivityTaskCommandAttributes {
                    scheduled_event_id: line.number("event").unwrap_or(0),
                }),
            ),
            "marker" => (
                CommandType::RecordMarker,
                A::RecordMarkerCommandAttributes(RecordMarkerCommandAttributes {
                    marker_name: line.or("name", ""),
                    details: payloads(line.value("details")).map(|p| ("data".into(), p)).into_iter().collect(),
                    ..RecordMarkerCommandAttributes::default()
                }),
            ),
            "upsert" => (
                CommandType::UpsertWorkflowSearchAttributes,
                A::UpsertWorkflowSearchAttributesCommandAttributes(UpsertWorkflowSearchAttributesCommandAttributes {
                    search_attributes: Some(search_attributes(line)),
                }),
            ),
            "memo" => (
                CommandType::ModifyWorkflowProperties,
                A::ModifyWorkflowPropertiesCommandAttributes(ModifyWorkflowPropertiesCommandAttributes {
                    upserted_memo: line
                        .value("note")
                        .map(|text| Memo { fields: [("note".into(), payload(text))].into() }),
                }),
            ),
            "message" => (
                CommandType::ProtocolMessage,
                A::ProtocolMessageCommandAttributes(ProtocolMessageCommandAttributes {
                    message_id: line.or("id", "m"),
                }),
            ),
            "nexus" => (
                CommandType::ScheduleNexusOperation,
                A::ScheduleNexusOperationCommandAttributes(ScheduleNexusOperationCommandAttributes::default()),
            ),
            _ => self.closing_or_external(line),
        }
    }

    fn closing_or_external(&self, line: &Line) -> (CommandType, A) {
        match line.name() {
            "complete" => (
                CommandType::CompleteWorkflowExecution,
                A::CompleteWorkflowExecutionCommandAttributes(CompleteWorkflowExecutionCommandAttributes {
                    result: payloads(line.value("result")),
                }),
            ),
            "fail" => (
                CommandType::FailWorkflowExecution,
                A::FailWorkflowExecutionCommandAttributes(FailWorkflowExecutionCommandAttributes {
                    failure: line.value("message").map(|message| failure(line, message)),
                }),
            ),
            "cancel" => (
                CommandType::CancelWorkflowExecution,
                A::CancelWorkflowExecutionCommandAttributes(CancelWorkflowExecutionCommandAttributes {
                    details: payloads(line.value("details")),
                }),
            ),
            "continue-as-new" => (
                CommandType::ContinueAsNewWorkflowExecution,
                A::ContinueAsNewWorkflowExecutionCommandAttributes(ContinueAsNewWorkflowExecutionCommandAttributes {
                    workflow_type: line.value("type").map(|name| WorkflowType { name: name.into() }),
                    input: payloads(line.value("input")),
                    workflow_run_timeout: duration(line.nanos("run-timeout")),
                    backoff_start_interval: duration(line.nanos("backoff")),
                    memo: line.value("note").map(|text| Memo { fields: [("note".into(), payload(text))].into() }),
                    ..ContinueAsNewWorkflowExecutionCommandAttributes::default()
                }),
            ),
            "child" => (
                CommandType::StartChildWorkflowExecution,
                A::StartChildWorkflowExecutionCommandAttributes(self.start_child(line)),
            ),
            "signal-external" => (
                CommandType::SignalExternalWorkflowExecution,
                A::SignalExternalWorkflowExecutionCommandAttributes(SignalExternalWorkflowExecutionCommandAttributes {
                    namespace: line.or("namespace", ""),
                    execution: Some(WorkflowExecution {
                        workflow_id: line.or("to", ""),
                        run_id: self.names.id(&line.or("run", "")),
                    }),
                    signal_name: line.or("name", "poke"),
                    input: payloads(line.value("input")),
                    child_workflow_only: line.has("child-only"),
                    ..SignalExternalWorkflowExecutionCommandAttributes::default()
                }),
            ),
            "cancel-external" => (
                CommandType::RequestCancelExternalWorkflowExecution,
                A::RequestCancelExternalWorkflowExecutionCommandAttributes(
                    RequestCancelExternalWorkflowExecutionCommandAttributes {
                        namespace: line.or("namespace", ""),
                        workflow_id: line.or("to", ""),
                        run_id: self.names.id(&line.or("run", "")),
                        child_workflow_only: line.has("child-only"),
                        reason: line.or("reason", ""),
                        ..RequestCancelExternalWorkflowExecutionCommandAttributes::default()
                    },
                ),
            ),
            other => panic!("unknown worker command {other}"),
        }
    }

    fn start_child(&self, line: &Line) -> StartChildWorkflowExecutionCommandAttributes {
        let policy = match line.or("policy", "").as_str() {
            "" => ParentClosePolicy::Unspecified,
            "terminate" => ParentClosePolicy::Terminate,
            "abandon" => ParentClosePolicy::Abandon,
            "cancel" => ParentClosePolicy::RequestCancel,
            other => panic!("unknown parent close policy {other}"),
        };
        StartChildWorkflowExecutionCommandAttributes {
            namespace: line.or("namespace", ""),
            workflow_id: line.or("id", ""),
            workflow_type: Some(WorkflowType { name: line.or("type", "Child") }),
            task_queue: line.value("queue").map(|name| TaskQueue { name: name.into(), ..TaskQueue::default() }),
            input: payloads(line.value("input")),
            workflow_run_timeout: duration(line.nanos("run-timeout")),
            parent_close_policy: policy.into(),
            workflow_id_reuse_policy: reuse(&line.or("reuse", "")).into(),
            retry_policy: retry_policy(line),
            cron_schedule: line.or("cron", ""),
            ..StartChildWorkflowExecutionCommandAttributes::default()
        }
    }

    /// By the poll that is the second word, or by `activity=` and the current run.
    fn activity(&self, line: &Line) -> Option<ActivityRef> {
        if let Some(activity_id) = line.value("activity") {
            return Some(ActivityRef {
                run_id: self.names.id(&line.or("run", "")),
                activity_id: activity_id.into(),
                by_id: true,
                ..ActivityRef::default()
            });
        }
        let started = self.activities.get(line.what()).unwrap_or_else(|| panic!("no such poll: {line:?}"));
        let token = started.token.clone().expect("a started activity has a token");
        Some(ActivityRef {
            run_id: token.run_id,
            scheduled_event_id: token.scheduled_event_id,
            activity_id: token.activity_id,
            attempt: token.attempt,
            by_id: false,
            started_time: token.started_time,
        })
    }

    pub fn complete_activity(&mut self, line: &Line) -> Kind {
        Kind::CompleteActivity(CompleteActivity {
            activity: self.activity(line),
            result: payloads(line.value("result")),
            identity: line.or("identity", "worker"),
            ..CompleteActivity::default()
        })
    }

    pub fn fail_activity(&mut self, line: &Line) -> Kind {
        Kind::FailActivity(FailActivity {
            activity: self.activity(line),
            failure: Some(failure(line, &line.or("message", "no"))),
            identity: line.or("identity", "worker"),
            last_heartbeat_details: payloads(line.value("details")),
            ..FailActivity::default()
        })
    }

    pub fn cancel_activity(&mut self, line: &Line) -> Kind {
        Kind::CancelActivity(CancelActivity {
            activity: self.activity(line),
            details: payloads(line.value("details")),
            identity: line.or("identity", "worker"),
            ..CancelActivity::default()
        })
    }

    pub fn heartbeat(&mut self, line: &Line) -> Kind {
        Kind::HeartbeatActivity(HeartbeatActivity {
            activity: self.activity(line),
            details: payloads(line.value("details")),
            identity: line.or("identity", "worker"),
        })
    }
}

fn schedule_activity(line: &Line) -> ScheduleActivityTaskCommandAttributes {
    ScheduleActivityTaskCommandAttributes {
        activity_id: line.or("id", ""),
        activity_type: Some(ActivityType { name: line.or("type", "Work") }),
        task_queue: Some(TaskQueue { name: line.or("queue", "aq"), ..TaskQueue::default() }),
        input: payloads(line.value("input")),
        schedule_to_close_timeout: duration(line.nanos("schedule-to-close")),
        schedule_to_start_timeout: duration(line.nanos("schedule-to-start")),
        start_to_close_timeout: duration(line.nanos("start-to-close")),
        heartbeat_timeout: duration(line.nanos("heartbeat")),
        retry_policy: retry_policy(line),
        request_eager_execution: line.has("eager"),
        priority: line.number("priority").map(|key| Priority { priority_key: key as i32, ..Priority::default() }),
        ..ScheduleActivityTaskCommandAttributes::default()
    }
}

fn search_attributes(line: &Line) -> SearchAttributes {
    let mut attributes = SearchAttributes::default();
    for (key, name) in [("word", "Word"), ("number", "Number"), ("unknown", "Unknown")] {
        if let Some(text) = line.value(key) {
            let json = if key == "word" && !text.is_empty() { format!("\"{text}\"") } else { text.to_string() };
            attributes.indexed_fields.insert(name.into(), payload(&json));
        }
    }
    attributes
}

fn failure(line: &Line, message: &str) -> Failure {
    let info = ApplicationFailureInfo {
        r#type: line.or("type", ""),
        non_retryable: line.has("fatal"),
        next_retry_delay: duration(line.nanos("delay")),
        ..ApplicationFailureInfo::default()
    };
    Failure {
        message: message.into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Failure::default()
    }
}

/// What the worker says of an update.
fn message(line: &Line) -> Message {
    let id = line.what();
    let lost = line.has("lost").then(|| update_request(id, None));
    let (name, value) = match line.name() {
        "accept" => {
            let acceptance = Acceptance {
                accepted_request_message_id: format!("{id}/request"),
                accepted_request_sequencing_event_id: line.number("event").unwrap_or(2),
                accepted_request: lost,
            };
            (Acceptance::full_name(), acceptance.encode_to_vec())
        }
        "reject" => {
            let failure = Some(failure(line, &line.or("message", "no")));
            let rejection = Rejection { failure, rejected_request: lost, ..Rejection::default() };
            (Rejection::full_name(), rejection.encode_to_vec())
        }
        _ => {
            let value = outcome::Value::Success(payloads(line.value("result")).unwrap_or_default());
            let response = Response {
                meta: Some(Meta { update_id: id.into(), identity: "client".into() }),
                outcome: Some(Outcome { value: Some(value) }),
            };
            (Response::full_name(), response.encode_to_vec())
        }
    };
    Message {
        id: format!("{}-{id}", line.name()),
        protocol_instance_id: id.into(),
        body: Some(Any { type_url: format!("type.googleapis.com/{name}"), value }),
        ..Message::default()
    }
}
