//! A job as a workflow: how it is started, what its workflow tasks decide, what is told of it.

use bristlecone_proto::temporal::api::command::v1::command::Attributes as C;
use bristlecone_proto::temporal::api::command::v1::{
    CancelWorkflowExecutionCommandAttributes, Command, CompleteWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes, ModifyWorkflowPropertiesCommandAttributes,
    ScheduleActivityTaskCommandAttributes,
};
use bristlecone_proto::temporal::api::common::v1::{
    ActivityType, Memo, Payload, Payloads, Priority, RetryPolicy, SearchAttributes, WorkflowType,
};
use bristlecone_proto::temporal::api::enums::v1::{
    BatchOperationState, BatchOperationType, CommandType, WorkflowExecutionStatus as Status, WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy,
};
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes as E;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeBatchOperationResponse, DescribeWorkflowExecutionResponse, StartBatchOperationRequest,
    StartWorkflowExecutionRequest,
};
use bytes::Bytes;
use prost::{Message, Name};
use prost_types::Duration;

use super::TASK_QUEUE;
use super::progress::{Progress, Stats, json, payloads, read, read_one};
use super::request::{identity, operation_type};

/// The jobs of a namespace that run.
pub const OPEN_JOBS: &str = "TemporalNamespaceDivision = 'TemporalBatcher' AND ExecutionStatus = 'Running'";
/// The jobs of a namespace that are known.
pub const ALL_JOBS: &str = "TemporalNamespaceDivision = 'TemporalBatcher'";

const DIVISION: &str = "TemporalBatcher";
const WORKFLOW_TYPE: &str = "temporal-sys-batch-workflow-protobuf";
const ACTIVITY_TYPE: &str = "BatchActivityWithProtobuf";
const TYPE_MEMO: &str = "batch_operation_type";
const REASON_MEMO: &str = "batch_operation_reason";
const STATS_MEMO: &str = "batch_operation_stats";
const USER_ATTRIBUTE: &str = "BatcherUser";

/// The workflow that carries out a job. The request was checked.
pub fn start_request(request: &StartBatchOperationRequest, request_id: String) -> StartWorkflowExecutionRequest {
    let operation = request.operation.as_ref();
    let kind = operation.and_then(operation_type).map_or("", name);
    let user = operation.map_or("", identity);
    let memo = [(TYPE_MEMO, kind), (REASON_MEMO, request.reason.as_str())];
    let attributes = [(USER_ATTRIBUTE, user), ("TemporalNamespaceDivision", DIVISION)];
    StartWorkflowExecutionRequest {
        namespace: request.namespace.clone(),
        workflow_id: request.job_id.clone(),
        workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
        task_queue: Some(TaskQueue { name: TASK_QUEUE.into(), ..TaskQueue::default() }),
        input: Some(payloads(encoded(request))),
        identity: user.into(),
        request_id,
        workflow_id_conflict_policy: WorkflowIdConflictPolicy::Fail.into(),
        workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
        memo: Some(Memo { fields: memo.map(|(key, text)| (key.to_owned(), json(&text))).into() }),
        search_attributes: Some(SearchAttributes {
            indexed_fields: attributes.map(|(key, text)| (key.to_owned(), keyword(text))).into(),
        }),
        priority: Some(Priority::default()),
        ..StartWorkflowExecutionRequest::default()
    }
}

fn keyword(text: &str) -> Payload {
    let mut payload = json(&text);
    payload.metadata.insert("type".into(), Bytes::from_static(b"Keyword"));
    payload
}

fn encoded(request: &StartBatchOperationRequest) -> Payload {
    let metadata = [
        ("encoding".to_owned(), Bytes::from_static(b"binary/protobuf")),
        ("messageType".to_owned(), Bytes::from(StartBatchOperationRequest::full_name())),
    ];
    Payload { metadata: metadata.into(), data: request.encode_to_vec().into(), ..Payload::default() }
}

/// What a job was asked to do, from the input of its activity.
pub fn decoded(input: Option<&Payloads>) -> Option<StartBatchOperationRequest> {
    StartBatchOperationRequest::decode(input?.payloads.first()?.data.clone()).ok()
}

