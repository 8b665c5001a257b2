//! Callers of updates, who wait until a worker has accepted, rejected or answered them.
//!
//! # Contract
//! In memory only, as the updates that no worker has accepted: the end of an epoch sends the callers on
//! to the next leader. A caller waits for so long at most, and then hears how far its update has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bristlecone_machine::{News, UpdateNews, reply};
use bristlecone_proto::chain::{
    ChainId, Input, Rejection, Reply, UpdateStatus, UpdateWithStartStatus, input, reply::Kind as ReplyKind,
};
use bristlecone_proto::temporal::api::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use bristlecone_proto::temporal::api::update::v1::WaitPolicy;
use bristlecone_proto::temporal::api::workflowservice::v1::StartWorkflowExecutionResponse;
use tokio::time::Instant;

use super::ChainKey;
use super::actor::Actor;
use super::commit::Release;
use super::mailbox::{Answer, Body, Mail, Respond};

/// How long a caller waits before it hears how far its update has come (`history.longPollExpirationInterval`).
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// Callers that wait for updates of one chain.
const WAITING_MAX: usize = 10_000;

/// A caller who waits.
#[derive(Debug)]
pub struct WaitingUpdate {
    wanted: Stage,
    status: UpdateStatus,
    /// What the start that went with the update came to.
    start: Option<StartWorkflowExecutionResponse>,
    /// To be asked again, when another run follows.
    input: Input,
    respond: Answer,
    until: Instant,
    deadline: Option<Instant>,
}

/// When callers have waited for long enough.
#[derive(Debug, Default)]
pub struct UpdateWaits {
    ends: BTreeSet<(Instant, ChainKey)>,
}

impl UpdateWaits {
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn take_due(&mut self, now: Instant) -> BTreeSet<ChainKey> {
        let mut due = BTreeSet::new();
        while let Some((at, _)) = self.ends.first()
            && *at <= now
            && let Some((_, key)) = self.ends.pop_first()
        {
            due.insert(key);
        }
        due
    }
}

impl WaitingUpdate {
    pub fn into_respond(self) -> Answer {
        self.respond
    }

    fn is_of(&self, news: &UpdateNews) -> bool {
        self.status.run_id == news.run_id && self.status.update_id == news.update_id
    }

    fn started_its_run(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.started)
    }

    fn answered(self, status: UpdateStatus) -> Release {
        let kind = match self.start {
            Some(start) => {
                ReplyKind::UpdateWithStart(UpdateWithStartStatus { start: Some(start), update: Some(status) })
            }
            None => ReplyKind::Update(status),
        };
        Release::Reply { respond: self.respond, reply: Box::new(reply::of(kind)) }
    }

    fn failed(self, rejection: Rejection) -> Release {
        let rejection = match &self.start {
            Some(start) if start.started => reply::multi_operation([None, Some(rejection)]),
            Some(_) => reply::multi_operation([Some(reply::operation_aborted()), Some(rejection)]),
            None => rejection,
        };
        Release::Reply { respond: self.respond, reply: Box::new(reply::rejected(rejection)) }
    }
}

impl Actor {
    /// Lets the caller wait, if its update has not come as far as it wants; otherwise gives the way of
    /// the answer back.
    pub fn wait_for_update(
        &mut self,
        key: &ChainKey,
        input: &Input,
        reply: &Reply,
        respond: Answer,
        deadline: Option<Instant>,
    ) -> Option<Answer> {
        let (status, start) = match &reply.kind {
            Some(ReplyKind::Update(status)) => (status, None),
            Some(ReplyKind::UpdateWithStart(UpdateWithStartStatus { start, update: Some(status) })) => {
                (status, start.clone())
            }
            _ => return Some(respond),
        };
        let wanted = wanted(input);
        if status.stage() >= wanted {
            return Some(respond);
        }
        let longest = Instant::now() + WAIT_MAX;
        let until = deadline.map_or(longest, |deadline| deadline.min(longest));
        let Some(live) = self.chains.loaded(key).filter(|live| live.updates.len() < WAITING_MAX) else {
            return Some(respond);
        };
        let (input, status) = (input.clone(), status.clone());
        live.updates.push(WaitingUpdate { wanted, status, start, input, respond, until, deadline });
        self.update_waits.ends.insert((until, key.clone()));
        None
    }

