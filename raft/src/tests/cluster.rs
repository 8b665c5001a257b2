//! Nodes of a test cluster: model disks, real log, real groups; and a driver that proposes like a shard.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::record;
use bristlecone_storage::log::{Log, LogOptions};
use bristlecone_storage::runtime::{Entropy, Tasks};
use bristlecone_storage::state::{Batch, BatchBuilder, Direction, Limit, ModelOptions, ModelStore, Read, StateStore};
use bristlecone_storage::vfs::ModelVfs;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_64;

use super::network::Network;
use crate::shared::slots;
use crate::{
    Applied, Decision, Env, Epoch, Error, Group, GroupId, Groups, Members, NodeId, Observer, ProposeError, RaftConfig,
};

/// Patience with a cluster that should do something, in simulated time.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub network: Network,
    pub nodes: BTreeMap<NodeId, Node>,
    pub config: RaftConfig,
    truth: Arc<Truth>,
    seed: u64,
}

pub(crate) struct Node {
    pub id: NodeId,
    pub vfs: ModelVfs,
    pub store: Arc<ModelStore>,
    /// `None` while the node is down.
    pub up: Option<Up>,
    pub starts: u64,
}

pub(crate) struct Up {
    pub groups: Groups,
    pub log: Log,
    pub tasks: Tasks,
}

/// What was applied anywhere: one index of a group has one content, on all nodes and after any replay.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    applied: Mutex<BTreeMap<(GroupId, u64), u64>>,
    fatal: Mutex<Vec<String>>,
    pub installs: Mutex<Vec<(GroupId, u64)>>,
}

impl Observer for Truth {
    fn applied(&self, group: GroupId, index: u64, mutations: &Batch) {
        let content = xxh3_64(mutations.bytes());
        let known = *self.applied.lock().entry((group, index)).or_insert(content);
        assert_eq!(known, content, "entry {index} of group {group} has two contents");
    }

    fn installed(&self, group: GroupId, index: u64) {
        self.installs.lock().push((group, index));
    }

    fn fatal(&self, group: Option<GroupId>, reason: &str) {
        self.fatal.lock().push(format!("{group:?}: {reason}"));
    }
}

#[derive(Debug)]
struct Seeded(Mutex<u64>);

impl Entropy for Seeded {
    fn next(&self) -> u128 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = xxh3_64(&state.to_le_bytes());
        (u128::from(xxh3_64(&mixed.to_le_bytes())) << 64) | u128::from(mixed)
    }
}

pub(crate) fn extent(first_slot: u32, end_slot: u32) -> record::Extent {
    record::Extent { group_id: 0, generation: 1, first_slot, end_slot }
}

pub(crate) fn members(ids: &[NodeId]) -> Members {
    ids.iter().map(|id| (*id, format!("node-{id}:7234"))).collect()
}

impl Cluster {
    /// Nodes 1 to `nodes`, all up, without groups.
    pub async fn new(seed: u64, nodes: NodeId) -> Self {
        let config = RaftConfig { staging_dir: PathBuf::from("/data/snapshots"), ..RaftConfig::default() };
        Self::with_config(seed, nodes, config).await
    }

    pub async fn with_config(seed: u64, nodes: NodeId, config: RaftConfig) -> Self {
        let network = Network::new(seed);
        let mut cluster = Self { network, nodes: BTreeMap::new(), config, truth: Arc::default(), seed };
        for id in 1..=nodes {
            cluster.add_node(id).await;
        }
        cluster
    }

    /// Three nodes and one group of them all, with a leader.
    pub async fn of_three(seed: u64) -> Self {
        let cluster = Self::new(seed, 3).await;
        cluster.create(1, extent(0, 1024), &[1, 2, 3]).await;
        cluster
    }

    pub async fn add_node(&mut self, id: NodeId) {
        let vfs = ModelVfs::new(self.seed ^ id);
        let store = Arc::new(ModelStore::new(Arc::new(vfs.clone()), ModelOptions::default()));
        self.nodes.insert(id, Node { id, vfs, store, up: None, starts: 0 });
        self.start(id).await;
    }

    pub async fn create(&self, group: GroupId, extent: record::Extent, voters: &[NodeId]) {
        for node in voters {
            let created = self.groups(*node).create(group, extent, members(voters), Members::new()).await;
            created.expect("created");
        }
    }

    pub async fn start(&mut self, id: NodeId) {
        self.try_start(id).await.expect("groups");
    }

    pub async fn try_start(&mut self, id: NodeId) -> Result<(), Error> {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        node.starts += 1;
        let tasks = Tasks::single_threaded();
        let entropy = Arc::new(Seeded(Mutex::new(self.seed ^ (id << 32) ^ (node.starts << 48))));
        let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
        let vfs = Arc::new(node.vfs.clone());
        let log = Log::open(vfs.clone(), PathBuf::from("/data/log"), options, &tasks, &*entropy).await.expect("log");
        let groups = Groups::new(Env {
            node_id: id,
            log: log.clone(),
            state: node.store.clone(),
            vfs,
            transport: self.network.transport(id),
            tasks: tasks.clone(),
            entropy,
            observer: self.truth.clone(),
            config: self.config.clone(),
        })
        .expect("settings");
        groups.open_existing().await?;
        self.network.connect(id, groups.clone());
        node.up = Some(Up { groups, log, tasks });
        Ok(())
    }

    /// The rows of a node that is not up are gone.
    pub fn lose_rows(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        node.store = Arc::new(ModelStore::new(Arc::new(node.vfs.clone()), ModelOptions::default()));
    }

