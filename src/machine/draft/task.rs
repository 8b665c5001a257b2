//! The workflow task as part of any transition: scheduled after what a worker has to see, made durable
//! before what comes after its start, failed when it stands in the way.

use alloc::string::ToString;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{TaskQueueKind, WorkflowTaskFailedCause};
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    WorkflowTaskFailedEventAttributes, WorkflowTaskScheduledEventAttributes,
};
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use prost_types::{Duration, Timestamp};

use super::Draft;
use crate::chain::{Run, SoftStart};
use crate::stamp::{Limits, duration, duration_nanos, timestamp};
use crate::{fold, standalone};

impl Draft<'_> {
    /// Schedules a workflow task, unless one is pending or the run is closed, paused, or no workflow.
    pub fn schedule_workflow_task(&mut self, run_id: &str) {
        if standalone::is_standalone(self.id()) {
            return;
        }
        let run = self.run(run_id);
        if run.is_running() && !run.is_paused() && run.head.workflow_task.is_none() {
            self.schedule_workflow_task_of(run_id, None);
        }
    }

    /// As [`Draft::schedule_workflow_task`] when none is pending, for the next of a row of heartbeating
    /// tasks, the first of which was scheduled at `original`.
    pub fn schedule_workflow_task_of(&mut self, run_id: &str, original: Option<Timestamp>) {
        self.flush_buffer_for_task(run_id);
        let now = self.now();
        let limits = self.at().limits;
        let run = self.run(run_id);
        let attempt = run.head.next_workflow_task_attempt.max(1);
        let queue = current_queue(run);
        let timeout = start_to_close_timeout(run, attempt, limits);
        if attempt == 1 {
            let attributes = WorkflowTaskScheduledEventAttributes {
                task_queue: Some(queue),
                start_to_close_timeout: Some(timeout),
                attempt,
            };
            self.add(run_id, Attributes::WorkflowTaskScheduledEventAttributes(attributes));
        } else {
            // A repeated attempt has its events written only when it completes.
            let head = &mut self.run_mut(run_id).head;
            head.workflow_task = Some(record::WorkflowTask {
                scheduled_event_id: head.next_event_id,
                attempt,
                scheduled_time: Some(timestamp(now)),
                original_scheduled_time: Some(timestamp(now)),
                start_to_close_timeout: Some(timeout),
                queue: Some(queue),
                priority: head.priority.clone(),
                ..record::WorkflowTask::default()
            });
        }
        if let (Some(original), Some(task)) = (original, &mut self.run_mut(run_id).head.workflow_task) {
            task.original_scheduled_time = Some(original);
        }
    }

    /// Events that wait make the next workflow task a first attempt with events of its own.
    fn flush_buffer_for_task(&mut self, run_id: &str) {
        if self.has_buffered(run_id) {
            self.run_mut(run_id).head.next_workflow_task_attempt = 1;
            self.flush_buffer(run_id);
        }
    }

    /// Makes a soft start durable, if there is one.
    pub(super) fn harden(&mut self, run_id: &str) {
        if let Some(soft) = self.run_mut(run_id).soft_start.take() {
            self.harden_with(run_id, soft);
        }
    }

    /// Makes this start of the pending workflow task durable: its started event is written byte for byte
    /// as the worker saw it, at the end of a batch. A repeated attempt is marked as started and gets its
    /// events at completion.
    pub fn harden_with(&mut self, run_id: &str, soft: SoftStart) {
        let run = self.run_mut(run_id);
        let Some(task) = &mut run.head.workflow_task else { return };
        if task.attempt > 1 {
            task.started_event_id = soft.started_event.event_id;
            task.started_time = soft.started_event.event_time;
            task.request_id = soft.request_id;
            task.identity = soft.identity;
            task.started_event = Some(soft.started_event);
        } else {
            self.add_event(run_id, soft.started_event);
            self.end_batch(run_id);
        }
    }

    /// Fails a workflow task that is in a worker's hands, because the run is about to be closed by
    /// force, and writes what waited for it.
    pub fn fail_started_task(&mut self, run_id: &str, cause: WorkflowTaskFailedCause) {
        if self.run(run_id).has_started_task() {
            self.fail_workflow_task(run_id, cause, None, "history-service", "");
            self.flush_buffer(run_id);
        }
    }

    /// Fails the pending workflow task. The event is written only for a first attempt: of repeated
    /// failures history tells the first.
    pub fn fail_workflow_task(
        &mut self,
        run_id: &str,
        cause: WorkflowTaskFailedCause,
        failure: Option<Failure>,
        identity: &str,
        binary_checksum: &str,
    ) {
        let Some(task) = &self.run(run_id).head.workflow_task else { return };
        if task.attempt > 1 {
            fold::workflow_task::failed(self.run_mut(run_id), cause);
            return;
        }
        let attributes = WorkflowTaskFailedEventAttributes {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            cause: cause.into(),
            failure,
            identity: identity.to_string(),
            binary_checksum: binary_checksum.to_string(),
            ..WorkflowTaskFailedEventAttributes::default()
        };
        self.add(run_id, Attributes::WorkflowTaskFailedEventAttributes(attributes));
    }
}

/// The sticky queue while there is one, else the normal queue.
pub(crate) fn current_queue(run: &Run) -> TaskQueue {
    let normal = normal_queue(run).to_string();
    match &run.head.sticky {
        Some(sticky) => {
            TaskQueue { name: sticky.queue.clone(), kind: TaskQueueKind::Sticky.into(), normal_name: normal }
        }
        None => TaskQueue { name: normal, kind: TaskQueueKind::Normal.into(), ..TaskQueue::default() },
    }
}

/// Name of the queue that the run was started with.
pub(crate) fn normal_queue(run: &Run) -> &str {
    run.started.task_queue.as_ref().map_or("", |queue| &queue.name)
}

/// Attempts from the fourth on get ever more time, instead of being delayed.
pub(super) fn start_to_close_timeout(run: &Run, attempt: i32, limits: &Limits) -> Duration {
    const FREE_ATTEMPTS: i32 = 3;
    const FIRST_EXTRA_MS: i64 = 5_000;
    const NANOS_PER_MS: i64 = 1_000_000;
    let base = duration_nanos(run.started.workflow_task_timeout.as_ref());
    if attempt <= FREE_ATTEMPTS {
        return duration(base);
    }
    let doublings = u32::try_from(attempt - FREE_ATTEMPTS - 1).unwrap_or(0).min(32);
    let extra_ms = FIRST_EXTRA_MS.saturating_mul(1 << doublings).min(limits.workflow_task_retry_ms_max);
    duration(base.saturating_add(extra_ms.saturating_mul(NANOS_PER_MS)))
}
