//! What clients send.

use bristlecone_proto::chain::{HistoryHead, Reset, UpdateWithStart, input::Kind};
use bristlecone_proto::temporal::api::activity::v1::ActivityOptions;
use bristlecone_proto::temporal::api::common::v1::{
    Callback, Link, Memo, Priority, RetryPolicy, SearchAttributes, WorkflowExecution, WorkflowType, callback, link,
};
use bristlecone_proto::temporal::api::deployment::v1::WorkerDeploymentVersion;
use bristlecone_proto::temporal::api::enums::v1::{
    QueryRejectCondition, ResetReapplyExcludeType, TaskQueueKind, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use bristlecone_proto::temporal::api::query::v1::WorkflowQuery;
use bristlecone_proto::temporal::api::sdk::v1::UserMetadata;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::update::v1::UpdateRef;
use bristlecone_proto::temporal::api::workflow::v1::versioning_override::{
    Override, PinnedOverride, PinnedOverrideBehavior,
};
use bristlecone_proto::temporal::api::workflow::v1::{OnConflictOptions, VersioningOverride, WorkflowExecutionOptions};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, DescribeWorkflowExecutionRequest, PauseActivityRequest,
    PauseWorkflowExecutionRequest, PollWorkflowExecutionUpdateRequest, QueryWorkflowRequest,
    RequestCancelWorkflowExecutionRequest, ResetActivityRequest, ResetStickyTaskQueueRequest,
    ResetWorkflowExecutionRequest, SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest, UnpauseActivityRequest,
    UnpauseWorkflowExecutionRequest, UpdateActivityOptionsRequest, UpdateWorkflowExecutionOptionsRequest,
    UpdateWorkflowExecutionRequest, pause_activity_request, reset_activity_request, unpause_activity_request,
    update_activity_options_request,
};
use prost_types::FieldMask;

use super::{Commands, Line, duration, payload, payloads, update_request};

