//! One message: load what is missing, take the step, note what it changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bristlecone_machine as machine;
use bristlecone_machine::row::{TaskKey, TaskKind};
use bristlecone_machine::stamp::nanos;
use bristlecone_machine::{Row, Stamp, reply};
use bristlecone_proto::chain::{
    ChainId, HistoryEnd, Input, QueryRoute, QueryTaskToken, Reply, input, query_route, reply::Kind as ReplyKind,
};
use bristlecone_proto::node::claim_result::Outcome;
use bristlecone_proto::node::{self, QueryDelivery, WorkflowDelivery};
use bristlecone_proto::temporal::api::enums::v1::NamespaceState;
use bristlecone_proto::temporal::api::errordetails::v1::NamespaceNotFoundFailure;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::query::v1::WorkflowQueryResult;
use bristlecone_proto::temporal::api::workflowservice::v1::{QueryWorkflowResponse, RespondQueryTaskCompletedRequest};
use bristlecone_storage::planted::{self, Bug};
use tokio::time::Instant;

use super::actor::{Actor, refuse};
use super::commit::{Delivery, Release};
use super::mailbox::{Answer, Body, Claim, Mail, QueryNews, Respond};
use super::queries::{self, Waiter, WaitingQuery};
use super::{CallError, ChainKey, rows};
use crate::meta::NamespaceEntry;

/// Queries of one run that wait for a workflow task beyond what the core's limit allows.
const WAITERS_MAX: usize = 10_000;
/// When a chain is woken again whose wake failed.
const WAKE_AGAIN_NANOS: i64 = 1_000_000_000;
/// Steps of one chain that may fail before it is put out of service.
const FAILURES_MAX: u32 = 2;

/// What a step did that concerns those who wait.
#[derive(Debug, Default)]
struct Noted {
    history_grew: bool,
    /// A workflow task of this chain closed, or the run did.
    task_closed: bool,
}

impl Actor {
    /// Decides one message whose chain is in memory.
    pub fn decide(&mut self, mail: Mail) {
        let key = ChainKey::of(&mail.chain);
        match self.chains.get(&key) {
            Some(entry) if entry.live.is_some() && entry.waiting.is_none() => {}
            // It was forgotten, or is being fetched, since the message was taken.
            _ => return self.admit(mail),
        }
        if let Some(deadline) = mail.deadline
            && deadline <= Instant::now()
        {
            return refuse(mail, CallError::Busy);
        }
        if self.fetch_missing_runs(&key, &mail) {
            return self.admit(mail);
        }
        let Mail { chain, body, deadline } = mail;
        match body {
            Body::Input { input, respond } => self.decide_input(&key, chain, *input, respond, deadline),
            Body::Query { request, respond } => {
                let query = WaitingQuery {
                    id: self.queries.new_id(),
                    run_id: String::new(),
                    request,
                    respond,
                    deadline: deadline.unwrap_or_else(Instant::now),
                    with_task: false,
                };
                self.route_query(&key, &chain, query);
            }
            Body::AnswerQuery { query_id, answer, respond } => self.answer_query(query_id, *answer, respond),
            Body::OfQuery { query_id, news } => {
                let offered_again = match news {
                    QueryNews::Undelivered => self.queries.give_back(query_id),
                    QueryNews::StickyUnclaimed => self.queries.leave_sticky(query_id),
                    QueryNews::NotPolled => {
                        self.queries.not_polled(query_id);
                        false
                    }
                };
                if offered_again {
                    self.offer_query(query_id);
                }
            }
            Body::AwaitHistory { head, respond } => {
                let waiter = Waiter { head, respond, deadline: deadline.unwrap_or_else(Instant::now) };
                self.read_history_end(&key, &chain, waiter);
            }
            body @ Body::Mend { .. } => self.admit(Mail { chain, body, deadline }),
        }
    }

    /// Starts to fetch runs that the message needs; whether there were any.
    fn fetch_missing_runs(&mut self, key: &ChainKey, mail: &Mail) -> bool {
        let Some(live) = self.chains.loaded(key) else { return true };
        let record = live.chain.record.as_ref();
        let needed = match &mail.body {
            Body::Input { input, .. } => machine::load::runs_needed(input, record),
            Body::Query { request, .. } => named_run(request.execution.as_ref()),
            Body::AwaitHistory { head, .. } => named_run(head.head.as_ref().and_then(|head| head.execution.as_ref())),
            Body::AnswerQuery { .. } | Body::OfQuery { .. } | Body::Mend { .. } => Vec::new(),
        };
        let missing: Vec<String> = needed
            .into_iter()
            .filter(|run| !run.is_empty() && !live.chain.runs.contains_key(run) && !live.unknown_runs.contains(run))
            .collect();
        if missing.is_empty() {
            return false;
        }
        self.load(key, mail.chain.clone(), Some(missing), None);
        if let Some(entry) = self.chains.get(key) {
            entry.waiting = Some(Default::default());
        }
        true
    }

