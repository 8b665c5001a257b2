//! DescribeWorkflowExecution.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::{ChainId, reply::Kind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::activity::v1::ActivityOptions;
use bristlecone_proto::temporal::api::common::v1::{ActivityType, Callback, RetryPolicy, WorkflowExecution};
use bristlecone_proto::temporal::api::enums::v1::{
    CallbackState, PendingActivityState, PendingWorkflowTaskState, TaskQueueKind,
};
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflow::v1::pending_activity_info::{PauseInfo, pause_info};
use bristlecone_proto::temporal::api::workflow::v1::{
    CallbackInfo, PendingActivityInfo, PendingChildExecutionInfo, PendingWorkflowTaskInfo, RequestIdInfo,
    WorkflowExecutionConfig, WorkflowExecutionExtendedInfo, WorkflowExecutionInfo, callback_info,
};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse,
};
use prost_types::Duration;

use crate::chain::Run;
use crate::draft::{Draft, normal_queue};
use crate::rules::Rule;
use crate::stamp::{Stamp, duration, duration_nanos, nanos, timestamp};
use crate::{Step, activity, deadline, reply, retry, successor};

/// As in [`crate::history_head`], a soft start is written before anybody sees it.
pub(crate) fn describe(mut draft: Draft<'_>, request: &DescribeWorkflowExecutionRequest) -> Step {
    let run_id = match draft.find(request.execution.as_ref()) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&run_id);
    let hardens = run.soft_start.is_some() && run.speculative.is_none();
    if hardens {
        draft.begin_transition(&run_id);
    }
    let response = response(draft.id(), draft.run(&run_id), draft.at());
    let reply = reply::of(Kind::Describe(response.into()));
    if hardens { draft.finish(reply) } else { draft.unchanged(reply) }
}

fn response(chain: &ChainId, run: &Run, at: &Stamp<'_>) -> DescribeWorkflowExecutionResponse {
    DescribeWorkflowExecutionResponse {
        execution_config: Some(config(run)),
        workflow_execution_info: Some(info(chain, run)),
        pending_activities: run.activities.iter().map(|(_, activity)| pending_activity(activity, at)).collect(),
        pending_children: run.children.iter().map(|(_, child)| pending_child(child)).collect(),
        pending_workflow_task: run.pending_task().map(|task| pending_task(run, task)),
        callbacks: callbacks(run),
        pending_nexus_operations: Vec::new(),
        workflow_extended_info: Some(extended_info(run)),
    }
}

fn config(run: &Run) -> WorkflowExecutionConfig {
    WorkflowExecutionConfig {
        task_queue: Some(TaskQueue {
            name: normal_queue(run).into(),
            kind: TaskQueueKind::Normal.into(),
            ..TaskQueue::default()
        }),
        workflow_execution_timeout: run.started.workflow_execution_timeout,
        workflow_run_timeout: run.started.workflow_run_timeout,
        default_workflow_task_timeout: run.started.workflow_task_timeout,
        user_metadata: run.user_metadata.as_deref().cloned(),
    }
}

fn info(chain: &ChainId, run: &Run) -> WorkflowExecutionInfo {
    let this = WorkflowExecution { workflow_id: chain.workflow_id.clone(), run_id: run.id.clone() };
    let execution_time = successor::execution_time(run);
    let close_time = run.head.close_time.as_ref();
    let versioning = run.head.versioning.as_ref();
    let version = versioning.and_then(|versioning| versioning.deployment_version.as_ref());
    WorkflowExecutionInfo {
        root_execution: run.started.root_workflow_execution.clone().or_else(|| Some(this.clone())),
        execution: Some(this),
        r#type: run.started.workflow_type.clone(),
        start_time: Some(timestamp(run.start_time)),
        close_time: close_time.copied(),
        status: run.head.status,
        history_length: run.head.next_event_id - 1,
        parent_namespace_id: run.started.parent_workflow_namespace_id.clone(),
        parent_execution: run.started.parent_workflow_execution.clone(),
        execution_time: Some(timestamp(execution_time)),
        memo: Some(run.fields.memo.clone().unwrap_or_default()),
        search_attributes: Some(run.fields.search_attributes.clone().unwrap_or_default()),
        auto_reset_points: run.head.auto_reset_points.clone(),
        task_queue: normal_queue(run).into(),
        state_transition_count: run.head.transitions,
        history_size_bytes: run.head.history_size,
        most_recent_worker_version_stamp: run.head.worker_version.clone(),
        execution_duration: close_time.map(|close| duration(nanos(close).saturating_sub(execution_time).max(0))),
        assigned_build_id: String::new(),
        inherited_build_id: run.started.inherited_build_id.clone(),
        first_run_id: run.started.first_execution_run_id.clone(),
        versioning_info: versioning.cloned(),
        worker_deployment_name: version.map(|version| version.deployment_name.clone()).unwrap_or_default(),
        priority: run.head.priority.clone(),
        external_payload_size_bytes: run.head.external_payload_bytes,
        external_payload_count: run.head.external_payload_count,
    }
}

