//! A cluster's status as programs read it (JSON) and people do (tables).
//!
//! # Contract
//! The names of the JSON fields stay; new ones may come.

use std::collections::BTreeMap;
use std::fmt::Display;

use bristlecone_proto::admin::ClusterStatusResponse;
use bristlecone_proto::node::{GroupStatus, StatusReply};
use bristlecone_proto::record::member::State;
use bristlecone_proto::record::{Member, Shard};
use comfy_table::Table;
use serde::Serialize;

use super::{health, table};
use crate::meta::META_GROUP;

#[derive(Debug, Serialize)]
pub(super) struct ClusterView {
    pub(super) cluster_id: String,
    pub(super) name: String,
    pub(super) answered_by: u64,
    pub(super) replication_factor: u32,
    pub(super) healthy: bool,
    pub(super) problems: Vec<String>,
    pub(super) nodes: Vec<NodeView>,
    pub(super) groups: Vec<GroupView>,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeView {
    pub(super) id: u64,
    pub(super) name: String,
    /// joining, active, draining, leaving, removed
    pub(super) state: String,
    /// ready, starting, shedding, unreachable; `-` for a removed member
    pub(super) health: String,
    pub(super) shedding: String,
    pub(super) api_address: String,
    pub(super) internal_address: String,
    pub(super) version: String,
    pub(super) joined: Option<i64>,
    pub(super) uptime_seconds: Option<i64>,
    pub(super) leads: usize,
    pub(super) replicas: usize,
    pub(super) polls: u64,
    pub(super) data_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) memory_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct GroupView {
    pub(super) id: u64,
    /// meta or shard
    pub(super) kind: &'static str,
    pub(super) first_slot: u32,
    pub(super) end_slot: u32,
    pub(super) generation: u64,
    pub(super) leader: Option<u64>,
    pub(super) preferred_leader: u64,
    pub(super) term: u64,
    pub(super) voters: Vec<u64>,
    pub(super) learners: Vec<u64>,
    /// Where the map wants replicas.
    pub(super) wanted: Vec<u64>,
    /// Replicas that lost entries which they had acknowledged.
    pub(super) quarantined: Vec<u64>,
    /// Last index of the leader's log.
    pub(super) last_index: u64,
    /// By node that answers: applied index and the hash of what is applied.
    pub(super) replicas: BTreeMap<u64, ReplicaView>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct ReplicaView {
    pub(super) applied_index: u64,
    pub(super) state_hash: u64,
}

impl ClusterView {
    pub(super) fn new(status: ClusterStatusResponse) -> Self {
        let groups = groups(&status);
        let nodes =
            status.members.iter().map(|member| NodeView::new(member, status.nodes.get(&member.node_id), &groups));
        let cluster = status.cluster.clone().unwrap_or_default();
        let mut view = Self {
            cluster_id: cluster.cluster_id,
            name: cluster.name,
            answered_by: status.answered_by,
            replication_factor: cluster.replication_factor,
            healthy: true,
            problems: Vec::new(),
            nodes: nodes.collect(),
            groups,
        };
        view.problems = health::problems(&view);
        view.healthy = view.problems.is_empty();
        view
    }

    /// Members that were not removed.
    pub(super) fn present(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.iter().filter(|node| node.state != state_name(State::Removed))
    }

    pub(super) fn node_table(&self) -> Table {
        let mut rows = table(&["NODE", "NAME", "STATE", "HEALTH", "LEADS", "REPLICAS", "API", "DATA", "MEMORY", "UP"]);
        for node in self.present() {
            rows.add_row([
                node.id.to_string(),
                node.name.clone(),
                node.state.clone(),
                node.health.clone(),
                node.leads.to_string(),
                node.replicas.to_string(),
                node.api_address.clone(),
                size(node.data_bytes),
                size(node.memory_bytes),
                node.uptime_seconds.map_or_else(|| "-".to_string(), period),
            ]);
        }
        rows
    }

    pub(super) fn group_table(&self) -> Table {
        let mut rows = table(&["GROUP", "KIND", "SLOTS", "LEADER", "TERM", "VOTERS", "LEARNERS", "BEHIND"]);
        for group in &self.groups {
            let slots = match group.kind {
                "meta" => "-".to_string(),
                _ => format!("{}-{}", group.first_slot, group.end_slot.saturating_sub(1)),
            };
            rows.add_row([
                group.id.to_string(),
                group.kind.to_string(),
                slots,
                group.leader.map_or_else(|| "none".to_string(), |leader| leader.to_string()),
                group.term.to_string(),
                list(&group.voters),
                list(&group.learners),
                group.behind().map_or_else(|| "-".to_string(), |entries| entries.to_string()),
            ]);
        }
        rows
    }
}

impl NodeView {
    fn new(member: &Member, status: Option<&StatusReply>, groups: &[GroupView]) -> Self {
        let node = status.and_then(|status| status.node.clone());
        let id = member.node_id;
        let health = match &node {
            _ if member.state() == State::Removed => "-",
            None => "unreachable",
            Some(node) if !node.ready => "starting",
            Some(node) if !node.shedding.is_empty() => "shedding",
            Some(_) => "ready",
        };
        let replicas = groups.iter().filter(|group| group.voters.contains(&id) || group.learners.contains(&id));
        let replicas = replicas.count();
        let uptime_seconds = node.as_ref().and_then(|node| node.uptime).map(|uptime| uptime.seconds);
        let node = node.unwrap_or_default();
        Self {
            id,
            name: member.name.clone(),
            state: state_name(member.state()).to_string(),
            health: health.to_string(),
            shedding: node.shedding,
            api_address: member.api_address.clone(),
            internal_address: member.internal_address.clone(),
            version: if node.version.is_empty() { member.version.clone() } else { node.version },
            joined: member.joined.map(|joined| joined.seconds),
            uptime_seconds,
            leads: groups.iter().filter(|group| group.leader == Some(id)).count(),
            replicas,
            polls: node.polls,
            data_bytes: node.data_bytes,
            free_bytes: node.free_bytes,
            memory_bytes: node.memory_bytes,
        }
    }
}

impl GroupView {
    /// Entries by which the slowest replica that answers is behind the leader; unknown without one.
    fn behind(&self) -> Option<u64> {
        self.leader?;
        let slowest = self.replicas.values().map(|replica| replica.applied_index).min()?;
        Some(self.last_index.saturating_sub(slowest))
    }

    fn new(id: u64, shard: Option<&Shard>, status: &ClusterStatusResponse) -> Self {
        let reports: Vec<(u64, &GroupStatus)> = status
            .nodes
            .iter()
            .flat_map(|(node, reply)| reply.groups.iter().map(|group| (*node, group)))
            .filter(|(_, group)| group.group_id == id)
            .collect();
        // A leader that was cut off may still think that it leads: the highest term is right.
        let leads = |(node, group): &&(u64, &GroupStatus)| group.leader == *node;
        let leader = reports.iter().filter(leads).max_by_key(|(_, group)| group.term);
        let best = leader.or_else(|| reports.iter().max_by_key(|(_, group)| (group.term, group.applied_index)));
        let best = best.map(|(_, group)| (*group).clone()).unwrap_or_default();
        let replica = |(node, group): &(u64, &GroupStatus)| {
            (*node, ReplicaView { applied_index: group.applied_index, state_hash: group.state_hash })
        };
        Self {
            id,
            kind: if id == META_GROUP { "meta" } else { "shard" },
            first_slot: shard.map_or(best.first_slot, |shard| shard.first_slot),
            end_slot: shard.map_or(best.end_slot, |shard| shard.end_slot),
            generation: best.generation,
            leader: leader.map(|(node, _)| *node),
            preferred_leader: shard.map_or(0, |shard| shard.preferred_leader),
            term: best.term,
            voters: best.voters,
            learners: best.learners,
            wanted: shard.map(|shard| shard.replicas.clone()).unwrap_or_default(),
            quarantined: best.quarantined,
            last_index: best.last_index,
            replicas: reports.iter().map(replica).collect(),
        }
    }
}

fn groups(status: &ClusterStatusResponse) -> Vec<GroupView> {
    let shards = status.shards.iter().map(|shard| GroupView::new(shard.group_id, Some(shard), status));
    std::iter::once(GroupView::new(META_GROUP, None, status)).chain(shards).collect()
}

pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Joining => "joining",
        State::Active => "active",
        State::Draining => "draining",
        State::Leaving => "leaving",
        State::Removed => "removed",
    }
}

