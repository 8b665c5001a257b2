//! B-1: what a client was told happened is in the final histories.

use std::collections::{BTreeMap, BTreeSet};

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::b4_once;
use crate::sim::ledger;
use crate::sim::updates;
use crate::sim::world::World;

/// Compares the final histories (by run) with everything that was acknowledged.
pub fn check(world: &World, histories: &BTreeMap<String, Vec<HistoryEvent>>) {
    let known = world.ledger.known.lock();
    for ((workflow_id, request_id), run_id) in &known.starts {
        if !histories.contains_key(run_id) {
            world.violated(format!("B-1: the run {run_id} that {request_id} started for {workflow_id} is gone"));
        }
    }
    // By workflow id and name: how often in all runs. A run takes a request id once; the next run knows nothing of it.
    let mut signals: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (run_id, events) in histories {
        let workflow_id = known.runs.get(run_id).map(|run| run.workflow_id.clone()).unwrap_or_default();
        let mut here = BTreeSet::new();
        b4_once::updates(world, run_id, events);
        if !known.reset.contains(&workflow_id) {
            b4_once::children(world, run_id, events);
        }
        for event in events {
            if let Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) = &event.attributes {
                // What a reset applies again may come once more from its sender.
                if !here.insert(a.signal_name.clone()) && !known.reset.contains(&workflow_id) {
                    world.violated(format!(
                        "B-4: the signal {} to {workflow_id} {run_id} is there twice",
                        a.signal_name
                    ));
                }
                *signals.entry((workflow_id.clone(), a.signal_name.clone())).or_default() += 1;
            }
        }
    }
    for ((workflow_id, update_id), outcome) in &known.updates {
        let of = |run_id: &String| known.runs.get(run_id).is_some_and(|run| run.workflow_id == *workflow_id);
        let mut runs = histories.iter().filter(|(run_id, _)| of(run_id));
        if !runs.any(|(_, events)| completes_update(events, update_id, outcome)) {
            world.violated(format!("B-1: the update {update_id} of {workflow_id}, {outcome:?}, is gone"));
        }
    }
    for ((workflow_id, name), acknowledged) in &known.signals {
        let times = signals.get(&(workflow_id.clone(), name.clone())).copied().unwrap_or(0);
        if times == 0 && *acknowledged {
            world.violated(format!("B-1: the signal {name} to {workflow_id} is gone"));
        }
        if times > 1 && known.single.contains(workflow_id) {
            world.violated(format!("B-4: the signal {name} to {workflow_id} is there {times} times"));
        }
    }
    for ((run_id, started), accepted) in &known.tasks {
        let index = usize::try_from(started - 1).unwrap_or(usize::MAX);
        let there = histories.get(run_id).and_then(|events| events.get(index));
        if there.is_none_or(|event| ledger::hash(event) != accepted.started) {
            world.violated(format!("B-1: the accepted workflow task {started} of {run_id} is gone or another"));
        }
    }
    for ((run_id, activity), attempts) in &known.activities {
        let completed = histories.get(run_id).is_some_and(|events| completes(events, activity));
        if !completed {
            world.violated(format!("B-1: the accepted completion of {activity} of {run_id}, {attempts:?}, is gone"));
        }
    }
}

fn completes_update(events: &[HistoryEvent], update_id: &str, outcome: &str) -> bool {
    events.iter().any(|event| match &event.attributes {
        Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(a)) => {
            let id = a.meta.as_ref().map(|meta| meta.update_id.as_str());
            id == Some(update_id) && updates::outcome_text(a.outcome.as_ref()) == outcome
        }
        _ => false,
    })
}

fn completes(events: &[HistoryEvent], activity: &str) -> bool {
    let scheduled = events.iter().find_map(|event| match &event.attributes {
        Some(Attributes::ActivityTaskScheduledEventAttributes(a)) if a.activity_id == activity => Some(event.event_id),
        _ => None,
    });
    events.iter().any(|event| match &event.attributes {
        Some(Attributes::ActivityTaskCompletedEventAttributes(a)) => Some(a.scheduled_event_id) == scheduled,
        _ => false,
    })
}