    /// Tells those who wait what became of their updates. The last word of each counts.
    pub fn settle_updates(&mut self, key: &ChainKey, chain: &ChainId, news: Vec<UpdateNews>) {
        if self.chains.loaded(key).is_none_or(|live| live.updates.is_empty()) {
            return;
        }
        let last: BTreeMap<(String, String), UpdateNews> =
            news.into_iter().map(|news| ((news.run_id.clone(), news.update_id.clone()), news)).collect();
        for news in last.into_values() {
            let Some(live) = self.chains.loaded(key) else { return };
            let (concerned, others): (Vec<_>, Vec<_>) =
                std::mem::take(&mut live.updates).into_iter().partition(|waiting| waiting.is_of(&news));
            live.updates = others;
            for waiting in concerned {
                self.settle_update(key, chain, waiting, &news.news);
            }
        }
    }

    fn settle_update(&mut self, key: &ChainKey, chain: &ChainId, mut waiting: WaitingUpdate, news: &News) {
        let asks_again = waiting.start.is_some() && !waiting.started_its_run();
        match news {
            News::Accepted => {
                waiting.status.set_stage(Stage::Accepted);
                if waiting.wanted > Stage::Accepted {
                    if let Some(live) = self.chains.loaded(key) {
                        live.updates.push(waiting);
                    }
                    return;
                }
                let status = waiting.status.clone();
                self.pending.release(waiting.answered(status));
            }
            News::Completed(outcome) => {
                let stage = Stage::Completed.into();
                let status = UpdateStatus { stage, outcome: Some((**outcome).clone()), ..waiting.status.clone() };
                self.pending.release(waiting.answered(status));
            }
            // The workflow closed under an update that was to start it otherwise: now it may.
            News::Aborted(_) if asks_again => self.ask_again(chain, waiting),
            News::Aborted(rejection) => self.pending.release(waiting.failed(rejection.clone())),
            News::Continuing if waiting.started_its_run() => {
                let closing = "workflow operation can not be applied because workflow is closing";
                self.pending.release(waiting.failed(reply::busy_workflow(closing)));
            }
            News::Continuing => self.ask_again(chain, waiting),
        }
    }

    fn ask_again(&mut self, chain: &ChainId, waiting: WaitingUpdate) {
        let WaitingUpdate { input, respond, deadline, .. } = waiting;
        let body = Body::Input { input: Box::new(input), respond: Respond::To(respond) };
        self.ready.push_back(Mail { chain: chain.clone(), body, deadline });
    }

    /// Answers those who have waited for long enough.
    pub fn expire_updates(&mut self, now: Instant) {
        for key in self.update_waits.take_due(now) {
            let Some(live) = self.chains.loaded(&key) else { continue };
            let (over, waiting): (Vec<_>, Vec<_>) =
                std::mem::take(&mut live.updates).into_iter().partition(|waiting| waiting.until <= now);
            live.updates = waiting;
            for waiting in over {
                let release = if waiting.deadline.is_some_and(|deadline| deadline <= now) {
                    waiting.failed(reply::plain(reply::code::DEADLINE_EXCEEDED, "context deadline exceeded"))
                } else {
                    let status = waiting.status.clone();
                    waiting.answered(status)
                };
                self.pending.release(release);
            }
        }
    }
}

/// The stage that the caller waits for.
fn wanted(input: &Input) -> Stage {
    let or_completed = |stage| if stage == Stage::Unspecified { Stage::Completed } else { stage };
    match &input.kind {
        Some(input::Kind::Update(request)) => {
            or_completed(request.wait_policy.as_ref().map_or(Stage::Unspecified, WaitPolicy::lifecycle_stage))
        }
        Some(input::Kind::UpdateWithStart(both)) => {
            let policy = both.update.as_ref().and_then(|request| request.wait_policy.as_ref());
            or_completed(policy.map_or(Stage::Unspecified, WaitPolicy::lifecycle_stage))
        }
        Some(input::Kind::PollUpdate(request)) => {
            request.wait_policy.as_ref().map_or(Stage::Unspecified, WaitPolicy::lifecycle_stage)
        }
        _ => Stage::Unspecified,
    }
}