/// What a job's workflow does next, from its whole history.
pub fn decide(events: &[HistoryEvent]) -> Vec<Command> {
    let attributes = || events.iter().filter_map(|event| event.attributes.as_ref());
    if attributes().any(|a| matches!(a, E::WorkflowExecutionCancelRequestedEventAttributes(_))) {
        let cancel = CancelWorkflowExecutionCommandAttributes::default();
        return vec![command(
            CommandType::CancelWorkflowExecution,
            C::CancelWorkflowExecutionCommandAttributes(cancel),
        )];
    }
    let mut commands = Vec::new();
    let mut scheduled = false;
    for attribute in attributes() {
        match attribute {
            E::ActivityTaskScheduledEventAttributes(_) => scheduled = true,
            E::ActivityTaskCompletedEventAttributes(done) => commands = finish(done.result.as_ref()),
            E::ActivityTaskFailedEventAttributes(failed) => commands = fail(failed.failure.clone()),
            E::ActivityTaskTimedOutEventAttributes(timed_out) => commands = fail(timed_out.failure.clone()),
            _ => {}
        }
    }
    if scheduled {
        return commands;
    }
    let started = attributes().find_map(|a| match a {
        E::WorkflowExecutionStartedEventAttributes(started) => Some(started),
        _ => None,
    });
    match started {
        Some(started) if started.workflow_type.as_ref().is_some_and(|t| t.name == WORKFLOW_TYPE) => {
            vec![schedule(started.input.clone())]
        }
        _ => {
            let message = "the server has no workflow of this type".to_owned();
            fail(Some(Failure { message, ..Failure::default() }))
        }
    }
}

fn schedule(input: Option<Payloads>) -> Command {
    const HEARTBEAT_SECONDS: i64 = 10;
    const TWENTY_YEARS: i64 = 20 * 365 * 24 * 3600;
    let seconds = |seconds| Some(Duration { seconds, nanos: 0 });
    let activity = ScheduleActivityTaskCommandAttributes {
        activity_id: "1".into(),
        activity_type: Some(ActivityType { name: ACTIVITY_TYPE.into() }),
        task_queue: Some(TaskQueue { name: TASK_QUEUE.into(), ..TaskQueue::default() }),
        input,
        start_to_close_timeout: seconds(TWENTY_YEARS),
        heartbeat_timeout: seconds(HEARTBEAT_SECONDS),
        retry_policy: Some(RetryPolicy {
            initial_interval: seconds(1),
            backoff_coefficient: 1.7,
            maximum_interval: seconds(300),
            ..RetryPolicy::default()
        }),
        ..ScheduleActivityTaskCommandAttributes::default()
    };
    command(CommandType::ScheduleActivityTask, C::ScheduleActivityTaskCommandAttributes(activity))
}

fn finish(result: Option<&Payloads>) -> Vec<Command> {
    let done: Progress = read(result).unwrap_or_default();
    let stats = Stats { num_success: done.success_count, num_failure: done.error_count };
    let memo = Memo { fields: [(STATS_MEMO.to_owned(), json(&stats))].into() };
    let upsert = ModifyWorkflowPropertiesCommandAttributes { upserted_memo: Some(memo) };
    let complete = CompleteWorkflowExecutionCommandAttributes { result: result.cloned() };
    vec![
        command(CommandType::ModifyWorkflowProperties, C::ModifyWorkflowPropertiesCommandAttributes(upsert)),
        command(CommandType::CompleteWorkflowExecution, C::CompleteWorkflowExecutionCommandAttributes(complete)),
    ]
}

fn fail(failure: Option<Failure>) -> Vec<Command> {
    let fail = FailWorkflowExecutionCommandAttributes { failure };
    vec![command(CommandType::FailWorkflowExecution, C::FailWorkflowExecutionCommandAttributes(fail))]
}

fn command(kind: CommandType, attributes: C) -> Command {
    Command { command_type: kind.into(), attributes: Some(attributes), ..Command::default() }
}

/// What is told of a job, from the description of its workflow.
pub fn described(workflow: DescribeWorkflowExecutionResponse) -> DescribeBatchOperationResponse {
    let info = workflow.workflow_execution_info.unwrap_or_default();
    let memo = info.memo.unwrap_or_default().fields;
    let attributes = info.search_attributes.unwrap_or_default().indexed_fields;
    let text = |payload: Option<&Payload>| read_one::<String>(payload).unwrap_or_default();
    let status = Status::try_from(info.status).unwrap_or_default();
    let (total, complete, failed) = if status == Status::Completed {
        let stats: Stats = read_one(memo.get(STATS_MEMO)).unwrap_or_default();
        (stats.num_success + stats.num_failure, stats.num_success, stats.num_failure)
    } else {
        let activity = workflow.pending_activities.first();
        let progress: Progress =
            read(activity.and_then(|activity| activity.heartbeat_details.as_ref())).unwrap_or_default();
        (progress.total_estimate, progress.success_count, progress.error_count)
    };
    DescribeBatchOperationResponse {
        operation_type: kind(&text(memo.get(TYPE_MEMO))).into(),
        job_id: info.execution.unwrap_or_default().workflow_id,
        state: state(info.status).into(),
        start_time: info.start_time,
        close_time: info.close_time,
        total_operation_count: total,
        complete_operation_count: complete,
        failure_operation_count: failed,
        identity: text(attributes.get(USER_ATTRIBUTE)),
        reason: text(memo.get(REASON_MEMO)),
        ..DescribeBatchOperationResponse::default()
    }
}

