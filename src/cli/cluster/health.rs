//! `bristlecone cluster health`: what is wrong, if anything.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::Outcome;
use super::Output;
use super::client::{self, ASK_TIME, Target};
use super::view::{ClusterView, GroupView, list};
use crate::cli::say::say;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let view = ClusterView::new(client::status(&mut args.target.connect(ASK_TIME).await?).await?);
    match args.target.output {
        Output::Json => say(format_args!("{:#}", json!({ "healthy": view.healthy, "problems": view.problems }))),
        Output::Table if view.healthy => say("healthy"),
        Output::Table => view.problems.iter().for_each(say),
    }
    Ok(outcome(&view))
}

pub(super) fn outcome(view: &ClusterView) -> Outcome {
    if view.healthy { Outcome::Done } else { Outcome::Unhealthy }
}

/// Everything that an operator should know of, in words.
pub(super) fn problems(view: &ClusterView) -> Vec<String> {
    let nodes = view.present().filter_map(|node| match node.health.as_str() {
        "ready" => None,
        "shedding" => Some(format!("node {} sheds load: {}", node.id, node.shedding)),
        "starting" => Some(format!("node {} is not ready", node.id)),
        other => Some(format!("node {} is {other}", node.id)),
    });
    let groups = view.groups.iter().flat_map(|group| group_problems(view, group));
    nodes.chain(groups).collect()
}

fn group_problems(view: &ClusterView, group: &GroupView) -> Vec<String> {
    let mut problems = Vec::new();
    let name = format!("{} {}", group.kind, group.id);
    if group.leader.is_none() {
        problems.push(format!("{name} has no leader"));
    }
    if !group.quarantined.is_empty() {
        let nodes = list(&group.quarantined);
        problems.push(format!("{name}: node {nodes} lost entries that it had acknowledged; replace it under a new id"));
    }
    let answering = group.voters.iter().filter(|voter| group.replicas.contains_key(voter)).count();
    if group.kind == "shard" {
        let homes = view.present().filter(|node| matches!(node.state.as_str(), "active" | "draining")).count();
        let wanted = homes.min(usize::try_from(view.replication_factor).unwrap_or(usize::MAX));
        if answering < wanted {
            problems.push(format!("{name} has {answering} of {wanted} replicas"));
        }
    } else if answering * 2 <= group.voters.len() {
        problems.push(format!("{name} has no quorum: {answering} of {} voters answer", group.voters.len()));
    }
    // Replicas that have applied the same entries must have the same state.
    let mut hashes: BTreeMap<u64, u64> = BTreeMap::new();
    for replica in group.replicas.values() {
        if *hashes.entry(replica.applied_index).or_insert(replica.state_hash) != replica.state_hash {
            problems.push(format!("{name}: replicas differ at index {}", replica.applied_index));
        }
    }
    problems
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bristlecone_proto::admin::ClusterStatusResponse;
    use bristlecone_proto::node::{GroupStatus, NodeStatus, StatusReply};
    use bristlecone_proto::record::{Cluster, Member, Shard, member::State};

    use crate::meta::META_GROUP;

    /// Three nodes; node 1 leads the one shard, node 2 the meta group.
    pub(in super::super) fn three_nodes() -> ClusterStatusResponse {
        let member = |node_id: u64| Member {
            node_id,
            name: format!("n{node_id}"),
            api_address: format!("127.0.0.1:{}", 7133 + node_id * 100),
            state: State::Active.into(),
            ..Member::default()
        };
        let group = |group_id, leader, node: u64| GroupStatus {
            group_id,
            term: 4,
            leader,
            last_index: 10,
            applied_index: 10 - node,
            voters: vec![1, 2, 3],
            end_slot: 1024,
            ..GroupStatus::default()
        };
        let uptime = Some(prost_types::Duration { seconds: 61, nanos: 0 });
        let reply = |node_id| StatusReply {
            node: Some(NodeStatus { node_id, ready: true, uptime, ..NodeStatus::default() }),
            groups: vec![group(META_GROUP, 2, node_id), group(META_GROUP + 1, 1, node_id)],
        };
        ClusterStatusResponse {
            cluster: Some(Cluster { replication_factor: 3, ..Cluster::default() }),
            members: (1..=3).map(member).collect(),
            shards: vec![Shard {
                group_id: META_GROUP + 1,
                end_slot: 1024,
                replicas: vec![1, 2, 3],
                ..Shard::default()
            }],
            nodes: (1..=3).map(|node| (node, reply(node))).collect(),
            answered_by: 1,
        }
    }

    fn problems_of(status: ClusterStatusResponse) -> Vec<String> {
        ClusterView::new(status).problems
    }

    #[test]
    fn a_dead_leader_is_named() {
        let mut status = three_nodes();
        status.nodes.remove(&1);
        assert_eq!(
            problems_of(status),
            ["node 1 is unreachable", "shard 2 has no leader", "shard 2 has 2 of 3 replicas"]
        );
    }

    #[test]
    fn two_dead_nodes_leave_no_quorum() {
        let mut status = three_nodes();
        status.nodes.retain(|node, _| *node == 2);
        let problems = problems_of(status);
        assert!(problems.contains(&"meta 1 has no quorum: 1 of 3 voters answer".to_string()), "{problems:?}");
    }

    #[test]
    fn replicas_that_differ_are_found() {
        let mut status = three_nodes();
        for (node, hash) in [(1, 7), (2, 8)] {
            let group = status.nodes.get_mut(&node).and_then(|node| node.groups.get_mut(1)).expect("the shard");
            (group.applied_index, group.state_hash) = (10, hash);
        }
        assert_eq!(problems_of(status), ["shard 2: replicas differ at index 10"]);
    }

    #[test]
    fn what_nodes_say_of_themselves_is_passed_on() {
        let mut status = three_nodes();
        let node = |status: &mut ClusterStatusResponse, id| {
            status.nodes.get(&id).and_then(|reply| reply.node.clone()).expect("there")
        };
        let shedding = NodeStatus { shedding: "the disk is nearly full".into(), ..node(&mut status, 1) };
        let starting = NodeStatus { ready: false, ..node(&mut status, 2) };
        for (id, changed) in [(1, shedding), (2, starting)] {
            status.nodes.get_mut(&id).expect("there").node = Some(changed);
        }
        assert_eq!(problems_of(status), ["node 1 sheds load: the disk is nearly full", "node 2 is not ready"]);
    }

    #[test]
    fn a_removed_member_and_a_small_cluster_are_no_problem() {
        let mut status = three_nodes();
        status.members.retain(|member| member.node_id != 3);
        status.nodes.remove(&3);
        for group in status.nodes.values_mut().flat_map(|node| &mut node.groups) {
            group.voters = vec![1, 2];
        }
        status.members.push(Member { node_id: 3, state: State::Removed.into(), ..Member::default() });
        assert_eq!(problems_of(status), Vec::<String>::new());
    }
}
