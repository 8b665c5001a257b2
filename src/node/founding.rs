//! How a node gets its identity: from its directory, by founding a cluster, or by joining one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bristlecone_machine::stamp::{duration, timestamp};
use bristlecone_proto::node::{JoinRequest, Request, StatusRequest, meta_call, request, response};
use bristlecone_proto::record::{Cluster as ClusterRecord, Extent, Member, Namespace, NodeIdentity, Shard, member};
use bristlecone_proto::temporal::api::enums::v1::{ArchivalState, NamespaceState};
use bristlecone_raft::{Decision, Groups, ProposeError};
use bristlecone_storage::state::keys::{META_SLOT, SLOTS};
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::{NodeConfig, Role};
use super::env::Env;
use super::identity::FORMAT;
use crate::cluster::Cluster;
use crate::meta::{META_GROUP, MetaView, decide};
use crate::peer::Peers;

/// How long a node asks to be taken in.
const JOIN_TIME: Duration = Duration::from_secs(60);
/// How long a restart waits for its seeds to say whose they are.
const CHECK_TIME: Duration = Duration::from_millis(500);
const JOIN_PAUSE: Duration = Duration::from_millis(500);
/// How long founding waits for the lone node to lead.
const FOUND_TIME: Duration = Duration::from_secs(30);
/// Retention of namespaces that the command line names: one day, in nanoseconds.
const RETENTION: i64 = 86_400_000_000_000;

/// What a node knows of itself and others before it has its metadata.
#[derive(Debug, Clone)]
pub struct Known {
    pub identity: NodeIdentity,
    /// The directory was empty before this start.
    pub is_new: bool,
    /// The cluster is to be founded by this node.
    pub founds: bool,
    pub members: Vec<Member>,
}

/// Reads the node's identity, or gets one. A new one is not written yet: a directory whose identity is there without
/// its log is refused for ever.
pub async fn identify(config: &NodeConfig, env: &Env, peers: &Peers, me: &Member) -> anyhow::Result<Known> {
    let dir = env.data_dir(config)?;
    if let Some(mut identity) = dir.identity()? {
        if config.role != Role::Restart {
            tracing::info!(node = identity.node_id, "the data directory is a node's already: it is just started");
        }
        identity.incarnation += 1;
        dir.write_identity(&identity)?;
        return Ok(Known { identity, is_new: false, founds: false, members: Vec::new() });
    }
    let uuid = || uuid::Builder::from_random_bytes(env.entropy.next().to_be_bytes()).into_uuid().to_string();
    match &config.role {
        Role::Restart => bail!("the data directory has no identity"),
        Role::Bootstrap { .. } => {
            let key: Vec<u8> =
                [env.entropy.next(), env.entropy.next()].iter().flat_map(|bits| bits.to_be_bytes()).collect();
            let identity = NodeIdentity {
                format: FORMAT,
                cluster_id: uuid(),
                node_id: 1,
                incarnation: 1,
                node_name: if me.name.is_empty() { "n1".to_string() } else { me.name.clone() },
                token_key: key.into(),
            };
            Ok(Known { identity, is_new: true, founds: true, members: Vec::new() })
        }
        Role::Join { seeds } => {
            let key = dir.join_key()?;
            join(peers, seeds, me, &key).await
        }
    }
}

/// Makes a joined node's identity durable, once its log is: from now on this directory is that node.
pub fn keep_identity(config: &NodeConfig, env: &Env, known: &Known) -> anyhow::Result<()> {
    // A founder's comes last of all, when the cluster is founded.
    if known.is_new && !known.founds { env.data_dir(config)?.write_identity(&known.identity) } else { Ok(()) }
}

