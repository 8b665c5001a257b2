//! What a worker gets with a workflow task, apart from the history and the queries.

use alloc::vec;
use alloc::vec::Vec;

use bristlecone_proto::chain::{ChainId, WorkflowTaskStarted, WorkflowTaskToken};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::TaskQueueKind;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowTaskScheduledEventAttributes};

use crate::chain::{Run, SoftStart};
use crate::draft::normal_queue;
use crate::event;
use crate::stamp::nanos;

/// Of a start that is in memory only.
pub(crate) fn of_soft_start(chain: &ChainId, run: &Run, soft: &SoftStart) -> Option<WorkflowTaskStarted> {
    let task = run.pending_task()?;
    Some(of(chain, run, task, &soft.started_event, true))
}

/// Of a durable start.
pub(crate) fn of_hard_start(chain: &ChainId, run: &Run) -> Option<WorkflowTaskStarted> {
    let task = run.head.workflow_task.as_ref()?;
    Some(of(chain, run, task, task.started_event.as_ref()?, false))
}

fn of(
    chain: &ChainId,
    run: &Run,
    task: &record::WorkflowTask,
    started_event: &HistoryEvent,
    is_soft: bool,
) -> WorkflowTaskStarted {
    // A speculative task that left the sticky queue has not moved the run.
    let is_sticky = run.head.sticky.is_some() && (run.speculative.is_none() || is_sticky(task));
    let token = WorkflowTaskToken {
        namespace_id: chain.namespace_id.clone(),
        workflow_id: chain.workflow_id.clone(),
        run_id: run.id.clone(),
        scheduled_event_id: task.scheduled_event_id,
        attempt: task.attempt,
        started_event: Some(started_event.clone()),
        transitions: run.head.transitions,
        task_queue: task.queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default(),
        stamp: run.head.workflow_task_stamp,
        version: 0,
    };
    WorkflowTaskStarted {
        token: Some(token),
        workflow_type: run.started.workflow_type.clone(),
        previous_started_event_id: run.head.previous_started_event_id,
        started_event_id: started_event.event_id,
        attempt: task.attempt,
        first_event_id: if is_sticky { run.head.previous_started_event_id + 1 } else { 1 },
        next_event_id: run.head.next_event_id,
        virtual_events: virtual_events(run, task, started_event, is_soft),
        task_queue: normal_queue(run).into(),
        scheduled_time: task.scheduled_time,
        started_time: started_event.event_time,
        messages: Vec::new(),
    }
}

/// Events of the task that stand in no row: of a repeated attempt or a speculative task both, else the
/// started event of a soft start.
fn virtual_events(
    run: &Run,
    task: &record::WorkflowTask,
    started_event: &HistoryEvent,
    is_soft: bool,
) -> Vec<HistoryEvent> {
    if task.attempt > 1 || run.speculative.is_some() {
        vec![scheduled_event(task), started_event.clone()]
    } else if is_soft {
        vec![started_event.clone()]
    } else {
        Vec::new()
    }
}

/// The scheduled event of a task, as it is or will be written.
pub(crate) fn scheduled_event(task: &record::WorkflowTask) -> HistoryEvent {
    let attributes = WorkflowTaskScheduledEventAttributes {
        task_queue: task.queue.clone(),
        start_to_close_timeout: task.start_to_close_timeout,
        attempt: task.attempt,
    };
    let time = task.scheduled_time.as_ref().map_or(0, nanos);
    HistoryEvent {
        event_id: task.scheduled_event_id,
        task_id: task.scheduled_event_id,
        ..event::new(time, Attributes::WorkflowTaskScheduledEventAttributes(attributes))
    }
}

/// Whether the task waits on, or was taken from, a sticky queue.
pub(crate) fn is_sticky(task: &record::WorkflowTask) -> bool {
    task.queue.as_ref().is_some_and(|queue| queue.kind() == TaskQueueKind::Sticky)
}
