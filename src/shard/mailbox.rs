//! What waits for a shard's actor: bounded lanes, fair between namespaces.
//!
//! # Contract
//! A full lane refuses (`RESOURCE_EXHAUSTED` to the caller): nothing waits for room. So does, when the shard has had
//! more to do than it can for a while, the lane of what begins new work, to those whose namespace has waited there too
//! long already: what is refused at once can be tried elsewhere or later, what is answered late was done for nobody. The
//! actor takes from the lanes in the order of [`Lane`], a bounded number from each, so that none starves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::chain::{ChainId, Input, Poll, Reply, StartActivity, StartWorkflowTask, input};
use bristlecone_proto::node::{self, OfferedTask, QueueKey};
use bristlecone_proto::temporal::api::workflowservice::v1::{QueryWorkflowRequest, RespondQueryTaskCompletedRequest};
use bristlecone_storage::state::keys::Slot;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::CallError;
use super::mend::Mend;

/// Messages that one lane holds.
const LANE_MAX: usize = 8_192;
/// How long new work may wait, and for how long all of it has to have waited longer before any is refused: a burst, or
/// a disk that hangs for a moment, is not too much to do.
const WAIT_MAX: Duration = Duration::from_millis(300);
const SLOW_FOR: Duration = Duration::from_secs(1);

/// A message to a shard's actor.
#[derive(Debug)]
pub struct Mail {
    pub chain: ChainId,
    pub body: Body,
    /// When its caller gives up (messages without one are never dropped).
    pub deadline: Option<Instant>,
}

#[derive(Debug)]
pub enum Body {
    /// An input for the pure core.
    Input { input: Box<Input>, respond: Respond },
    /// A query: answered by a worker.
    Query { request: Box<QueryWorkflowRequest>, respond: Answer },
    /// A worker's answer to a query that it was handed by itself.
    AnswerQuery { query_id: u64, answer: Box<RespondQueryTaskCompletedRequest>, respond: Answer },
    /// What became of the offer of a query.
    OfQuery { query_id: u64, news: QueryNews },
    /// Wait until a run's history has grown beyond an event.
    AwaitHistory { head: node::AwaitHistory, respond: Answer },
    /// Rows behind listings that are to be made right; of no chain.
    Mend { slot: Slot, mend: Box<Mend>, respond: Answer },
}

/// Why a query is not with a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryNews {
    /// Nobody polls the sticky queue on which it was offered.
    StickyUnclaimed,
    /// The poll that it was handed to is gone.
    Undelivered,
    /// The broker of its queue has seen no poll lately.
    NotPolled,
}

pub type Answer = oneshot::Sender<Result<Reply, CallError>>;

/// What happens with the reply once it may leave.
#[derive(Debug)]
pub enum Respond {
    To(Answer),
    /// The start of a task that a broker matched with a poll: it goes straight to the poll's node.
    Claim(Box<Claim>),
    Nobody,
}

#[derive(Debug)]
pub struct Claim {
    pub queue: QueueKey,
    pub task: OfferedTask,
    pub poll: Poll,
    /// What the broker has to say to the poll: its queue's backlog, and whether more polls would help.
    pub backlog_count_hint: i64,
    pub poller_delta: i32,
    pub done: oneshot::Sender<node::claim_result::Outcome>,
}

impl Claim {
    /// What the claim asks of the chain.
    pub fn input(&self) -> Input {
        let task = &self.task;
        let poll = Some(self.poll.clone());
        let kind = if self.queue.kind() == node::TaskKind::Activity {
            input::Kind::StartActivity(StartActivity {
                run_id: task.run_id.clone(),
                scheduled_event_id: task.scheduled_event_id,
                attempt: task.attempt,
                stamp: task.stamp,
                poll,
            })
        } else {
            input::Kind::StartWorkflowTask(StartWorkflowTask {
                run_id: task.run_id.clone(),
                scheduled_event_id: task.scheduled_event_id,
                attempt: task.attempt,
                stamp: task.stamp,
                poll,
            })
        };
        Input { kind: Some(kind), origin: None }
    }
}

/// In the order in which the actor serves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Completions,
    /// What concerns runs that are there already.
    Changes,
    Starts,
    Reads,
}

const LANES: [Lane; 4] = [Lane::Completions, Lane::Changes, Lane::Starts, Lane::Reads];

/// The lanes of one shard; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Mailbox {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lanes: Mutex<[Queue; LANES.len()]>,
    arrived: Notify,
}

/// One lane: a queue a namespace, served in turn.
#[derive(Debug, Default)]
struct Queue {
    waiting: HashMap<String, Waiting>,
    turns: VecDeque<String>,
    len: usize,
}

