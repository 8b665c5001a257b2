//! All Raft groups of a node: opened at the start, created, removed, flushed and purged.
//!
//! # Contract
//! A group exists on this node iff the state store has its `State` row. Crash table:
//!
//! | dies after … | what is left | what recovers it |
//! | --- | --- | --- |
//! | create: rows written | nothing, or the rows | create again, or the group opens |
//! | create: rows flushed | rows, and the log of an earlier replica | the group opens with what it can use |
//! | remove: rows deleted | the group, or nothing of it but its log | remove again; [`Groups::orphans`] |
//!
//! A log without rows is never dropped unasked, as the rows may have been lost and a vote must not be.
//!
//! # Used by
//! The node in `src`, which owns one, and its transport, which feeds it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bristlecone_proto::record;
use bristlecone_storage::log::{Log, LogError};
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::runtime::{Entropy, Tasks};
use bristlecone_storage::state::{BatchBuilder, Direction, StateStore, keys};
use bristlecone_storage::vfs::Vfs;
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, Membership, Raft, ServerState};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::beat::{Pulse, beat};
use crate::config::RaftConfig;
use crate::cursor::EpochId;
use crate::error::Error;
use crate::group::{Core, Group, Inner, Leadership, fatal_reason};
use crate::log_store::LogStore;
use crate::network::{Factory, Link};
use crate::observer::Observer;
use crate::purge::{Growth, Purger};
use crate::runtime::NodeContext;
use crate::shared::{AppliedState, Shared, group_rows, slots, storage};
use crate::snapshot::Snapshots;
use crate::state_machine::StateMachine;
use crate::transport::Transport;
use crate::types::{self, LeaderId, LogId, Member, StoredMembership, Vote};
use crate::{GroupId, NodeId};

/// What a node's groups run on.
#[derive(Debug, Clone)]
pub struct Env {
    pub node_id: NodeId,
    pub log: Log,
    pub state: Arc<dyn StateStore>,
    /// Where files of snapshots are staged; the file system that the state store exports to.
    pub vfs: Arc<dyn Vfs>,
    pub transport: Arc<dyn Transport>,
    pub tasks: Tasks,
    pub entropy: Arc<dyn Entropy>,
    pub observer: Arc<dyn Observer>,
    pub config: RaftConfig,
}

/// All groups of this node; clones are handles of the same.
#[derive(Clone)]
pub struct Groups {
    pub(crate) node: Arc<Node>,
}

pub(crate) struct Node {
    env: Env,
    context: NodeContext,
    settings: Arc<Config>,
    pub snapshots: Arc<Snapshots>,
    growth: Arc<Growth>,
    groups: RwLock<BTreeMap<GroupId, Group>>,
    /// Held while a group is created, opened or removed.
    changing: tokio::sync::Mutex<()>,
    /// What runs beside the groups until they are shut down.
    upkeep: Mutex<Vec<AbortHandle>>,
}

/// The id before every group's first entry: where a replica stands that has nothing yet.
const BEFORE_ALL: LogId = LogId { leader_id: LeaderId { term: 0, node_id: 0 }, index: 0 };

/// Members of a new group: node id and internal address.
pub type Members = BTreeMap<NodeId, String>;

impl Groups {
    /// Prepares a node's groups; none is open yet. Blocks on the disk for a moment.
    pub fn new(env: Env) -> Result<Self, Error> {
        let settings = env.config.to_openraft("bristlecone")?;
        let snapshots = Snapshots::new(env.vfs.clone(), env.tasks.clone(), env.entropy.clone(), &env.config)?;
        let context = NodeContext { tasks: env.tasks.clone(), entropy: env.entropy.clone() };
        let growth = Growth::new(env.config.flush_log_bytes);
        let node = Node {
            env,
            context,
            settings,
            snapshots: Arc::new(snapshots),
            growth,
            groups: RwLock::new(BTreeMap::new()),
            changing: tokio::sync::Mutex::new(()),
            upkeep: Mutex::default(),
        };
        Ok(Self { node: Arc::new(node) })
    }

