//! What goes wrong: one fault after another, of the kinds that the seed drew, each for a while.
//!
//! # Contract
//! Faults take nothing that a majority was promised to keep: power cuts lose what was not synced, and a machine is
//! wiped only when the others hold everything. Every fault that was done is counted; what could not be done is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bristlecone_proto::admin::admin_service_client::AdminServiceClient;
use bristlecone_proto::admin::{LeaveNodeRequest, RemoveNodeRequest, TransferLeaderRequest};
use bristlecone_proto::node::GroupStatus;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::node::{CAPACITY, Happening, SimNode};
use super::options::Fault;
use super::rng::Rng;
use super::wire::Wire;
use super::world::World;

/// Machines that a run may use, those that left among them.
const MACHINES_MAX: u64 = 8;

/// Faults, until it is dropped.
pub async fn run(world: Arc<World>) {
    let mut rng = Rng::of(world.options.seed, "nemesis");
    loop {
        let pause = rng.millis(200..=world.options.fault_pause_ms);
        sleep(pause).await;
        let Some(fault) = rng.pick(&world.options.faults).copied() else { return };
        let Some(node) = rng.pick(&world.nodes()).cloned() else { return };
        if inflict(&world, &mut rng, fault, &node).await {
            world.tally.count(&format!("fault {fault:?}"));
        }
    }
}

/// Restarts whatever ended by itself or by a fault, after a while; to run as long as the world does.
pub async fn revive(world: Arc<World>, mut happened: mpsc::UnboundedReceiver<Happening>) {
    let mut rng = Rng::of(world.options.seed, "revival");
    while let Some(happening) = happened.recv().await {
        match happening {
            Happening::Up(node) => world.trace.line(&format!("node {node} is up")),
            Happening::Ended(number, why) => {
                world.trace.line(&format!("node {number} ended: {why}"));
                let Some(node) = world.node(number) else { continue };
                let removed = why.contains("removed from the cluster");
                if removed {
                    world.drop_node(number);
                    continue;
                }
                if node.damaged.load(Ordering::Relaxed) {
                    world.crash(&node, false);
                    continue;
                }
                if !is_of_disk(&world, &why) && !is_passing(&why) {
                    let log =
                        ["log is damaged", "log is gone", "its log begins after"].iter().any(|word| why.contains(word));
                    let log = if log { "the log: " } else { "" };
                    world.violated(format!("node: {log}node {number} ended: {why}"));
                }
                world.crash(&node, rng.per_mille(500));
                restart_later(&world, node, rng.millis(300..=3_000));
            }
        }
    }
}

/// The disk did what the nemesis had it do; a node that ends then is right.
fn is_of_disk(world: &World, why: &str) -> bool {
    let reasons = [
        (Fault::SyncFails, "the sync failed"),
        (Fault::WriteFails, "the write failed"),
        (Fault::DiskFull, "disk is full"),
        (Fault::CrashInWrite, "the power is off"),
    ];
    reasons.iter().any(|(fault, reason)| world.options.faults.contains(fault) && why.contains(reason))
}

/// A start that came to nothing because nobody answered.
fn is_passing(why: &str) -> bool {
    why.contains("could not be joined") || why.contains("cannot found the cluster")
}

fn restart_later(world: &Arc<World>, node: Arc<SimNode>, after: Duration) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        sleep(after).await;
        if !node.runs() && world.node(node.number).is_some() {
            world.start(&node);
        }
    });
}

/// Ends all that a fault may have left: every machine runs, hears all others, and has room and the right time.
pub fn heal(world: &Arc<World>) {
    world.trace.line("all is healed");
    world.weather.calm();
    for node in world.nodes() {
        node.resume();
        node.disk.set_capacity(CAPACITY);
        node.disk.set_sync_delay(Duration::ZERO);
        node.store().set_full(false);
        node.clock.set_drift_ppm(0);
        node.clock.set_offset_ms(0);
        for other in world.nodes().iter().filter(|other| other.number != node.number) {
            world.network.heal(&node.host, &other.host);
            let usual = Duration::from_micros(100)..=Duration::from_micros(300);
            world.network.set_latency(&node.host, &other.host, usual);
        }
        if !node.runs() && !node.damaged.load(Ordering::Relaxed) {
            world.start(&node);
        }
    }
}

