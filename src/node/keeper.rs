//! Keeps the node as the metadata says: whom it knows, which replicas it holds, who belongs to the
//! groups that it leads, where leaders belong.
//!
//! # Contract
//! Level-triggered: every pass compares what is with what should be and takes one step for each group.
//! Nothing here is needed for safety; what a crash interrupts, the next pass takes up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::node::{Notice, Request, StatusRequest, meta_call, notice, request, response};
use bristlecone_proto::record::member::State;
use bristlecone_proto::record::{Member, Shard};
use bristlecone_raft::Group;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::env::Env;
use super::{clocks, deletion, pulse};
use crate::cluster::{Cluster, Parts};
use crate::meta::{META_GROUP, META_VOTERS_MAX, MetaView, placement};

/// Pause between two passes.
const PASS: Duration = Duration::from_millis(500);
/// A member that was not heard for so long does not answer.
const SILENT: Duration = Duration::from_secs(2);
/// How long a step may take.
const STEP_TIME: Duration = Duration::from_secs(10);
/// Entries that a learner may lack when it becomes a voter.
const LAG_MAX: u64 = 100;
/// A replica that is wanted nowhere is removed after its leader confirmed that for so long.
const LIMBO: Duration = Duration::from_secs(5);
/// How often a node makes sure that it is still a member.
const REMOVAL_EVERY: Duration = Duration::from_secs(2);
/// How often all rows are read, so that damage is found while the other replicas are whole.
const VERIFY_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the disk is looked at.
const DISK_EVERY: u32 = 4;

/// Starts the loops of the keeper.
/// `fatal` hears why the process has to stop.
pub fn spawn(cluster: &Cluster, env: &Env, me: Member, fatal: &UnboundedSender<String>) {
    let tasks = env.tasks.clone();
    tasks.spawn(tell_time(cluster.clone()));
    tasks.spawn(feel_pulse(cluster.clone()));
    tasks.spawn(know_members(cluster.clone()));
    tasks.spawn(keep_replicas(cluster.clone()));
    tasks.spawn(keep_groups(cluster.clone()));
    tasks.spawn(keep_placement(cluster.clone()));
    tasks.spawn(report(cluster.clone(), me));
    tasks.spawn(notice_removal(cluster.clone(), fatal.clone()));
    tasks.spawn(verify_rows(cluster.clone()));
    tasks.spawn(deletion::delete_namespaces(cluster.clone()));
}

/// Tells every member the time, twice a second.
async fn tell_time(cluster: Cluster) {
    let parts = cluster.parts();
    let mut every = interval(clocks::EVERY);
    loop {
        every.tick().await;
        let view = cluster.meta();
        let leads_nothing = why_not_to_lead(parts, &view).is_some();
        for member in view.present_members().filter(|member| member.node_id != parts.me) {
            let reading = Notice { kind: Some(notice::Kind::Clock(parts.clocks.reading(leads_nothing))) };
            // Who cannot be reached hears nothing: that is the point.
            drop(parts.peers.notify(member.node_id, reading));
        }
    }
}

/// Notes how late this process is woken.
async fn feel_pulse(cluster: Cluster) {
    loop {
        let due = Instant::now() + pulse::EVERY;
        sleep_until(due).await;
        cluster.parts().clocks.pulse.woken(due.elapsed());
    }
}

/// Keeps addresses and liveness up to date, for peers and brokers, and the node's own health.
async fn know_members(cluster: Cluster) {
    let parts = cluster.parts();
    let mut every = interval(PASS);
    let mut pass = 0u32;
    parts.disk.prepare();
    loop {
        every.tick().await;
        let view = cluster.meta();
        for member in view.members().filter(|member| member.node_id != parts.me) {
            if member.state() == State::Removed {
                parts.peers.remove(member.node_id);
            } else if let Err(error) = parts.peers.set_address(member.node_id, &member.internal_address) {
                tracing::warn!(node = member.node_id, %error, "the member cannot be known");
            }
        }
        parts.queues.set_members(alive(parts, &view).into_iter().collect());
        if parts.health.is_caught_up() {
            parts.clocks.set_members(view.present_members().count());
        }
        parts.health.set_ready(is_ready(parts, &view));
        pass = pass.wrapping_add(1);
        if pass % DISK_EVERY == 1 {
            look_at_disk(parts).await;
        }
    }
}

