//! Changes of a group's members and of its leader.
//!
//! # Contract
//! One change at a time; a member becomes a learner before it becomes a voter. A change of voters goes
//! through a joint configuration, and one that was left half-way by a leader that died is finished by
//! asking for it again.
//!
//! # Used by
//! Placement in `src/cluster`, operators' commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::timeout;

use crate::NodeId;
use crate::error::Error;
use crate::group::Group;
use crate::types::{CommittedLeaderId, LogId, Member, TypeConfig};

/// How long a membership entry may take to be committed and applied.
const CHANGE_MAX: Duration = Duration::from_secs(10);

impl Group {
    /// Voters and learners with their addresses, as last proposed.
    pub fn members(&self) -> BTreeMap<NodeId, String> {
        let metrics = self.inner.core.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership().nodes();
        members.map(|(node, member)| (*node, member.address.clone())).collect()
    }

    /// Adds a replica that gets all entries but has no vote. The node must have created the group empty.
    /// Adding a member again changes nothing.
    pub async fn add_learner(&self, node: NodeId, address: String) -> Result<(), Error> {
        let change = ChangeMembers::AddNodes(BTreeMap::from([(node, Member { address })]));
        self.change(change, true).await
    }

    /// Waits until a member has all but the last `lag` entries.
    pub async fn wait_caught_up(&self, node: NodeId, lag: u64, wait: Duration) -> Result<(), Error> {
        let near = |matched: Option<LogId>, last: u64| matched.map_or(0, |id| id.index) + lag >= last;
        self.wait_matched(node, wait, near).await
    }

    /// Makes exactly these members the voters; the others become learners.
    pub async fn change_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), Error> {
        self.change(ChangeMembers::ReplaceAllVoters(voters), true).await
    }

    /// The voters that a change was to lead to which its leader left half-way: until it is asked for again, majorities
    /// of the old and of the new voters are needed for everything.
    pub fn unfinished_voters(&self) -> Option<BTreeSet<NodeId>> {
        let metrics = self.inner.core.server_metrics();
        let metrics = metrics.borrow_watched();
        let configs = metrics.membership_config.membership().get_joint_config();
        configs.last().filter(|_| configs.len() > 1).cloned()
    }

    /// Takes a member out, voter or learner. The last voter can't go.
    pub async fn remove_member(&self, node: NodeId) -> Result<(), Error> {
        let voters: BTreeSet<NodeId> = {
            let metrics = self.inner.core.server_metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().voter_ids().collect()
        };
        if voters.contains(&node) {
            let left: BTreeSet<NodeId> = voters.into_iter().filter(|voter| *voter != node).collect();
            if left.is_empty() {
                return Err(Error::Refused("it is the last voter".to_string()));
            }
            return self.change(ChangeMembers::ReplaceAllVoters(left), false).await;
        }
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node])), true).await
    }

    /// Hands leadership to a voter: waits until it has the last entry, then has it elected. The caller
    /// proposes nothing meanwhile. Whatever comes of it, epochs of this node end here.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), Error> {
        if to == self.inner.me {
            return Err(Error::Refused("it leads already, or asks itself".to_string()));
        }
        let wait = self.inner.config.lease();
        let all = |matched: Option<LogId>, last: u64| matched.is_some_and(|id| id.index >= last);
        self.wait_matched(to, wait, all).await?;
        self.inner.core.trigger().transfer_leader(to).await.map_err(|_| Error::Stopped)?;
        let mut leadership = self.leadership();
        match timeout(wait * 3, leadership.wait_for(|now| !now.is_local && now.leader.is_some())).await {
            Ok(Ok(now)) if now.leader == Some(to) => Ok(()),
            Ok(Ok(now)) => Err(Error::NotLeader { hint: now.leader }),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout("a transfer of leadership")),
        }
    }

    /// Starts an election now, for instance of a group whose replicas were just created everywhere.
    pub async fn elect(&self) -> Result<(), Error> {
        if self.is_quarantined() {
            return Err(Error::Refused("it is quarantined".to_string()));
        }
        self.inner.core.trigger().elect(true).await.map_err(|_| Error::Stopped)
    }

    async fn change(&self, change: ChangeMembers<NodeId, Member>, retain: bool) -> Result<(), Error> {
        let changed = timeout(CHANGE_MAX, self.inner.core.change_membership(change, retain)).await;
        match changed {
            Err(_) => Err(Error::Timeout("a change of members")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::Fatal(_))) => Err(Error::Stopped),
            Ok(Err(RaftError::APIError(error))) => Err(self.change_error(error)),
        }
    }

    fn change_error(&self, error: ClientWriteError<TypeConfig>) -> Error {
        match error {
            ClientWriteError::ForwardToLeader(forward) | ClientWriteError::LogEntryDiscarded(forward) => {
                Error::NotLeader { hint: self.hint(&forward) }
            }
            ClientWriteError::ChangeMembershipError(error) => membership_error(&error),
            ClientWriteError::PreconditionFailed(error) => Error::Busy(error.to_string()),
        }
    }

    async fn wait_matched(
        &self,
        node: NodeId,
        wait: Duration,
        enough: impl Fn(Option<LogId>, u64) -> bool,
    ) -> Result<(), Error> {
        let mut metrics = self.inner.core.data_metrics();
        let reached = async {
            loop {
                let seen = {
                    let now = metrics.borrow_watched();
                    let last = now.last_log.map_or(0, |id| id.index);
                    match &now.replication {
                        None => Err(Error::NotLeader { hint: None }),
                        Some(replicas) => match replicas.get(&node) {
                            None => Err(Error::Refused(format!("node {node} is no member"))),
                            Some(matched) => Ok(enough(*matched, last)),
                        },
                    }
                };
                if seen? {
                    return Ok(());
                }
                metrics.changed().await.map_err(|_| Error::Stopped)?;
            }
        };
        timeout(wait, reached).await.unwrap_or(Err(Error::Timeout("a replica to catch up")))
    }
}

fn membership_error(error: &ChangeMembershipError<CommittedLeaderId, NodeId>) -> Error {
    match error {
        ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
            Error::Busy(error.to_string())
        }
        ChangeMembershipError::EmptyMembership(_)
        | ChangeMembershipError::LearnerNotFound(_)
        | ChangeMembershipError::UnsupportedMembershipTransition(_)
        | ChangeMembershipError::NodeMetadataChanged(_) => Error::Refused(error.to_string()),
    }
}