async fn inflict(world: &Arc<World>, rng: &mut Rng, fault: Fault, node: &Arc<SimNode>) -> bool {
    let others: Vec<_> = world.nodes().into_iter().filter(|other| other.number != node.number).collect();
    let Some(other) = rng.pick(&others).cloned() else { return false };
    world.trace.line(&format!("fault {fault:?} at {}", node.number));
    match fault {
        Fault::PowerCut | Fault::Kill => {
            let power = fault == Fault::PowerCut;
            if !node.runs() {
                return false;
            }
            node.disk.set_sync_delay(Duration::ZERO);
            world.crash(node, power);
            restart_later(world, Arc::clone(node), rng.millis(50..=6_000));
        }
        Fault::Pause => {
            if !node.pause() {
                return false;
            }
            let (world, node, length) = (Arc::clone(world), Arc::clone(node), rng.millis(200..=9_000));
            tokio::spawn(async move {
                sleep(length).await;
                world.trace.line(&format!("node {} goes on", node.number));
                node.resume();
            });
        }
        Fault::PowerCutAll => {
            for node in world.nodes() {
                world.crash(&node, true);
                restart_later(world, node, rng.millis(50..=2_000));
            }
        }
        Fault::CrashInWrite => {
            node.disk.cut_power_after(rng.below(60));
        }
        Fault::Restart => {
            if !node.ask_to_stop() {
                return false;
            }
            let (world, node) = (Arc::clone(world), Arc::clone(node));
            tokio::spawn(async move {
                // As long as a stop may take.
                sleep(Duration::from_secs(5)).await;
                if node.is_stopping() && world.node(node.number).is_some() {
                    world.crash(&node, false);
                    world.start(&node);
                }
            });
        }
        Fault::CutOff => {
            let length = rng.millis(300..=8_000);
            for other in &others {
                world.network.cut_both(&node.host, &other.host);
                heal_later(world, node, other, length);
            }
        }
        Fault::OneWayCut => {
            world.network.cut(&node.host, &other.host);
            heal_later(world, node, &other, rng.millis(300..=8_000));
        }
        Fault::PairCut => {
            world.network.cut_both(&node.host, &other.host);
            heal_later(world, node, &other, rng.millis(300..=8_000));
        }
        Fault::Clog => {
            world.network.clog(&node.host, &other.host);
            heal_later(world, node, &other, rng.millis(100..=4_000));
        }
        Fault::Reset => world.network.reset(&node.host, &other.host),
        Fault::Latency => {
            let most = rng.millis(2..=120);
            world.network.set_latency(&node.host, &other.host, Duration::ZERO..=most);
        }
        Fault::SlowDisk => node.disk.set_sync_delay(rng.millis(1..=250)),
        Fault::SyncFails => {
            node.disk.fail_next_sync();
        }
        Fault::WriteFails => {
            node.disk.fail_next_write();
        }
        Fault::DiskFull => {
            node.disk.set_capacity(rng.below(CAPACITY / 8));
            if rng.per_mille(300) {
                node.store().set_full(true);
            }
            let (node, length) = (Arc::clone(node), rng.millis(500..=5_000));
            tokio::spawn(async move {
                sleep(length).await;
                node.disk.set_capacity(CAPACITY);
                node.store().set_full(false);
            });
        }
        Fault::ClockStep => {
            // A minority may be wrong: with most clocks wrong nobody can tell the time.
            if world.nodes().iter().any(|node| node.clock.is_off()) {
                return false;
            }
            let far = if rng.per_mille(300) { 3_600_000 } else { 2_000 };
            let by = i64::try_from(rng.below(2 * far)).unwrap_or(0) - i64::try_from(far).unwrap_or(0);
            node.clock.set_offset_ms(by);
            let (node, length) = (Arc::clone(node), rng.millis(500..=10_000));
            tokio::spawn(async move {
                sleep(length).await;
                node.clock.set_offset_ms(0);
            });
        }
        Fault::ClockDrift => node.clock.set_drift_ppm(i64::try_from(rng.below(10_000)).unwrap_or(0) - 5_000),
        Fault::FlushSome => {
            let waiting = node.store().unflushed_writes() as u64;
            let some = usize::try_from(rng.below(waiting + 1)).unwrap_or(0);
            return some > 0 && node.store().flush_some(some).is_ok();
        }
        Fault::Transfer => return transfer(world, rng, node, &other).await,
        Fault::Join => {
            if world.machines() >= MACHINES_MAX || others.len() >= 5 {
                return false;
            }
            world.add_node();
        }
        Fault::BitFlip => return flip(world, rng, node, &other).await,
        Fault::Leave | Fault::Replace => return replace(world, fault, node, &other).await,
    }
    true
}

