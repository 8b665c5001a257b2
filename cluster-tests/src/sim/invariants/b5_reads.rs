//! B-5: a read shows everything that was acknowledged, or shown to anybody, before it was sent.

use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionInfo;
use tonic::{Code, Status};

use crate::sim::ledger::Run;
use crate::sim::world::World;

/// What a read must show, taken down before it is sent.
#[derive(Debug, Default)]
pub struct Demand {
    /// The last event that anybody was shown of the run.
    last: i64,
    closed: bool,
    /// Acknowledged signals and updates, of a workflow id that has one run.
    signals: Vec<String>,
    updates: Vec<String>,
}

pub fn demand(world: &World, workflow_id: &str, run_id: &str) -> Demand {
    let known = world.ledger.known.lock();
    let run = known.runs.get(run_id);
    let single = known.single.contains(workflow_id);
    let signals = known.signals.iter().filter(|((of, _), acknowledged)| of == workflow_id && **acknowledged && single);
    let updates = known.updates.keys().filter(|(of, _)| of == workflow_id && single);
    Demand {
        updates: updates.map(|(_, id)| id.clone()).collect(),
        last: run.map_or(0, Run::last),
        closed: run.is_some_and(|run| run.closed),
        signals: signals.map(|((_, name), _)| name.clone()).collect(),
    }
}

/// A read of a run that somebody was told of was refused.
pub fn failed(world: &World, run_id: &str, status: &Status) {
    if status.code() == Code::NotFound && !run_id.is_empty() {
        world.violated(format!("B-5: a run that was acknowledged is not found: {run_id}: {status}"));
    }
}

pub fn history(world: &World, run_id: &str, demand: &Demand, events: &[HistoryEvent]) {
    let length = events.len() as i64;
    if length < demand.last {
        world.violated(format!("B-5: {run_id} has {length} events, {} were shown before", demand.last));
    }
    for id in &demand.updates {
        let has = |event: &HistoryEvent| match &event.attributes {
            Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(a)) => {
                a.meta.as_ref().is_some_and(|meta| meta.update_id == *id)
            }
            _ => false,
        };
        if !events.iter().any(has) {
            world.violated(format!("B-5: the history of {run_id} lacks the acknowledged update {id}"));
        }
    }
    for name in &demand.signals {
        let has = |event: &HistoryEvent| match &event.attributes {
            Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) => a.signal_name == *name,
            _ => false,
        };
        // A signal that came while a workflow task was under way gets its event when that task ends.
        if !events.iter().any(has) && ends_settled(events) {
            world.violated(format!("B-5: the history of {run_id} lacks the acknowledged signal {name}"));
        }
    }
}

/// Whether no workflow task is under way.
fn ends_settled(events: &[HistoryEvent]) -> bool {
    use bristlecone_proto::temporal::api::enums::v1::EventType;
    events.last().is_none_or(|event| event.event_type() != EventType::WorkflowTaskStarted)
}

pub fn described(world: &World, run_id: &str, demand: &Demand, info: &WorkflowExecutionInfo) {
    if run_id.is_empty() {
        return;
    }
    if info.history_length < demand.last {
        let shown = demand.last;
        world.violated(format!("B-5: {run_id} is described with {} events, {shown} were shown", info.history_length));
    }
    let running = info.status() == WorkflowExecutionStatus::Running;
    if demand.closed && running {
        world.violated(format!("B-5: {run_id} was closed and is described as running"));
    }
    if !running && let Some(run) = world.ledger.known.lock().runs.get_mut(run_id) {
        run.closed = true;
    }
}

/// The worker that answered had to see every signal acknowledged before the query was sent.
pub fn queried(world: &World, workflow_id: &str, demand: &Demand, signals: u64) {
    if signals < demand.signals.len() as u64 {
        world.violated(format!(
            "B-5: a query of {workflow_id} saw {signals} signals, {} were acknowledged before",
            demand.signals.len()
        ));
    }
}