    fn decide_input(
        &mut self,
        key: &ChainKey,
        chain: ChainId,
        mut input: Input,
        respond: Respond,
        deadline: Option<Instant>,
    ) {
        if let Respond::Claim(claim) = respond {
            return self.decide_claim(key, chain, *claim, &input);
        }
        if planted::has(Bug::DedupOff) {
            let fresh = format!("{:032x}", self.around.entropy.next());
            match &mut input.kind {
                Some(input::Kind::Start(start)) => start.request_id = fresh,
                Some(input::Kind::Signal(signal)) => signal.request_id = fresh,
                _ => {}
            }
        }
        let caller = deadline.map_or(0, |deadline| millis(deadline.saturating_duration_since(Instant::now())));
        let (reply, noted) = match self.step(key, &chain, &input, caller) {
            Ok(done) => done,
            Err(error) => {
                if let Respond::To(respond) = respond {
                    drop(respond.send(Err(error)));
                } else if matches!(input.kind, Some(input::Kind::Wake(_))) {
                    let again = self.now() + WAKE_AGAIN_NANOS;
                    self.deadlines.again(key, again);
                }
                return;
            }
        };
        self.settle_queries(key, &chain, &mut input, &reply, &noted);
        if let Some(input::Kind::UndoWorkflowTaskStart(undo)) = &input.kind {
            self.backlog.give_back(&undo.run_id, undo.scheduled_event_id);
        }
        let Respond::To(respond) = respond else { return };
        if let Some(respond) = self.wait_for_update(key, &input, &reply, respond, deadline) {
            self.pending.reply(respond, reply);
        }
    }

    /// Takes the step of the core and writes what it changes into the batch.
    fn step(
        &mut self,
        key: &ChainKey,
        id: &ChainId,
        input: &Input,
        caller_timeout_ms: u64,
    ) -> Result<(Reply, Noted), CallError> {
        let now = self.now();
        let meta = self.around.meta.borrow().clone();
        let namespace = meta.namespace_by_id(&id.namespace_id);
        let Some(namespace) = namespace.filter(|entry| !is_deleted(entry) || !begins(input)) else {
            let detail = NamespaceNotFoundFailure { namespace: id.namespace.clone() };
            let message = format!("Namespace {} is not found.", id.namespace);
            let rejection = reply::with_detail(reply::code::NOT_FOUND, message, &detail);
            return Ok((reply::rejected(rejection), Noted::default()));
        };
        let settings = self.around.dynamic.of(&namespace.record.name);
        let stamp = Stamp {
            now,
            seed: self.around.entropy.next(),
            limits: &settings.core,
            namespace: &namespace.for_machine,
            namespaces: &*meta,
            caller_timeout_ms,
        };
        let Some(live) = self.chains.loaded(key) else { return Err(CallError::Busy) };
        if live.chain.id.namespace.is_empty() {
            live.chain.id.namespace.clone_from(&namespace.record.name);
        }
        let quarantined = live.chain.record.as_ref().map(|record| record.quarantined.clone()).unwrap_or_default();
        if !quarantined.is_empty() && !matches!(input.kind, Some(input::Kind::Release(_) | input::Kind::Raze(_))) {
            return Err(CallError::Quarantined(quarantined));
        }
        let chain = &live.chain;
        let step = match catch_unwind(AssertUnwindSafe(|| machine::step(chain, input, &stamp))) {
            Ok(step) => step,
            Err(panic) => return Err(self.step_failed(key, &panic_message(&*panic))),
        };
        live.failures = 0;
        let before = self.pending.rows.bytes_len();
        // Only what copies a history can be more than an entry of the log takes.
        if matches!(input.kind, Some(input::Kind::Reset(_)))
            && before + rows::bytes(key.slot(), id, &step.rows) > self.group.mutation_bytes_max()
        {
            let rejection = reply::failed_precondition("The history up to the reset point is too large to be copied.");
            return Ok((reply::rejected(rejection), Noted::default()));
        }
        let was_speculative = live.chain.current().is_some_and(|run| run.speculative.is_some());
        for (key, task) in step.offers {
            self.backlog.row(id, &key, task);
        }
        let writes = !step.rows.is_empty();
        let mut noted = self.note_rows(key, id, step.rows);
        if writes && let Some(live) = self.chains.loaded(key) {
            live.in_flight = true;
            self.pending.touched.push(key.clone());
        }
        if let Some(next) = step.next
            && let Some(live) = self.chains.loaded(key)
        {
            // The former chain goes first, so that settling copies nothing.
            live.chain = next;
            live.chain.settle();
            noted.task_closed |= was_speculative && live.chain.current().is_none_or(|run| run.pending_task().is_none());
            let soft = machine::deadline(&live.chain).soft;
            self.deadlines.set_soft(key, soft);
        }
        if noted.history_grew {
            self.pending.grown.push(key.clone());
        }
        if !step.news.is_empty() {
            self.settle_updates(key, id, step.news);
        }
        tracing::trace!(workflow = key.workflow_id(), bytes = self.pending.rows.bytes_len() - before, "step");
        Ok((step.reply, noted))
    }

