//! Standalone activities: an activity that a client starts, without a workflow around it.
//!
//! # Contract
//! A standalone activity is a chain of its own, whose id is [`PREFIX`] and the activity's id, and each start of it
//! is a run with one pending activity and no workflow task. So attempts, timeouts, heartbeats, cancellation,
//! operators' commands, task rows, deadlines, listings and retention are those of a workflow's activities and of
//! runs. What differs stands here:
//!
//! | of a workflow's activity | here |
//! |---|---|
//! | the command that schedules it | [`start`]: the run, with one event that holds what was asked for |
//! | the event that closes it | [`outcome::note`]: the run closes, the outcome stands in its head |
//! | a workflow task that tells the workflow | nothing: clients wait for the run to close |
//!
//! Its history is its first event: [`Draft::add_event`] leaves all others to [`outcome::note`].
//!
//! # Used by
//! `lib.rs` (inputs), `draft.rs` and `activity/` (where they differ), the edge (names of chains).

mod attach;
mod describe;
mod end;
mod outcome;

use alloc::format;
use alloc::string::{String, ToString};

use bristlecone_proto::chain::input::Kind;
use bristlecone_proto::chain::{ChainId, Rejection, reply::Kind as ReplyKind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::command::v1::ScheduleActivityTaskCommandAttributes;
use bristlecone_proto::temporal::api::common::v1::WorkflowType;
use bristlecone_proto::temporal::api::enums::v1::{
    ActivityIdConflictPolicy as Conflict, ActivityIdReusePolicy as Reuse, EventType, WorkflowExecutionStatus as Status,
};
use bristlecone_proto::temporal::api::errordetails::v1::ActivityExecutionAlreadyStartedFailure;
use bristlecone_proto::temporal::api::history::v1::{
    ActivityTaskScheduledEventAttributes, WorkflowExecutionStartedEventAttributes,
};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    StartActivityExecutionRequest, StartActivityExecutionResponse,
};

use crate::chain::Run;
use crate::draft::Draft;
use crate::new_run::{self, NewRun};
use crate::stamp::{Limits, duration_nanos, timestamp};
use crate::validate;
use crate::{Step, fold, reply};

pub(crate) use describe::describe;
pub(crate) use end::{delete, request_cancel, terminate};
pub(crate) use outcome::note;

/// What the chain ids of standalone activities begin with; workflows have no such ids.
pub const PREFIX: &str = "temporal-sys-activity:";
/// The namespace division under which they stand in listings.
pub const DIVISION: &str = "activity.activity";
/// The only event of such a run, which its activity is scheduled by.
const SCHEDULED_EVENT_ID: i64 = 1;

pub fn chain_workflow_id(activity_id: &str) -> String {
    format!("{PREFIX}{activity_id}")
}

/// The id of the activity that a chain is, if it is one.
pub fn activity_id(workflow_id: &str) -> Option<&str> {
    workflow_id.strip_prefix(PREFIX)
}

pub(crate) fn is_standalone(chain: &ChainId) -> bool {
    chain.workflow_id.starts_with(PREFIX)
}

/// Whether a chain of this kind takes the input: no workflow has the id of an activity's chain, and no
/// activity is anywhere else.
pub(crate) fn fits(chain: &ChainId, kind: &Kind) -> bool {
    let only_activities = matches!(
        kind,
        Kind::StartStandalone(_)
            | Kind::DescribeStandalone(_)
            | Kind::CancelStandalone(_)
            | Kind::TerminateStandalone(_)
            | Kind::DeleteStandalone(_)
    );
    let either = matches!(
        kind,
        Kind::CompleteActivity(_)
            | Kind::FailActivity(_)
            | Kind::CancelActivity(_)
            | Kind::HeartbeatActivity(_)
            | Kind::StartActivity(_)
            | Kind::UndoActivityStart(_)
            | Kind::PauseActivity(_)
            | Kind::UnpauseActivity(_)
            | Kind::ResetActivity(_)
            | Kind::UpdateActivityOptions(_)
            | Kind::HistoryHead(_)
            | Kind::Wake(_)
            | Kind::Purge(_)
            | Kind::Release(_)
            | Kind::Answer(_)
            | Kind::Forget(_)
    );
    either || only_activities == is_standalone(chain)
}

/// No run of this activity id (or not this run), or nothing that a worker may answer.
pub(crate) fn not_found(chain: &ChainId) -> Rejection {
    let id = activity_id(&chain.workflow_id).unwrap_or(&chain.workflow_id);
    reply::not_found(format!("activity not found for ID: {id}"))
}