/// The state of a job from that of its workflow.
pub fn state(status: i32) -> BatchOperationState {
    match Status::try_from(status) {
        Ok(Status::Running) => BatchOperationState::Running,
        Ok(Status::Completed) => BatchOperationState::Completed,
        _ => BatchOperationState::Failed,
    }
}

const NAMES: [(BatchOperationType, &str); 9] = [
    (BatchOperationType::Terminate, "terminate"),
    (BatchOperationType::Cancel, "cancel"),
    (BatchOperationType::Signal, "signal"),
    (BatchOperationType::Delete, "delete"),
    (BatchOperationType::Reset, "reset"),
    (BatchOperationType::UpdateExecutionOptions, "update_options"),
    (BatchOperationType::UnpauseActivity, "unpause_activities"),
    (BatchOperationType::UpdateActivityOptions, "update_activity_options"),
    (BatchOperationType::ResetActivity, "reset_activities"),
];

fn name(kind: BatchOperationType) -> &'static str {
    NAMES.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
}

fn kind(name: &str) -> BatchOperationType {
    NAMES.iter().find(|(_, known)| *known == name).map_or(BatchOperationType::Unspecified, |(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::batch::v1::BatchOperationTermination;
    use bristlecone_proto::temporal::api::history::v1::{
        ActivityTaskCompletedEventAttributes, ActivityTaskScheduledEventAttributes,
        WorkflowExecutionStartedEventAttributes,
    };
    use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionInfo;
    use bristlecone_proto::temporal::api::workflowservice::v1::start_batch_operation_request::Operation;

    fn request() -> StartBatchOperationRequest {
        let terminate = BatchOperationTermination { identity: "me".into(), ..BatchOperationTermination::default() };
        StartBatchOperationRequest {
            job_id: "job".into(),
            reason: "why not".into(),
            operation: Some(Operation::TerminationOperation(terminate)),
            ..StartBatchOperationRequest::default()
        }
    }

    fn event(attributes: E) -> HistoryEvent {
        HistoryEvent { attributes: Some(attributes), ..HistoryEvent::default() }
    }

    #[test]
    fn a_job_schedules_its_activity_once_and_ends_with_it() {
        let start = start_request(&request(), "id".into());
        assert_eq!(decoded(start.input.as_ref()), Some(request()));
        let mut history =
            vec![event(E::WorkflowExecutionStartedEventAttributes(WorkflowExecutionStartedEventAttributes {
                workflow_type: start.workflow_type.clone(),
                input: start.input.clone(),
                ..WorkflowExecutionStartedEventAttributes::default()
            }))];
        let kinds = |history: &[HistoryEvent]| -> Vec<CommandType> {
            decide(history).iter().map(Command::command_type).collect()
        };
        assert_eq!(kinds(&history), [CommandType::ScheduleActivityTask]);
        history.push(event(E::ActivityTaskScheduledEventAttributes(ActivityTaskScheduledEventAttributes::default())));
        assert_eq!(kinds(&history), []);
        let progress = Progress { success_count: 2, error_count: 1, ..Progress::default() };
        let result = Some(payloads(json(&progress)));
        history.push(event(E::ActivityTaskCompletedEventAttributes(ActivityTaskCompletedEventAttributes {
            result,
            ..ActivityTaskCompletedEventAttributes::default()
        })));
        assert_eq!(kinds(&history), [CommandType::ModifyWorkflowProperties, CommandType::CompleteWorkflowExecution]);
    }

    #[test]
    fn a_description_tells_what_the_job_was_asked_for() {
        let start = start_request(&request(), "id".into());
        let mut memo = start.memo.clone().expect("a memo");
        let stats = Stats { num_success: 5, num_failure: 2 };
        memo.fields.insert(STATS_MEMO.into(), json(&stats));
        let told = described(DescribeWorkflowExecutionResponse {
            workflow_execution_info: Some(WorkflowExecutionInfo {
                status: Status::Completed.into(),
                memo: Some(memo),
                search_attributes: start.search_attributes,
                ..WorkflowExecutionInfo::default()
            }),
            ..DescribeWorkflowExecutionResponse::default()
        });
        assert_eq!(told.operation_type(), BatchOperationType::Terminate);
        assert_eq!((told.identity.as_str(), told.reason.as_str()), ("me", "why not"));
        let counts = (told.total_operation_count, told.complete_operation_count, told.failure_operation_count);
        assert_eq!(counts, (7, 5, 2));
        assert_eq!(told.state(), BatchOperationState::Completed);
    }
}
