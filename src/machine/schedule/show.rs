//! What others see of a schedule.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bristlecone_proto::chain::{ChainId, ScheduleDescription, reply::Kind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{Memo, Payload, SearchAttributes, WorkflowExecution};
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus;
use bristlecone_proto::temporal::api::schedule::v1::{
    Schedule as ApiSchedule, ScheduleInfo, ScheduleListInfo, ScheduleSpec,
};
use bristlecone_proto::temporal::api::workflowservice::v1::DescribeScheduleResponse;
use bytes::Bytes;
use prost::Message;

use super::{NAMESPACE_DIVISION, advance, complete_ranges, conflict_token, not_found, seed, start_workflow};
use crate::chain::Schedule;
use crate::draft::Draft;
use crate::stamp::{UnixNanos, nanos, timestamp};
use crate::{Step, reply};

/// The memo field under which a listing carries a `ScheduleListInfo`.
pub const LIST_INFO: &str = "ScheduleInfo";
/// What a schedule is called among workflows.
pub const WORKFLOW_TYPE: &str = "temporal-sys-scheduler-workflow";
const TASK_QUEUE: &str = "temporal-sys-per-ns-tq";

const FUTURE_TIMES: usize = 10;
const LISTED_TIMES: usize = 5;
const LISTED_ACTIONS: usize = 5;
/// Calendars, intervals and exclusions that a listing shows, each.
const LISTED_SPECS: usize = 10;

pub(crate) fn describe(draft: Draft<'_>) -> Step {
    let Some(schedule) = &draft.chain().schedule else { return draft.reject(not_found()) };
    let (definition, head) = (&schedule.definition, &schedule.head);
    let mut spec = definition.spec.clone().unwrap_or_default();
    complete_ranges(&mut spec);
    // Time that is spent paused goes by.
    let after = if advance::takes_actions(schedule) { 0 } else { draft.now() };
    let times = future_times(schedule, &seed(&draft, schedule), after, FUTURE_TIMES);
    let execution = |run: &record::ScheduleRunning| WorkflowExecution {
        workflow_id: run.workflow_id.clone(),
        run_id: run.first_run_id.clone(),
    };
    let info = ScheduleInfo {
        action_count: head.action_count,
        missed_catchup_window: head.missed_catchup_window,
        overlap_skipped: head.overlap_skipped,
        buffer_dropped: head.buffer_dropped,
        buffer_size: i64::try_from(head.buffered.len()).unwrap_or(i64::MAX),
        running_workflows: head.running.iter().map(execution).collect(),
        recent_actions: head.recent_actions.clone(),
        future_action_times: times.into_iter().map(timestamp).collect(),
        create_time: head.create_time,
        update_time: head.update_time,
        invalid_schedule_error: schedule.spec.as_ref().err().cloned().unwrap_or_default(),
        ..ScheduleInfo::default()
    };
    let response = DescribeScheduleResponse {
        schedule: Some(ApiSchedule {
            spec: Some(spec),
            action: definition.action.clone(),
            policies: definition.policies,
            state: head.state.clone(),
        }),
        info: Some(info),
        memo: definition.memo.clone(),
        search_attributes: definition.search_attributes.clone(),
        conflict_token: conflict_token(head.conflict_token),
    };
    let unsettled = !head.starting.is_empty() || head.running.iter().any(|run| run.asked);
    let description = ScheduleDescription { response: Some(response), unsettled };
    draft.unchanged(reply::of(Kind::Schedule(description.into())))
}

/// The next times at which actions are to be taken, were the schedule not paused; those after `after` only.
pub(super) fn future_times(schedule: &Schedule, seed: &str, after: UnixNanos, most: usize) -> Vec<UnixNanos> {
    let Ok(spec) = &schedule.spec else { return Vec::new() };
    let head = &schedule.head;
    let left = head.state.as_ref().filter(|state| state.limited_actions).map(|state| state.remaining_actions);
    let most = left.map_or(most, |left| most.min(usize::try_from(left).unwrap_or(0)));
    let updated = head.update_time.as_ref().map_or(i64::MIN, nanos);
    let mut after = head.processed.as_ref().map_or(0, nanos).max(after);
    let mut times = Vec::with_capacity(most);
    while times.len() < most
        && let Some(next) = spec.next(seed, after)
    {
        after = next.actual;
        if next.actual >= updated {
            times.push(next.actual);
        }
    }
    times
}