async fn look_at_disk(parts: &Parts) {
    let store = Arc::clone(&parts.store);
    let used = parts.tasks.blocking(move || store.usage().map_or(0, |usage| usage.disk)).await;
    let shedding = parts.health.refuses_starts();
    parts.health.set_shedding(&parts.disk.look(used, shedding).unwrap_or_default());
}

/// Members that answer, this one included.
pub fn alive(parts: &Parts, view: &MetaView) -> BTreeSet<u64> {
    let heard = |node: u64| parts.peers.last_heard(node).is_some_and(|at| at.elapsed() < SILENT);
    let members = view.present_members().map(|member| member.node_id);
    members.filter(|node| *node == parts.me || heard(*node)).collect()
}

fn is_ready(parts: &Parts, view: &MetaView) -> bool {
    let led = |group: &Group| group.leadership().borrow().leader.is_some();
    parts.health.is_caught_up() && !view.cluster.cluster_id.is_empty() && parts.groups.0.list().iter().all(led)
}

/// Creates replicas that this node should hold, opens their shards, and removes those it should not.
async fn keep_replicas(cluster: Cluster) {
    let parts = cluster.parts();
    let mut every = interval(PASS);
    let mut unwanted: BTreeMap<u64, Instant> = BTreeMap::new();
    loop {
        every.tick().await;
        let view = cluster.meta();
        for shard in view.shards().filter(|shard| shard.replicas.contains(&parts.me)) {
            unwanted.remove(&shard.group_id);
            if parts.groups.0.group(shard.group_id).is_none()
                && let Err(error) = parts.groups.0.create_empty(shard.group_id).await
            {
                tracing::warn!(group = shard.group_id, %error, "the replica cannot be created");
            }
        }
        for group in parts.groups.0.list().into_iter().filter(|group| group.id() != META_GROUP) {
            if parts.shards.get(group.id()).is_none() {
                parts.shards.open(group.clone(), &parts.surroundings);
            }
            let wanted = view.shard(group.id()).is_none_or(|shard| shard.replicas.contains(&parts.me));
            if wanted || is_member_still(parts, &view, &group).await {
                unwanted.remove(&group.id());
                continue;
            }
            if unwanted.entry(group.id()).or_insert_with(Instant::now).elapsed() >= LIMBO {
                parts.shards.close(group.id());
                match parts.groups.0.remove(group.id()).await {
                    Ok(()) => tracing::info!(group = group.id(), "the replica is removed"),
                    Err(error) => tracing::warn!(group = group.id(), %error, "the replica cannot be removed"),
                }
            }
        }
    }
}

/// Whether the group's leader counts this node among its members; without an answer it does.
async fn is_member_still(parts: &Parts, view: &MetaView, group: &Group) -> bool {
    let Some(shard) = view.shard(group.id()) else { return true };
    for node in shard.replicas.iter().filter(|node| **node != parts.me) {
        let request = Request { timeout_ms: 0, kind: Some(request::Kind::Status(StatusRequest {})) };
        let Ok(answer) = parts.peers.call(*node, request, Duration::from_secs(1)).await else { continue };
        let Some(response::Kind::Status(status)) = answer.kind else { continue };
        let leads =
            |status: &&bristlecone_proto::node::GroupStatus| status.group_id == group.id() && status.leader == *node;
        if let Some(status) = status.groups.iter().find(leads) {
            return status.voters.contains(&parts.me) || status.learners.contains(&parts.me);
        }
    }
    true
}