    /// Notes in memory what the rows say, and appends them to the batch.
    fn note_rows(&mut self, key: &ChainKey, id: &ChainId, rows: Vec<Row>) -> Noted {
        let mut noted = Noted::default();
        let slot = key.slot();
        for row in rows {
            match &row {
                Row::Task { key, task } => self.backlog.row(id, key, task.clone()),
                Row::Deadline { due, armed } => self.deadlines.row(slot, key, *due, *armed),
                Row::Send { sequence, send: Some(send) } => self.outbox.added(key, *sequence, (**send).clone()),
                Row::Send { sequence, send: None } => {
                    if let Some(target) = self.outbox.removed(key, *sequence) {
                        self.pending.forgets.push((id.clone(), *sequence, target));
                    }
                }
                // Readers of a standalone activity wait for its state; of a run that goes nothing more comes.
                Row::Head { head: Some(head), .. } if head.standalone.is_some() => noted.history_grew = true,
                Row::PurgeRun { .. } => noted.history_grew = true,
                Row::History { events, .. } => {
                    noted.history_grew = true;
                    noted.task_closed |= events.iter().any(|event| closes_task(event.attributes.as_ref()));
                }
                _ => {}
            }
            if let Some(written) = rows::write(slot, id, row, &mut self.pending.rows)
                && let Some(live) = self.chains.loaded(key)
            {
                live.recent.push(written);
            }
        }
        noted
    }

    fn step_failed(&mut self, key: &ChainKey, reason: &str) -> CallError {
        tracing::error!(workflow = key.workflow_id(), reason, "a step failed");
        let Some(live) = self.chains.loaded(key) else { return CallError::Busy };
        live.failures += 1;
        if live.failures < FAILURES_MAX {
            return CallError::Busy;
        }
        // The chain goes out of service until an operator releases it; the shard goes on.
        let mut record = live.chain.record.clone().unwrap_or_default();
        record.quarantined = reason.to_string();
        live.chain.record = Some(record.clone());
        let id = live.chain.id.clone();
        live.in_flight = true;
        rows::write(key.slot(), &id, Row::Chain(Some(record)), &mut self.pending.rows);
        self.pending.touched.push(key.clone());
        CallError::Quarantined(reason.to_string())
    }

    // ---------------------------------------------------------------- claims

    /// A broker matched a task with a poll: start it, and send it to the poll's node.
    fn decide_claim(&mut self, key: &ChainKey, chain: ChainId, claim: Claim, input: &Input) {
        if claim.task.query_id != 0 {
            return self.claim_query(key, claim);
        }
        let Ok((reply, _)) = self.step(key, &chain, input, 0) else {
            let outcome = Outcome::Retry;
            return self.pending.release(Release::Claim { claim: Box::new(claim), outcome, delivery: None });
        };
        let (outcome, delivery) = match reply.kind {
            Some(ReplyKind::WorkflowTaskStarted(started)) => {
                self.backlog.take(&chain.namespace_id, &task_key(&claim));
                let queries = self.attach_queries(key, started.token.as_ref().map_or("", |token| &token.run_id));
                let delivery = WorkflowDelivery { started: Some(started), events: None, queries };
                (Outcome::Started, Some(Delivery::Workflow(Box::new(delivery))))
            }
            Some(ReplyKind::ActivityStarted(started)) => (Outcome::Started, Some(Delivery::Activity(started))),
            _ => {
                self.backlog.stale(&chain.namespace_id, &task_key(&claim));
                (Outcome::Stale, None)
            }
        };
        let delivery = delivery.map(|delivery| self.with_events_at_hand(key, delivery));
        self.pending.release(Release::Claim { claim: Box::new(claim), outcome, delivery });
    }

