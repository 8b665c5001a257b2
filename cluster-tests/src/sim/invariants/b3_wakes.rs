//! B-3: whatever waits is woken. Once faults are over, everything that was started ends within a bound.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::sim::clients;
use crate::sim::rng::Rng;
use crate::sim::world::World;

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
        let all_started = started == world.options.workflows;
        let open: Vec<String> = known.difference(&closed).cloned().collect();
        if open.is_empty() && all_started {
            return;
        }
        if since.elapsed() > PATIENCE {
            let missing = world.options.workflows - started;
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