/// What an event would tell of the activity if it were a workflow's.
pub(crate) fn scheduled(run: &Run, activity: &record::Activity) -> ActivityTaskScheduledEventAttributes {
    ActivityTaskScheduledEventAttributes {
        activity_id: activity.activity_id.clone(),
        activity_type: Some(type_of(run)),
        task_queue: run.started.task_queue.clone(),
        header: run.started.header.clone(),
        input: run.started.input.clone(),
        schedule_to_close_timeout: activity.schedule_to_close_timeout,
        schedule_to_start_timeout: activity.schedule_to_start_timeout,
        start_to_close_timeout: activity.start_to_close_timeout,
        heartbeat_timeout: activity.heartbeat_timeout,
        retry_policy: activity.retry_policy.clone(),
        priority: activity.priority.clone(),
        ..ActivityTaskScheduledEventAttributes::default()
    }
}

fn type_of(run: &Run) -> bristlecone_proto::temporal::api::common::v1::ActivityType {
    let name = run.started.workflow_type.as_ref().map(|t| t.name.clone()).unwrap_or_default();
    bristlecone_proto::temporal::api::common::v1::ActivityType { name }
}

/// StartActivityExecution.
///
/// | current run | outcome |
/// |---|---|
/// | was started by the same request, or the request was attached to it | the same answer again |
/// | none | a new run |
/// | open | that run, if the conflict policy says so, with what the request attaches to it; else `ALREADY_EXISTS` |
/// | closed | a new run, if the reuse policy allows it |
pub(crate) fn start(mut draft: Draft<'_>, request: &StartActivityExecutionRequest) -> Step {
    let command = match checked(&draft, request) {
        Ok(command) => command,
        Err(rejection) => return draft.reject(rejection),
    };
    let request_id = if request.request_id.is_empty() { draft.new_id() } else { request.request_id.clone() };
    if let Some(record) = draft.record().filter(|record| !record.current_run_id.is_empty()) {
        let current = record.current_run_id.clone();
        if let Some(info) = record.request_ids.get(&request_id) {
            let by_it = info.event_type == EventType::WorkflowExecutionStarted as i32;
            return draft.unchanged(started(current, by_it));
        }
        match decide(record, request) {
            Ok(false) => return attach::attach(draft, request, request_id, current),
            Ok(true) => {}
            Err(rejection) => return draft.reject(rejection),
        }
    }
    let run_id = draft.new_run_id();
    draft.create_run(new_run(request, &command, &run_id, request_id));
    schedule(&mut draft, request, &command, &run_id);
    draft.finish(started(run_id, true))
}

fn started(run_id: String, started: bool) -> bristlecone_proto::chain::Reply {
    reply::of(ReplyKind::StartStandalone(StartActivityExecutionResponse { run_id, started, link: None }))
}

/// Whether a new run is made; otherwise the open one is used.
fn decide(record: &record::Chain, request: &StartActivityExecutionRequest) -> Result<bool, Rejection> {
    let allowed = match record.current_status() {
        Status::Running | Status::Paused => match request.id_conflict_policy() {
            Conflict::UseExisting => return Ok(false),
            Conflict::Fail | Conflict::Unspecified => false,
        },
        status => match request.id_reuse_policy() {
            Reuse::Unspecified | Reuse::AllowDuplicate => true,
            Reuse::AllowDuplicateFailedOnly => {
                matches!(status, Status::Failed | Status::Canceled | Status::Terminated | Status::TimedOut)
            }
            Reuse::RejectDuplicate => false,
        },
    };
    if allowed {
        return Ok(true);
    }
    let detail = ActivityExecutionAlreadyStartedFailure {
        start_request_id: start_request_id(record),
        run_id: record.current_run_id.clone(),
    };
    Err(reply::with_detail(reply::code::ALREADY_EXISTS, "activity execution already started", &detail))
}

fn start_request_id(record: &record::Chain) -> String {
    let mut ids = record.request_ids.iter();
    let started = ids.find(|(_, info)| info.event_type == EventType::WorkflowExecutionStarted as i32);
    started.map(|(id, _)| id.clone()).unwrap_or_default()
}

fn new_run(
    request: &StartActivityExecutionRequest,
    command: &ScheduleActivityTaskCommandAttributes,
    run_id: &str,
    request_id: String,
) -> NewRun {
    let name = request.activity_type.as_ref().map(|t| t.name.clone()).unwrap_or_default();
    let attributes = WorkflowExecutionStartedEventAttributes {
        workflow_type: Some(WorkflowType { name }),
        task_queue: command.task_queue.clone(),
        input: request.input.clone(),
        header: request.header.clone(),
        identity: request.identity.clone(),
        original_execution_run_id: run_id.to_string(),
        first_execution_run_id: run_id.to_string(),
        attempt: 1,
        search_attributes: new_run::search_attributes(request.search_attributes.clone()),
        priority: request.priority.clone(),
        workflow_id: chain_workflow_id(&request.activity_id),
        ..WorkflowExecutionStartedEventAttributes::default()
    };
    NewRun {
        run_id: run_id.to_string(),
        request_id,
        attributes,
        user_metadata: request.user_metadata.clone(),
        links: request.links.clone(),
    }
}