impl Commands {
    pub fn client_input(&mut self, line: &Line) -> Option<Kind> {
        Some(match line.name() {
            "start" => Kind::Start(self.start(line).into()),
            "signal-with-start" => Kind::SignalWithStart(self.signal_with_start(line).into()),
            "signal" => Kind::Signal(SignalWorkflowExecutionRequest {
                workflow_execution: self.execution(line),
                signal_name: line.or("name", "poke"),
                input: payloads(line.value("input")),
                identity: "client".into(),
                request_id: self.request_id(line),
                links: links(line),
                ..SignalWorkflowExecutionRequest::default()
            }),
            "cancel" => Kind::RequestCancel(RequestCancelWorkflowExecutionRequest {
                workflow_execution: self.execution(line),
                identity: "client".into(),
                request_id: self.request_id(line),
                first_execution_run_id: self.names.id(&line.or("first", "")),
                reason: line.or("reason", ""),
                ..RequestCancelWorkflowExecutionRequest::default()
            }),
            "terminate" => Kind::Terminate(TerminateWorkflowExecutionRequest {
                workflow_execution: self.execution(line),
                reason: line.or("reason", ""),
                identity: line.or("identity", ""),
                first_execution_run_id: self.names.id(&line.or("first", "")),
                ..TerminateWorkflowExecutionRequest::default()
            }),
            "delete" => Kind::Delete(DeleteWorkflowExecutionRequest {
                workflow_execution: self.execution(line),
                ..DeleteWorkflowExecutionRequest::default()
            }),
            "describe" => Kind::Describe(DescribeWorkflowExecutionRequest {
                execution: self.execution(line),
                ..DescribeWorkflowExecutionRequest::default()
            }),
            "reset-sticky" => Kind::ResetSticky(ResetStickyTaskQueueRequest {
                execution: self.execution(line),
                ..ResetStickyTaskQueueRequest::default()
            }),
            "pause-activity" => Kind::PauseActivity(PauseActivityRequest {
                execution: self.execution(line),
                identity: "operator".into(),
                reason: line.or("reason", ""),
                activity: match (line.value("activity"), line.value("type")) {
                    (Some(id), _) => Some(pause_activity_request::Activity::Id(id.into())),
                    (None, name) => name.map(|name| pause_activity_request::Activity::Type(name.into())),
                },
                ..PauseActivityRequest::default()
            }),
            "unpause-activity" => Kind::UnpauseActivity(UnpauseActivityRequest {
                execution: self.execution(line),
                reset_attempts: line.has("attempts"),
                reset_heartbeat: line.has("heartbeat"),
                jitter: duration(line.nanos("jitter")),
                activity: Some(match (line.value("activity"), line.value("type")) {
                    (Some(id), _) => unpause_activity_request::Activity::Id(id.into()),
                    (None, Some(name)) => unpause_activity_request::Activity::Type(name.into()),
                    (None, None) => unpause_activity_request::Activity::UnpauseAll(true),
                }),
                ..UnpauseActivityRequest::default()
            }),
            "reset-activity" => Kind::ResetActivity(ResetActivityRequest {
                execution: self.execution(line),
                reset_heartbeat: line.has("heartbeat"),
                keep_paused: line.has("keep-paused"),
                restore_original_options: line.has("restore"),
                jitter: duration(line.nanos("jitter")),
                activity: Some(match (line.value("activity"), line.value("type")) {
                    (Some(id), _) => reset_activity_request::Activity::Id(id.into()),
                    (None, Some(name)) => reset_activity_request::Activity::Type(name.into()),
                    (None, None) => reset_activity_request::Activity::MatchAll(true),
                }),
                ..ResetActivityRequest::default()
            }),
            "activity-options" => Kind::UpdateActivityOptions(activity_options(self.execution(line), line)),
            "pause" => Kind::PauseWorkflow(PauseWorkflowExecutionRequest {
                workflow_id: line.or("id", "wf"),
                run_id: self.names.id(&line.or("run", "")),
                identity: "operator".into(),
                reason: line.or("reason", ""),
                request_id: line.or("request", ""),
                ..PauseWorkflowExecutionRequest::default()
            }),
            "unpause" => Kind::UnpauseWorkflow(UnpauseWorkflowExecutionRequest {
                workflow_id: line.or("id", "wf"),
                run_id: self.names.id(&line.or("run", "")),
                identity: "operator".into(),
                reason: line.or("reason", ""),
                ..UnpauseWorkflowExecutionRequest::default()
            }),
            "options" => Kind::UpdateWorkflowOptions(workflow_options(self.execution(line), line)),
            "history" => Kind::HistoryHead(HistoryHead {
                execution: self.execution(line),
                with_virtual_events: line.has("virtual"),
            }),
            "update" => Kind::Update(self.update(line)),
            "poll-update" => Kind::PollUpdate(PollWorkflowExecutionUpdateRequest {
                update_ref: Some(UpdateRef { workflow_execution: self.execution(line), update_id: line.what().into() }),
                ..PollWorkflowExecutionUpdateRequest::default()
            }),
            "update-with-start" => {
                let update = self.update(line);
                Kind::UpdateWithStart(UpdateWithStart { start: Some(self.start(line)), update: Some(update) })
            }
            "reset" => Kind::Reset(self.reset(line)),
            "query" => Kind::Query(QueryWorkflowRequest {
                execution: self.execution(line),
                query: Some(WorkflowQuery { query_type: line.or("type", "state"), ..WorkflowQuery::default() }),
                query_reject_condition: match line.or("reject", "none").as_str() {
                    "not-open" => QueryRejectCondition::NotOpen,
                    "not-completed-cleanly" => QueryRejectCondition::NotCompletedCleanly,
                    _ => QueryRejectCondition::None,
                }
                .into(),
                ..QueryWorkflowRequest::default()
            }),
            _ => return None,
        })
    }

    fn update(&self, line: &Line) -> UpdateWorkflowExecutionRequest {
        UpdateWorkflowExecutionRequest {
            workflow_execution: self.execution(line),
            first_execution_run_id: self.names.id(&line.or("first", "")),
            request: Some(update_request(line.what(), line.value("args"))),
            ..UpdateWorkflowExecutionRequest::default()
        }
    }