/// The row behind listings: among workflows a schedule is an open run of its own kind.
pub fn listed(chain: &ChainId, schedule: &Schedule) -> record::Visibility {
    let (definition, head) = (&schedule.definition, &schedule.head);
    let seed = alloc::format!("{}-{}", chain.namespace_id, definition.schedule_id);
    let mut memo = definition.memo.clone().unwrap_or_default();
    memo.fields.insert(LIST_INFO.to_string(), bytes_payload(&list_info(schedule, &seed)));
    let mut attributes = definition.search_attributes.clone().unwrap_or_default();
    let paused = head.state.as_ref().is_some_and(|state| state.paused);
    for (name, kind, value) in [
        ("TemporalNamespaceDivision", "Keyword", alloc::format!("{NAMESPACE_DIVISION:?}")),
        ("TemporalSchedulePaused", "Bool", paused.to_string()),
    ] {
        attributes.indexed_fields.insert(name.to_string(), json_payload(kind, value));
    }
    record::Visibility {
        workflow_id: chain.workflow_id.clone(),
        run_id: definition.run_id.clone(),
        workflow_type: WORKFLOW_TYPE.to_string(),
        task_queue: TASK_QUEUE.to_string(),
        status: WorkflowExecutionStatus::Running.into(),
        start_time: head.create_time,
        execution_time: head.create_time,
        memo: Some(Memo { fields: memo.fields }),
        search_attributes: Some(SearchAttributes { indexed_fields: attributes.indexed_fields }),
        root_workflow_id: chain.workflow_id.clone(),
        root_run_id: definition.run_id.clone(),
        ..record::Visibility::default()
    }
}

fn list_info(schedule: &Schedule, seed: &str) -> ScheduleListInfo {
    let (definition, head) = (&schedule.definition, &schedule.head);
    let asked = definition.spec.as_ref();
    let spec = ScheduleSpec {
        structured_calendar: asked.map_or_else(Vec::new, |spec| first(&spec.structured_calendar)),
        interval: asked.map_or_else(Vec::new, |spec| first(&spec.interval)),
        exclude_structured_calendar: asked.map_or_else(Vec::new, |spec| first(&spec.exclude_structured_calendar)),
        start_time: asked.and_then(|spec| spec.start_time),
        end_time: asked.and_then(|spec| spec.end_time),
        jitter: asked.and_then(|spec| spec.jitter),
        timezone_name: asked.map(|spec| spec.timezone_name.clone()).unwrap_or_default(),
        ..ScheduleSpec::default()
    };
    let state = head.state.as_ref();
    let recent = head.recent_actions.len().saturating_sub(LISTED_ACTIONS);
    ScheduleListInfo {
        spec: Some(spec),
        workflow_type: start_workflow(definition.action.as_ref()).and_then(|workflow| workflow.workflow_type.clone()),
        notes: state.map(|state| state.notes.clone()).unwrap_or_default(),
        paused: state.is_some_and(|state| state.paused),
        recent_actions: head.recent_actions.iter().skip(recent).cloned().collect(),
        future_action_times: future_times(schedule, seed, 0, LISTED_TIMES).into_iter().map(timestamp).collect(),
        ..ScheduleListInfo::default()
    }
}

fn first<T: Clone>(all: &[T]) -> Vec<T> {
    all.iter().take(LISTED_SPECS).cloned().collect()
}

fn bytes_payload(message: &impl Message) -> Payload {
    let encoding = ("encoding".to_string(), Bytes::from_static(b"binary/plain"));
    Payload { metadata: [encoding].into(), data: message.encode_to_vec().into(), ..Payload::default() }
}

/// A search attribute with its type.
pub(super) fn json_payload(kind: &'static str, value: String) -> Payload {
    let metadata = [("encoding", "json/plain"), ("type", kind)];
    Payload {
        metadata: metadata.map(|(key, value)| (key.to_string(), Bytes::from_static(value.as_bytes()))).into(),
        data: value.into(),
        ..Payload::default()
    }
}