    /// Opens every group that the state store names, replaying its log, and starts flushing and purging.
    /// Call it once. [`Error::Storage`] when the log has entries of a group that the state store does not know.
    pub async fn open_existing(&self) -> Result<(), Error> {
        let _changing = self.node.changing.lock().await;
        let stored = self.node.stored_groups()?;
        self.node.require_rows(&stored)?;
        for id in stored {
            self.node.open(id).await?;
        }
        let Env { tasks, config, .. } = &self.node.env;
        let upkeep = [tasks.spawn(keep_up(self.clone())), tasks.spawn(beat(self.clone(), config.heartbeat))];
        self.node.upkeep.lock().extend(upkeep);
        Ok(())
    }

    /// Creates a replica of a new group that begins with these members, on each of them with the same
    /// arguments. A quorum of the voters has to do so before it can elect a leader; a lone voter does at once.
    pub async fn create(
        &self,
        id: GroupId,
        extent: record::Extent,
        voters: Members,
        learners: Members,
    ) -> Result<Group, Error> {
        let first = LogId { leader_id: LeaderId { term: 1, node_id: 0 }, index: 1 };
        let members = voters.iter().chain(&learners);
        let members: BTreeMap<NodeId, Member> =
            members.map(|(node, address)| (*node, Member { address: address.clone() })).collect();
        let membership = Membership::new(vec![voters.into_keys().collect()], members)
            .map_err(|error| Error::Refused(error.to_string()))?;
        let membership = StoredMembership::new(Some(first), membership);
        let extent = record::Extent { group_id: id, ..extent };
        self.found(id, AppliedState::new(Some(first), membership, record::Cursor::default(), Some(extent))).await
    }

    /// Creates a replica-to-be of a group that exists elsewhere: it waits until the leader, which adds it
    /// as a learner, sends it a snapshot.
    pub async fn create_empty(&self, id: GroupId) -> Result<Group, Error> {
        let nothing = AppliedState::new(Some(BEFORE_ALL), StoredMembership::default(), Default::default(), None);
        self.found(id, nothing).await
    }

    pub fn group(&self, id: GroupId) -> Option<Group> {
        self.node.groups.read().get(&id).cloned()
    }

    /// All open groups, by id.
    pub fn list(&self) -> Vec<Group> {
        self.node.groups.read().values().cloned().collect()
    }

    /// Removes this node's replica with its rows and its log. The group's members have to be changed
    /// before.
    pub async fn remove(&self, id: GroupId) -> Result<(), Error> {
        let _changing = self.node.changing.lock().await;
        let removed = self.node.groups.write().remove(&id);
        let group = removed.ok_or(Error::NoSuchGroup(id))?;
        group.shutdown().await;
        let extent = group.extent();
        let mut batch = BatchBuilder::new();
        if let Some(extent) = &extent {
            batch.delete_range(&slots(extent));
        }
        batch.delete_range(&keys::group_rows(id));
        let batch = batch.finish().map_err(|error| Error::Refused(error.to_string()))?;
        // While the rows go, the log is not that of a replica whose rows were lost.
        let nothing = types::log_id_to(&BEFORE_ALL);
        wait_for(|done| self.node.env.log.reset(id, nothing, done)).await?;
        let store = self.node.env.state.clone();
        let remove = move || {
            store.write(&[batch])?;
            store.flush()?;
            match extent {
                Some(extent) => store.reclaim(&slots(&extent)),
                None => Ok(()),
            }
        };
        self.node.env.tasks.blocking(remove).await.map_err(storage)?;
        self.node.remove_log(id).await?;
        self.node.snapshots.forget(id);
        Ok(())
    }

