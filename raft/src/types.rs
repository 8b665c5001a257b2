//! openraft's types as this crate uses them, and their records.
//!
//! # Contract
//! None of openraft's types is stored or sent: what leaves memory is a message of `record.proto`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bristlecone_proto::record;
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, RaftTypeConfig};

use crate::cursor::Refusal;
use crate::entry::{Entry, NewPayload, Proposal};
use crate::runtime::NodeRuntime;

/// A Raft group. 1 is the meta group, by the convention of the node; this crate treats all alike.
pub type GroupId = u64;
/// A node; never reused.
pub type NodeId = u64;

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, Member>;

/// The choice of types for openraft.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Outcome;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = NewPayload;
    type Entry = Entry;
    type AsyncRuntime = NodeRuntime;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::AnyError;
}

/// What applying an entry came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A blank or membership entry: it writes no rows.
    Nothing,
    Applied,
    Refused(Refusal),
}

/// What a group knows of a member besides its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Internal address, host:port.
    pub address: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

pub(crate) fn log_id_to(log_id: &LogId) -> record::LogId {
    record::LogId { term: log_id.leader_id.term, node_id: log_id.leader_id.node_id, index: log_id.index }
}

pub(crate) fn log_id_from(record: &record::LogId) -> LogId {
    LogId { leader_id: LeaderId { term: record.term, node_id: record.node_id }, index: record.index }
}

pub(crate) fn vote_to(vote: &Vote) -> record::Vote {
    record::Vote { term: vote.leader_id.term, node_id: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn vote_from(record: &record::Vote) -> Vote {
    Vote { leader_id: LeaderId { term: record.term, node_id: record.node_id }, committed: record.committed }
}

pub(crate) fn membership_to(log_id: Option<&LogId>, membership: &Membership) -> record::Membership {
    record::Membership {
        log_id: log_id.map(log_id_to),
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| record::membership::Config { voters: voters.iter().copied().collect() })
            .collect(),
        members: membership
            .nodes()
            .map(|(node_id, member)| record::GroupMember { node_id: *node_id, address: member.address.clone() })
            .collect(),
    }
}

/// `None` when a voter is not among the members.
pub(crate) fn membership_from(record: &record::Membership) -> Option<Membership> {
    if record.configs.is_empty() {
        return Some(Membership::default());
    }
    let configs: Vec<BTreeSet<u64>> =
        record.configs.iter().map(|config| config.voters.iter().copied().collect()).collect();
    let members: BTreeMap<u64, Member> =
        record.members.iter().map(|m| (m.node_id, Member { address: m.address.clone() })).collect();
    Membership::new(configs, members).ok()
}

pub(crate) fn stored_membership_to(stored: &StoredMembership) -> record::Membership {
    membership_to(stored.log_id().as_ref(), stored.membership())
}

pub(crate) fn stored_membership_from(record: &record::Membership) -> Option<StoredMembership> {
    Some(StoredMembership::new(record.log_id.as_ref().map(log_id_from), membership_from(record)?))
}
