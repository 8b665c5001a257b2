//! Replay: from event 1 on, the script decides what it decided when each task was carried out.

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use crate::sim::ledger;
use crate::sim::script;
use crate::sim::world::World;

pub fn check(world: &World, workflow_id: &str, run_id: &str, events: &[HistoryEvent]) {
    for completed in events {
        let Some(Attributes::WorkflowTaskCompletedEventAttributes(a)) = &completed.attributes else { continue };
        let Some(past) = usize::try_from(a.started_event_id).ok().and_then(|end| events.get(..end)) else { continue };
        let commands = script::decide(workflow_id, past);
        let commands: Vec<String> = commands.iter().map(script::command_word).collect();
        let came = events.iter().filter_map(script::event_word).filter(|(task, _)| *task == completed.event_id);
        let came: Vec<String> = came.map(|(_, word)| word).collect();
        if commands != came {
            world.violated(format!(
                "replay: task {} of {workflow_id} {run_id} decides {commands:?}, its events are {came:?}",
                a.started_event_id
            ));
        }
        let known = world.ledger.known.lock();
        let seen = known.tasks.get(&(run_id.to_string(), a.started_event_id)).map(|accepted| accepted.started);
        drop(known);
        if let (Some(seen), Some(now)) = (seen, past.last().map(ledger::hash))
            && seen != now
        {
            world.violated(format!("replay: the Started event {} of {run_id} was rewritten", a.started_event_id));
        }
    }
}
