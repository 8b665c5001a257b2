//! Schedules: a chain of its own for each, which starts workflows in theirs at the times that its spec names.
//!
//! # Contract
//! ```text
//! schedule's chain                        workflow's chain
//! a time has come ── ScheduledStart ────► a run, if its id is free
//! counted, listed ◄── answer ────────────
//!                 ◄── ScheduledClosed ─── the last run of its chain of runs closed
//! before an overlap is decided:
//!                 ── ScheduledWatch ────► is it open still?
//! the buffer goes on ◄── answer ─────────
//! overlap policy  ── RequestCancel, Terminate ──►
//! ```
//! | who wakes a schedule | for |
//! |---|---|
//! | its deadline | the next time of its spec, the rest of a long backfill or downtime, the end of its retention |
//! | answers, and ends of workflows | the buffer |
//! | clients | triggers, backfills, updates |
//!
//! A schedule that has nothing to do any more is removed a while after its last action.
//!
//! # Used by
//! `lib.rs`, `wake.rs`, `outbox.rs` (answers), `close.rs` (ends of workflows).

mod action;
mod advance;
mod buffer;
mod calendar;
mod parse;
mod show;
mod spec;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::chain::{Rejection, input, reply::Kind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{ScheduleOverlapPolicy, WorkflowIdReusePolicy};
use bristlecone_proto::temporal::api::schedule::v1::{
    BackfillRequest, Schedule as ApiSchedule, SchedulePatch, SchedulePolicies, schedule_action,
};
use bristlecone_proto::temporal::api::workflow::v1::NewWorkflowExecutionInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    CreateScheduleRequest, CreateScheduleResponse, ListScheduleMatchingTimesRequest, ListScheduleMatchingTimesResponse,
    PatchScheduleRequest, UpdateScheduleRequest,
};
use bytes::Bytes;
use prost::Message;

use crate::chain::{Chain, Schedule};
use crate::draft::Draft;
use crate::stamp::{Limits, duration, duration_nanos, nanos, timestamp};
use crate::{Step, new_run, reply, validate};

pub(crate) use action::{closed, start, started, tell, watch, watched};
pub use parse::complete_ranges;
pub(crate) use show::describe;
pub use show::listed;
pub use show::{LIST_INFO, WORKFLOW_TYPE};
pub use spec::{Next, Spec};

/// Of the id of a schedule's chain; the schedule's own id follows. No workflow may have such an id.
pub const ID_PREFIX: &str = "temporal-sys-scheduler:";
/// Value of the search attribute that keeps schedules out of the listings of workflows.
pub const NAMESPACE_DIVISION: &str = "TemporalScheduler";
/// Bytes of a note.
pub const NOTE_BYTES_MAX: usize = 1_000;

/// What is added to a workflow id, for checking its length.
const TIME_SUFFIX: &str = "-2009-11-10T23:00:00Z";
const FIRST_CONFLICT_TOKEN: i64 = 1;
/// Actions that wait, and backfills that do.
const BUFFER_MAX: usize = 1_000;
/// Times that one answer lists.
const MATCHING_TIMES_MAX: usize = 1_000;
/// Updates and patches by which a repetition is recognised.
const REQUEST_IDS_MAX: usize = 32;
const SECOND: i64 = 1_000_000_000;
const CATCHUP_WINDOW_DEFAULT: i64 = 365 * 24 * 3_600 * SECOND;
const CATCHUP_WINDOW_MIN: i64 = 10 * SECOND;

// ---------------------------------------------------------------- what clients ask for

pub(crate) fn create(mut draft: Draft<'_>, request: &CreateScheduleRequest) -> Step {
    if let Some(existing) = &draft.chain().schedule {
        if existing.definition.request_id == request.request_id {
            return draft.unchanged(created());
        }
        let message = format!("schedule {:?} is already registered", request.schedule_id);
        return draft.reject(reply::already_started(message, "", "", ""));
    }
    let schedule = match new_schedule(&mut draft, request) {
        Ok(schedule) => schedule,
        Err(rejection) => return draft.reject(rejection),
    };
    draft.set_schedule(Some(schedule));
    if let Some(patch) = &request.initial_patch {
        apply_patch(&mut draft, patch);
    }
    advance::go_on(&mut draft);
    draft.finish(created())
}

fn created() -> bristlecone_proto::chain::Reply {
    let conflict_token = conflict_token(FIRST_CONFLICT_TOKEN);
    reply::of(Kind::ScheduleCreated(CreateScheduleResponse { conflict_token }))
}