    fn claim_query(&mut self, key: &ChainKey, claim: Claim) {
        let id = claim.task.query_id;
        let me = self.around.me;
        let delivery = self.queries.get_mut(id).filter(|query| !query.taken).map(|query| {
            query.taken = true;
            Delivery::Query(Box::new(QueryDelivery {
                token: Some(QueryTaskToken {
                    namespace_id: query.chain.namespace_id.clone(),
                    workflow_id: query.chain.workflow_id.clone(),
                    node_id: me,
                    query_id: id,
                }),
                query: query.request.query.clone(),
                run_id: query.run_id.clone(),
                workflow_type: query.route.workflow_type.clone(),
                previous_started_event_id: query.route.previous_started_event_id,
                next_event_id: query.route.next_event_id,
                task_queue: query.route.task_queue.clone(),
                // A worker that polls its sticky queue has the history.
                events: query.on_sticky.then(Default::default),
            }))
        });
        let outcome = if delivery.is_some() { Outcome::Started } else { Outcome::Stale };
        let delivery = delivery.map(|delivery| self.with_events_at_hand(key, delivery));
        self.pending.release(Release::Claim { claim: Box::new(claim), outcome, delivery });
    }

    // ---------------------------------------------------------------- queries

    /// Decides how a query is answered, and sets it on its way.
    fn route_query(&mut self, key: &ChainKey, chain: &ChainId, mut query: WaitingQuery) {
        let input = Input { kind: Some(input::Kind::Query((*query.request).clone())), origin: None };
        let left = millis(query.deadline.saturating_duration_since(Instant::now()));
        let reply = match self.step(key, chain, &input, left) {
            Ok((reply, _)) => reply,
            Err(error) => return drop(query.respond.send(Err(error))),
        };
        let Some(ReplyKind::QueryRoute(QueryRoute { run_id, route: Some(route) })) = reply.kind else {
            return self.pending.reply(query.respond, reply);
        };
        query.run_id = run_id;
        match route {
            query_route::Route::Rejected(rejected) => {
                let response = QueryWorkflowResponse { query_rejected: Some(rejected), ..Default::default() };
                let reply = reply::of(ReplyKind::Query(response));
                self.pending.reply(query.respond, reply);
            }
            query_route::Route::Direct(route) => {
                if self.queries.is_full() {
                    return drop(query.respond.send(Err(CallError::Busy)));
                }
                let id = self.queries.add(query, chain.clone(), route, Instant::now());
                self.pending.release(Release::OfferQuery(id));
            }
            query_route::Route::Buffered(_) | query_route::Route::NotReadyYet(_) => {
                let limit = self.around.dynamic.all().core.buffered_queries_max;
                let Some(live) = self.chains.loaded(key) else { return };
                if live.queries.len() >= limit.max(1) {
                    let busy =
                        reply::busy_workflow("consistent query buffer is full, cannot accept new consistent queries");
                    let reply = reply::rejected(busy);
                    return self.pending.reply(query.respond, reply);
                }
                live.queries.push(query);
            }
        }
    }

    /// The queries of a run that go with its workflow task.
    fn attach_queries(
        &mut self,
        key: &ChainKey,
        run_id: &str,
    ) -> std::collections::BTreeMap<String, bristlecone_proto::temporal::api::query::v1::WorkflowQuery> {
        let Some(live) = self.chains.loaded(key) else { return Default::default() };
        let mut attached = std::collections::BTreeMap::new();
        for query in live.queries.iter_mut().filter(|query| query.run_id == run_id) {
            query.with_task = true;
            attached.insert(query.id.to_string(), query.request.query.clone().unwrap_or_default());
        }
        attached
    }

    /// After a step: answers the queries that came with a completed task, and routes those anew that
    /// lost what they were waiting for.
    fn settle_queries(&mut self, key: &ChainKey, chain: &ChainId, input: &mut Input, reply: &Reply, noted: &Noted) {
        let Some(live) = self.chains.loaded(key) else { return };
        if live.queries.is_empty() {
            return;
        }
        if let (Some(input::Kind::CompleteWorkflowTask(complete)), Some(ReplyKind::WorkflowTaskCompleted(_))) =
            (&mut input.kind, &reply.kind)
        {
            let results = complete.request.as_mut().map(|r| std::mem::take(&mut r.query_results)).unwrap_or_default();
            let (answered, waiting): (Vec<_>, Vec<_>) =
                std::mem::take(&mut live.queries).into_iter().partition(|q| results.contains_key(&q.id.to_string()));
            live.queries = waiting;
            let settings = self.around.dynamic.of(&live.chain.id.namespace);
            for query in answered {
                let Some(result) = results.get(&query.id.to_string()).cloned() else { continue };
                let reply = answer_of(result, &settings.core);
                self.pending.reply(query.respond, reply);
            }
        }
        if !noted.task_closed {
            return;
        }
        let Some(live) = self.chains.loaded(key) else { return };
        for query in std::mem::take(&mut live.queries) {
            let query = WaitingQuery { with_task: false, ..query };
            self.route_query(key, chain, query);
        }
    }

