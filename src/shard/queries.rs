//! Queries that wait for a worker: handed to it by themselves, or riding with a workflow task.
//!
//! # Contract
//! In memory only, as in the original: the end of an epoch fails them with UNAVAILABLE. A query is
//! answered at most once, and at the latest when its caller's time is up.

use std::collections::HashMap;
use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::chain::{ChainId, DirectQuery, Rejection, Reply, reply::Kind as ReplyKind};
use bristlecone_proto::node::{AwaitHistory, Offer, OfferedTask, QueueKey, TaskKind};
use bristlecone_proto::temporal::api::common::v1::Payloads;
use bristlecone_proto::temporal::api::enums::v1::QueryResultType;
use bristlecone_proto::temporal::api::errordetails::v1::QueryFailedFailure;
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::workflowservice::v1::{QueryWorkflowRequest, QueryWorkflowResponse};
use tokio::time::Instant;

use super::mailbox::Answer;

/// Queries of one shard that wait at one time.
pub const QUERIES_MAX: usize = 10_000;
/// How long before its caller's time is up a query fails that no worker took.
pub const NO_POLLER_MARGIN: Duration = Duration::from_secs(1);

/// A query that waits for its run's next workflow task, or is with the current one.
#[derive(Debug)]
pub struct WaitingQuery {
    pub id: u64,
    pub run_id: String,
    pub request: Box<QueryWorkflowRequest>,
    pub respond: Answer,
    pub deadline: Instant,
    /// A worker has it, with the workflow task.
    pub with_task: bool,
}

/// A reader that waits for a run's history to grow.
#[derive(Debug)]
pub struct Waiter {
    pub head: AwaitHistory,
    pub respond: Answer,
    pub deadline: Instant,
}

/// A query that is offered to workers by itself.
#[derive(Debug)]
pub struct Direct {
    pub chain: ChainId,
    pub run_id: String,
    pub request: Box<QueryWorkflowRequest>,
    pub respond: Answer,
    pub deadline: Instant,
    pub route: DirectQuery,
    pub on_sticky: bool,
    /// When the offer on the sticky queue is given up.
    sticky_until: Instant,
    pub taken: bool,
    /// Whether the queue's broker was asked if anybody polls it.
    asked: bool,
}

/// What is to be done about queries that wait.
#[derive(Debug, Default)]
pub struct Expired {
    /// To be offered on the normal queue.
    pub off_sticky: Vec<u64>,
    /// Nobody took them; are their queues polled?
    pub untaken: Vec<(u64, ChainId, QueueKey)>,
}

/// The queries of a shard that workers get by themselves.
#[derive(Debug)]
pub struct Queries {
    direct: HashMap<u64, Direct>,
    last_id: u64,
}

impl Queries {
    /// `first_id` is random, so that an answer to a query of an earlier epoch finds nothing.
    pub fn new(first_id: u64) -> Self {
        Self { direct: HashMap::new(), last_id: first_id }
    }

    pub fn new_id(&mut self) -> u64 {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.last_id
    }

    pub fn is_full(&self) -> bool {
        self.direct.len() >= QUERIES_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.direct.is_empty()
    }