fn new_schedule(draft: &mut Draft<'_>, request: &CreateScheduleRequest) -> Result<Schedule, Rejection> {
    let limits = draft.at().limits;
    if request.encoded_len() > limits.blob_bytes_max {
        return Err(reply::invalid_argument(validate::BLOB_TOO_LARGE));
    }
    let asked = request.schedule.clone().unwrap_or_default();
    let spec = canonical_spec(&asked)?;
    check_action(draft, &asked)?;
    check_fields(draft, request.memo.as_ref(), request.search_attributes.as_ref())?;
    let now = Some(timestamp(draft.now()));
    let definition = record::Schedule {
        schedule_id: request.schedule_id.clone(),
        run_id: draft.new_run_id(),
        request_id: request.request_id.clone(),
        spec: Some(spec),
        action: Some(asked.action.unwrap_or_default()),
        policies: Some(policies(asked.policies)),
        memo: new_run::memo(request.memo.clone()),
        search_attributes: new_run::search_attributes(request.search_attributes.clone()),
    };
    let head = record::ScheduleHead {
        conflict_token: FIRST_CONFLICT_TOKEN,
        state: Some(asked.state.unwrap_or_default()),
        processed: now,
        create_time: now,
        ..record::ScheduleHead::default()
    };
    let spec = Spec::of(&definition).map(Arc::new);
    Ok(Schedule { definition: Arc::new(definition), head: head.into(), result: Default::default(), spec })
}

/// Takes the place of what the schedule was; what is buffered or under way stays.
pub(crate) fn update(mut draft: Draft<'_>, request: &UpdateScheduleRequest) -> Step {
    let Some(schedule) = &draft.chain().schedule else { return draft.reject(not_found()) };
    if is_repeated(schedule, &request.request_id) {
        return draft.unchanged(reply::done());
    }
    let token = schedule.head.conflict_token;
    let asked = request.schedule.clone().unwrap_or_default();
    let checked = check_action(&draft, &asked)
        .and_then(|()| canonical_spec(&asked))
        .and_then(|spec| check_fields(&draft, request.memo.as_ref(), request.search_attributes.as_ref()).map(|()| spec))
        .and_then(|spec| check_token(&request.conflict_token, token).map(|()| spec))
        .and_then(|spec| fits(request, draft.at().limits).map(|()| spec));
    let spec = match checked {
        Ok(spec) => spec,
        Err(rejection) => return draft.reject(rejection),
    };
    // What was due by now was due as the schedule was.
    advance::take_times(&mut draft);
    let now = timestamp(draft.now());
    if let Some(schedule) = draft.schedule_mut() {
        let definition = Arc::make_mut(&mut schedule.definition);
        definition.spec = Some(spec);
        definition.action = Some(asked.action.unwrap_or_default());
        definition.policies = Some(policies(asked.policies));
        if request.search_attributes.is_some() {
            definition.search_attributes = new_run::search_attributes(request.search_attributes.clone());
        }
        if request.memo.is_some() {
            definition.memo = new_run::memo(request.memo.clone());
        }
        schedule.spec = Spec::of(&schedule.definition).map(Arc::new);
        schedule.head.state = Some(asked.state.unwrap_or_default());
        schedule.head.update_time = Some(now);
        schedule.head.conflict_token += 1;
        remember(schedule, &request.request_id);
    }
    advance::go_on(&mut draft);
    draft.finish(reply::done())
}

pub(crate) fn patch(mut draft: Draft<'_>, request: &PatchScheduleRequest) -> Step {
    let patch = request.patch.clone().unwrap_or_default();
    if patch.pause.len() > NOTE_BYTES_MAX || patch.unpause.len() > NOTE_BYTES_MAX {
        return draft.reject(reply::invalid_argument("Schedule notes exceeds limit."));
    }
    if let Err(rejection) = fits(&patch, draft.at().limits) {
        return draft.reject(rejection);
    }
    let Some(schedule) = &draft.chain().schedule else { return draft.reject(not_found()) };
    if is_repeated(schedule, &request.request_id) {
        return draft.unchanged(reply::done());
    }
    advance::take_times(&mut draft);
    apply_patch(&mut draft, &patch);
    if let Some(schedule) = draft.schedule_mut() {
        remember(schedule, &request.request_id);
    }
    advance::go_on(&mut draft);
    draft.finish(reply::done())
}