    fn answer_query(&mut self, id: u64, answer: RespondQueryTaskCompletedRequest, respond: Answer) {
        let reply = match self.queries.remove(id) {
            Some(query) => {
                let result = answer.completed_type();
                let answer = queries::answer(result, answer.query_result, &answer.error_message, answer.failure);
                self.pending.reply(query.respond, answer);
                reply::done()
            }
            None => reply::rejected(reply::not_found("query task not found, or already expired")),
        };
        self.pending.reply(respond, reply);
    }

    // ---------------------------------------------------------------- readers

    /// Answers a reader, or lets it wait for more events.
    pub fn read_history_end(&mut self, key: &ChainKey, chain: &ChainId, waiter: Waiter) {
        let input = Input { kind: waiter.head.head.clone().map(input::Kind::HistoryHead), origin: None };
        let reply = match self.step(key, chain, &input, 0) {
            Ok((reply, _)) => reply,
            Err(error) => return drop(waiter.respond.send(Err(error))),
        };
        let after = waiter.head.wait_after_event_id;
        let waits = match &reply.kind {
            Some(ReplyKind::HistoryEnd(HistoryEnd { next_event_id, running, .. })) => {
                *running && *next_event_id <= after && waiter.deadline > Instant::now()
            }
            _ => false,
        };
        match self.chains.loaded(key) {
            Some(live) if waits && live.waiters.len() < WAITERS_MAX => live.waiters.push(waiter),
            _ => self.pending.reply(waiter.respond, reply),
        }
    }
}

fn named_run(execution: Option<&bristlecone_proto::temporal::api::common::v1::WorkflowExecution>) -> Vec<String> {
    execution.map(|execution| execution.run_id.clone()).into_iter().collect()
}

fn task_key(claim: &Claim) -> TaskKey {
    let kind = if claim.queue.kind() == node::TaskKind::Activity { TaskKind::Activity } else { TaskKind::Workflow };
    TaskKey {
        kind,
        queue: claim.queue.name.clone(),
        priority: u8::try_from(claim.task.priority).unwrap_or(u8::MAX),
        scheduled: claim.task.scheduled_time.as_ref().map_or(0, nanos),
        run_id: claim.task.run_id.clone(),
        scheduled_event_id: claim.task.scheduled_event_id,
    }
}

fn answer_of(result: WorkflowQueryResult, limits: &machine::Limits) -> Reply {
    if !machine::validate::payloads_fit(result.answer.as_ref(), limits) {
        return reply::rejected(reply::invalid_argument(machine::validate::BLOB_TOO_LARGE));
    }
    queries::answer(result.result_type(), result.answer, &result.error_message, result.failure)
}

fn closes_task(attributes: Option<&Attributes>) -> bool {
    matches!(
        attributes,
        Some(
            Attributes::WorkflowTaskCompletedEventAttributes(_)
                | Attributes::WorkflowTaskFailedEventAttributes(_)
                | Attributes::WorkflowTaskTimedOutEventAttributes(_)
                | Attributes::WorkflowTaskScheduledEventAttributes(_)
                | Attributes::WorkflowExecutionCompletedEventAttributes(_)
                | Attributes::WorkflowExecutionFailedEventAttributes(_)
                | Attributes::WorkflowExecutionTimedOutEventAttributes(_)
                | Attributes::WorkflowExecutionCanceledEventAttributes(_)
                | Attributes::WorkflowExecutionTerminatedEventAttributes(_)
                | Attributes::WorkflowExecutionContinuedAsNewEventAttributes(_)
        )
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the step panicked").to_string()
}

fn is_deleted(namespace: &NamespaceEntry) -> bool {
    namespace.record.state() == NamespaceState::Deleted
}

/// Whether the input may begin a run.
fn begins(input: &Input) -> bool {
    use input::Kind;
    let kind = input.kind.as_ref();
    kind.is_some_and(|kind| {
        matches!(
            kind,
            Kind::Start(_)
                | Kind::SignalWithStart(_)
                | Kind::UpdateWithStart(_)
                | Kind::Reset(_)
                | Kind::StartChild(_)
                | Kind::StartStandalone(_)
                | Kind::CreateSchedule(_)
                | Kind::ScheduledStart(_)
        )
    })
}
