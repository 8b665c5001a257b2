//! B-3: whatever waits is woken. Once faults are over, everything that was started ends within a bound.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::sim::clients;
use crate::sim::rng::Rng;
use crate::sim::world::{World, name};

/// The longest script, with every stall of its workers, ends well before.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Waits until every workflow that is known has ended.
pub async fn wait(world: &Arc<World>) {
    let rng = &mut Rng::of(world.options.seed, "wakes");
    let since = Instant::now();
    let mut closed: BTreeSet<String> = BTreeSet::new();
    loop {
        let known: BTreeSet<String> = {
            let known = world.ledger.known.lock();
            known.runs.values().map(|run| run.workflow_id.clone()).chain(known.workflows.iter().cloned()).collect()
        };
        let started = world.tally.get("workflow started");
        // Until it is deleted a schedule starts more.
        let deleted = world.tally.get("schedule deleted") == world.options.schedules;
        let all_started = started == world.options.workflows && deleted;
        let open: Vec<String> = known.difference(&closed).cloned().collect();
        if open.is_empty() && all_started {
            return;
        }
        if since.elapsed() > PATIENCE {
            let missing = world.options.workflows - started;
            for workflow_id in &open {
                tell(world, rng, workflow_id).await;
            }
            return world.violated(format!("B-3: {open:?} do not end, {missing} were never started"));
        }
        for workflow_id in open {
            let ended = clients::is_closed(world, rng, &workflow_id).await == Some(true);
            // Ids that several clients want are opened again and again.
            if ended && (all_started || !workflow_id.starts_with("shared")) {
                closed.insert(workflow_id);
            }
            if world.ledger.has_failed() {
                return;
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Writes into the trace what a workflow that does not end has come to.
async fn tell(world: &World, rng: &mut Rng, workflow_id: &str) {
    let Ok(description) = clients::describe(world, rng, workflow_id, "").await else { return };
    let execution = description.workflow_execution_info.and_then(|info| info.execution).unwrap_or_default();
    let events = clients::history(world, rng, workflow_id, &execution.run_id).await.unwrap_or_default();
    let names: Vec<String> = events.iter().map(name).collect();
    world.trace.line(&format!("{workflow_id} {} waits after {}", execution.run_id, names.join(", ")));
    let pending = (description.pending_workflow_task, description.pending_activities, description.pending_children);
    world.trace.line(&format!("{workflow_id} {} has pending {pending:?}", execution.run_id));
}