/// What waits of one namespace; there is none when nothing does.
#[derive(Debug, Default)]
struct Waiting {
    /// With when each came.
    mail: VecDeque<(Instant, Mail)>,
    /// Since when what was taken had waited too long.
    slow_since: Option<Instant>,
}

impl Mailbox {
    /// Puts a message in its lane.
    ///
    /// # Errors
    /// The message itself when the lane is full, or slow.
    pub fn push(&self, mail: Mail) -> Result<(), Box<Mail>> {
        let lane = lane_of(&mail.body);
        {
            let mut lanes = self.inner.lanes.lock();
            let Some(queue) = lanes.get_mut(lane as usize) else { return Err(Box::new(mail)) };
            if queue.len >= LANE_MAX || (lane == Lane::Starts && queue.is_slow_for(&mail.chain.namespace_id)) {
                return Err(Box::new(mail));
            }
            queue.push(mail);
        }
        self.inner.arrived.notify_one();
        Ok(())
    }

    /// Takes up to `max` messages of a lane.
    pub fn take(&self, lane: Lane, max: usize, into: &mut VecDeque<Mail>) {
        let mut lanes = self.inner.lanes.lock();
        let Some(queue) = lanes.get_mut(lane as usize) else { return };
        for _ in 0..max {
            let Some(mail) = queue.pop() else { return };
            into.push_back(mail);
        }
    }

    /// Completes when messages may have arrived since the last call.
    pub async fn arrived(&self) {
        self.inner.arrived.notified().await;
    }

    /// Empties all lanes.
    pub fn drain(&self) -> Vec<Mail> {
        let mut lanes = self.inner.lanes.lock();
        let mut all = Vec::new();
        for queue in lanes.iter_mut() {
            while let Some(mail) = queue.pop() {
                all.push(mail);
            }
        }
        all
    }
}

impl Queue {
    fn push(&mut self, mail: Mail) {
        self.len += 1;
        if !self.waiting.contains_key(&mail.chain.namespace_id) {
            self.turns.push_back(mail.chain.namespace_id.clone());
            self.waiting.insert(mail.chain.namespace_id.clone(), Waiting::default());
        }
        if let Some(waiting) = self.waiting.get_mut(&mail.chain.namespace_id) {
            waiting.mail.push_back((Instant::now(), mail));
        }
    }

    fn pop(&mut self) -> Option<Mail> {
        let namespace = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&namespace)?;
        let (came, mail) = waiting.mail.pop_front()?;
        waiting.note(came.elapsed());
        if waiting.mail.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        self.len -= 1;
        Some(mail)
    }

    fn is_slow_for(&self, namespace: &str) -> bool {
        self.waiting.get(namespace).is_some_and(Waiting::is_slow)
    }
}

impl Waiting {
    /// Whether this has been too much for a while, and whoever comes now would wait too long.
    fn is_slow(&self) -> bool {
        self.slow_since.is_some_and(|since| since.elapsed() >= SLOW_FOR)
            && self.mail.front().is_some_and(|(came, _)| came.elapsed() >= WAIT_MAX)
    }

    /// Notes how long what is taken has waited.
    fn note(&mut self, waited: Duration) {
        if waited >= WAIT_MAX {
            self.slow_since.get_or_insert_with(Instant::now);
        } else if waited < WAIT_MAX / 2 {
            // In between is where refusing holds it.
            self.slow_since = None;
        }
    }
}