fn extended_info(run: &Run) -> WorkflowExecutionExtendedInfo {
    let request_id_infos: BTreeMap<String, RequestIdInfo> = run
        .head
        .request_ids
        .iter()
        .map(|(id, info)| {
            let buffered = info.event_id == 0;
            (id.clone(), RequestIdInfo { event_type: info.event_type, event_id: info.event_id, buffered })
        })
        .collect();
    WorkflowExecutionExtendedInfo {
        execution_expiration_time: run.started.workflow_execution_expiration_time,
        run_expiration_time: deadline::run_expiration(run).map(timestamp),
        cancel_requested: run.head.cancel_requested,
        last_reset_time: run.head.last_reset_time,
        original_start_time: Some(timestamp(run.first_event_time)),
        reset_run_id: run.head.reset_run_id.clone(),
        request_id_infos,
        pause_info: run.head.pause.clone(),
        ..WorkflowExecutionExtendedInfo::default()
    }
}

fn pending_task(run: &Run, task: &record::WorkflowTask) -> PendingWorkflowTaskInfo {
    let soft_start = run.soft_start.as_ref();
    let state = if task.started_event_id == 0 && soft_start.is_none() {
        PendingWorkflowTaskState::Scheduled
    } else {
        PendingWorkflowTaskState::Started
    };
    PendingWorkflowTaskInfo {
        state: state.into(),
        scheduled_time: task.scheduled_time,
        original_scheduled_time: task.original_scheduled_time,
        started_time: task.started_time.or_else(|| soft_start.map(|soft| timestamp(soft.at))),
        attempt: task.attempt,
    }
}

fn pending_child(child: &record::Child) -> PendingChildExecutionInfo {
    PendingChildExecutionInfo {
        workflow_id: child.workflow_id.clone(),
        run_id: child.run_id.clone(),
        workflow_type_name: child.workflow_type.clone(),
        initiated_id: child.initiated_event_id,
        parent_close_policy: child.parent_close_policy,
    }
}

fn pending_activity(pending: &record::Activity, at: &Stamp<'_>) -> PendingActivityInfo {
    let policy = pending.retry_policy.clone().unwrap_or_default();
    let started = activity::is_started(pending);
    let waits = pending.scheduled_time.as_ref().is_some_and(|due| nanos(due) > at.now) && !started;
    let schedule_to_close = duration_nanos(pending.schedule_to_close_timeout.as_ref());
    let first = pending.first_scheduled_time.as_ref().map_or(0, nanos);
    let worker = if pending.identity.is_empty() { &pending.last_worker_identity } else { &pending.identity };
    PendingActivityInfo {
        activity_id: pending.activity_id.clone(),
        activity_type: Some(ActivityType { name: pending.activity_type.clone() }),
        state: activity_state(pending, started).into(),
        heartbeat_details: pending.heartbeat_details.clone(),
        last_heartbeat_time: pending.last_heartbeat_time,
        last_started_time: pending.started_time,
        attempt: pending.attempt.max(1),
        maximum_attempts: policy.maximum_attempts,
        scheduled_time: pending.scheduled_time,
        expiration_time: (schedule_to_close > 0).then(|| timestamp(first.saturating_add(schedule_to_close))),
        last_failure: pending.last_failure.clone(),
        last_worker_identity: worker.clone(),
        last_worker_version_stamp: pending.last_worker_version.clone(),
        current_retry_interval: retry_interval(pending, started, waits),
        last_attempt_complete_time: pending.last_attempt_complete_time,
        next_attempt_schedule_time: if waits { pending.scheduled_time } else { None },
        paused: pending.paused,
        last_deployment_version: pending.last_deployment_version.clone(),
        priority: pending.priority.clone(),
        pause_info: pause(pending, &at.namespace.rules),
        activity_options: Some(options(pending, policy)),
        ..PendingActivityInfo::default()
    }
}