    /// The node's process dies and the machine loses what was not synced.
    pub fn crash(&mut self, id: NodeId) {
        self.network.disconnect(id);
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        if let Some(up) = node.up.take() {
            up.tasks.stop();
        }
        node.vfs.crash();
        node.store = Arc::new(node.store.crash());
    }

    pub async fn restart(&mut self, id: NodeId) {
        self.crash(id);
        self.start(id).await;
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[&id]
    }

    pub fn groups(&self, id: NodeId) -> &Groups {
        &self.nodes[&id].up.as_ref().expect("the node is up").groups
    }

    pub fn group(&self, node: NodeId, group: GroupId) -> Group {
        self.groups(node).group(group).expect("the group is open")
    }

    pub fn log(&self, id: NodeId) -> &Log {
        &self.nodes[&id].up.as_ref().expect("the node is up").log
    }

    /// Replicas of a group on nodes that are up.
    pub fn replicas(&self, group: GroupId) -> Vec<Group> {
        self.nodes.values().filter_map(|node| node.up.as_ref()?.groups.group(group)).collect()
    }

    pub fn installs(&self) -> Vec<(GroupId, u64)> {
        self.truth.installs.lock().clone()
    }

    /// What was reported as fatal.
    pub fn fatal(&self) -> Vec<String> {
        self.truth.fatal.lock().clone()
    }

    pub fn assert_healthy(&self) {
        let fatal = self.truth.fatal.lock();
        assert!(fatal.is_empty(), "{fatal:?}");
    }

    /// Waits until some node leads and has opened an epoch.
    pub async fn lead(&self, group: GroupId) -> Driver {
        let since = Instant::now();
        loop {
            for replica in self.replicas(group) {
                if replica.leadership().borrow().is_local
                    && let Ok(Ok(epoch)) = tokio::time::timeout(Duration::from_secs(2), replica.begin()).await
                {
                    return Driver { group: replica, epoch, number: 0 };
                }
            }
            assert!(since.elapsed() < PATIENCE, "no leader of group {group}: {:?}", self.statuses(group));
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all replicas that are up applied the same index and hold the same rows.
    pub async fn converge(&self, group: GroupId) -> u64 {
        let since = Instant::now();
        loop {
            let statuses = self.statuses(group);
            let indexes: Vec<u64> = statuses.iter().map(|status| status.applied_index).collect();
            let last = statuses.iter().map(|status| status.last_index).max().unwrap_or(0);
            if !indexes.is_empty() && indexes.iter().all(|index| *index == last) {
                self.assert_equal(group);
                return last;
            }
            assert!(since.elapsed() < PATIENCE, "group {group} does not converge: {statuses:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Replicas at the same applied index have the same hash and the same rows.
    pub fn assert_equal(&self, group: GroupId) {
        let mut seen: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for node in self.nodes.values() {
            let Some(replica) = node.up.as_ref().and_then(|up| up.groups.group(group)) else {
                continue;
            };
            let status = replica.status();
            let found = (status.state_hash, self.rows_hash(node.id, group));
            let first = *seen.entry(status.applied_index).or_insert(found);
            assert_eq!(first, found, "node {} differs at index {}", node.id, status.applied_index);
        }
    }

    fn rows_hash(&self, node: NodeId, group: GroupId) -> u64 {
        let Some(extent) = self.group(node, group).extent() else {
            return 0;
        };
        let limit = Limit { rows: usize::MAX, bytes: usize::MAX };
        let page = self.node(node).store.page(&slots(&extent), Direction::Forward, limit).expect("rows");
        let mut bytes = Vec::new();
        for (key, value) in page.rows {
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&key);
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&value);
        }
        xxh3_64(&bytes)
    }

    pub fn statuses(&self, group: GroupId) -> Vec<bristlecone_proto::node::GroupStatus> {
        self.replicas(group).iter().map(Group::status).collect()
    }

    /// Waits until a condition holds, in simulated time.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            assert!(since.elapsed() < PATIENCE, "{what} does not come");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn value(&self, node: NodeId, slot: u16, name: &str) -> Option<Vec<u8>> {
        self.node(node).store.get(&key(slot, name)).expect("read").map(|value| value.to_vec())
    }
}

/// Proposes decisions one after another, as a shard does.
pub(crate) struct Driver {
    pub group: Group,
    pub epoch: Epoch,
    pub number: u64,
}

impl Driver {
    /// Writes one row.
    pub async fn put(&mut self, slot: u16, name: &str, value: &[u8]) -> Result<Applied, ProposeError> {
        self.number += 1;
        self.propose(self.number, put(slot, name, value)).await
    }

    pub async fn propose(&self, number: u64, mutations: Batch) -> Result<Applied, ProposeError> {
        let time = self.epoch.time + number as i64;
        let decision = Decision { number, time, meta_index: 0, feature_level: 1, mutations };
        self.group.propose(&self.epoch, decision).await
    }
}

/// A key of the test's own in a slot.
pub(crate) fn key(slot: u16, name: &str) -> Vec<u8> {
    let mut key = slot.to_be_bytes().to_vec();
    key.push(0x01);
    key.extend_from_slice(name.as_bytes());
    key
}

pub(crate) fn put(slot: u16, name: &str, value: &[u8]) -> Batch {
    let mut batch = BatchBuilder::new();
    batch.put(&key(slot, name), value);
    batch.finish().expect("a small batch")
}

/// The rows of a store that would survive a crash now.
pub(crate) fn persisted_index(store: &dyn StateStore, group: GroupId) -> u64 {
    use prost::Message;
    let row = store.persisted(&bristlecone_storage::state::keys::group_state(group)).expect("read");
    let state = row.map(|row| record::GroupState::decode(row).expect("a group's state"));
    state.and_then(|state| state.applied).map_or(0, |id| id.index)
}
