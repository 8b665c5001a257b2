//! One run: a cluster forms, serves under faults, is healed, finishes its work, and is read once more after a power cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, interval, sleep};
use tonic::Status;

use super::invariants::b2_replicas::{self, Replicas};
use super::invariants::{b1_durable, b2_listings, b3_wakes, b4_once, b4_schedules, b5_linear};
use super::ledger;
use super::options::Options;
use super::rng::Rng;
use super::worker::{Kind, Poller};
use super::world::World;
use super::{clients, nemesis, schedules, updates};

/// How long a healthy cluster may take to form, to agree, to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub seed: u64,
    /// Of the trace: the same for every run of the seed.
    pub hash: String,
    pub trace_lines: u64,
    pub virtual_ms: u64,
    pub violations: Vec<String>,
    /// Why the run does not count, if it does not.
    pub void: Option<String>,
    pub counts: BTreeMap<String, u64>,
    pub options: String,
}

/// Carries a run out. The process does nothing else meanwhile.
///
/// # Errors
/// The trace cannot be written, or there is no runtime.
pub fn run(options: Options, trace: Option<&Path>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async move {
        let (world, happened) = World::new(options, trace)?;
        let reviver = tokio::spawn(nemesis::revive(Arc::clone(&world), happened));
        let void = phases(&world).await;
        reviver.abort();
        let panics = super::panics();
        for panic in panics {
            world.violated(format!("panic: {panic}"));
        }
        let void = void.or_else(|| void_reason(&world)).filter(|_| !world.ledger.has_failed());
        Ok(Outcome {
            seed: world.options.seed,
            hash: format!("{:016x}", world.trace.hash()),
            trace_lines: world.trace.lines(),
            virtual_ms: u64::try_from(world.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            violations: world.ledger.violations(),
            void,
            counts: world.tally.all(),
            options: world.options.to_string(),
        })
    })
}

/// All phases; why the run does not count, if that shows on the way.
async fn phases(world: &Arc<World>) -> Option<String> {
    for _ in 0..world.options.nodes {
        world.add_node();
    }
    if !until(world, || is_formed(world)).await {
        // A replica that lacks rows may be why.
        b2_replicas::rows(world);
        lacking(world, "the cluster does not form");
        return None;
    }
    world.trace.line("the cluster has formed");
    let replicas = Arc::new(Replicas::default());
    let watch = tokio::spawn({
        let (world, replicas) = (Arc::clone(world), Arc::clone(&replicas));
        async move {
            let mut every = interval(Duration::from_millis(100));
            loop {
                every.tick().await;
                replicas.look(&world);
            }
        }
    });
    let crowd = crowd(world);
    safety(world).await;
    if !world.ledger.has_failed() {
        nemesis::heal(world);
        b3_wakes::wait(world).await;
    }
    for task in crowd {
        task.abort();
    }
    if !world.ledger.has_failed() {
        settle(world).await;
    }
    if !world.ledger.has_failed() {
        endure(world).await;
    }
    watch.abort();
    None
}

/// Faults and work for a while; ends early when something was violated.
async fn safety(world: &Arc<World>) {
    // A moment without faults: work flows before the first.
    sleep(Duration::from_secs(2)).await;
    world.tally.add("work before faults", world.tally.get("workflow task done"));
    let nemesis = tokio::spawn(nemesis::run(Arc::clone(world)));
    let until = Instant::now() + world.options.safety;
    while Instant::now() < until && !world.ledger.has_failed() {
        sleep(Duration::from_millis(250)).await;
    }
    nemesis.abort();
    world.tally.add("work under faults", world.tally.get("workflow task done"));
}

/// Clients and workers.
fn crowd(world: &Arc<World>) -> Vec<tokio::task::JoinHandle<()>> {
    let seed = world.options.seed;
    let mut tasks = Vec::new();
    for plan in clients::plans(world) {
        let rng = Rng::of(seed, &format!("client {}", plan.request_id));
        tasks.push(tokio::spawn(clients::start(Arc::clone(world), plan, rng)));
    }
    for reader in 0..5 {
        tasks.push(tokio::spawn(clients::read(Arc::clone(world), Rng::of(seed, &format!("reader {reader}")))));
    }
    tasks.push(tokio::spawn(updates::reset(Arc::clone(world), Rng::of(seed, "resets"))));
    for number in 0..world.options.schedules {
        let rng = Rng::of(seed, &format!("schedule {number}"));
        tasks.push(tokio::spawn(schedules::keep(Arc::clone(world), number, rng)));
    }
    for reader in 0..2 {
        tasks.push(tokio::spawn(clients::compare(Arc::clone(world), Rng::of(seed, &format!("comparer {reader}")))));
    }
    for worker in 0..world.options.workers {
        let cache = Arc::default();
        let kinds = [Kind::Workflow, Kind::Workflow, Kind::Activity, Kind::Activity, Kind::Activity, Kind::Sticky];
        for (poller, kind) in kinds.into_iter().enumerate() {
            if kind == Kind::Sticky && !world.options.sticky {
                continue;
            }
            let rng = Rng::of(seed, &format!("worker {worker} poller {poller}"));
            let poller = Poller { world: Arc::clone(world), worker, rng, cache: Arc::clone(&cache) };
            tasks.push(tokio::spawn(poller.run(kind)));
        }
    }
    tasks
}