fn heal_later(world: &Arc<World>, node: &SimNode, other: &SimNode, after: Duration) {
    let (world, one, other) = (Arc::clone(world), node.host.clone(), other.host.clone());
    tokio::spawn(async move {
        sleep(after).await;
        world.network.heal_both(&one, &other);
    });
}

fn admin(world: &World, node: &Arc<SimNode>) -> AdminServiceClient<Wire> {
    AdminServiceClient::new(Wire { node: Arc::clone(node), weather: Arc::clone(&world.weather) })
}

async fn transfer(world: &World, rng: &mut Rng, node: &Arc<SimNode>, other: &SimNode) -> bool {
    let (Some(up), Some(to)) = (node.up(), other.up()) else { return false };
    let groups: Vec<u64> = up.cluster.parts().groups.0.list().iter().map(bristlecone_raft::Group::id).collect();
    let Some(group_id) = rng.pick(&groups).copied() else { return false };
    let request = TransferLeaderRequest { group_id, node_id: to.cluster.node().node_id };
    let mut client = admin(world, node);
    matches!(timeout(Duration::from_secs(3), client.transfer_leader(request)).await, Ok(Ok(_)))
}

/// A bit of a machine's rows or of its log changes while it is off. Whether the node notices when it starts, or its
/// leader does, or nobody (the bit meant nothing): nothing wrong may be served until the machine is replaced.
async fn flip(world: &Arc<World>, rng: &mut Rng, node: &Arc<SimNode>, other: &Arc<SimNode>) -> bool {
    let up = world.nodes().iter().all(|node| node.up().is_some());
    if !up || world.machines() >= MACHINES_MAX || !whole(world) {
        return false;
    }
    node.damaged.store(true, Ordering::Relaxed);
    world.crash(node, false);
    let done = if rng.per_mille(500) { node.flip_row(rng) } else { node.flip_log(rng) };
    let Some(what) = done else {
        node.damaged.store(false, Ordering::Relaxed);
        world.start(node);
        return false;
    };
    world.trace.line(&format!("node {}: a bit flips, {what}", node.number));
    world.start(node);
    let pause = rng.millis(2_000..=8_000);
    let (world, node, other) = (Arc::clone(world), Arc::clone(node), Arc::clone(other));
    // To its end, even when the faults end before.
    let replaced = tokio::spawn(async move {
        sleep(pause).await;
        let noticed = if node.up().is_none() { "noticed" } else { "not noticed" };
        world.tally.count(&format!("flipped bit {noticed} at the start"));
        gone(&world, &node, &other).await
    });
    replaced.await.unwrap_or(false)
}