/// Changes the members of the groups that this node leads, and hands leaderships to where they belong.
async fn keep_groups(cluster: Cluster) {
    let parts = cluster.parts();
    let mut every = interval(PASS);
    loop {
        every.tick().await;
        let view = cluster.meta();
        let answering = alive(parts, &view);
        for group in parts.groups.0.list() {
            if !group.leadership().borrow().is_local {
                continue;
            }
            let step = async {
                match view.shard(group.id()) {
                    Some(shard) => keep_shard(&cluster, &view, &group, shard, &answering).await,
                    None if group.id() == META_GROUP => keep_meta(&cluster, &view, &group, &answering).await,
                    None => Ok(()),
                }
            };
            match timeout(STEP_TIME, step).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => tracing::info!(group = group.id(), reason, "not done yet"),
                Err(_) => tracing::info!(group = group.id(), "not done in time"),
            }
        }
    }
}

async fn keep_shard(
    cluster: &Cluster,
    view: &MetaView,
    group: &Group,
    shard: &Shard,
    answering: &BTreeSet<u64>,
) -> Result<(), String> {
    let parts = cluster.parts();
    let wanted: BTreeSet<u64> = shard.replicas.iter().copied().collect();
    if keep_members(parts, view, group, &wanted, &wanted, answering).await? {
        return Ok(());
    }
    let status = group.status();
    let fit = |node: &u64| status.voters.contains(node) && takes_leaderships(parts, answering, *node);
    let must_go = must_not_lead(parts, view) || !wanted.contains(&parts.me);
    let preferred = Some(shard.preferred_leader).filter(|node| fit(node));
    let target = match preferred {
        Some(preferred) if is_near(&status, preferred) => Some(preferred),
        _ if must_go => status.voters.iter().copied().filter(fit).max_by_key(|node| matched(&status, *node)),
        _ => None,
    };
    match target {
        Some(to) => cluster.hand_over(group.id(), to).await.map_err(|rejection| rejection.message),
        None => Ok(()),
    }
}

async fn keep_meta(cluster: &Cluster, view: &MetaView, group: &Group, answering: &BTreeSet<u64>) -> Result<(), String> {
    let parts = cluster.parts();
    let members: BTreeSet<u64> = view.present_members().map(|member| member.node_id).collect();
    let stays =
        |node: &u64| view.member(*node).is_some_and(|member| matches!(member.state(), State::Active | State::Draining));
    let current = group.status();
    // Those that vote already keep voting: every change costs two entries.
    let mut candidates: Vec<u64> = members.iter().copied().filter(stays).collect();
    candidates.sort_by_key(|node| (!current.voters.contains(node), *node));
    let voters: BTreeSet<u64> = candidates.into_iter().take(META_VOTERS_MAX).collect();
    if voters.is_empty() || keep_members(parts, view, group, &members, &voters, answering).await? {
        return Ok(());
    }
    if must_not_lead(parts, view) || !voters.contains(&parts.me) {
        let fit = |node: &u64| takes_leaderships(parts, answering, *node);
        let status = group.status();
        let target = status.voters.iter().copied().filter(fit).max_by_key(|node| matched(&status, *node));
        if let Some(to) = target {
            return cluster.hand_over(group.id(), to).await.map_err(|rejection| rejection.message);
        }
    }
    Ok(())
}

