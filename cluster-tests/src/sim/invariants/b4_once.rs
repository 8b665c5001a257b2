//! B-4: one accepted completion per attempt and per workflow task, one start per request id, one open run per id.

use std::collections::BTreeMap;

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use crate::sim::ledger;
use crate::sim::world::{World, name};

/// A start was acknowledged.
pub fn started(world: &World, workflow_id: &str, request_id: &str, run_id: &str) {
    let mut known = world.ledger.known.lock();
    known.workflows.insert(workflow_id.to_string());
    known.runs.entry(run_id.to_string()).or_default().workflow_id = workflow_id.to_string();
    let key = (workflow_id.to_string(), request_id.to_string());
    let first = known.starts.entry(key).or_insert_with(|| run_id.to_string()).clone();
    let stolen = known.starts.iter().any(|((_, request), run)| run == run_id && request != request_id);
    drop(known);
    if first != run_id {
        world.violated(format!("B-4: {request_id} of {workflow_id} started {first} and {run_id}"));
    }
    if stolen {
        world.violated(format!("B-4: the run {run_id} of {workflow_id} was given to two requests"));
    }
}

/// A start was refused because a run is open: an id that one client alone uses has no such run of others.
pub fn start_refused(world: &World, workflow_id: &str) {
    if world.ledger.known.lock().single.contains(workflow_id) {
        world.violated(format!("B-4: {workflow_id} is refused though only this request id ever started it"));
    }
}

/// A completion of a workflow task was accepted.
pub fn task_accepted(world: &World, run_id: &str, started: i64, events: &[HistoryEvent]) {
    let hash = events.last().map_or(0, ledger::hash);
    let mut known = world.ledger.known.lock();
    let accepted = known.tasks.entry((run_id.to_string(), started)).or_default();
    accepted.times += 1;
    accepted.started = hash;
    let times = accepted.times;
    drop(known);
    if times > 1 {
        world.violated(format!("B-4: {times} completions of the workflow task {started} of {run_id} were accepted"));
    }
}

/// A completion of an activity's attempt was accepted.
pub fn activity_accepted(world: &World, run_id: &str, activity: &str, attempt: i32) {
    let mut known = world.ledger.known.lock();
    let attempts = known.activities.entry((run_id.to_string(), activity.to_string())).or_default();
    attempts.push(attempt);
    let attempts = attempts.clone();
    drop(known);
    if attempts.len() > 1 {
        world.violated(format!("B-4: {activity} of {run_id} was completed by the attempts {attempts:?}"));
    }
}

/// The outcome of an update was told.
pub fn updated(world: &World, workflow_id: &str, update_id: &str, outcome: &str) {
    let key = (workflow_id.to_string(), update_id.to_string());
    let first = world.ledger.known.lock().updates.entry(key).or_insert_with(|| outcome.to_string()).clone();
    if first != outcome {
        world.violated(format!("B-4: {update_id} of {workflow_id} came out as {first:?} and as {outcome:?}"));
    }
}

/// A reset was acknowledged.
pub fn reset(world: &World, workflow_id: &str, request_id: &str, run_id: &str) {
    let mut known = world.ledger.known.lock();
    known.workflows.insert(workflow_id.to_string());
    known.runs.entry(run_id.to_string()).or_default().workflow_id = workflow_id.to_string();
    let key = (workflow_id.to_string(), request_id.to_string());
    let first = known.reset_runs.entry(key).or_insert_with(|| run_id.to_string()).clone();
    drop(known);
    if first != run_id {
        world.violated(format!("B-4: {request_id} of {workflow_id} began {first} and {run_id}"));
    }
}

/// An update is accepted once in a run, and ends once.
pub fn updates(world: &World, run_id: &str, events: &[HistoryEvent]) {
    let mut seen = BTreeMap::<(bool, String), u64>::new();
    for event in events {
        let (accepted, meta) = match &event.attributes {
            Some(Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(a)) => {
                (true, a.accepted_request.as_ref().and_then(|request| request.meta.as_ref()))
            }
            Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(a)) => (false, a.meta.as_ref()),
            _ => continue,
        };
        let id = meta.map(|meta| meta.update_id.clone()).unwrap_or_default();
        *seen.entry((accepted, id)).or_default() += 1;
    }
    for ((accepted, id), times) in seen.into_iter().filter(|(_, times)| *times > 1) {
        let what = if accepted { "accepted" } else { "completed" };
        world.violated(format!("B-4: the update {id} of {run_id} is {what} {times} times"));
    }
}

/// No run of an id begins before the one before it has ended, by the events' own times.
pub fn one_open_run(world: &World, histories: &BTreeMap<String, Vec<HistoryEvent>>) {
    let known = world.ledger.known.lock();
    let mut spans: BTreeMap<String, Vec<(i128, i128, String)>> = BTreeMap::new();
    for (run_id, events) in histories {
        let time = |event: Option<&HistoryEvent>| {
            let time = event.and_then(|event| event.event_time).unwrap_or_default();
            i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
        };
        let workflow_id = known.runs.get(run_id).map(|run| run.workflow_id.clone()).unwrap_or_default();
        // A reset copies the times of the events before it.
        if known.reset.contains(&workflow_id) {
            continue;
        }
        spans.entry(workflow_id).or_default().push((time(events.first()), time(events.last()), run_id.clone()));
    }
    drop(known);
    for (workflow_id, mut runs) in spans {
        runs.sort();
        for pair in runs.windows(2) {
            if let [(_, ended, first), (begun, _, second)] = pair
                && begun < ended
            {
                world.violated(format!("B-4: {workflow_id} has two open runs, {first} and {second}"));
            }
        }
    }
}

/// How children of a run ended: each is started once, and completes, unless resets come between.
pub fn children(world: &World, run_id: &str, events: &[HistoryEvent]) {
    for event in events {
        let odd = matches!(
            event.attributes,
            Some(
                Attributes::StartChildWorkflowExecutionFailedEventAttributes(_)
                    | Attributes::ChildWorkflowExecutionFailedEventAttributes(_)
                    | Attributes::ChildWorkflowExecutionTerminatedEventAttributes(_)
            )
        );
        if odd {
            world.violated(format!("B-4: {run_id} has {}, and was never reset", name(event)));
        }
    }
}