    /// Stops all groups and makes their rows durable. The log stays open; it is its owner's to close.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let _changing = self.node.changing.lock().await;
        for upkeep in self.node.upkeep.lock().drain(..) {
            upkeep.abort();
        }
        let groups = std::mem::take(&mut *self.node.groups.write());
        futures::future::join_all(groups.values().map(Group::shutdown)).await;
        let store = self.node.env.state.clone();
        self.node.env.tasks.blocking(move || store.flush()).await.map_err(storage)
    }

    async fn found(&self, id: GroupId, applied: AppliedState) -> Result<Group, Error> {
        let _changing = self.node.changing.lock().await;
        let node = &self.node;
        if AppliedState::read(id, &*node.env.state)?.is_some() {
            return Err(Error::AlreadyExists(id));
        }
        node.snapshots.claim(id, applied.extent).map_err(Error::ExtentTaken)?;
        if let Some(first) = &applied.log_id {
            // Entries that an earlier replica of this group left are not of this one; its vote is.
            let first = types::log_id_to(first);
            wait_for(|done| node.env.log.reset(id, first, done)).await?;
        }
        let (store, rows) = (node.env.state.clone(), group_rows(id, &applied));
        let write = move || store.write(&[rows]).and_then(|()| store.flush());
        node.env.tasks.blocking(write).await.map_err(storage)?;
        node.open(id).await
    }
}

impl Node {
    pub fn group(&self, id: GroupId) -> Option<Group> {
        self.groups.read().get(&id).cloned()
    }

    fn stored_groups(&self) -> Result<Vec<GroupId>, Error> {
        let mut ids = Vec::new();
        let collect = &mut |key: &[u8], _: &[u8]| {
            if let Ok((_, keys::Key::Group { group, row: keys::GroupRow::State })) = keys::Key::parse(key) {
                ids.push(group);
            }
            ControlFlow::Continue(())
        };
        self.env.state.scan(&keys::one_slot(keys::GROUP_SLOT), Direction::Forward, collect).map_err(storage)?;
        Ok(ids)
    }

    /// A replica whose rows are gone would answer as if it had never acknowledged what its log holds, and elect leaders
    /// that lack it.
    fn require_rows(&self, stored: &[GroupId]) -> Result<(), Error> {
        let log = &self.env.log;
        let held = |id: &GroupId| log.state(*id).last.is_some_and(|last| last.index > BEFORE_ALL.index);
        let lost: Vec<GroupId> = log.groups().into_iter().filter(|id| !stored.contains(id) && held(id)).collect();
        if lost.is_empty() {
            return Ok(());
        }
        Err(Error::Storage(format!(
            "the log has entries of the groups {lost:?}, whose rows are gone: the data directory is damaged. Remove \
             this node and join with an empty one"
        )))
    }

    async fn open(&self, id: GroupId) -> Result<Group, Error> {
        let env = &self.env;
        let shared = Shared::load(id, env.state.clone(), env.observer.clone())?.ok_or(Error::NoSuchGroup(id))?;
        let shared = Arc::new(shared);
        let applied = shared.applied();
        self.snapshots.claim(id, applied.extent).map_err(Error::ExtentTaken)?;
        self.align_log(id, &applied).await?;
        let link =
            Link::new(env.node_id, shared.clone(), env.transport.clone(), self.snapshots.clone(), env.config.clone());
        let link = Arc::new(link);
        let log_store =
            LogStore::new(shared.clone(), env.log.clone(), self.growth.clone(), env.config.append_bytes_max);
        let machine = StateMachine::new(shared.clone(), self.snapshots.clone(), env.tasks.clone(), &env.config);
        let core = async {
            let core =
                Raft::build(env.node_id, self.settings.clone(), Factory(link.clone()), log_store, machine).await?;
            core.run();
            Ok::<_, openraft::errors::Fatal<types::TypeConfig>>(core)
        };
        let core = self.context.enter(core).await.map_err(|error| Error::Storage(error.to_string()))?;
        let (leads, leadership) = watch::channel(Leadership::default());
        env.tasks.spawn(follow(core.clone(), env.node_id, leads, id, env.observer.clone()));
        let inner = Inner {
            me: env.node_id,
            core,
            shared,
            link,
            log: env.log.clone(),
            config: env.config.clone(),
            leadership,
            tried: Mutex::new(EpochId { term: 0, restart: 0 }),
            pulse: Pulse::new(),
            quarantined: AtomicBool::new(false),
        };
        let group = Group { inner: Arc::new(inner) };
        self.groups.write().insert(id, group.clone());
        Ok(group)
    }