    /// The histories are read as the cluster's front reads them.
    fn reset(&mut self, line: &Line) -> Reset {
        let excluded = line.value("exclude").into_iter().flat_map(|kinds| kinds.split(','));
        let excluded = excluded.map(|kind| match kind {
            "signal" => ResetReapplyExcludeType::Signal,
            "update" => ResetReapplyExcludeType::Update,
            other => panic!("unknown kind of event: {other}"),
        });
        let request = ResetWorkflowExecutionRequest {
            workflow_execution: self.execution(line),
            reason: line.or("reason", "again"),
            workflow_task_finish_event_id: line.number("event").unwrap_or(0),
            request_id: self.request_id(line),
            reset_reapply_exclude_types: excluded.map(i32::from).collect(),
            ..ResetWorkflowExecutionRequest::default()
        };
        let runs = if line.has("unread") {
            Vec::new()
        } else {
            self.shell.histories(&line.or("id", "wf"), &self.names.id(&line.or("run", "")))
        };
        Reset { request: Some(request), runs }
    }

    fn start(&mut self, line: &Line) -> StartWorkflowExecutionRequest {
        let callbacks = line.value("callback").map(|url| {
            let nexus = callback::Nexus { url: url.into(), ..callback::Nexus::default() };
            Callback { variant: Some(callback::Variant::Nexus(nexus)), ..Callback::default() }
        });
        let on_conflict = line.value("attach").map(|what| OnConflictOptions {
            attach_request_id: what.contains("request"),
            attach_completion_callbacks: what.contains("callbacks"),
            attach_links: what.contains("links"),
        });
        StartWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_id: line.or("id", "wf"),
            workflow_type: line.or("type", "Type").split(' ').next().map(|name| WorkflowType { name: name.into() }),
            task_queue: Some(TaskQueue {
                name: line.or("queue", "q"),
                kind: TaskQueueKind::Normal.into(),
                ..TaskQueue::default()
            }),
            input: payloads(line.value("input")),
            workflow_execution_timeout: duration(line.nanos("execution-timeout")),
            workflow_run_timeout: duration(line.nanos("run-timeout")),
            workflow_task_timeout: duration(line.nanos("task-timeout")),
            identity: "client".into(),
            request_id: self.request_id(line),
            workflow_id_reuse_policy: reuse(&line.or("reuse", "")).into(),
            workflow_id_conflict_policy: conflict(&line.or("conflict", "")).into(),
            retry_policy: retry_policy(line),
            cron_schedule: line.or("cron", ""),
            memo: line.value("memo").map(|text| Memo { fields: [("note".into(), payload(text))].into() }),
            search_attributes: line.value("word").map(|text| SearchAttributes {
                indexed_fields: [("Word".into(), payload(&format!("\"{text}\"")))].into(),
            }),
            request_eager_execution: line.has("eager"),
            workflow_start_delay: duration(line.nanos("delay")),
            completion_callbacks: callbacks.into_iter().collect(),
            user_metadata: line
                .value("summary")
                .map(|text| UserMetadata { summary: Some(payload(text)), details: None }),
            links: links(line),
            on_conflict_options: on_conflict,
            priority: line.number("priority").map(|key| Priority { priority_key: key as i32, ..Priority::default() }),
            ..StartWorkflowExecutionRequest::default()
        }
    }

    fn signal_with_start(&mut self, line: &Line) -> SignalWithStartWorkflowExecutionRequest {
        let start = self.start(line);
        SignalWithStartWorkflowExecutionRequest {
            namespace: start.namespace,
            workflow_id: start.workflow_id,
            workflow_type: start.workflow_type,
            task_queue: start.task_queue,
            workflow_run_timeout: start.workflow_run_timeout,
            identity: start.identity,
            request_id: start.request_id,
            workflow_id_reuse_policy: start.workflow_id_reuse_policy,
            workflow_id_conflict_policy: start.workflow_id_conflict_policy,
            signal_name: line.or("name", "poke"),
            signal_input: start.input,
            cron_schedule: start.cron_schedule,
            workflow_start_delay: start.workflow_start_delay,
            ..SignalWithStartWorkflowExecutionRequest::default()
        }
    }
}

