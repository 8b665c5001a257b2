//! B-6: a timer never fires early, neither by the events' own times nor by the time outside.

use std::collections::BTreeMap;
use std::time::Duration;

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use crate::sim::world::World;

/// How far the clocks of two nodes that may lead can be apart: each is within half a second of the median.
const CLOCKS_APART: Duration = Duration::from_millis(1_100);

pub fn check(world: &World, run_id: &str, events: &[HistoryEvent]) {
    let mut timers = BTreeMap::new();
    let known = world.ledger.known.lock();
    let mut wrong = Vec::new();
    for event in events {
        match &event.attributes {
            Some(Attributes::TimerStartedEventAttributes(a)) => {
                let length = a.start_to_fire_timeout.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default();
                let completed = usize::try_from(a.workflow_task_completed_event_id - 1).unwrap_or(usize::MAX);
                let task = events.get(completed).and_then(|event| match &event.attributes {
                    Some(Attributes::WorkflowTaskCompletedEventAttributes(a)) => Some(a.started_event_id),
                    _ => None,
                });
                timers.insert(a.timer_id.clone(), (nanos(event), length, task));
            }
            Some(Attributes::TimerFiredEventAttributes(a)) => {
                let Some((began, length, task)) = timers.get(&a.timer_id) else { continue };
                if nanos(event) - began < i128::try_from(length.as_nanos()).unwrap_or(0) {
                    wrong.push(format!("B-6: timer {} of {run_id} is early by its own events", a.timer_id));
                }
                let sent = task.and_then(|task| known.sent.get(&(run_id.to_string(), task)));
                let shown = known.runs.get(run_id).and_then(|run| run.shown.get(&event.event_id));
                if let (Some(sent), Some(shown)) = (sent, shown)
                    && shown.duration_since(*sent) + CLOCKS_APART < *length
                {
                    let after = shown.duration_since(*sent);
                    wrong.push(format!("B-6: timer {} of {run_id}, {length:?}, fired after {after:?}", a.timer_id));
                }
            }
            _ => {}
        }
    }
    drop(known);
    for what in wrong {
        world.violated(what);
    }
}

fn nanos(event: &HistoryEvent) -> i128 {
    let time = event.event_time.unwrap_or_default();
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}