fn apply_patch(draft: &mut Draft<'_>, patch: &SchedulePatch) {
    let now = draft.now();
    if let Some(trigger) = &patch.trigger_immediately {
        let at = trigger.scheduled_time.as_ref().map_or(now, nanos);
        advance::buffer(draft, Next { nominal: at, actual: at }, trigger.overlap_policy(), true);
    }
    let Some(schedule) = draft.schedule_mut() else { return };
    let head = &mut *schedule.head;
    for backfill in &patch.backfill_request {
        if head.backfills.len() >= BUFFER_MAX {
            head.buffer_dropped += 1;
            continue;
        }
        // The spec is asked for times after the start, which belongs to the range.
        let start = backfill.start_time.as_ref().map_or(0, nanos).saturating_sub(1_000_000);
        head.backfills.push(BackfillRequest { start_time: Some(timestamp(start)), ..*backfill });
    }
    for (note, paused) in [(&patch.pause, true), (&patch.unpause, false)] {
        if !note.is_empty() {
            let state = head.state.get_or_insert_default();
            state.paused = paused;
            state.notes.clone_from(note);
            head.conflict_token += 1;
        }
    }
}

pub(crate) fn matching_times(draft: Draft<'_>, request: &ListScheduleMatchingTimesRequest) -> Step {
    let Some(schedule) = &draft.chain().schedule else { return draft.reject(not_found()) };
    let (Some(start), Some(end)) = (&request.start_time, &request.end_time) else {
        return draft.reject(reply::invalid_argument("missing or invalid query"));
    };
    let (mut after, end) = (nanos(start), nanos(end));
    let spec = match &schedule.spec {
        Ok(spec) => spec,
        Err(error) => {
            let rejection = reply::invalid_argument(format!("invalid schedule: {error}"));
            return draft.reject(rejection);
        }
    };
    let seed = seed(&draft, schedule);
    let mut times = Vec::new();
    while times.len() < MATCHING_TIMES_MAX
        && let Some(next) = spec.next(&seed, after).filter(|next| next.actual <= end)
    {
        times.push(timestamp(next.actual));
        after = next.actual;
    }
    let response = ListScheduleMatchingTimesResponse { start_time: times };
    draft.unchanged(reply::of(Kind::ScheduleMatchingTimes(response)))
}

/// What it has started goes on.
pub(crate) fn delete(mut draft: Draft<'_>) -> Step {
    if draft.chain().schedule.is_none() {
        return draft.reject(not_found());
    }
    draft.set_schedule(None);
    draft.finish(reply::done())
}

pub(crate) fn wake(mut draft: Draft<'_>) -> Step {
    let now = draft.now();
    let wake = draft.chain().schedule.as_ref().and_then(|schedule| schedule.head.wake);
    if wake.is_none_or(|wake| nanos(&wake) > now) {
        draft.rewrite_deadline();
        return draft.finish(reply::done());
    }
    advance::go_on(&mut draft);
    draft.finish(reply::done())
}

/// What the schedule waits for has something that will wake it.
pub(crate) fn check(chain: &Chain, schedule: &Schedule) -> Result<(), String> {
    let head = &schedule.head;
    if let Some(start) = head.starting.iter().find(|start| !chain.sends.contains(&start.action)) {
        return Err(format!("nobody answers action {}", start.action));
    }
    let is_asked = |run: &record::ScheduleRunning| {
        chain.sends.iter().any(|(_, send)| match send.input.as_ref().and_then(|input| input.kind.as_ref()) {
            Some(input::Kind::ScheduledWatch(watch)) => watch.first_run_id == run.first_run_id,
            _ => false,
        })
    };
    if let Some(run) = head.running.iter().find(|run| run.asked && !is_asked(run)) {
        return Err(format!("nobody tells whether run {} is open", run.first_run_id));
    }
    if !head.buffered.is_empty() && head.running.is_empty() && head.starting.is_empty() {
        return Err("actions wait for nothing".to_string());
    }
    Ok(())
}

// ---------------------------------------------------------------- checks and defaults

fn canonical_spec(
    asked: &ApiSchedule,
) -> Result<bristlecone_proto::temporal::api::schedule::v1::ScheduleSpec, Rejection> {
    let invalid = |error: String| reply::invalid_argument(format!("Invalid schedule spec: {error}"));
    let spec = parse::canonical(&asked.spec.clone().unwrap_or_default()).map_err(invalid)?;
    Spec::new(&spec).map_err(invalid)?;
    Ok(spec)
}