fn lane_of(body: &Body) -> Lane {
    let input = match body {
        Body::Input { input, .. } => input,
        Body::AnswerQuery { .. } | Body::OfQuery { .. } => return Lane::Completions,
        Body::Query { .. } | Body::AwaitHistory { .. } | Body::Mend { .. } => return Lane::Reads,
    };
    let Some(kind) = &input.kind else { return Lane::Reads };
    match kind {
        input::Kind::Describe(_)
        | input::Kind::DescribeStandalone(_)
        | input::Kind::HistoryHead(_)
        | input::Kind::Query(_)
        | input::Kind::PollUpdate(_) => Lane::Reads,
        input::Kind::DescribeSchedule(_) | input::Kind::ScheduleMatchingTimes(_) => Lane::Reads,
        input::Kind::CreateSchedule(_)
        | input::Kind::Start(_)
        | input::Kind::SignalWithStart(_)
        | input::Kind::UpdateWithStart(_)
        | input::Kind::StartStandalone(_) => Lane::Starts,
        input::Kind::ScheduledStart(_) | input::Kind::ScheduledWatch(_) | input::Kind::ScheduledClosed(_) => {
            Lane::Completions
        }
        input::Kind::UpdateSchedule(_)
        | input::Kind::PatchSchedule(_)
        | input::Kind::DeleteSchedule(_)
        | input::Kind::Signal(_)
        | input::Kind::RequestCancel(_)
        | input::Kind::Terminate(_)
        | input::Kind::Delete(_)
        | input::Kind::ResetSticky(_)
        | input::Kind::PauseActivity(_)
        | input::Kind::UnpauseActivity(_)
        | input::Kind::ResetActivity(_)
        | input::Kind::UpdateActivityOptions(_)
        | input::Kind::Update(_)
        | input::Kind::Reset(_)
        | input::Kind::Purge(_)
        | input::Kind::Release(_)
        | input::Kind::Raze(_)
        | input::Kind::PauseWorkflow(_)
        | input::Kind::UnpauseWorkflow(_)
        | input::Kind::UpdateWorkflowOptions(_)
        | input::Kind::CancelStandalone(_)
        | input::Kind::TerminateStandalone(_)
        | input::Kind::DeleteStandalone(_) => Lane::Changes,
        input::Kind::CompleteWorkflowTask(_)
        | input::Kind::FailWorkflowTask(_)
        | input::Kind::CompleteActivity(_)
        | input::Kind::FailActivity(_)
        | input::Kind::CancelActivity(_)
        | input::Kind::HeartbeatActivity(_)
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
        | input::Kind::Answer(_)
        | input::Kind::Forget(_)
        | input::Kind::Wake(_)
        | input::Kind::Harden(_) => Lane::Completions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::chain::Wake;

    fn wake(namespace: &str, workflow: usize) -> Mail {
        Mail {
            chain: ChainId { namespace_id: namespace.into(), workflow_id: workflow.to_string(), ..ChainId::default() },
            body: Body::Input {
                input: Box::new(Input { kind: Some(input::Kind::Wake(Wake {})), origin: None }),
                respond: Respond::Nobody,
            },
            deadline: None,
        }
    }

    fn start(namespace: &str) -> Mail {
        let input = Input { kind: Some(input::Kind::Start(Default::default())), origin: None };
        let body = Body::Input { input: Box::new(input), respond: Respond::Nobody };
        Mail { chain: ChainId { namespace_id: namespace.into(), ..ChainId::default() }, body, deadline: None }
    }

    #[tokio::test(start_paused = true)]
    async fn new_work_that_would_wait_too_long_is_refused_once_that_goes_on_for_a_while() {
        let mailbox = Mailbox::default();
        let take = |count| {
            let mut taken = VecDeque::new();
            mailbox.take(Lane::Starts, count, &mut taken);
            taken.len()
        };
        // A burst.
        for _ in 0..10 {
            mailbox.push(start("busy")).expect("room");
        }
        tokio::time::advance(WAIT_MAX * 2).await;
        assert_eq!(take(1), 1);
        mailbox.push(start("busy")).expect("it is not too much yet");
        // It goes on.
        tokio::time::advance(SLOW_FOR).await;
        assert_eq!(take(1), 1);
        mailbox.push(start("busy")).expect_err("those before wait too long");
        mailbox.push(start("quiet")).expect("it has not been waited for");
        mailbox.push(wake("busy", 1)).expect("it is no new work");
        // It is over.
        assert_eq!(take(100), 10);
        mailbox.push(start("busy")).expect("nobody waits");
        assert_eq!(take(1), 1);
        tokio::time::advance(SLOW_FOR * 2).await;
        mailbox.push(start("busy")).expect("room");
        tokio::time::advance(WAIT_MAX * 2).await;
        mailbox.push(start("busy")).expect("it has been well for a while");
    }

    #[test]
    fn namespaces_take_turns_and_a_full_lane_refuses() {
        let mailbox = Mailbox::default();
        for n in 0..LANE_MAX - 2 {
            mailbox.push(wake("busy", n)).expect("room");
        }
        for n in 0..2 {
            mailbox.push(wake("quiet", n)).expect("room");
        }
        mailbox.push(wake("busy", 0)).expect_err("the lane is full");
        let mut taken = VecDeque::new();
        mailbox.take(Lane::Completions, 5, &mut taken);
        let order: Vec<_> =
            taken.iter().map(|mail| (mail.chain.namespace_id.as_str(), mail.chain.workflow_id.as_str())).collect();
        assert_eq!(order, [("busy", "0"), ("quiet", "0"), ("busy", "1"), ("quiet", "1"), ("busy", "2")]);
        assert_eq!(mailbox.drain().len(), LANE_MAX - 5);
        assert!(mailbox.drain().is_empty());
    }
}
