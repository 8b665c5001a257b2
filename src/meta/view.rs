//! The cluster's metadata as this node's replica of the meta group has it, decoded and indexed.
//!
//! # Contract
//! Immutable; a change makes a new view. It is a hint about everything that shards decide themselves
//! (who leads, which slots), and the truth about namespaces as of its index.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context;
use bristlecone_machine as machine;
use bristlecone_machine::stamp::duration_nanos;
use bristlecone_proto::node::QueueKey;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::NamespaceState;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueueConfig;
use bristlecone_storage::state::keys::{self, Key, META_SLOT, SLOTS, Slot};
use bristlecone_storage::state::{Batch, Direction, Op, Read};
use prost::Message;

use super::rules;

#[derive(Debug, Clone, Default)]
pub struct MetaView {
    /// Index of the meta group's last applied entry.
    pub index: u64,
    pub cluster: record::Cluster,
    members: BTreeMap<u64, Arc<record::Member>>,
    shards: BTreeMap<u64, Arc<record::Shard>>,
    namespaces: BTreeMap<String, Arc<NamespaceEntry>>,
    namespace_ids: BTreeMap<String, String>,
    node_requests: BTreeMap<String, u64>,
    queue_configs: QueueConfigs,
}

/// What operators set, by namespace id, kind and name of the queue.
pub type QueueConfigs = Arc<BTreeMap<(String, i32, String), Arc<TaskQueueConfig>>>;

/// A namespace, with what the pure core needs of it.
#[derive(Debug)]
pub struct NamespaceEntry {
    pub record: record::Namespace,
    pub for_machine: machine::Namespace,
}

impl MetaView {
    pub fn load(store: &(impl Read + ?Sized), index: u64) -> anyhow::Result<Self> {
        let mut view = Self { index, ..Self::default() };
        let mut failed = None;
        store.scan(&keys::one_slot(META_SLOT), Direction::Forward, &mut |key, value| match view.put(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(view), Err)
    }

    /// The view after an entry of the meta group.
    pub fn after(&self, index: u64, batch: &Batch) -> anyhow::Result<Self> {
        let mut view = self.clone();
        view.index = index;
        for op in batch {
            match op {
                Op::Put { key, value } => view.put(key, value)?,
                Op::Delete { key } | Op::SingleDelete { key } => view.delete(key)?,
                Op::DeleteRange { .. } => anyhow::bail!("metadata is never removed by range"),
                Op::Add { .. } => anyhow::bail!("metadata has no counters"),
            }
        }
        Ok(view)
    }

    pub fn member(&self, node_id: u64) -> Option<&Arc<record::Member>> {
        self.members.get(&node_id)
    }

    /// All members that ever were, the removed ones included.
    pub fn members(&self) -> impl Iterator<Item = &Arc<record::Member>> {
        self.members.values()
    }

    /// Members that are, or are becoming, part of the cluster.
    pub fn present_members(&self) -> impl Iterator<Item = &Arc<record::Member>> {
        self.members().filter(|member| member.state() != record::member::State::Removed)
    }

    pub fn shards(&self) -> impl Iterator<Item = &Arc<record::Shard>> {
        self.shards.values()
    }

    pub fn shard(&self, group_id: u64) -> Option<&Arc<record::Shard>> {
        self.shards.get(&group_id)
    }

    /// The shard that owns a slot; `None` before the cluster has its map.
    pub fn shard_of(&self, slot: Slot) -> Option<&Arc<record::Shard>> {
        let slot = u32::from(slot % SLOTS);
        self.shards.values().find(|shard| shard.first_slot <= slot && slot < shard.end_slot)
    }

    /// A namespace that was not deleted.
    pub fn namespace(&self, name: &str) -> Option<&Arc<NamespaceEntry>> {
        self.namespace_by_id(self.namespace_ids.get(name)?)
    }

    pub fn namespace_by_id(&self, id: &str) -> Option<&Arc<NamespaceEntry>> {
        self.namespaces.get(id)
    }

    /// All namespaces in the order of their names, the deleted ones included.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<NamespaceEntry>> {
        let mut all: Vec<_> = self.namespaces.values().collect();
        all.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        all.into_iter()
    }

    pub fn queue_configs(&self) -> &QueueConfigs {
        &self.queue_configs
    }

    pub fn queue_config(&self, queue: &QueueKey) -> Option<&Arc<TaskQueueConfig>> {
        self.queue_configs.get(&(queue.namespace_id.clone(), queue.kind, queue.name.clone()))
    }

    /// The node id that was given to a request to join.
    pub fn node_for_request(&self, request_key: &str) -> Option<u64> {
        self.node_requests.get(request_key).copied()
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        let (_, parsed) = Key::parse(key).context("metadata row")?;
        match parsed {
            Key::Cluster => self.cluster = record::Cluster::decode(value)?,
            Key::Member { node } => {
                self.members.insert(node, Arc::new(record::Member::decode(value)?));
            }
            Key::Shard { group } => {
                self.shards.insert(group, Arc::new(record::Shard::decode(value)?));
            }
            Key::Namespace { .. } => {
                let record = record::Namespace::decode(value)?;
                self.namespaces.insert(record.id.clone(), Arc::new(NamespaceEntry::new(record)));
            }
            Key::NamespaceName { name } => {
                self.namespace_ids.insert(name.into_owned(), String::from_utf8(value.to_vec())?);
            }
            Key::NodeRequest { request } => {
                let node = value.try_into().map(u64::from_be_bytes).context("node id")?;
                self.node_requests.insert(request.into_owned(), node);
            }
            Key::QueueConfig { namespace, kind, queue } => {
                let key = (namespace.to_string(), i32::from(kind), queue.into_owned());
                Arc::make_mut(&mut self.queue_configs).insert(key, Arc::new(TaskQueueConfig::decode(value)?));
            }
            _ => anyhow::bail!("a row that is no metadata in the meta group"),
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> anyhow::Result<()> {
        let (_, parsed) = Key::parse(key).context("metadata row")?;
        match parsed {
            Key::NamespaceName { name } => {
                self.namespace_ids.remove(name.as_ref());
            }
            Key::Namespace { namespace } => {
                self.namespaces.remove(&namespace.to_string());
            }
            Key::Shard { group } => {
                self.shards.remove(&group);
            }
            Key::NodeRequest { request } => {
                self.node_requests.remove(request.as_ref());
            }
            Key::QueueConfig { namespace, kind, queue } => {
                let key = (namespace.to_string(), i32::from(kind), queue.into_owned());
                Arc::make_mut(&mut self.queue_configs).remove(&key);
            }
            _ => anyhow::bail!("a row that is never removed"),
        }
        Ok(())
    }
}

impl NamespaceEntry {
    fn new(record: record::Namespace) -> Self {
        let for_machine = machine::Namespace {
            id: record.id.clone(),
            name: record.name.clone(),
            bad_binaries: record.bad_binaries.keys().cloned().collect::<BTreeSet<_>>(),
            search_attributes: record.search_attributes.clone(),
            retention: duration_nanos(record.retention.as_ref()),
            rules: record.workflow_rules.values().filter_map(rules::read).collect(),
        };
        Self { record, for_machine }
    }
}

impl machine::stamp::NamespaceLookup for MetaView {
    fn id_of(&self, name: &str) -> Option<String> {
        let entry = self.namespace(name)?;
        (entry.record.state() != NamespaceState::Deleted).then(|| entry.record.id.clone())
    }
}