pub(super) fn list<T: Display>(items: &[T]) -> String {
    match items {
        [] => "-".to_string(),
        items => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut rest = bytes;
    for unit in UNITS {
        if rest < 10_000 || unit == "TiB" {
            return format!("{rest}{unit}");
        }
        rest /= 1024;
    }
    format!("{bytes}B")
}

fn period(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::health::tests::three_nodes;

    #[test]
    fn a_healthy_cluster_reads_well() {
        let view = ClusterView::new(three_nodes());
        assert_eq!(view.problems, Vec::<String>::new());
        let nodes = view.node_table().to_string();
        let header: Vec<&str> = nodes.lines().next().expect("header").split_whitespace().collect();
        assert_eq!(header, ["NODE", "NAME", "STATE", "HEALTH", "LEADS", "REPLICAS", "API", "DATA", "MEMORY", "UP"]);
        let first: Vec<&str> = nodes.lines().nth(1).expect("a node").split_whitespace().collect();
        assert_eq!(first, ["1", "n1", "active", "ready", "1", "2", "127.0.0.1:7233", "0B", "0B", "61s"]);
        let groups = view.group_table().to_string();
        let shard: Vec<&str> = groups.lines().nth(2).expect("a shard").split_whitespace().collect();
        assert_eq!(shard, ["2", "shard", "0-1023", "1", "4", "1,2,3", "-", "3"]);
    }

    #[test]
    fn the_highest_term_says_who_leads() {
        let mut status = three_nodes();
        let group =
            status.nodes.get_mut(&2).and_then(|node| node.groups.get_mut(1)).expect("the shard's replica on node 2");
        (group.leader, group.term) = (2, 9);
        let view = ClusterView::new(status);
        assert_eq!(view.groups.get(1).map(|group| (group.leader, group.term)), Some((Some(2), 9)));
    }

    #[test]
    fn sizes_and_periods_are_short() {
        assert_eq!([0, 9_999, 20_480, 5 << 30].map(size), ["0B", "9999B", "20KiB", "5120MiB"]);
        assert_eq!([5, 600, 10_000, 400_000].map(period), ["5s", "10m", "2h", "4d"]);
    }
}
