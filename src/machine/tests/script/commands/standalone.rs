//! Standalone activities: what clients send. `standalone=a` names the activity, also in workers' and operators'
//! commands.

use bristlecone_machine::standalone;
use bristlecone_proto::chain::input::Kind;
use bristlecone_proto::temporal::api::common::v1::{ActivityType, OnConflictOptions, Priority};
use bristlecone_proto::temporal::api::enums::v1::{ActivityIdConflictPolicy, ActivityIdReusePolicy};
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DeleteActivityExecutionRequest, DescribeActivityExecutionRequest, RequestCancelActivityExecutionRequest,
    StartActivityExecutionRequest, TerminateActivityExecutionRequest,
};

use super::clients::{links, retry_policy};
use super::{Commands, Line, duration, payloads};

/// The chain that a command is about.
pub fn chain_of(line: &Line) -> String {
    line.value("standalone").map_or_else(|| line.or("id", "wf"), standalone::chain_workflow_id)
}

impl Commands {
    pub fn standalone_input(&mut self, line: &Line) -> Option<Kind> {
        let activity_id = line.or("standalone", "");
        let run_id = self.names.id(&line.or("run", ""));
        Some(match line.name() {
            "start-standalone" => Kind::StartStandalone(self.start_standalone(line).into()),
            "describe-standalone" => Kind::DescribeStandalone(DescribeActivityExecutionRequest {
                activity_id,
                run_id,
                include_input: line.has("input"),
                include_outcome: line.has("outcome"),
                ..DescribeActivityExecutionRequest::default()
            }),
            "cancel-standalone" => Kind::CancelStandalone(RequestCancelActivityExecutionRequest {
                activity_id,
                run_id,
                identity: "client".into(),
                request_id: line.or("request", "cancel"),
                reason: line.or("reason", ""),
                ..RequestCancelActivityExecutionRequest::default()
            }),
            "terminate-standalone" => Kind::TerminateStandalone(TerminateActivityExecutionRequest {
                activity_id,
                run_id,
                identity: "client".into(),
                request_id: line.or("request", "terminate"),
                reason: line.or("reason", ""),
                ..TerminateActivityExecutionRequest::default()
            }),
            "delete-standalone" => Kind::DeleteStandalone(DeleteActivityExecutionRequest {
                activity_id,
                run_id,
                ..DeleteActivityExecutionRequest::default()
            }),
            _ => return None,
        })
    }

    fn start_standalone(&mut self, line: &Line) -> StartActivityExecutionRequest {
        let reuse = match line.or("reuse", "").as_str() {
            "" => ActivityIdReusePolicy::Unspecified,
            "failed-only" => ActivityIdReusePolicy::AllowDuplicateFailedOnly,
            "reject" => ActivityIdReusePolicy::RejectDuplicate,
            other => panic!("unknown reuse policy {other}"),
        };
        let conflict =
            if line.has("use") { ActivityIdConflictPolicy::UseExisting } else { ActivityIdConflictPolicy::Unspecified };
        StartActivityExecutionRequest {
            identity: "client".into(),
            request_id: line.or("request", "start"),
            activity_id: line.or("standalone", ""),
            activity_type: Some(ActivityType { name: line.or("type", "work") }),
            task_queue: Some(TaskQueue { name: line.or("queue", "q"), ..TaskQueue::default() }),
            schedule_to_close_timeout: duration(line.nanos("schedule-to-close")),
            schedule_to_start_timeout: duration(line.nanos("schedule-to-start")),
            start_to_close_timeout: duration(line.nanos("start-to-close")),
            heartbeat_timeout: duration(line.nanos("heartbeat")),
            retry_policy: retry_policy(line),
            input: payloads(line.value("input")),
            id_reuse_policy: reuse.into(),
            id_conflict_policy: conflict.into(),
            priority: line.number("priority").map(|key| Priority { priority_key: key as i32, ..Priority::default() }),
            start_delay: duration(line.nanos("delay")),
            links: links(line),
            on_conflict_options: line.value("attach").map(|what| OnConflictOptions {
                attach_request_id: what.contains("request"),
                attach_completion_callbacks: what.contains("callbacks"),
                attach_links: what.contains("links"),
            }),
            ..StartActivityExecutionRequest::default()
        }
    }
}