/// Asks the seeds in turn to be taken in.
async fn join(peers: &Peers, seeds: &[String], me: &Member, key: &str) -> anyhow::Result<Known> {
    let until = Instant::now() + JOIN_TIME;
    let mut last = String::from("no seed was given");
    loop {
        for seed in seeds {
            let join = JoinRequest { member: Some(me.clone()), request_key: key.to_string() };
            let request = Request { timeout_ms: 0, kind: Some(request::Kind::Join(join)) };
            match peers.call_address(seed, request, Duration::from_secs(10)).await {
                Ok(answer) => match answer.kind {
                    Some(response::Kind::Join(reply)) if reply.refused.is_empty() => {
                        let cluster = reply.cluster.context("the cluster did not say who it is")?;
                        let member = reply.member.context("the cluster did not say who this node is")?;
                        let identity = NodeIdentity {
                            format: FORMAT,
                            cluster_id: cluster.cluster_id,
                            node_id: member.node_id,
                            incarnation: 1,
                            node_name: member.name,
                            token_key: cluster.token_key,
                        };
                        let node_id = identity.node_id;
                        let members = reply.members.into_iter().filter(|m| m.node_id != node_id).collect();
                        return Ok(Known { identity, is_new: true, founds: false, members });
                    }
                    Some(response::Kind::Join(reply)) if retryable(&reply.refused) => last = reply.refused,
                    Some(response::Kind::Join(reply)) => bail!("{seed} refuses this node: {}", reply.refused),
                    Some(response::Kind::Failed(rejection)) => last = rejection.message,
                    _ => last = format!("{seed} gave an answer that makes no sense"),
                },
                Err(error) => last = format!("{seed}: {error}"),
            }
        }
        if Instant::now() + JOIN_PAUSE >= until {
            bail!("the cluster could not be joined: {last}");
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
}

/// Refuses a start that was told to join another cluster than the one whose data the directory holds. Seeds that do
/// not answer say nothing.
pub async fn check_seeds(config: &NodeConfig, peers: &Peers, known: &Known) -> anyhow::Result<()> {
    let Role::Join { seeds } = &config.role else { return Ok(()) };
    if known.is_new {
        return Ok(());
    }
    let asked = seeds.iter().map(|seed| async move {
        let status = Request { timeout_ms: 0, kind: Some(request::Kind::Status(StatusRequest {})) };
        (seed, peers.call_address(seed, status, CHECK_TIME).await)
    });
    for (seed, answer) in futures::future::join_all(asked).await {
        if let Err(error) = answer
            && error.another_cluster()
        {
            let dir = config.data_dir.as_deref().unwrap_or(Path::new("memory"));
            bail!("{} holds a node of another cluster than {seed}: {error}", dir.display());
        }
    }
    Ok(())
}

/// Whether another attempt may be answered differently: the cluster has no leader at the moment.
fn retryable(refused: &str) -> bool {
    refused.contains("leader") || refused.contains("unknown") || refused.contains("starting")
}

/// Makes sure that the node has its replica of the meta group, and founds the cluster if that is asked.
pub async fn open_meta_group(
    config: &NodeConfig,
    env: &Env,
    groups: &Groups,
    known: &Known,
    me: &Member,
    view: watch::Receiver<Arc<MetaView>>,
) -> anyhow::Result<()> {
    if known.founds {
        found(config, env, groups, known, me, view).await.context("cannot found the cluster")?;
        env.data_dir(config)?.write_identity(&known.identity)?;
    } else if groups.group(META_GROUP).is_none() {
        groups.create_empty(META_GROUP).await?;
    }
    Ok(())
}

async fn found(
    config: &NodeConfig,
    env: &Env,
    groups: &Groups,
    known: &Known,
    me: &Member,
    mut view: watch::Receiver<Arc<MetaView>>,
) -> anyhow::Result<()> {
    let Role::Bootstrap { shards, replication_factor } = config.role else { bail!("not asked to") };
    let node_id = known.identity.node_id;
    let alone: BTreeMap<u64, String> = BTreeMap::from([(node_id, me.internal_address.clone())]);
    let first = u32::from(META_SLOT);
    let extent = Extent { group_id: META_GROUP, generation: 1, first_slot: first, end_slot: first + 1 };
    let meta = groups.create(META_GROUP, extent, alone.clone(), BTreeMap::new()).await?;
    let map = shard_map(shards, node_id);
    for shard in &map {
        let extent = Extent {
            group_id: shard.group_id,
            generation: shard.generation,
            first_slot: shard.first_slot,
            end_slot: shard.end_slot,
        };
        groups.create(shard.group_id, extent, alone.clone(), BTreeMap::new()).await?;
    }
    let now = env.clock.wall();
    let cluster = ClusterRecord {
        cluster_id: known.identity.cluster_id.clone(),
        name: "bristlecone".to_string(),
        created: Some(timestamp(now)),
        next_node_id: node_id + 1,
        next_group_id: map.iter().map(|shard| shard.group_id).max().unwrap_or(META_GROUP) + 1,
        replication_factor,
        token_key: known.identity.token_key.clone(),
        feature_level: 0,
    };
    let member = Member {
        node_id,
        name: known.identity.node_name.clone(),
        state: member::State::Active.into(),
        joined: Some(timestamp(now)),
        ..me.clone()
    };
    let mutations = decide::found(&cluster, &member, &map).finish()?;
    let write = async {
        let mut leadership = meta.leadership();
        let epoch = loop {
            leadership.wait_for(|now| now.is_local).await.context("the meta group has stopped")?;
            match meta.begin().await {
                Ok(epoch) => break epoch,
                // It was just elected and has not heard of it everywhere.
                Err(ProposeError::NotLeader { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => return Err(error.into()),
            }
        };
        let decision = Decision { number: 1, time: now, meta_index: 0, feature_level: 0, mutations };
        let applied = meta.propose(&epoch, decision).await?;
        view.wait_for(|view| view.index >= applied.index).await.context("the meta group has stopped")?;
        anyhow::Ok(())
    };
    tokio::time::timeout(FOUND_TIME, write).await.context("the node did not become leader of its own cluster")?
}

/// Equal parts of all slots, one a shard.
fn shard_map(shards: u32, leader: u64) -> Vec<Shard> {
    let slots = u32::from(SLOTS);
    let shards = shards.clamp(1, slots);
    (0..shards)
        .map(|n| Shard {
            group_id: META_GROUP + 1 + u64::from(n),
            generation: 1,
            first_slot: slots * n / shards,
            end_slot: slots * (n + 1) / shards,
            replicas: vec![leader],
            preferred_leader: leader,
        })
        .collect()
}

/// Creates the namespaces that the command line names.
pub async fn create_namespaces(config: &NodeConfig, cluster: &Cluster) {
    for name in &config.namespaces {
        if cluster.meta().namespace(name).is_some() {
            continue;
        }
        let namespace = Namespace {
            id: cluster.new_id(),
            name: name.clone(),
            state: NamespaceState::Registered.into(),
            retention: Some(duration(RETENTION)),
            created: Some(timestamp(cluster.wall())),
            history_archival_state: ArchivalState::Disabled.into(),
            visibility_archival_state: ArchivalState::Disabled.into(),
            search_attributes: config.search_attributes.iter().cloned().collect(),
            ..Namespace::default()
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        if let Err(rejection) = cluster.meta_call(meta_call::Kind::PutNamespace(namespace), deadline).await {
            tracing::warn!(namespace = name, reason = rejection.message, "the namespace was not created");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_partition_the_slots() {
        for count in [1, 2, 3, 7, 1024, 5000] {
            let map = shard_map(count, 1);
            let mut next = 0;
            for shard in &map {
                assert_eq!(shard.first_slot, next);
                assert!(shard.end_slot > shard.first_slot);
                next = shard.end_slot;
            }
            assert_eq!(next, 1024);
            assert_eq!(map.len(), usize::try_from(count.min(1024)).expect("small"));
        }
    }
}
