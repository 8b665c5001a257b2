//! One Raft group on this node: epochs, proposals, read barriers, and what is known of it.
//!
//! # Contract
//! - [`Group::begin`] opens an epoch; when it answers, everything that was ever acknowledged is applied
//!   here. [`Group::propose`] is for one caller with one proposal in flight; the first error ends the
//!   epoch.
//! - What `propose` acknowledged is in the log of a quorum, synced, and applied on this node.
//! - A state that was read after [`Group::read_barrier`] returned reflects everything that was
//!   acknowledged by anyone before it was called.
//!
//! # Used by
//! Shard actors and the meta service of `src`; `membership.rs` has the rest of the methods.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bristlecone_proto::{node, record};
use bristlecone_storage::log::Log;
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::state::Batch;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::impls::OneshotResponder;
use openraft::{Raft, ReadPolicy, ServerState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::beat::Pulse;
use crate::config::RaftConfig;
use crate::cursor::EpochId;
use crate::entry::{ENTRY_OVERHEAD, Envelope, Kind, Proposal};
use crate::error::{Error, ProposeError, ReadError};
use crate::network::Link;
use crate::shared::Shared;
use crate::state_machine::StateMachine;
use crate::types::{CommittedLeaderId, Outcome, TypeConfig};
use crate::{GroupId, NodeId, PAYLOAD_MAX};

/// Bytes of an entry that fits into one call of the transport with what stands around it.
const ENTRY_BYTES_MAX: usize = PAYLOAD_MAX - (1 << 10);

pub(crate) type Core = Raft<TypeConfig, StateMachine>;

/// A handle of a group; clones are cheap.
#[derive(Clone)]
pub struct Group {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub me: NodeId,
    pub core: Core,
    pub shared: Arc<Shared>,
    pub link: Arc<Link>,
    pub log: Log,
    pub config: RaftConfig,
    pub leadership: watch::Receiver<Leadership>,
    /// The greatest epoch that this node tried to open.
    pub tried: Mutex<EpochId>,
    pub pulse: Pulse,
    /// A leader saw this replica lose entries that it had acknowledged: it must not vote.
    pub quarantined: AtomicBool,
}

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    /// This node leads. It may not know yet that it was deposed: proposals and barriers tell.
    pub is_local: bool,
}

/// An epoch that this node opened as leader, and that lasts until the first proposal that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    id: EpochId,
    leader: CommittedLeaderId,
    /// Applied index of the entry that opened it; rows read from now on are at least as new.
    pub index: u64,
    /// Shard time, Unix nanoseconds: the first decision's must not be below.
    pub time: i64,
}

impl Epoch {
    pub fn id(&self) -> EpochId {
        self.id
    }
}

/// What a shard decided in one go.
#[derive(Debug, Clone)]
pub struct Decision {
    /// 1 for the first in its epoch, then one more each time.
    pub number: u64,
    /// Shard time in Unix nanoseconds; never below the previous decision's.
    pub time: i64,
    /// Applied index of the meta group that it was decided with.
    pub meta_index: u64,
    /// Feature level that its rows are written in.
    pub feature_level: u16,
    /// Keys within the group's extent only.
    pub mutations: Batch,
}

/// A decision that is durable and applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Its index in the group's log.
    pub index: u64,
}

impl Group {
    pub fn id(&self) -> GroupId {
        self.inner.shared.group
    }

    /// The slots that this replica holds; `None` before its first snapshot.
    pub fn extent(&self) -> Option<record::Extent> {
        self.inner.shared.with_applied(|applied| applied.extent)
    }

    /// Follows who leads. Closed when the group stops.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Index of the last applied entry, 0 when there is none.
    pub fn applied(&self) -> u64 {
        self.inner.shared.with_applied(super::shared::AppliedState::index)
    }

