//! From a chain to the node that decides for it, and back with the answer.
//!
//! # Contract
//! What was surely not carried out is sent again until the caller's time, or the time that a shard may
//! be without a leader, is over. What may have been carried out is repeated only when a repetition is
//! recognised: reads, and inputs with a request id, a task token or an outbox origin.

use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::chain::{ChainId, Input, Rejection, Reply, input};
use bristlecone_proto::node::{AwaitHistory, ChainCall, Request, Response, request, response};
use bristlecone_proto::record;
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::state::keys::slot_of;
use tokio::time::Instant;

use super::{Cluster, Result};
use crate::shard::{CallError, Shard};

/// How long a call waits for a shard that has no leader.
pub(super) const LEADERLESS_MAX: Duration = Duration::from_millis(900);
/// The same for a reader that waits for news anyway: longer than an election takes. SDKs do not repeat a call that has
/// lasted for more than ten seconds, so an error here would be its user's.
const LEADERLESS_READER_MAX: Duration = Duration::from_secs(5);
/// Hints that are followed at once.
const HOPS_MAX: u32 = 2;
/// Pause before the same question is asked again.
const PAUSE: Duration = Duration::from_millis(15);

/// What is asked of a chain.
#[derive(Debug, Clone)]
pub enum Ask {
    Input(Box<Input>),
    AwaitHistory(AwaitHistory),
}

impl Ask {
    /// How long it is worth trying while no leader answers.
    fn patience(&self) -> Duration {
        match self {
            Self::AwaitHistory(head) if head.wait_after_event_id > 0 => LEADERLESS_READER_MAX,
            Self::AwaitHistory(_) | Self::Input(_) => LEADERLESS_MAX,
        }
    }

    /// Whether asking twice does no harm.
    fn is_repeatable(&self) -> bool {
        let Self::Input(input) = self else { return true };
        if input.origin.is_some() {
            return true;
        }
        match &input.kind {
            Some(kind) => is_repeatable(kind),
            None => false,
        }
    }
}

fn is_repeatable(kind: &input::Kind) -> bool {
    match kind {
        input::Kind::Start(start) => !start.request_id.is_empty(),
        input::Kind::SignalWithStart(start) => !start.request_id.is_empty(),
        input::Kind::Signal(signal) => !signal.request_id.is_empty(),
        input::Kind::RequestCancel(cancel) => !cancel.request_id.is_empty(),
        input::Kind::StartStandalone(start) => !start.request_id.is_empty(),
        input::Kind::CancelStandalone(cancel) => !cancel.request_id.is_empty(),
        input::Kind::TerminateStandalone(terminate) => !terminate.request_id.is_empty(),
        input::Kind::CreateSchedule(create) => !create.request_id.is_empty(),
        input::Kind::UpdateSchedule(update) => !update.request_id.is_empty(),
        input::Kind::PatchSchedule(patch) => !patch.request_id.is_empty(),
        input::Kind::DescribeSchedule(_) | input::Kind::ScheduleMatchingTimes(_) => true,
        input::Kind::DeleteSchedule(_)
        | input::Kind::ScheduledStart(_)
        | input::Kind::ScheduledWatch(_)
        | input::Kind::ScheduledClosed(_) => false,
        // An update is known by its id, a reset by its request id.
        input::Kind::Update(_) | input::Kind::PollUpdate(_) | input::Kind::Reset(_) => true,
        input::Kind::PauseWorkflow(pause) => !pause.request_id.is_empty(),
        // The same options once more are no change.
        input::Kind::UpdateWorkflowOptions(_) | input::Kind::Raze(_) => true,
        input::Kind::UnpauseWorkflow(_) => false,
        input::Kind::UpdateWithStart(both) => both.start.as_ref().is_some_and(|start| !start.request_id.is_empty()),
        input::Kind::Describe(_)
        | input::Kind::DescribeStandalone(_)
        | input::Kind::HistoryHead(_)
        | input::Kind::ResetSticky(_)
        | input::Kind::PauseActivity(_)
        | input::Kind::UnpauseActivity(_)
        | input::Kind::ResetActivity(_)
        | input::Kind::UpdateActivityOptions(_)
        | input::Kind::CompleteWorkflowTask(_)
        | input::Kind::FailWorkflowTask(_)
        | input::Kind::CompleteActivity(_)
        | input::Kind::FailActivity(_)
        | input::Kind::CancelActivity(_)
        | input::Kind::HeartbeatActivity(_)
        | input::Kind::Forget(_)
        | input::Kind::Purge(_)
        | input::Kind::Release(_)
        | input::Kind::Harden(_)
        | input::Kind::Wake(_) => true,
        input::Kind::Terminate(_)
        | input::Kind::Delete(_)
        | input::Kind::DeleteStandalone(_)
        | input::Kind::Query(_)
        | input::Kind::StartWorkflowTask(_)
        | input::Kind::StartActivity(_)
        | input::Kind::UndoWorkflowTaskStart(_)
        | input::Kind::UndoActivityStart(_)
        | input::Kind::StickyUnavailable(_)
        | input::Kind::StartChild(_)
        | input::Kind::ParentRecorded(_)
        | input::Kind::ChildClosed(_)
        | input::Kind::ParentClosed(_)
        | input::Kind::AwaitChild(_)
        | input::Kind::SignalExternal(_)
        | input::Kind::CancelExternal(_)
        | input::Kind::Answer(_) => false,
    }
}