    /// openraft applies what is accepted, synced here or not, so after a crash the rows may be ahead of
    /// the log; then the log begins anew after them. Its vote stays, or is at least the term of the rows. Rows that are
    /// older than the log's first entry cannot come from a crash.
    async fn align_log(&self, id: GroupId, applied: &AppliedState) -> Result<(), Error> {
        let Some(applied) = applied.log_id else {
            return Ok(());
        };
        let log = &self.env.log;
        let state = log.state(id);
        if let Some(purged) = state.purged.filter(|purged| purged.index > applied.index) {
            return Err(Error::Storage(format!(
                "the rows of group {id} are those of entry {}, and its log begins after entry {}: the data directory is \
                 damaged. Remove this node and join with an empty one",
                applied.index, purged.index
            )));
        }
        if state.vote.is_none() && applied != BEFORE_ALL {
            let vote = Vote { leader_id: applied.leader_id, committed: false };
            let bytes = Bytes::from(types::vote_to(&vote).encode_to_vec());
            wait_for(|done| log.save_vote(id, bytes, done)).await?;
        }
        if state.last.as_ref().map(types::log_id_from) < Some(applied) {
            let to = types::log_id_to(&applied);
            wait_for(|done| log.reset(id, to, done)).await?;
        }
        Ok(())
    }

    async fn remove_log(&self, id: GroupId) -> Result<(), Error> {
        wait_for(|done| self.env.log.remove_group(id, done)).await
    }
}

/// Starts an operation of the log and waits until it is durable.
async fn wait_for(start: impl FnOnce(bristlecone_storage::log::Done)) -> Result<(), Error> {
    let (done, waited) = oneshot::channel();
    start(Box::new(move |result| drop(done.send(result))));
    let result = waited.await.unwrap_or(Err(LogError::Closed));
    result.map_err(|error| Error::Storage(error.to_string()))
}

/// Tells who leads, until the core ends, and why it ended if nobody asked it to.
async fn follow(core: Core, me: NodeId, leads: watch::Sender<Leadership>, group: GroupId, observer: Arc<dyn Observer>) {
    let mut metrics = core.server_metrics();
    loop {
        let now = {
            let seen = metrics.borrow_watched();
            Leadership {
                term: seen.vote.leader_id.term,
                leader: seen.current_leader,
                is_local: seen.state == ServerState::Leader && seen.vote.committed && seen.current_leader == Some(me),
            }
        };
        leads.send_if_modified(|before| std::mem::replace(before, now) != now);
        if metrics.changed().await.is_err() {
            break;
        }
    }
    if let Some(reason) = fatal_reason(&core) {
        observer.fatal(Some(group), &reason);
    }
}

/// Flushes rows and purges logs when it is time.
async fn keep_up(groups: Groups) {
    let env = &groups.node.env;
    let mut purger = Purger::default();
    let mut flushed: BTreeMap<GroupId, u64> = BTreeMap::new();
    loop {
        groups.node.growth.due(env.config.flush_interval).await;
        let open = groups.list();
        purger.retain(&open);
        let applied: BTreeMap<GroupId, u64> = open.iter().map(|group| (group.id(), group.applied())).collect();
        if applied != flushed && !planted::has(Bug::PurgeAboveFlushed) {
            let store = env.state.clone();
            if let Err(error) = env.tasks.blocking(move || store.flush()).await {
                env.observer.fatal(None, &error.to_string());
                return;
            }
            flushed = applied;
        }
        for group in &open {
            // A group that stops or is busy is purged another time.
            if let Err(error) = purger.purge(group, &env.config).await {
                tracing::debug!(group = group.id(), %error, "log not purged");
            }
        }
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "groups of node {}: {:?}", self.node.env.node_id, self.list())
    }
}