/// Whether the workflow could be started, whenever its time comes.
fn check_action(draft: &Draft<'_>, asked: &ApiSchedule) -> Result<(), Rejection> {
    let Some(workflow) = start_workflow(asked.action.as_ref()) else { return Ok(()) };
    let limits = draft.at().limits;
    let invalid = |text: String| reply::invalid_argument(text);
    // A base id of nothing makes an id of the time alone.
    let workflow_id = format!("{}{TIME_SUFFIX}", workflow.workflow_id);
    validate::required(&workflow_id, "WorkflowId", limits).map_err(invalid)?;
    if workflow_id.starts_with(ID_PREFIX) {
        return Err(invalid(format!("workflow ID cannot start with reserved prefix {ID_PREFIX}")));
    }
    let workflow_type = workflow.workflow_type.as_ref().map_or("", |t| &t.name);
    validate::required(workflow_type, "WorkflowType", limits).map_err(invalid)?;
    validate::task_queue(workflow.task_queue.as_ref(), "", limits).map_err(invalid)?;
    for (timeout, name) in [
        (&workflow.workflow_execution_timeout, "WorkflowExecutionTimeoutSeconds"),
        (&workflow.workflow_run_timeout, "WorkflowRunTimeoutSeconds"),
        (&workflow.workflow_task_timeout, "WorkflowTaskTimeoutSeconds"),
    ] {
        validate::duration(timeout.as_ref())
            .map_err(|error| invalid(format!("An invalid {name} is set on request. cause: {error}")))?;
    }
    if !workflow.cron_schedule.is_empty() {
        return Err(reply::invalid_argument("Scheduled workflow must not contain CronSchedule"));
    }
    match workflow.workflow_id_reuse_policy() {
        WorkflowIdReusePolicy::Unspecified | WorkflowIdReusePolicy::AllowDuplicate => {}
        _ => return Err(reply::invalid_argument("Scheduled workflow must not contain WorkflowIDReusePolicy")),
    }
    let attributes = workflow.search_attributes.as_ref();
    validate::search_attributes::check(attributes, draft.at()).map_err(invalid)?;
    validate::search_attributes::check_size(attributes, limits).map_err(invalid)
}

fn check_fields(
    draft: &Draft<'_>,
    memo: Option<&bristlecone_proto::temporal::api::common::v1::Memo>,
    attributes: Option<&bristlecone_proto::temporal::api::common::v1::SearchAttributes>,
) -> Result<(), Rejection> {
    let limits = draft.at().limits;
    validate::search_attributes::check(attributes, draft.at()).map_err(reply::invalid_argument)?;
    validate::search_attributes::check_size(attributes, limits).map_err(reply::invalid_argument)?;
    if validate::memo_fits(memo, limits) { Ok(()) } else { Err(reply::invalid_argument(validate::MEMO_TOO_LARGE)) }
}

/// An update that does not know of the latest change is refused; one without a token does not care.
fn check_token(token: &[u8], current: i64) -> Result<(), Rejection> {
    let known = token.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    if known == 0 || known == current { Ok(()) } else { Err(reply::failed_precondition("mismatched conflict token")) }
}

fn conflict_token(token: i64) -> Bytes {
    Bytes::copy_from_slice(&token.to_be_bytes())
}

fn fits(message: &impl Message, limits: &Limits) -> Result<(), Rejection> {
    if validate::blob_fits(message.encoded_len(), limits) {
        Ok(())
    } else {
        Err(reply::invalid_argument(validate::BLOB_TOO_LARGE))
    }
}

fn policies(asked: Option<SchedulePolicies>) -> SchedulePolicies {
    let mut policies = asked.unwrap_or_default();
    if policies.overlap_policy() == ScheduleOverlapPolicy::Unspecified {
        policies.set_overlap_policy(ScheduleOverlapPolicy::Skip);
    }
    let window = match &policies.catchup_window {
        None => CATCHUP_WINDOW_DEFAULT,
        asked => duration_nanos(asked.as_ref()).max(CATCHUP_WINDOW_MIN),
    };
    policies.catchup_window = Some(duration(window));
    policies
}

fn start_workflow(
    action: Option<&bristlecone_proto::temporal::api::schedule::v1::ScheduleAction>,
) -> Option<&NewWorkflowExecutionInfo> {
    match action?.action.as_ref()? {
        schedule_action::Action::StartWorkflow(workflow) => Some(workflow),
    }
}

fn is_repeated(schedule: &Schedule, request_id: &str) -> bool {
    !request_id.is_empty() && schedule.head.request_ids.iter().any(|known| known == request_id)
}

fn remember(schedule: &mut Schedule, request_id: &str) {
    if request_id.is_empty() {
        return;
    }
    let known = &mut schedule.head.request_ids;
    if known.len() >= REQUEST_IDS_MAX {
        known.remove(0);
    }
    known.push(request_id.to_string());
}

/// What jitter depends on, besides the time.
fn seed(draft: &Draft<'_>, schedule: &Schedule) -> String {
    format!("{}-{}", draft.id().namespace_id, schedule.definition.schedule_id)
}

fn not_found() -> Rejection {
    reply::not_found("schedule not found")
}