    /// Follows [`Group::applied`].
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.inner.shared.watch_index()
    }

    /// Which decision was applied last, on this replica.
    pub fn cursor(&self) -> record::Cursor {
        self.inner.shared.with_applied(|applied| applied.cursor)
    }

    /// Opens an epoch: waits for the lease if need be, for as long as this node leads.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] as soon as this node doesn't lead, [`ProposeError::Unknown`] when the
    /// group has stopped.
    pub async fn begin(&self) -> Result<Epoch, ProposeError> {
        loop {
            let leader = self.local_leader_id()?;
            let id = self.next_epoch(leader.term);
            let envelope = Envelope {
                kind: Kind::Begin,
                feature_level: 0,
                epoch: id,
                number: 0,
                time: 0,
                meta_index: 0,
                mutations: Batch::default().bytes().clone(),
            };
            match self.write(&envelope, leader).await {
                Ok((Outcome::Applied, index)) => {
                    let time = self.cursor().time;
                    return Ok(Epoch { id, leader, index, time });
                }
                Err(ProposeError::Unknown) if self.inner.leadership.has_changed().is_err() => {
                    return Err(ProposeError::Unknown);
                }
                // Another begin was greater, or the lease is not there yet, or the answer got lost.
                Ok((Outcome::Nothing | Outcome::Refused(_), _)) | Err(_) => {
                    tokio::time::sleep(self.inner.config.heartbeat / 4).await;
                }
            }
        }
    }

    /// Has a decision replicated and applied. Waits at most twice the lease.
    pub async fn propose(&self, epoch: &Epoch, decision: Decision) -> Result<Applied, ProposeError> {
        let envelope = Envelope {
            kind: Kind::Decision,
            feature_level: decision.feature_level,
            epoch: epoch.id,
            number: decision.number,
            time: decision.time,
            meta_index: decision.meta_index,
            mutations: decision.mutations.bytes().clone(),
        };
        match self.write(&envelope, epoch.leader).await? {
            (Outcome::Applied, index) => Ok(Applied { index }),
            (Outcome::Nothing | Outcome::Refused(_), _) => Err(ProposeError::Refused),
        }
    }

    /// Confirms with a quorum that this node still leads, and waits until all that was committed by then
    /// is applied here.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        let wait = self.inner.config.lease() * 2;
        let confirmed = timeout(wait, self.inner.core.ensure_linearizable(ReadPolicy::ReadIndex)).await;
        match confirmed {
            Err(_) => Err(ReadError::NoQuorum),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::Fatal(_))) => Err(ReadError::Stopped),
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => Err(ReadError::NoQuorum),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Err(ReadError::NotLeader { hint: self.hint(&forward) })
            }
        }
    }

    /// [`Group::read_barrier`], and the epoch still lasts: what its owner has in memory is what a reader may
    /// see. A leadership that was lost and won again in between has another epoch.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`] when the epoch is over; else as `read_barrier`.
    pub async fn confirm(&self, epoch: &Epoch) -> Result<(), ReadError> {
        if !planted::has(Bug::ReadWithoutBarrier) {
            self.read_barrier().await?;
        }
        if self.inner.shared.epoch() == epoch.id { Ok(()) } else { Err(ReadError::NotLeader { hint: None }) }
    }

    /// Waits until an entry is applied on this replica, at most `wait`.
    pub async fn wait_applied(&self, index: u64, wait: Duration) -> Result<(), Error> {
        let mut applied = self.watch_applied();
        match timeout(wait, applied.wait_for(|at| *at >= index)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout("an entry to be applied")),
        }
    }

    /// What is known of the group here; on its leader, also how far each replica has come.
    pub fn status(&self) -> node::GroupStatus {
        let metrics = self.inner.core.metrics().borrow_watched().clone();
        let applied = self.inner.shared.applied();
        let membership = metrics.membership_config.membership();
        let matched: BTreeMap<u64, u64> = metrics
            .replication
            .unwrap_or_default()
            .into_iter()
            .map(|(node, id)| (node, id.map_or(0, |id| id.index)))
            .collect();
        let extent = applied.extent.unwrap_or_default();
        node::GroupStatus {
            group_id: self.id(),
            term: metrics.current_term,
            leader: metrics.current_leader.unwrap_or(0),
            role: self.role(metrics.state),
            last_index: metrics.last_log_index.unwrap_or(0),
            applied_index: applied.index(),
            purged_index: metrics.purged.map_or(0, |id| id.index),
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            first_slot: extent.first_slot,
            end_slot: extent.end_slot,
            generation: extent.generation,
            matched,
            state_hash: applied.cursor.chain,
            quarantined: self.inner.link.quarantined(),
        }
    }

    /// Whether a leader found that this replica lost entries that it had acknowledged. It doesn't vote,
    /// and it has to be replaced under a new node id.
    pub fn is_quarantined(&self) -> bool {
        self.inner.quarantined.load(Ordering::Acquire)
    }

    pub(crate) fn quarantine(&self) {
        self.inner.quarantined.store(true, Ordering::Release);
        self.inner.core.runtime_config().elect(false);
    }

    fn role(&self, state: ServerState) -> String {
        let role = match state {
            _ if self.is_quarantined() => "quarantined",
            ServerState::Leader => "leader",
            ServerState::Follower => "follower",
            ServerState::Candidate => "candidate",
            ServerState::Learner => "learner",
            ServerState::Shutdown => "stopped",
        };
        role.to_string()
    }

    /// The leader id to bind proposals to.
    fn local_leader_id(&self) -> Result<CommittedLeaderId, ProposeError> {
        let metrics = self.inner.core.server_metrics();
        let metrics = metrics.borrow_watched();
        let vote = metrics.vote;
        if metrics.state == ServerState::Leader && vote.committed && vote.leader_id.node_id == self.inner.me {
            return Ok(vote.leader_id);
        }
        Err(ProposeError::NotLeader { hint: metrics.current_leader.filter(|node| *node != self.inner.me) })
    }

    fn next_epoch(&self, term: u64) -> EpochId {
        let current = self.inner.shared.epoch();
        let mut tried = self.inner.tried.lock();
        let restart = [current, *tried].iter().filter(|epoch| epoch.term == term).map(|epoch| epoch.restart).max();
        *tried = EpochId { term, restart: restart.unwrap_or(0) + 1 };
        *tried
    }

    /// Bytes of mutations that one entry takes; a decision with more is refused as [`ProposeError::TooLarge`].
    pub fn mutation_bytes_max(&self) -> usize {
        self.inner.log.entry_bytes_max().min(ENTRY_BYTES_MAX) - ENTRY_OVERHEAD
    }

    /// Writes an entry under one leader and returns what it came to, and its index.
    async fn write(&self, envelope: &Envelope, leader: CommittedLeaderId) -> Result<(Outcome, u64), ProposeError> {
        let (bytes, max) = (envelope.mutations.len(), self.mutation_bytes_max());
        if bytes > max {
            return Err(ProposeError::TooLarge { bytes, max });
        }
        self.inner.log.room().await;
        let proposal = Proposal::new(envelope);
        let (responder, answer) = OneshotResponder::new_pair();
        let written = async {
            self.inner.core.write(proposal).with_leader(leader).responder(responder).await.ok()?;
            answer.await.ok()
        };
        match timeout(self.inner.config.lease() * 2, written).await {
            Ok(Some(Ok(done))) => Ok((done.data, done.log_id.index)),
            Ok(Some(Err(ClientWriteError::ForwardToLeader(forward)))) => {
                Err(ProposeError::NotLeader { hint: self.hint(&forward) })
            }
            Ok(Some(Err(_)) | None) | Err(_) => Err(ProposeError::Unknown),
        }
    }

    pub(crate) fn hint(&self, forward: &ForwardToLeader<TypeConfig>) -> Option<NodeId> {
        forward.leader_id.filter(|node| *node != self.inner.me)
    }

    /// Ends the group's tasks; the log and the rows stay.
    pub(crate) async fn shutdown(&self) {
        // An error means that the core ended by itself, which `Observer::fatal` reported.
        drop(self.inner.core.shutdown().await);
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.id())
    }
}

/// Why a core ended, when it was not told to.
pub(crate) fn fatal_reason(core: &Core) -> Option<String> {
    match &core.metrics().borrow_watched().running_state {
        Ok(()) => Some("its task ended".to_string()),
        Err(Fatal::Stopped) => None,
        Err(fatal) => Some(fatal.to_string()),
    }
}