/// Takes one step towards these members and voters; whether there was one to take.
async fn keep_members(
    parts: &Parts,
    view: &MetaView,
    group: &Group,
    wanted: &BTreeSet<u64>,
    voters: &BTreeSet<u64>,
    answering: &BTreeSet<u64>,
) -> Result<bool, String> {
    if let Some(voters) = group.unfinished_voters() {
        tracing::info!(group = group.id(), ?voters, "finishes a change of voters");
        group.change_voters(voters).await.map_err(|error| error.to_string())?;
        return Ok(true);
    }
    let members = group.members();
    let status = group.status();
    let current: BTreeSet<u64> = status.voters.iter().copied().collect();
    if let Some(missing) = wanted.iter().find(|node| !members.contains_key(node) && answering.contains(node)) {
        let address = view.member(*missing).map(|member| member.internal_address.clone()).unwrap_or_default();
        tracing::info!(group = group.id(), node = missing, "adds a replica");
        group.add_learner(*missing, address).await.map_err(|error| error.to_string())?;
        return Ok(true);
    }
    let ready = |node: &&u64| answering.contains(*node) && is_near(&status, **node);
    let promotable = voters.iter().filter(|node| !current.contains(node) && members.contains_key(node)).find(ready);
    if let Some(promoted) = promotable {
        let mut next = current.clone();
        next.insert(*promoted);
        tracing::info!(group = group.id(), node = promoted, "makes the replica a voter");
        group.change_voters(next).await.map_err(|error| error.to_string())?;
        return Ok(true);
    }
    // Nobody goes before everybody who should vote does, unless a voter is gone for ever.
    let complete = voters.iter().all(|node| current.contains(node));
    let surplus = members.keys().find(|node| {
        let gone = view.member(**node).is_none_or(|member| member.state() == State::Removed);
        !wanted.contains(node) && **node != parts.me && (complete || gone)
    });
    if let Some(surplus) = surplus {
        tracing::info!(group = group.id(), node = surplus, "removes a replica");
        group.remove_member(*surplus).await.map_err(|error| error.to_string())?;
        return Ok(true);
    }
    let demoted: BTreeSet<u64> = current.iter().copied().filter(|n| voters.contains(n) || *n == parts.me).collect();
    if complete && demoted != current {
        group.change_voters(demoted).await.map_err(|error| error.to_string())?;
        return Ok(true);
    }
    Ok(false)
}

fn matched(status: &bristlecone_proto::node::GroupStatus, node: u64) -> u64 {
    status.matched.get(&node).copied().unwrap_or(0)
}

fn is_near(status: &bristlecone_proto::node::GroupStatus, node: u64) -> bool {
    status.matched.contains_key(&node) && matched(status, node) + LAG_MAX >= status.last_index
}

/// Whether another node would keep a leadership that it is given.
fn takes_leaderships(parts: &Parts, answering: &BTreeSet<u64>, node: u64) -> bool {
    node != parts.me && answering.contains(&node) && !parts.clocks.leads_nothing(node)
}

/// Whether leaders have to leave this node.
fn must_not_lead(parts: &Parts, view: &MetaView) -> bool {
    let reason = why_not_to_lead(parts, view);
    if let Some(reason) = &reason {
        tracing::warn!(reason, "leads nothing");
    }
    reason.is_some()
}

/// Its clock is wrong, its disk is full, it is starved, it drains, leaves, or has only begun to join.
fn why_not_to_lead(parts: &Parts, view: &MetaView) -> Option<String> {
    if let Some(offset) = parts.clocks.too_far() {
        return Some(format!("the wall clock is {} ms away from the others'", offset / 1_000_000));
    }
    if parts.clocks.is_lonely() {
        return Some("no majority of the members agrees with the wall clock".into());
    }
    if parts.health.refuses_starts() {
        return Some("the disk is nearly full".into());
    }
    if parts.clocks.is_starved() {
        return Some("the process gets too little of the processor, unlike the others".into());
    }
    let active = view.member(parts.me).is_some_and(|member| member.state() == State::Active);
    (!active).then(|| "the node is no active member".into())
}

/// While this node leads the meta group: decides where replicas and leaders belong.
async fn keep_placement(cluster: Cluster) {
    let parts = cluster.parts();
    let mut every = interval(PASS);
    loop {
        every.tick().await;
        if !parts.meta.group().leadership().borrow().is_local {
            continue;
        }
        let view = cluster.meta();
        if let Some(shard) = placement::next_change(&view, &alive(parts, &view)) {
            let deadline = Instant::now() + STEP_TIME;
            if let Err(rejection) = cluster.meta_call(meta_call::Kind::PutShard(shard), deadline).await {
                tracing::info!(reason = rejection.message, "the shard map was not changed");
            }
        }
    }
}

