//! What clients ask of schedules: the word after the command is the schedule's id.

use bristlecone_machine::schedule::ID_PREFIX;
use bristlecone_proto::chain::input::Kind;
use bristlecone_proto::temporal::api::common::v1::{SearchAttributes, WorkflowType};
use bristlecone_proto::temporal::api::enums::v1::{ScheduleOverlapPolicy, WorkflowIdReusePolicy};
use bristlecone_proto::temporal::api::schedule::v1::{
    BackfillRequest, IntervalSpec, Schedule, ScheduleAction, SchedulePatch, SchedulePolicies, ScheduleSpec,
    ScheduleState, TriggerImmediatelyRequest, schedule_action,
};
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflow::v1::NewWorkflowExecutionInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    CreateScheduleRequest, DeleteScheduleRequest, DescribeScheduleRequest, ListScheduleMatchingTimesRequest,
    PatchScheduleRequest, UpdateScheduleRequest,
};
use bytes::Bytes;
use prost_types::Timestamp;

use super::super::span;
use super::{Commands, Line, duration, payload, payloads};
use crate::shell::{SECOND, START};

/// The chain that the command is for, if it is about a schedule.
pub fn chain_of(line: &Line) -> Option<String> {
    let is_schedules = line.name().ends_with("-schedule") || line.name() == "matching-times";
    is_schedules.then(|| format!("{ID_PREFIX}{}", line.what()))
}

impl Commands {
    pub fn schedule_input(&mut self, line: &Line) -> Option<Kind> {
        let schedule_id = line.what().to_string();
        Some(match line.name() {
            "create-schedule" => Kind::CreateSchedule(
                CreateScheduleRequest {
                    namespace: "default".into(),
                    schedule_id,
                    schedule: Some(schedule(line)),
                    initial_patch: patch(line),
                    request_id: self.request_id(line),
                    search_attributes: search_attributes(line),
                    ..CreateScheduleRequest::default()
                }
                .into(),
            ),
            "update-schedule" => Kind::UpdateSchedule(
                UpdateScheduleRequest {
                    namespace: "default".into(),
                    schedule_id,
                    schedule: Some(schedule(line)),
                    conflict_token: line
                        .number("token")
                        .map(|token| Bytes::copy_from_slice(&token.to_be_bytes()))
                        .unwrap_or_default(),
                    request_id: self.request_id(line),
                    search_attributes: search_attributes(line),
                    ..UpdateScheduleRequest::default()
                }
                .into(),
            ),
            "patch-schedule" => Kind::PatchSchedule(PatchScheduleRequest {
                schedule_id,
                patch: patch(line),
                request_id: self.request_id(line),
                ..PatchScheduleRequest::default()
            }),
            "describe-schedule" => {
                Kind::DescribeSchedule(DescribeScheduleRequest { schedule_id, ..DescribeScheduleRequest::default() })
            }
            "matching-times" => Kind::ScheduleMatchingTimes(ListScheduleMatchingTimesRequest {
                schedule_id,
                start_time: line.nanos("from").map(at),
                end_time: line.nanos("to").map(at),
                ..ListScheduleMatchingTimesRequest::default()
            }),
            "delete-schedule" => {
                Kind::DeleteSchedule(DeleteScheduleRequest { schedule_id, ..DeleteScheduleRequest::default() })
            }
            _ => return None,
        })
    }
}

fn schedule(line: &Line) -> Schedule {
    let every = line
        .nanos("every")
        .map(|every| IntervalSpec { interval: duration(Some(every)), phase: duration(line.nanos("phase")) });
    let workflow = NewWorkflowExecutionInfo {
        workflow_id: line.or("base", "w"),
        workflow_type: Some(WorkflowType { name: line.or("type", "Type") }),
        task_queue: Some(TaskQueue { name: "q".into(), ..TaskQueue::default() }),
        input: payloads(line.value("input")),
        cron_schedule: line.or("workflow-cron", ""),
        workflow_id_reuse_policy: if line.has("reject-duplicate") {
            WorkflowIdReusePolicy::RejectDuplicate.into()
        } else {
            0
        },
        retry_policy: line.number("attempts").map(|maximum_attempts| {
            bristlecone_proto::temporal::api::common::v1::RetryPolicy {
                maximum_attempts: maximum_attempts as i32,
                ..Default::default()
            }
        }),
        ..NewWorkflowExecutionInfo::default()
    };
    Schedule {
        spec: Some(ScheduleSpec {
            cron_string: line.value("cron").map(String::from).into_iter().collect(),
            interval: every.into_iter().collect(),
            jitter: duration(line.nanos("jitter")),
            ..ScheduleSpec::default()
        }),
        action: (!line.has("no-action"))
            .then(|| ScheduleAction { action: Some(schedule_action::Action::StartWorkflow(workflow)) }),
        policies: Some(SchedulePolicies {
            overlap_policy: overlap(line.value("overlap")).into(),
            catchup_window: duration(line.nanos("catchup")),
            pause_on_failure: line.has("pause-on-failure"),
            keep_original_workflow_id: line.has("keep-id"),
        }),
        state: Some(ScheduleState {
            notes: String::new(),
            paused: line.has("paused"),
            limited_actions: line.value("remaining").is_some(),
            remaining_actions: line.number("remaining").unwrap_or(0),
        }),
    }
}

fn patch(line: &Line) -> Option<SchedulePatch> {
    let with = overlap(line.value("with")).into();
    let backfill = line.value("backfill").map(|range| {
        let (from, to) = range.split_once("..").expect("a range");
        let time = |text: &str| span(text).map(at);
        BackfillRequest { start_time: time(from), end_time: time(to), overlap_policy: with }
    });
    Some(SchedulePatch {
        trigger_immediately: line
            .has("trigger")
            .then_some(TriggerImmediatelyRequest { overlap_policy: with, scheduled_time: None }),
        backfill_request: backfill.into_iter().collect(),
        pause: line.or("pause", ""),
        unpause: line.or("unpause", ""),
    })
}

fn search_attributes(line: &Line) -> Option<SearchAttributes> {
    let (name, value) = line.value("attribute")?.split_once(':')?;
    Some(SearchAttributes { indexed_fields: [(name.to_string(), payload(&format!("{value:?}")))].into() })
}

fn overlap(name: Option<&str>) -> ScheduleOverlapPolicy {
    match name {
        None => ScheduleOverlapPolicy::Unspecified,
        Some("skip") => ScheduleOverlapPolicy::Skip,
        Some("buffer-one") => ScheduleOverlapPolicy::BufferOne,
        Some("buffer-all") => ScheduleOverlapPolicy::BufferAll,
        Some("cancel") => ScheduleOverlapPolicy::CancelOther,
        Some("terminate") => ScheduleOverlapPolicy::TerminateOther,
        Some("all") => ScheduleOverlapPolicy::AllowAll,
        Some(other) => panic!("no overlap policy: {other}"),
    }
}

/// A time after the start of the script.
fn at(nanos: i64) -> Timestamp {
    let nanos = START + nanos;
    Timestamp { seconds: nanos / SECOND, nanos: (nanos % SECOND) as i32 }
}