/// Makes the activity of a new run pending: offered at once, or when its start delay is over.
fn schedule(
    draft: &mut Draft<'_>,
    request: &StartActivityExecutionRequest,
    command: &ScheduleActivityTaskCommandAttributes,
    run_id: &str,
) {
    let now = draft.now();
    let delay = duration_nanos(request.start_delay.as_ref());
    let run = draft.run_mut(run_id);
    let head =
        record::Standalone { start_delay: request.start_delay.filter(|_| delay > 0), ..record::Standalone::default() };
    run.head.standalone = Some(head.into());
    let attributes = ActivityTaskScheduledEventAttributes {
        activity_id: command.activity_id.clone(),
        activity_type: command.activity_type.clone(),
        task_queue: command.task_queue.clone(),
        schedule_to_close_timeout: command.schedule_to_close_timeout,
        schedule_to_start_timeout: command.schedule_to_start_timeout,
        start_to_close_timeout: command.start_to_close_timeout,
        heartbeat_timeout: command.heartbeat_timeout,
        retry_policy: command.retry_policy.clone(),
        priority: command.priority.clone(),
        ..ActivityTaskScheduledEventAttributes::default()
    };
    let event = fold::start::first_event(run);
    fold::activity::scheduled(run, &event, &attributes, SCHEDULED_EVENT_ID);
    if let Some(activity) = run.activities.get_mut(&SCHEDULED_EVENT_ID).filter(|_| delay > 0) {
        activity.offered = false;
        activity.first_scheduled_time = Some(timestamp(now.saturating_add(delay)));
        activity.scheduled_time = activity.first_scheduled_time;
    }
}

/// What is wrong with the request, or what it asks for with its timeouts and retry policy completed.
fn checked(
    draft: &Draft<'_>,
    request: &StartActivityExecutionRequest,
) -> Result<ScheduleActivityTaskCommandAttributes, Rejection> {
    let at = draft.at();
    let invalid = |text: String| reply::invalid_argument(text);
    let command = ScheduleActivityTaskCommandAttributes {
        activity_id: request.activity_id.clone(),
        activity_type: request.activity_type.clone(),
        task_queue: request.task_queue.clone(),
        schedule_to_close_timeout: request.schedule_to_close_timeout,
        schedule_to_start_timeout: request.schedule_to_start_timeout,
        start_to_close_timeout: request.start_to_close_timeout,
        heartbeat_timeout: request.heartbeat_timeout,
        retry_policy: request.retry_policy.clone(),
        priority: request.priority.clone(),
        ..ScheduleActivityTaskCommandAttributes::default()
    };
    let command = validate::activity::complete(&command, 0, "", at.limits).map_err(invalid)?;
    validate::duration(request.start_delay.as_ref())
        .map_err(|error| reply::invalid_argument(format!("invalid StartDelay: {error}")))?;
    length(&request.request_id, "request ID", at.limits)?;
    length(&request.identity, "identity", at.limits)?;
    if !validate::payloads_fit(request.input.as_ref(), at.limits) {
        return Err(reply::invalid_argument("input exceeds length limit"));
    }
    validate::search_attributes::check(request.search_attributes.as_ref(), at).map_err(invalid)?;
    validate::search_attributes::check_size(request.search_attributes.as_ref(), at.limits).map_err(invalid)?;
    validate::user_metadata(request.user_metadata.as_ref(), at.limits).map_err(invalid)?;
    validate::links(&request.links, at.limits).map_err(invalid)?;
    if request.id_reuse_policy != request.id_reuse_policy() as i32 {
        return Err(reply::invalid_argument(format!("unsupported ID reuse policy: {}", request.id_reuse_policy)));
    }
    if request.id_conflict_policy != request.id_conflict_policy() as i32 {
        let policy = request.id_conflict_policy;
        return Err(reply::invalid_argument(format!("unsupported ID conflict policy: {policy}")));
    }
    let options = request.on_conflict_options.as_ref();
    if options.is_some_and(|options| options.attach_completion_callbacks && !options.attach_request_id) {
        return Err(reply::invalid_argument("attaching request ID is required for attaching completion callbacks"));
    }
    Ok(command)
}

/// Refuses what is longer than an id may be.
fn length(value: &str, what: &str, limits: &Limits) -> Result<(), Rejection> {
    if value.len() <= limits.id_bytes_max {
        return Ok(());
    }
    let (length, limit) = (value.len(), limits.id_bytes_max);
    Err(reply::invalid_argument(format!("{what} exceeds length limit. Length={length} Limit={limit}")))
}

/// The id of the run that a request means, or why there is none.
fn find(draft: &Draft<'_>, activity_id: &str, run_id: &str) -> Result<String, Rejection> {
    if activity_id.is_empty() {
        return Err(reply::invalid_argument("activity ID is required"));
    }
    length(activity_id, "activity ID", draft.at().limits)?;
    if !run_id.is_empty() && !crate::ids::is_uuid(run_id) {
        return Err(reply::invalid_argument("invalid run id: must be a valid UUID"));
    }
    draft.find_run(run_id)
}