/// Tells the cluster this node's addresses and version, once after each start, and learns from the answer how new
/// the metadata has to be.
async fn report(cluster: Cluster, me: Member) {
    let parts = cluster.parts();
    let mut view = parts.meta.watch();
    let known = view.wait_for(|view| view.member(parts.me).is_some()).await.is_ok();
    let member = Member { node_id: parts.me, ..me };
    if !known {
        return;
    }
    loop {
        let deadline = Instant::now() + STEP_TIME;
        match cluster.meta_call(meta_call::Kind::UpdateMember(member.clone()), deadline).await {
            Ok(reply) => {
                let mut applied = parts.meta.group().watch_applied();
                if applied.wait_for(|index| *index >= reply.index).await.is_ok() {
                    parts.health.set_caught_up();
                    // Shards wait for it: not with the next pass.
                    parts.clocks.set_members(cluster.meta().present_members().count());
                }
                return;
            }
            Err(rejection) => {
                tracing::debug!(reason = rejection.message, "the cluster does not know where this node is");
            }
        }
        tokio::time::sleep(PASS).await;
    }
}

/// Ends a node that the cluster has removed: it must not come back under its id. Seen twice, so that the answer to
/// whoever had it removed here leaves first.
async fn notice_removal(cluster: Cluster, fatal: UnboundedSender<String>) {
    let parts = cluster.parts();
    let mut every = interval(REMOVAL_EVERY);
    let mut seen = 0;
    loop {
        every.tick().await;
        let view = cluster.meta();
        let known = view.member(parts.me).is_some_and(|me| me.state() == State::Removed);
        seen = if known || is_refused_as_removed(parts, &view).await { seen + 1 } else { 0 };
        if seen == 2 {
            let why = format!("node {} was removed from the cluster: join with an empty data directory", parts.me);
            // Nobody listens any more when the node is stopping already.
            drop(fatal.send(why));
            return;
        }
    }
}

/// Whether a member that is not heard refuses this node because it was removed while it did not run.
async fn is_refused_as_removed(parts: &Parts, view: &MetaView) -> bool {
    let answering = alive(parts, view);
    for member in view.present_members().filter(|member| !answering.contains(&member.node_id)) {
        let status = Request { timeout_ms: 0, kind: Some(request::Kind::Status(StatusRequest {})) };
        let answer = parts.peers.call_address(&member.internal_address, status, PASS).await;
        if answer.is_err_and(|error| error.removed()) {
            return true;
        }
    }
    false
}

/// Reads all rows now and then; a damaged file ends the node, which names it.
async fn verify_rows(cluster: Cluster) {
    let parts = cluster.parts();
    loop {
        let store = Arc::clone(&parts.store);
        match parts.tasks.blocking(move || store.verify()).await {
            Ok(()) => {}
            Err(error) => parts.surroundings.unreadable(&error),
        }
        tokio::time::sleep(VERIFY_EVERY).await;
    }
}

/// Hands every leadership to another member, for a planned stop.
pub async fn hand_everything_over(cluster: &Cluster) {
    let parts = cluster.parts();
    let view = cluster.meta();
    let answering = alive(parts, &view);
    let led = parts.groups.0.list().into_iter().filter(|group| group.leadership().borrow().is_local);
    let handovers = led.map(|group| {
        let answering = &answering;
        async move {
            let status = group.status();
            let fit = |node: &u64| *node != parts.me && answering.contains(node);
            let to = status.voters.iter().copied().filter(fit).max_by_key(|node| matched(&status, *node));
            if let Some(to) = to
                && let Err(rejection) = cluster.hand_over(group.id(), to).await
            {
                tracing::info!(group = group.id(), reason = rejection.message, "not handed over");
            }
        }
    });
    futures::future::join_all(handovers).await;
}