/// All replicas come to the same index, with the same rows.
async fn settle(world: &Arc<World>) {
    if !until(world, || nemesis::whole(world) && is_level(world)).await {
        lacking(world, "B-2: the replicas do not come to one state");
        return;
    }
    b2_replicas::rows(world);
    b2_listings::check(world);
}

/// Everything loses its power; what was acknowledged is still there.
async fn endure(world: &Arc<World>) {
    let before = histories(world).await;
    for node in world.nodes() {
        world.crash(&node, true);
    }
    // The tasks of the dead end.
    sleep(Duration::from_millis(10)).await;
    for node in world.nodes() {
        world.start(&node);
    }
    if !until(world, || world.nodes().iter().all(|node| node.up().is_some()) && nemesis::whole(world)).await {
        lacking(world, "B-1: the cluster does not come back after a power cut");
        return;
    }
    let after = histories(world).await;
    for (run_id, events) in &before {
        let kept = after.get(run_id).is_some_and(|now| now.starts_with(events));
        if !kept {
            world.violated(format!("B-1: the history of {run_id} is not what it was before the power cut"));
        }
    }
    b1_durable::check(world, &after);
    b4_once::one_open_run(world, &after);
    b4_schedules::check(world, &after);
    b5_linear::check(world, &after);
    world.tally.add("run checked at the end", after.len() as u64);
}

/// Something did not come about in time; unless something else went wrong, which ends the waiting.
fn lacking(world: &World, what: &str) {
    if !world.ledger.has_failed() {
        let why = nemesis::lacking(world).unwrap_or_else(|| "some are behind".to_string());
        world.violated(format!("{what}: {why}"));
    }
}

/// The final history of every run that anybody was told of, and of every run that is listed: one that a reset ended
/// before its first workflow task was shown to nobody, yet it may have taken signals.
async fn histories(world: &Arc<World>) -> BTreeMap<String, Vec<HistoryEvent>> {
    let rng = &mut Rng::of(world.options.seed, "final reads");
    let mut runs: BTreeMap<String, String> = {
        let known = world.ledger.known.lock();
        known.runs.iter().map(|(run, of)| (run.clone(), of.workflow_id.clone())).collect()
    };
    match in_the_end(async || clients::list(world, rng).await).await {
        Ok(listed) => runs.extend(listed),
        Err(status) => world.violated(format!("B-1: the runs cannot be listed: {status}")),
    }
    let mut histories = BTreeMap::new();
    for (run_id, workflow_id) in runs {
        match in_the_end(async || clients::history(world, rng, &workflow_id, &run_id).await).await {
            Ok(events) => {
                histories.insert(run_id, ledger::settled(&events).to_vec());
            }
            Err(status) => world.violated(format!("B-1: the history of {run_id} cannot be read: {status}")),
        }
    }
    histories
}

/// What is answered, once it is.
async fn in_the_end<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
    let since = Instant::now();
    loop {
        match ask().await {
            Err(_) if since.elapsed() <= PATIENCE => sleep(Duration::from_millis(200)).await,
            answer => return answer,
        }
    }
}

fn is_formed(world: &World) -> bool {
    let ready = |node: &Arc<super::node::SimNode>| node.up().is_some_and(|up| up.cluster.parts().health.is_ready());
    let named =
        world.nodes().iter().all(|node| node.up().is_some_and(|up| up.cluster.meta().namespace("default").is_some()));
    world.nodes().iter().all(ready) && named && nemesis::whole(world)
}

fn is_level(world: &World) -> bool {
    let mut applied: BTreeMap<u64, u64> = BTreeMap::new();
    world.nodes().iter().filter_map(|node| node.up()).all(|up| {
        up.cluster.parts().groups.0.list().iter().all(|group| {
            let index = group.applied();
            *applied.entry(group.id()).or_insert(index) == index
        })
    })
}

/// Waits for a condition, as long as a healthy cluster may take; false when it does not come.
async fn until(world: &World, holds: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while !holds() {
        if since.elapsed() > PATIENCE || world.ledger.has_failed() {
            return false;
        }
        sleep(Duration::from_millis(50)).await;
    }
    true
}

/// A run without load, or without the faults that were planned, shows nothing.
fn void_reason(world: &World) -> Option<String> {
    let tally = &world.tally;
    let faults =
        tally.all().iter().filter(|(name, _)| name.starts_with("fault ")).map(|(_, times)| *times).sum::<u64>();
    if faults == 0 {
        return Some("no fault was done".to_string());
    }
    if tally.get("work under faults") <= tally.get("work before faults") {
        return Some("no work was done under faults".to_string());
    }
    if tally.get("workflow task done") <= tally.get("work under faults") && tally.get("run checked at the end") == 0 {
        return Some("no work was done after the faults".to_string());
    }
    None
}