    /// Keeps a query that is to be offered; returns its id.
    pub fn add(&mut self, query: WaitingQuery, chain: ChainId, route: DirectQuery, now: Instant) -> u64 {
        let WaitingQuery { id, run_id, request, respond, deadline, .. } = query;
        let sticky_for = bristlecone_machine::stamp::duration_nanos(route.sticky_timeout.as_ref());
        let on_sticky = !route.sticky_queue.is_empty();
        let sticky_until = now + Duration::from_nanos(u64::try_from(sticky_for).unwrap_or(0));
        let direct = Direct {
            chain,
            run_id,
            request,
            respond,
            deadline,
            route,
            on_sticky,
            sticky_until,
            taken: false,
            asked: false,
        };
        self.direct.insert(id, direct);
        id
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut Direct> {
        self.direct.get_mut(&id)
    }

    pub fn remove(&mut self, id: u64) -> Option<Direct> {
        self.direct.remove(&id)
    }

    /// The offer of a query to the queue that it is to be tried on.
    pub fn offer(&self, id: u64, group_id: u64) -> Option<Offer> {
        let query = self.direct.get(&id)?;
        let name = if query.on_sticky { &query.route.sticky_queue } else { &query.route.task_queue };
        let queue = QueueKey {
            namespace_id: query.chain.namespace_id.clone(),
            name: name.clone(),
            kind: TaskKind::Workflow.into(),
        };
        let task = OfferedTask {
            chain: Some(query.chain.clone()),
            run_id: query.run_id.clone(),
            // Queries go before tasks: somebody waits for them.
            priority: 0,
            query_id: id,
            sticky: query.on_sticky,
            ..OfferedTask::default()
        };
        Some(Offer { queue: Some(queue), group_id, tasks: vec![task], ..Offer::default() })
    }

    /// Queries to be offered again, because brokers may have changed.
    pub fn untaken(&self) -> Vec<u64> {
        self.direct.iter().filter(|(_, query)| !query.taken).map(|(id, _)| *id).collect()
    }

    /// Moves a query from the sticky to the normal queue; whether there was one to move.
    pub fn leave_sticky(&mut self, id: u64) -> bool {
        match self.direct.get_mut(&id) {
            Some(query) if query.on_sticky => {
                query.on_sticky = false;
                query.taken = false;
                true
            }
            _ => false,
        }
    }

    /// The worker that took the query is gone; whether it is to be offered again.
    pub fn give_back(&mut self, id: u64) -> bool {
        let query = self.direct.get_mut(&id).filter(|query| query.taken);
        query.is_some_and(|query| {
            query.taken = false;
            true
        })
    }

    /// Fails what nobody answered in time, and names what is to be done about others.
    pub fn expire(&mut self, now: Instant) -> Expired {
        let mut over = Vec::new();
        let mut expired = Expired::default();
        for (id, query) in &mut self.direct {
            let untaken_until = query.deadline - NO_POLLER_MARGIN;
            if query.deadline <= now {
                over.push(*id);
            } else if !query.taken && !query.asked && untaken_until <= now {
                query.asked = true;
                expired.untaken.push((*id, query.chain.clone(), query.normal_queue()));
            } else if query.on_sticky && query.sticky_until <= now {
                expired.off_sticky.push(*id);
            }
        }
        for id in over {
            self.fail(id, timed_out());
        }
        expired.off_sticky.retain(|id| self.leave_sticky(*id));
        expired
    }

    /// A query that no worker can take fails early, so that its caller hears why.
    pub fn not_polled(&mut self, id: u64) {
        if self.direct.get(&id).is_some_and(|query| !query.taken) {
            self.fail(id, no_poller());
        }
    }

    fn fail(&mut self, id: u64, rejection: Rejection) {
        if let Some(query) = self.direct.remove(&id) {
            drop(query.respond.send(Ok(reply::rejected(rejection))));
        }
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Direct> {
        std::mem::take(&mut self.direct).into_values()
    }
}

impl Direct {
    fn normal_queue(&self) -> QueueKey {
        QueueKey {
            namespace_id: self.chain.namespace_id.clone(),
            name: self.route.task_queue.clone(),
            kind: TaskKind::Workflow.into(),
        }
    }
}

/// A worker's answer as the caller gets it.
pub fn answer(
    result_type: QueryResultType,
    answer: Option<Payloads>,
    message: &str,
    failure: Option<Failure>,
) -> Reply {
    match result_type {
        QueryResultType::Answered => reply::of(ReplyKind::Query(QueryWorkflowResponse {
            query_result: answer,
            ..QueryWorkflowResponse::default()
        })),
        QueryResultType::Failed | QueryResultType::Unspecified => {
            let detail = QueryFailedFailure { failure };
            reply::rejected(reply::with_detail(reply::code::INVALID_ARGUMENT, message, &detail))
        }
    }
}

pub fn timed_out() -> Rejection {
    reply::plain(reply::code::DEADLINE_EXCEEDED, "query timed out before a worker could process it")
}

fn no_poller() -> Rejection {
    reply::failed_precondition("no poller seen for task queue recently, worker may be down")
}