/// A member goes, in order or because its machine is gone for good; another machine comes in its place.
async fn replace(world: &Arc<World>, fault: Fault, node: &Arc<SimNode>, other: &Arc<SimNode>) -> bool {
    let all = world.nodes();
    let everybody_up = all.iter().all(|node| node.up().is_some());
    let (Some(up), Some(_)) = (node.up(), other.up()) else { return false };
    let spare = world.machines() < MACHINES_MAX;
    if !everybody_up || !spare || !whole(world) {
        return false;
    }
    let node_id = up.cluster.node().node_id;
    drop(up);
    let (world, node, other) = (Arc::clone(world), Arc::clone(node), Arc::clone(other));
    // To its end, even when the faults end before.
    let replaced = match fault {
        Fault::Leave => tokio::spawn(async move { leave(&world, &node, &other, node_id).await }),
        _ => tokio::spawn(async move { gone(&world, &node, &other).await }),
    };
    replaced.await.unwrap_or(false)
}

/// A member leaves, and another machine comes. Whoever wants it to leave asks again until it has.
async fn leave(world: &Arc<World>, node: &Arc<SimNode>, other: &Arc<SimNode>, node_id: u64) -> bool {
    world.add_node();
    let mut client = admin(world, other);
    let mut left = false;
    for _ in 0..20 {
        let asked = timeout(Duration::from_secs(20), client.leave_node(LeaveNodeRequest { node_id })).await;
        left |= matches!(&asked, Ok(Ok(_)));
        let has_left = matches!(asked, Ok(Ok(answer)) if answer.get_ref().replicas_left == 0);
        if has_left || world.node(node.number).is_none() {
            return true;
        }
        sleep(Duration::from_secs(1)).await;
        let Some(another) = world.nodes().into_iter().find(|node| node.up().is_some()) else { continue };
        client = admin(world, &another);
    }
    left
}

/// A machine is gone for good: its member is removed, and another machine comes.
async fn gone(world: &Arc<World>, node: &Arc<SimNode>, other: &Arc<SimNode>) -> bool {
    let Some(node_id) = node.id() else { return false };
    let mut client = admin(world, other);
    world.drop_node(node.number);
    world.trace.line(&format!("node {} is gone for good", node.number));
    world.add_node();
    let request = RemoveNodeRequest { node_id, force: true };
    for _ in 0..20 {
        if matches!(timeout(Duration::from_secs(5), client.remove_node(request)).await, Ok(Ok(_))) {
            return true;
        }
        sleep(Duration::from_secs(1)).await;
        let Some(another) = world.nodes().into_iter().find(|node| node.up().is_some()) else { continue };
        client = admin(world, &another);
    }
    true
}

/// Whether every group has three voters that hold everything: only then may a machine be lost for good.
pub fn whole(world: &World) -> bool {
    lacking(world).is_none()
}

/// What some group lacks, if one does: its leader, voters, or entries at one of them.
pub fn lacking(world: &World) -> Option<String> {
    let mut led = std::collections::BTreeMap::new();
    for node in world.nodes() {
        let Some(up) = node.up() else { return Some(format!("node {} is not up", node.number)) };
        for group in up.cluster.parts().groups.0.list() {
            let status = group.status();
            let GroupStatus { group_id, voters, learners, matched, last_index, .. } = &status;
            // Of the metadata every member has a replica; only five of them vote.
            let members = (learners.is_empty() || voters.len() >= 5) && voters.len() >= 3;
            let mut replicas = voters.iter().chain(learners);
            // Half-way between two sets of voters a majority of each is needed.
            let members = members && group.unfinished_voters().is_none();
            let good = members && replicas.all(|node| matched.get(node).is_some_and(|at| at == last_index));
            if status.role.eq_ignore_ascii_case("leader") {
                let what = format!("{voters:?} and {learners:?} match {matched:?} of {last_index}");
                led.insert(*group_id, (!good).then_some(what));
            } else {
                led.entry(*group_id).or_insert_with(|| Some("no leader".to_string()));
            }
        }
    }
    if led.is_empty() {
        return Some("no group at all".to_string());
    }
    led.into_iter().find_map(|(group, what)| what.map(|what| format!("group {group}: {what}")))
}