/// `mask=a,b` names the fields; `restore` brings all back.
fn activity_options(execution: Option<WorkflowExecution>, line: &Line) -> UpdateActivityOptionsRequest {
    let options = ActivityOptions {
        task_queue: line.value("queue").map(|name| TaskQueue { name: name.into(), ..TaskQueue::default() }),
        schedule_to_close_timeout: duration(line.nanos("schedule-to-close")),
        schedule_to_start_timeout: duration(line.nanos("schedule-to-start")),
        start_to_close_timeout: duration(line.nanos("start-to-close")),
        heartbeat_timeout: duration(line.nanos("heartbeat")),
        retry_policy: retry_policy(line),
        priority: line.number("priority").map(|key| Priority { priority_key: key as i32, ..Priority::default() }),
        ..ActivityOptions::default()
    };
    UpdateActivityOptionsRequest {
        execution,
        activity_options: (!line.has("nothing")).then_some(options),
        update_mask: line.value("mask").map(|mask| FieldMask { paths: mask.split(',').map(str::to_string).collect() }),
        restore_original: line.has("restore"),
        activity: line.value("activity").map(|id| update_activity_options_request::Activity::Id(id.into())),
        ..UpdateActivityOptionsRequest::default()
    }
}

fn workflow_options(execution: Option<WorkflowExecution>, line: &Line) -> UpdateWorkflowExecutionOptionsRequest {
    let pinned = |version: &str| {
        let version = version.split_once('.').map(|(name, build_id)| WorkerDeploymentVersion {
            deployment_name: name.into(),
            build_id: build_id.into(),
        });
        Override::Pinned(PinnedOverride { behavior: PinnedOverrideBehavior::Pinned.into(), version })
    };
    let moved =
        line.value("pin").map(pinned).or_else(|| line.has("auto-upgrade").then_some(Override::AutoUpgrade(true)));
    let options = WorkflowExecutionOptions {
        versioning_override: moved
            .map(|moved| VersioningOverride { r#override: Some(moved), ..VersioningOverride::default() }),
        priority: line.number("priority").map(|key| Priority { priority_key: key as i32, ..Priority::default() }),
        ..WorkflowExecutionOptions::default()
    };
    UpdateWorkflowExecutionOptionsRequest {
        workflow_execution: execution,
        workflow_execution_options: (!line.has("nothing")).then_some(options),
        update_mask: line.value("mask").map(|mask| FieldMask { paths: mask.split(',').map(str::to_string).collect() }),
        identity: "operator".into(),
        ..UpdateWorkflowExecutionOptionsRequest::default()
    }
}

pub fn retry_policy(line: &Line) -> Option<RetryPolicy> {
    let attempts = line.number("attempts")?;
    Some(RetryPolicy {
        maximum_attempts: attempts as i32,
        initial_interval: duration(line.nanos("interval")),
        backoff_coefficient: line.value("coefficient").map_or(0.0, |text| text.parse().expect("a number")),
        maximum_interval: duration(line.nanos("maximum-interval")),
        non_retryable_error_types: line.value("non-retryable").map(str::to_string).into_iter().collect(),
    })
}

pub fn reuse(name: &str) -> WorkflowIdReusePolicy {
    match name {
        "" => WorkflowIdReusePolicy::Unspecified,
        "allow" => WorkflowIdReusePolicy::AllowDuplicate,
        "failed-only" => WorkflowIdReusePolicy::AllowDuplicateFailedOnly,
        "reject" => WorkflowIdReusePolicy::RejectDuplicate,
        "terminate" => WorkflowIdReusePolicy::TerminateIfRunning,
        other => panic!("unknown reuse policy {other}"),
    }
}

fn conflict(name: &str) -> WorkflowIdConflictPolicy {
    match name {
        "" => WorkflowIdConflictPolicy::Unspecified,
        "fail" => WorkflowIdConflictPolicy::Fail,
        "use" => WorkflowIdConflictPolicy::UseExisting,
        "terminate" => WorkflowIdConflictPolicy::TerminateExisting,
        other => panic!("unknown conflict policy {other}"),
    }
}

pub fn links(line: &Line) -> Vec<Link> {
    let job = line.value("link").map(|id| link::BatchJob { job_id: id.into() });
    job.map(|job| Link { variant: Some(link::Variant::BatchJob(job)) }).into_iter().collect()
}
