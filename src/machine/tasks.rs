//! Rows of the backlogs: which task, if any, a run's state or a pending activity offers to workers.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::Priority;
use bristlecone_proto::temporal::api::enums::v1::TaskQueueKind;

use crate::chain::{Chain, Run};
use crate::row::{Row, TaskKey, TaskKind};
use crate::stamp::nanos;

/// A row of a backlog: its key and its value.
pub type Offer = (TaskKey, record::Task);

/// The workflow task, while it is durably scheduled and not durably started.
pub fn of_workflow(workflow_id: &str, run: &Run) -> Option<Offer> {
    if !run.is_running() || run.is_paused() {
        return None;
    }
    let task = run.head.workflow_task.as_ref().filter(|task| task.started_event_id == 0)?;
    Some(of_task(workflow_id, run, task))
}

/// What changed of the speculative workflow task, which stands in no row.
pub fn speculative_change(before: &Chain, now: &Chain) -> Vec<(TaskKey, Option<record::Task>)> {
    let of = |chain: &Chain| {
        let mut runs = chain.runs.values();
        runs.find_map(|run| Some(of_task(&chain.id.workflow_id, run, run.speculative.as_deref()?)))
    };
    let (before, now) = (of(before), of(now));
    if before == now {
        return Vec::new();
    }
    let gone = before.map(|(key, _)| (key, None));
    gone.into_iter().chain(now.map(|(key, task)| (key, Some(task)))).collect()
}

fn of_task(workflow_id: &str, run: &Run, task: &record::WorkflowTask) -> Offer {
    let key = TaskKey {
        kind: TaskKind::Workflow,
        queue: task.queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default(),
        priority: level(task.priority.as_ref()),
        scheduled: task.scheduled_time.as_ref().map_or(0, nanos),
        run_id: run.id.clone(),
        scheduled_event_id: task.scheduled_event_id,
    };
    let (fairness_key, fairness_weight) = fairness(task.priority.as_ref());
    let value = record::Task {
        workflow_id: workflow_id.to_string(),
        attempt: task.attempt,
        stamp: run.head.workflow_task_stamp,
        scheduled_time: task.scheduled_time,
        fairness_key,
        fairness_weight,
        sticky: task.queue.as_ref().is_some_and(|queue| queue.kind() == TaskQueueKind::Sticky),
    };
    (key, value)
}

/// The activity task, while its attempt is due for dispatch and not started, unless the run is paused.
pub fn of_activity(workflow_id: &str, run: &Run, activity: &record::Activity) -> Option<Offer> {
    if !activity.offered || run.is_paused() {
        return None;
    }
    let priority = merge(run.head.priority.as_ref(), activity.priority.as_ref());
    let key = TaskKey {
        kind: TaskKind::Activity,
        queue: activity.task_queue.clone(),
        priority: level(priority.as_ref()),
        scheduled: activity.scheduled_time.as_ref().map_or(0, nanos),
        run_id: run.id.clone(),
        scheduled_event_id: activity.scheduled_event_id,
    };
    let (fairness_key, fairness_weight) = fairness(priority.as_ref());
    let value = record::Task {
        workflow_id: workflow_id.to_string(),
        attempt: activity.attempt,
        stamp: activity.stamp,
        scheduled_time: activity.scheduled_time,
        fairness_key,
        fairness_weight,
        sticky: false,
    };
    Some((key, value))
}

/// Writes what changed from one offer to the other.
pub fn change(before: Option<Offer>, now: Option<Offer>, rows: &mut Vec<Row>) {
    if before == now {
        return;
    }
    if let Some((key, _)) = before
        && now.as_ref().is_none_or(|(now, _)| *now != key)
    {
        rows.push(Row::Task { key, task: None });
    }
    if let Some((key, task)) = now {
        rows.push(Row::Task { key, task: Some(task) });
    }
}

/// What an activity or child asks for goes before what its workflow asks for, field by field.
pub fn merge(base: Option<&Priority>, own: Option<&Priority>) -> Option<Priority> {
    let (Some(base), Some(own)) = (base, own) else { return own.or(base).cloned() };
    Some(Priority {
        priority_key: if own.priority_key != 0 { own.priority_key } else { base.priority_key },
        fairness_key: if own.fairness_key.is_empty() { &base.fairness_key } else { &own.fairness_key }.clone(),
        fairness_weight: if own.fairness_weight != 0.0 { own.fairness_weight } else { base.fairness_weight },
    })
}

/// 1 (first) to 5 (last); the middle when nothing was asked for.
fn level(priority: Option<&Priority>) -> u8 {
    const LAST: i32 = 5;
    const MIDDLE: u8 = 3;
    match priority.map_or(0, |priority| priority.priority_key) {
        key if key <= 0 => MIDDLE,
        key => u8::try_from(key.min(LAST)).unwrap_or(MIDDLE),
    }
}

fn fairness(priority: Option<&Priority>) -> (String, f32) {
    priority.map(|priority| (priority.fairness_key.clone(), priority.fairness_weight)).unwrap_or_default()
}
