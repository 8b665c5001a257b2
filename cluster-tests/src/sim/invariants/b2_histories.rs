//! B-2: the history of a run is contiguous and append-only; an event that was shown once is never another.

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use tokio::time::Instant;

use super::b6_timers;
use crate::sim::ledger;
use crate::sim::world::{World, name};

/// A history that begins at event 1 has no hole.
pub fn contiguous(world: &World, workflow_id: &str, run_id: &str, events: &[HistoryEvent]) {
    for (event, expected) in events.iter().zip(1..) {
        if event.event_id != expected {
            let ids: Vec<i64> = events.iter().map(|event| event.event_id).collect();
            return world.violated(format!("B-2: {workflow_id} {run_id} has the events {ids:?}"));
        }
    }
}

/// Remembers events that somebody was shown, and compares them with what others were.
pub fn shown(world: &World, workflow_id: &str, run_id: &str, events: &[HistoryEvent]) {
    let settled = ledger::settled(events);
    let mut wrong = Vec::new();
    let mut known = world.ledger.known.lock();
    let run = known.runs.entry(run_id.to_string()).or_default();
    if run.workflow_id.is_empty() {
        run.workflow_id = workflow_id.to_string();
    }
    for event in settled {
        let hash = ledger::hash(event);
        if *run.events.entry(event.event_id).or_insert(hash) != hash {
            wrong.push(format!("B-2: event {} of {workflow_id} {run_id} was another before", name(event)));
        }
        run.shown.entry(event.event_id).or_insert_with(Instant::now);
    }
    known.latest = Some((workflow_id.to_string(), run_id.to_string()));
    // Whoever opens another run learns of it here.
    drop(known);
    for what in wrong {
        world.violated(what);
    }
    b6_timers::check(world, run_id, settled);
}