/// Between the last attempt and the next one; of one that waits for a worker, what its policy says.
pub(crate) fn retry_interval(pending: &record::Activity, started: bool, waits: bool) -> Option<Duration> {
    let policy = pending.retry_policy.as_ref().filter(|_| !started && !pending.cancel_requested)?;
    if !waits {
        return Some(duration(retry::exponential(policy, pending.attempt.max(1))));
    }
    let (next, last) = (pending.scheduled_time.as_ref()?, pending.last_attempt_complete_time.as_ref());
    Some(duration(nanos(next).saturating_sub(last.map_or(0, nanos))))
}

pub(crate) fn activity_state(pending: &record::Activity, started: bool) -> PendingActivityState {
    match (pending.cancel_requested, started, pending.paused) {
        (true, ..) => PendingActivityState::CancelRequested,
        (false, true, true) => PendingActivityState::PauseRequested,
        (false, true, false) => PendingActivityState::Started,
        (false, false, true) => PendingActivityState::Paused,
        (false, false, false) => PendingActivityState::Scheduled,
    }
}

/// By an operator, or by a rule, of which more is told while it is there.
fn pause(pending: &record::Activity, rules: &[Rule]) -> Option<PauseInfo> {
    let rule_id = &pending.paused_by_rule;
    let paused_by = if rule_id.is_empty() {
        let (identity, reason) = (pending.paused_by.clone(), pending.pause_reason.clone());
        pause_info::PausedBy::Manual(pause_info::Manual { identity, reason })
    } else {
        let rule = rules.iter().find(|rule| rule.id == *rule_id);
        let (identity, reason) = rule.map(|rule| (rule.identity.clone(), rule.description.clone())).unwrap_or_default();
        pause_info::PausedBy::Rule(pause_info::Rule { rule_id: rule_id.clone(), identity, reason })
    };
    pending.paused.then_some(PauseInfo { pause_time: pending.paused_time, paused_by: Some(paused_by) })
}

fn options(pending: &record::Activity, policy: RetryPolicy) -> ActivityOptions {
    ActivityOptions {
        task_queue: Some(TaskQueue {
            name: pending.task_queue.clone(),
            normal_name: pending.task_queue.clone(),
            ..TaskQueue::default()
        }),
        schedule_to_close_timeout: pending.schedule_to_close_timeout,
        schedule_to_start_timeout: pending.schedule_to_start_timeout,
        start_to_close_timeout: pending.start_to_close_timeout,
        heartbeat_timeout: pending.heartbeat_timeout,
        retry_policy: Some(RetryPolicy { non_retryable_error_types: Vec::new(), ..policy }),
        priority: pending.priority.clone(),
        ..ActivityOptions::default()
    }
}

/// Callbacks that are called when the run closes; those of a closed run are not told of here.
fn callbacks(run: &Run) -> Vec<CallbackInfo> {
    if !run.is_running() {
        return Vec::new();
    }
    let of = |callback: &Callback| CallbackInfo {
        callback: Some(callback.clone()),
        trigger: Some(callback_info::Trigger {
            variant: Some(callback_info::trigger::Variant::WorkflowClosed(callback_info::WorkflowClosed {})),
        }),
        registration_time: Some(timestamp(run.start_time)),
        state: CallbackState::Standby.into(),
        ..CallbackInfo::default()
    };
    run.started.completion_callbacks.iter().chain(&run.head.attached_callbacks).map(of).collect()
}