/// A planted bug: the repetition looks like another request.
fn forget_request_id(ask: &mut Ask) {
    let Ask::Input(input) = ask else { return };
    match &mut input.kind {
        Some(input::Kind::Start(start)) => start.request_id.push('+'),
        Some(input::Kind::Signal(signal)) => signal.request_id.push('+'),
        _ => {}
    }
}

/// What one attempt came to.
enum Attempt {
    Done(Box<Reply>),
    /// Not carried out; try again, there if a node is named.
    Elsewhere(Option<u64>),
    Unknown(Rejection),
    Failed(Rejection),
}

impl Cluster {
    /// Asks the chain, wherever it lives.
    ///
    /// # Errors
    /// A rejection of the cluster's own (UNAVAILABLE, RESOURCE_EXHAUSTED, …); one by the chain is a reply.
    pub(super) async fn ask(&self, chain: &ChainId, mut ask: Ask, deadline: Instant) -> Result<Reply> {
        let patience = ask.patience();
        let mut give_up = None;
        let mut hint = None;
        let mut hops = 0;
        loop {
            let view = self.meta();
            let slot = slot_of(&chain.namespace_id, &chain.workflow_id);
            let Some(shard) = view.shard_of(slot) else {
                return Err(unavailable("the cluster has no shard map yet"));
            };
            let node = hint.take().or_else(|| self.leader_of(shard));
            let asked = Instant::now();
            let attempt = match node {
                Some(node) => self.attempt(node, shard, chain, ask.clone(), deadline).await,
                None => Attempt::Elsewhere(None),
            };
            let now = Instant::now();
            // From the first attempt that failed, and anew after one that waited for news for long.
            let begun = give_up.filter(|_| now.duration_since(asked) < patience);
            let give_up = *give_up.insert(begun.unwrap_or_else(|| deadline.min(now + patience)));
            match attempt {
                Attempt::Done(reply) => return Ok(*reply),
                Attempt::Failed(rejection) => return Err(rejection),
                Attempt::Unknown(rejection) => {
                    if !ask.is_repeatable() || now + PAUSE >= give_up {
                        return Err(rejection);
                    }
                    if planted::has(Bug::RetriedAsNew) {
                        forget_request_id(&mut ask);
                    }
                }
                Attempt::Elsewhere(next) => {
                    if now + PAUSE >= give_up {
                        return Err(unavailable("the shard of this workflow has no leader at the moment"));
                    }
                    // Two nodes may each believe that the other leads.
                    if next.is_some() && next != node && hops < HOPS_MAX {
                        hops += 1;
                        hint = next;
                        continue;
                    }
                    hops = 0;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Who leads a shard, as far as this node knows.
    pub(super) fn leader_of(&self, shard: &record::Shard) -> Option<u64> {
        let local = self.inner.shards.get(shard.group_id);
        let known = local.map(|local| local.group.leadership().borrow().leader);
        match known {
            Some(leader) => leader,
            // Without a replica of its own this node asks where the leader should be.
            None => Some(shard.preferred_leader).filter(|node| *node != 0),
        }
    }

    async fn attempt(&self, node: u64, shard: &record::Shard, chain: &ChainId, ask: Ask, deadline: Instant) -> Attempt {
        if node == self.inner.me {
            return match self.inner.shards.get(shard.group_id) {
                Some(local) => local_outcome(ask_shard(&local, chain, ask, deadline).await),
                None => Attempt::Elsewhere(None),
            };
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let kind = match ask {
            Ask::Input(input) => {
                let call = ChainCall {
                    chain: Some(chain.clone()),
                    input: Some(*input),
                    group_id: shard.group_id,
                    generation: shard.generation,
                };
                request::Kind::Chain(call.into())
            }
            Ask::AwaitHistory(head) => request::Kind::AwaitHistory(AwaitHistory {
                group_id: shard.group_id,
                generation: shard.generation,
                ..head
            }),
        };
        match self.inner.peers.call(node, Request { timeout_ms: 0, kind: Some(kind) }, left).await {
            Ok(Response { kind: Some(response::Kind::Reply(reply)) }) => Attempt::Done(Box::new(reply)),
            Ok(Response { kind: Some(response::Kind::NotLeader(not)) }) => {
                Attempt::Elsewhere(Some(not.node_id).filter(|hint| *hint != 0))
            }
            Ok(Response { kind: Some(response::Kind::WrongShard(_)) }) => Attempt::Elsewhere(None),
            Ok(Response { kind: Some(response::Kind::Failed(rejection)) }) => {
                if rejection.code == reply::code::UNAVAILABLE {
                    Attempt::Unknown(rejection)
                } else {
                    Attempt::Failed(rejection)
                }
            }
            Ok(_) => Attempt::Failed(reply::plain(reply::code::INTERNAL, "a node gave an answer that makes no sense")),
            Err(error) if error.outcome_unknown() => Attempt::Unknown(unavailable(&error.to_string())),
            Err(_) => Attempt::Elsewhere(None),
        }
    }

    /// Answers what another node asked of a shard that it believes to be led from here.
    pub(super) async fn serve_chain(
        &self,
        group_id: u64,
        chain: &ChainId,
        ask: Ask,
        deadline: Instant,
    ) -> response::Kind {
        let Some(local) = self.inner.shards.get(group_id) else {
            return response::Kind::WrongShard(Default::default());
        };
        match ask_shard(&local, chain, ask, deadline).await {
            Ok(reply) => response::Kind::Reply(reply),
            Err(CallError::NotLeader { hint }) => {
                response::Kind::NotLeader(bristlecone_proto::node::NotLeader { node_id: hint.unwrap_or(0) })
            }
            Err(CallError::WrongShard) => response::Kind::WrongShard(Default::default()),
            Err(error) => response::Kind::Failed(failure(&error)),
        }
    }
}

async fn ask_shard(
    shard: &Shard,
    chain: &ChainId,
    ask: Ask,
    deadline: Instant,
) -> std::result::Result<Reply, CallError> {
    match ask {
        Ask::Input(input) => match *input {
            Input { kind: Some(input::Kind::Query(query)), .. } => shard.query(chain.clone(), query, deadline).await,
            input => shard.call(chain.clone(), input, Some(deadline)).await,
        },
        Ask::AwaitHistory(head) => shard.await_history(head, deadline).await,
    }
}

fn local_outcome(outcome: std::result::Result<Reply, CallError>) -> Attempt {
    match outcome {
        Ok(reply) => Attempt::Done(Box::new(reply)),
        Err(CallError::NotLeader { hint }) => Attempt::Elsewhere(hint),
        Err(CallError::WrongShard) => Attempt::Elsewhere(None),
        Err(error @ CallError::Unknown) => Attempt::Unknown(failure(&error)),
        Err(error @ (CallError::Busy | CallError::Quarantined(_))) => Attempt::Failed(failure(&error)),
    }
}

fn failure(error: &CallError) -> Rejection {
    match error {
        CallError::NotLeader { .. } | CallError::WrongShard | CallError::Unknown => unavailable(&error.to_string()),
        CallError::Busy => overloaded(&error.to_string()),
        CallError::Quarantined(_) => reply::failed_precondition(format!("the workflow is out of service: {error}")),
    }
}

pub(super) fn unavailable(message: &str) -> Rejection {
    reply::plain(reply::code::UNAVAILABLE, message)
}

fn overloaded(message: &str) -> Rejection {
    use bristlecone_proto::temporal::api::enums::v1::{ResourceExhaustedCause, ResourceExhaustedScope};
    let detail = bristlecone_proto::temporal::api::errordetails::v1::ResourceExhaustedFailure {
        cause: ResourceExhaustedCause::SystemOverloaded.into(),
        scope: ResourceExhaustedScope::System.into(),
    };
    reply::with_detail(reply::code::RESOURCE_EXHAUSTED, message, &detail)
}
