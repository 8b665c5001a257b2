//! A few chains, their workers, their clients and the messages between them, driven at random.
//!
//! # Contract
//! After every operation what must hold of any one chain (`shell`) and between chains (`invariants`)
//! holds. [`World::quiesce`] then lets everything come to its end.

pub mod commands;
mod histories;
mod invariants;
mod nonsense;
pub mod ops;
mod updates;

use std::collections::{BTreeMap, BTreeSet};

use bristlecone_machine::row::{TaskKey, TaskKind};
use bristlecone_machine::{Row, Run};
use bristlecone_proto::chain::{
    ActivityRef, ActivityTaskToken, Answer, CancelActivity, CompleteActivity, CompleteWorkflowTask, FailActivity,
    FailWorkflowTask, Harden, HeartbeatActivity, Poll, Purge, Reply, StartActivity, StartWorkflowTask,
    StickyUnavailable, UndoActivityStart, UndoWorkflowTaskStart, WorkflowTaskToken, input, reply,
};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::{EventType, TaskQueueKind, WorkflowTaskFailedCause};
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure};
use bristlecone_proto::temporal::api::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, ResetStickyTaskQueueRequest, RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskFailedRequest, SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
};

use crate::shell::{Outcome, SECOND, Shell, of};
use commands::{name, pick, pick_recent, queue};
use ops::{Cmd, End, Op};

const STICKY: &str = "sticky";

#[derive(Debug, Default)]
pub struct World {
    shell: Shell,
    /// Every token that a worker was given, used or not: workers are late, and repeat themselves.
    workflow_tokens: Vec<WorkflowTaskToken>,
    activity_tokens: Vec<ActivityTaskToken>,
    /// Replies on their way back to the senders of outbox rows: sender, sequence, target.
    replies: Vec<(String, u64, String, Reply)>,
    old_replies: Vec<(String, Answer)>,
    polls: u64,
    ended: BTreeSet<Attempt>,
    closed: BTreeMap<(String, String), Closed>,
}

/// One attempt of a workflow or activity task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attempt {
    kind: TaskKind,
    run_id: String,
    scheduled_event_id: i64,
    attempt: i32,
    poll: String,
}

/// What never changes of a closed run.
#[derive(Debug, Clone, PartialEq)]
struct Closed {
    status: i32,
    next_event_id: i64,
    successor: String,
    batches: usize,
}

impl World {
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Start { workflow, request, conflict, reuse, shape } => {
                let start = commands::start(*workflow, *request, *conflict, *reuse, shape);
                self.send(&name(*workflow), input::Kind::Start(start.into()));
            }
            Op::SignalWithStart { workflow, request } => self.signal_with_start(*workflow, *request),
            Op::Signal { workflow, request } => {
                let signal = SignalWorkflowExecutionRequest {
                    workflow_execution: Some(execution(*workflow)),
                    signal_name: "s".into(),
                    request_id: format!("signal-{request}"),
                    ..SignalWorkflowExecutionRequest::default()
                };
                self.send(&name(*workflow), input::Kind::Signal(signal));
            }
            Op::RequestCancel { workflow } => {
                let workflow_execution = Some(execution(*workflow));
                let cancel = RequestCancelWorkflowExecutionRequest { workflow_execution, ..Default::default() };
                self.send(&name(*workflow), input::Kind::RequestCancel(cancel));
            }
            Op::Terminate { workflow } => self.terminate(&name(*workflow)),
            Op::ResetSticky { workflow } => {
                let reset = ResetStickyTaskQueueRequest { execution: Some(execution(*workflow)), ..Default::default() };
                self.send(&name(*workflow), input::Kind::ResetSticky(reset));
            }
            Op::Update { workflow, update } => self.update(*workflow, *update),
            Op::UpdateWithStart { workflow, update, request, conflict } => {
                self.update_with_start(*workflow, *update, *request, *conflict);
            }
            Op::Reset { workflow, point, request, former } => self.reset(*workflow, *point, *request, *former),
            Op::Operate { workflow, what } => {
                self.send(&name(*workflow), commands::operate(execution(*workflow), *what));
            }
            Op::Rule { what } => self.shell.namespace.rules = commands::rule(*what).into_iter().collect(),
            Op::PollWorkflow { which, again } => {
                if let Some((workflow, key, task)) = pick(&self.waiting(TaskKind::Workflow), *which).cloned() {
                    self.poll_workflow(&workflow, &key, &task, *again);
                }
            }
            Op::CompleteWorkflow { which, commands, force, hand_out, sticky } => {
                if let Some(token) = pick_recent(&self.workflow_tokens, *which).cloned() {
                    let request = RespondWorkflowTaskCompletedRequest {
                        force_create_new_workflow_task: *force,
                        return_new_workflow_task: *hand_out,
                        ..self.answer_of(&token, commands, *sticky)
                    };
                    self.complete_workflow(token, request);
                }
            }
            Op::Work { which, commands, force, sticky } => {
                if let Some((workflow, key, task)) = pick(&self.waiting(TaskKind::Workflow), *which).cloned() {
                    self.poll_workflow(&workflow, &key, &task, false);
                    let token = self.workflow_tokens.last().filter(|token| token.run_id == key.run_id).cloned();
                    if let Some(token) = token {
                        let request = self.answer_of(&token, commands, *sticky);
                        let request =
                            RespondWorkflowTaskCompletedRequest { force_create_new_workflow_task: *force, ..request };
                        self.complete_workflow(token, request);
                    }
                }
            }
            Op::FailWorkflow { which } => self.fail_workflow(*which),
            Op::PollActivity { which, again } => {
                if let Some((workflow, key, task)) = pick(&self.waiting(TaskKind::Activity), *which).cloned() {
                    self.poll_activity(&workflow, &key, &task, *again);
                }
            }
            Op::EndActivity { which, how, by_id } => {
                if let Some(token) = pick_recent(&self.activity_tokens, *which).cloned() {
                    self.end_activity(&token, *how, *by_id);
                }
            }
            Op::WorkActivity { which, how } => {
                if let Some((workflow, key, task)) = pick(&self.waiting(TaskKind::Activity), *which).cloned() {
                    self.poll_activity(&workflow, &key, &task, false);
                    if let Some(token) = self.activity_tokens.last().cloned() {
                        self.end_activity(&token, *how, false);
                    }
                }
            }
            Op::UndoActivity { which } => self.undo_activity(*which),
            Op::UndoWorkflow { workflow } => self.undo_workflow(&name(*workflow)),
            Op::StickyUnavailable { workflow } => self.sticky_unavailable(&name(*workflow)),
            Op::Harden { workflow } => {
                self.send(&name(*workflow), input::Kind::Harden(Harden::default()));
            }
            Op::Pass { ms } => self.pass(i64::from(*ms) * 1_000_000),
            Op::NextDeadline => self.next_deadline(),
            Op::Wake { workflow } => {
                self.send(&name(*workflow), input::Kind::Wake(Default::default()));
            }
            Op::Deliver { which } => self.deliver(*which),
            Op::Answer { which } => self.answer(*which),
            Op::LoseAnswer { which } => {
                if !self.replies.is_empty() {
                    self.replies.remove(usize::from(*which) % self.replies.len());
                }
            }
            Op::RepeatAnswer { which } => {
                if let Some((sender, answer)) = pick(&self.old_replies, *which).cloned() {
                    self.send(&sender, input::Kind::Answer(answer));
                }
            }
            Op::Exchange => {
                for (sender, sequence, target) in self.deliverable() {
                    self.exchange(&sender, sequence, &target);
                }
            }
            Op::FailOver => self.shell.fail_over(),
            Op::Purge { workflow } => self.purge(&name(*workflow)),
            Op::Nonsense { workflow, kind, about_current } => {
                let run_id = self.current(&name(*workflow)).map(|run| run.id.clone());
                let run_id = run_id.filter(|_| *about_current).unwrap_or_default();
                self.send(&name(*workflow), nonsense::input(*kind, &run_id));
            }
        }
        invariants::check(&self.shell);
    }

    /// Types of all events that are stored.
    pub fn event_types(&self) -> BTreeSet<EventType> {
        let stores = self.shell.workflow_ids().into_iter().filter_map(|workflow_id| {
            let store = self.shell.store(&workflow_id)?;
            Some(store.run_ids().into_iter().flat_map(|run_id| store.batches(&run_id)).collect::<Vec<_>>())
        });
        stores.flatten().flatten().map(|event| event.event_type()).collect()
    }

    fn send(&mut self, workflow_id: &str, kind: input::Kind) -> Outcome {
        let outcome = self.shell.send(workflow_id, of(kind));
        self.observe(workflow_id, &outcome);
        outcome
    }

    /// A closed run stays as it is until it is removed.
    fn observe(&mut self, workflow_id: &str, outcome: &Outcome) {
        for row in &outcome.rows {
            if let Row::PurgeRun { run_id } = row {
                self.closed.remove(&(workflow_id.to_string(), run_id.clone()));
            }
        }
        let Some((chain, store)) = self.shell.chain(workflow_id).zip(self.shell.store(workflow_id)) else { return };
        for run in chain.runs.values().filter(|run| !run.is_running()) {
            let closed = Closed {
                status: run.head.status,
                next_event_id: run.head.next_event_id,
                successor: run.head.successor_run_id.clone(),
                batches: store.batches(&run.id).len(),
            };
            let known = self.closed.entry((workflow_id.to_string(), run.id.clone())).or_insert_with(|| closed.clone());
            assert_eq!(*known, closed, "run {} of {workflow_id} changed after it closed", run.id);
        }
        let open = chain.runs.values().filter(|run| run.is_running()).count();
        assert!(open <= 1, "{open} open runs of {workflow_id}");
    }

    /// Each attempt ends once. Attempts of an activity are told apart by the poll that began them: operators
    /// have them counted from 1 again.
    fn end(&mut self, kind: TaskKind, run_id: &str, scheduled_event_id: i64, attempt: i32, poll: &str) {
        let attempt = Attempt { kind, run_id: run_id.into(), scheduled_event_id, attempt, poll: poll.into() };
        assert!(self.ended.insert(attempt.clone()), "ended twice: {attempt:?}");
    }

    fn run(&self, workflow_id: &str, run_id: &str) -> Option<Run> {
        self.shell.whole(workflow_id)?.runs.get(run_id).map(|run| (**run).clone())
    }

    fn current(&self, workflow_id: &str) -> Option<Run> {
        self.shell.whole(workflow_id)?.current().cloned()
    }

    /// Tasks that wait in the backlogs.
    fn waiting(&self, kind: TaskKind) -> Vec<(String, TaskKey, record::Task)> {
        let of = |workflow_id: &String| {
            let tasks = self.shell.offered(workflow_id);
            let tasks = tasks.into_iter().filter(move |(key, _)| key.kind == kind);
            tasks.map(|(key, task)| (workflow_id.clone(), key, task)).collect::<Vec<_>>()
        };
        self.shell.workflow_ids().iter().flat_map(of).collect()
    }

    fn poll(&mut self, again: bool, name: &str, kind: TaskQueueKind) -> Poll {
        if !again {
            self.polls += 1;
        }
        Poll {
            request_id: format!("poll-{}", self.polls),
            identity: "worker".into(),
            queue: Some(TaskQueue { name: name.into(), kind: kind.into(), ..TaskQueue::default() }),
            ..Poll::default()
        }
    }

    // ------------------------------------------------------------ clients

    fn signal_with_start(&mut self, workflow: u8, request: u8) {
        let request = SignalWithStartWorkflowExecutionRequest {
            workflow_id: name(workflow),
            workflow_type: Some(commands::workflow_type()),
            task_queue: Some(queue()),
            request_id: format!("start-{request}"),
            signal_name: "s".into(),
            ..SignalWithStartWorkflowExecutionRequest::default()
        };
        self.send(&name(workflow), input::Kind::SignalWithStart(request.into()));
    }

    fn terminate(&mut self, workflow_id: &str) {
        let workflow_execution = Some(WorkflowExecution { workflow_id: workflow_id.into(), ..Default::default() });
        let terminate = TerminateWorkflowExecutionRequest { workflow_execution, ..Default::default() };
        self.send(workflow_id, input::Kind::Terminate(terminate));
    }

    fn purge(&mut self, workflow_id: &str) {
        let closed = self.closed.keys().find(|(workflow, _)| workflow == workflow_id);
        if let Some((_, run_id)) = closed.cloned() {
            self.send(workflow_id, input::Kind::Purge(Purge { run_id }));
        }
    }

    // ------------------------------------------------------------ workers

    fn poll_workflow(&mut self, workflow_id: &str, key: &TaskKey, task: &record::Task, again: bool) {
        let kind = if task.sticky { TaskQueueKind::Sticky } else { TaskQueueKind::Normal };
        let claim = StartWorkflowTask {
            run_id: key.run_id.clone(),
            scheduled_event_id: key.scheduled_event_id,
            attempt: task.attempt,
            stamp: task.stamp,
            poll: Some(self.poll(again, &key.queue, kind)),
        };
        let outcome = self.send(workflow_id, input::Kind::StartWorkflowTask(claim));
        if let Some(reply::Kind::WorkflowTaskStarted(started)) = outcome.reply.kind {
            self.workflow_tokens.extend(started.token);
        }
    }

    /// A worker's answer to a workflow task.
    fn answer_of(
        &self,
        token: &WorkflowTaskToken,
        commands: &[Cmd],
        sticky: bool,
    ) -> RespondWorkflowTaskCompletedRequest {
        let run = self.run(&token.workflow_id, &token.run_id);
        let known = run.as_ref().map(pending).unwrap_or_default();
        RespondWorkflowTaskCompletedRequest {
            commands: commands.iter().map(|command| commands::command(command, &known)).collect(),
            sticky_attributes: sticky.then(sticky_attributes),
            messages: run.as_ref().map(|run| updates::messages(run, self.polls)).unwrap_or_default(),
            capabilities: Some(updates::capabilities(self.polls)),
            ..RespondWorkflowTaskCompletedRequest::default()
        }
    }

    fn complete_workflow(&mut self, token: WorkflowTaskToken, request: RespondWorkflowTaskCompletedRequest) {
        let workflow_id = token.workflow_id.clone();
        let input = CompleteWorkflowTask { token: Some(token.clone()), request: Some(request.into()) };
        let outcome = self.send(&workflow_id, input::Kind::CompleteWorkflowTask(input));
        if let Some(reply::Kind::WorkflowTaskCompleted(completed)) = outcome.reply.kind {
            // One that left no trace is followed by others with the same ids.
            if !outcome.rows.is_empty() {
                self.end(TaskKind::Workflow, &token.run_id, token.scheduled_event_id, token.attempt, "");
            }
            self.workflow_tokens.extend(completed.next.and_then(|next| next.token));
            self.activity_tokens.extend(completed.eager_activities.into_iter().filter_map(|started| started.token));
        }
    }

    fn fail_workflow(&mut self, which: u8) {
        let Some(token) = pick_recent(&self.workflow_tokens, which).cloned() else { return };
        let cause = WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure.into();
        let request = RespondWorkflowTaskFailedRequest { cause, ..Default::default() };
        let input = FailWorkflowTask { token: Some(token.clone()), request: Some(request.into()) };
        let outcome = self.send(&token.workflow_id, input::Kind::FailWorkflowTask(input));
        if is_done(&outcome) {
            self.end(TaskKind::Workflow, &token.run_id, token.scheduled_event_id, token.attempt, "");
        }
    }

    fn undo_workflow(&mut self, workflow_id: &str) {
        let Some(run) = self.current(workflow_id) else { return };
        let Some(task) = run.pending_task() else { return };
        let soft = run.soft_start.as_ref().map(|soft| soft.request_id.clone());
        let undo = UndoWorkflowTaskStart {
            run_id: run.id.clone(),
            scheduled_event_id: task.scheduled_event_id,
            request_id: soft.unwrap_or_else(|| task.request_id.clone()),
        };
        self.send(workflow_id, input::Kind::UndoWorkflowTaskStart(undo));
    }

    fn sticky_unavailable(&mut self, workflow_id: &str) {
        let Some(run) = self.current(workflow_id) else { return };
        let Some(task) = run.pending_task() else { return };
        let message = StickyUnavailable {
            run_id: run.id.clone(),
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
        };
        self.send(workflow_id, input::Kind::StickyUnavailable(message));
    }

    fn poll_activity(&mut self, workflow_id: &str, key: &TaskKey, task: &record::Task, again: bool) {
        let claim = StartActivity {
            run_id: key.run_id.clone(),
            scheduled_event_id: key.scheduled_event_id,
            attempt: task.attempt,
            stamp: task.stamp,
            poll: Some(self.poll(again, &key.queue, TaskQueueKind::Normal)),
        };
        let outcome = self.send(workflow_id, input::Kind::StartActivity(claim.clone()));
        if let Some(reply::Kind::ActivityStarted(started)) = outcome.reply.kind {
            let repeated = self.send(workflow_id, input::Kind::StartActivity(claim));
            assert_eq!(repeated.reply.kind, Some(reply::Kind::ActivityStarted(started.clone())), "another answer");
            assert!(!repeated.changed, "a repeated claim has an effect");
            self.activity_tokens.extend(started.token);
        }
    }

    fn undo_activity(&mut self, which: u8) {
        let Some(token) = pick_recent(&self.activity_tokens, which).cloned() else { return };
        let Some(run) = self.run(&token.workflow_id, &token.run_id) else { return };
        let Some(activity) = run.activities.get(&token.scheduled_event_id) else { return };
        let undo = UndoActivityStart {
            run_id: token.run_id.clone(),
            scheduled_event_id: token.scheduled_event_id,
            attempt: token.attempt,
            request_id: activity.request_id.clone(),
        };
        self.send(&token.workflow_id, input::Kind::UndoActivityStart(undo));
    }

    fn end_activity(&mut self, token: &ActivityTaskToken, how: End, by_id: bool) {
        let reference = ActivityRef {
            run_id: if by_id { String::new() } else { token.run_id.clone() },
            scheduled_event_id: if by_id { 0 } else { token.scheduled_event_id },
            activity_id: token.activity_id.clone(),
            attempt: if by_id { 0 } else { token.attempt },
            by_id,
            started_time: token.started_time.filter(|_| !by_id),
        };
        let meant = self.meant(&token.workflow_id, &reference);
        let pending = meant
            .as_ref()
            .and_then(|(run_id, id, _)| self.run(&token.workflow_id, run_id)?.activities.get(id).cloned())
            .unwrap_or_default();
        let activity = Some(reference);
        let kind = match how {
            End::Complete => {
                input::Kind::CompleteActivity(CompleteActivity { activity, ..CompleteActivity::default() })
            }
            End::Fail { retryable, delay_s } => input::Kind::FailActivity(FailActivity {
                activity,
                failure: Some(failure(retryable, delay_s)),
                ..FailActivity::default()
            }),
            End::Cancel => input::Kind::CancelActivity(CancelActivity { activity, ..CancelActivity::default() }),
            End::Heartbeat => {
                input::Kind::HeartbeatActivity(HeartbeatActivity { activity, ..HeartbeatActivity::default() })
            }
        };
        let outcome = self.send(&token.workflow_id, kind);
        let accepted = !matches!(outcome.reply.kind, Some(reply::Kind::Rejected(_)) | None);
        assert!(
            !accepted || by_id || pending.started_time == token.started_time,
            "a start that was taken back was answered"
        );
        if accepted && !matches!(how, End::Heartbeat) {
            let (run_id, id, attempt) = meant.expect("only a pending activity can end");
            // One that nobody had begun may be ended by its id again after each retry.
            if !pending.request_id.is_empty() {
                self.end(TaskKind::Activity, &run_id, id, attempt, &pending.request_id);
            }
        }
    }

    /// Run, scheduled event id and attempt of the pending activity that is meant.
    fn meant(&self, workflow_id: &str, activity: &ActivityRef) -> Option<(String, i64, i32)> {
        let run = if activity.by_id { self.current(workflow_id) } else { self.run(workflow_id, &activity.run_id) }?;
        let id =
            if activity.by_id { *run.activity_ids.get(&activity.activity_id)? } else { activity.scheduled_event_id };
        Some((run.id.clone(), id, run.activities.get(&id)?.attempt))
    }

    // ------------------------------------------------------------ time

    fn pass(&mut self, nanos: i64) {
        self.shell.now += nanos;
        for workflow_id in self.shell.workflow_ids() {
            if self.wakes_at(&workflow_id).is_some_and(|at| at <= self.shell.now) {
                self.send(&workflow_id, input::Kind::Wake(Default::default()));
            }
        }
    }

    fn next_deadline(&mut self) {
        let ids = self.shell.workflow_ids();
        if let Some(at) = ids.iter().filter_map(|workflow_id| self.wakes_at(workflow_id)).min() {
            self.pass((at - self.shell.now).max(0));
        }
    }

    /// When the leader wakes the chain: by its deadline row, which may be early, or for a soft start.
    fn wakes_at(&self, workflow_id: &str) -> Option<i64> {
        let row = self.shell.store(workflow_id).and_then(|store| store.deadlines.first().copied());
        row.into_iter().chain(self.shell.deadlines(workflow_id).soft).min()
    }

    // ------------------------------------------------------------ messages

    /// Rows that may be delivered: of each pair of chains the oldest.
    fn deliverable(&self) -> Vec<(String, u64, String)> {
        let mut pairs = BTreeSet::new();
        let mut rows = self.shell.outbox();
        rows.sort_by_key(|(_, sequence, _)| *sequence);
        rows.retain(|(sender, _, target)| pairs.insert((sender.clone(), target.clone())));
        rows
    }

    fn deliver(&mut self, which: u8) {
        let Some((sender, sequence, target)) = pick(&self.deliverable(), which).cloned() else { return };
        let repeated = self.shell.has_receipt(&target, &sender, sequence);
        let (_, outcome) = self.shell.deliver(&sender, sequence);
        self.observe(&target, &outcome);
        assert!(!(repeated && outcome.changed), "a message had an effect twice: {sender} {sequence}");
        self.replies.push((sender, sequence, target, outcome.reply));
    }

    fn answer(&mut self, which: u8) {
        if self.replies.is_empty() {
            return;
        }
        let (sender, sequence, target, reply) = self.replies.remove(usize::from(which) % self.replies.len());
        let answer = Answer { sequence, reply: Some(reply.clone().into()), ..Answer::default() };
        let outcome = self.shell.answer(&sender, sequence, &target, reply);
        self.observe(&sender, &outcome);
        self.old_replies.push((sender, answer));
    }

    /// Delivers a row and hands the reply to its sender; says whether the row is done with.
    fn exchange(&mut self, sender: &str, sequence: u64, target: &str) -> bool {
        let (_, outcome) = self.shell.deliver(sender, sequence);
        self.observe(target, &outcome);
        let temporary = matches!(&outcome.reply.kind, Some(reply::Kind::Rejected(r)) if is_temporary(r.code));
        let outcome = self.shell.answer(sender, sequence, target, outcome.reply);
        self.observe(sender, &outcome);
        !temporary
    }

    // ------------------------------------------------------------ the end

    /// Workers answer everything, messages arrive, time passes: then nothing is left to be done.
    pub fn quiesce(&mut self) {
        const ROUNDS_MAX: usize = 400;
        self.shell.namespace.rules.clear();
        for _ in 0..ROUNDS_MAX {
            if !self.settle() && !self.has_deadline() {
                histories::check(&self.shell);
                return invariants::nothing_is_left(&self.shell);
            }
            invariants::check(&self.shell);
            self.next_deadline();
        }
        panic!("it never ends: {:?}", self.shell);
    }

    /// Does whatever can be done without time passing; says whether there was anything.
    fn settle(&mut self) -> bool {
        let mut busy = false;
        let mut delivered = true;
        while delivered {
            delivered = false;
            for (sender, sequence, target) in self.deliverable() {
                delivered |= self.exchange(&sender, sequence, &target);
            }
            busy |= delivered;
        }
        for workflow_id in self.shell.workflow_ids() {
            let endless = |run: &Run| !run.started.cron_schedule.is_empty();
            if self.open_run(&workflow_id).as_ref().is_some_and(endless) {
                self.terminate(&workflow_id);
                busy = true;
            }
        }
        for workflow_id in self.shell.workflow_ids() {
            if self.open_run(&workflow_id).as_ref().is_some_and(Run::is_paused) {
                self.send(&workflow_id, commands::unpause_workflow(workflow_id.clone()));
                busy = true;
            }
        }
        for workflow_id in self.shell.workflow_ids() {
            let paused = |run: &Run| run.activities.iter().any(|(_, activity)| activity.paused);
            if self.open_run(&workflow_id).as_ref().is_some_and(paused) {
                self.send(
                    &workflow_id,
                    commands::unpause(WorkflowExecution { workflow_id: workflow_id.clone(), ..Default::default() }),
                );
                busy = true;
            }
        }
        busy |= self.work_off(false);
        for (workflow_id, key, task) in self.waiting(TaskKind::Activity) {
            self.poll_activity(&workflow_id, &key, &task, false);
            if let Some(token) = self.activity_tokens.last().cloned() {
                self.end_activity(&token, End::Complete, false);
            }
            busy = true;
        }
        busy || self.nudge() || (!self.has_deadline() && self.work_off(true))
    }

    /// Ends every workflow that has a workflow task, children before their `parents`; says whether there
    /// were any.
    fn work_off(&mut self, parents: bool) -> bool {
        let mut tasks = self.waiting(TaskKind::Workflow);
        tasks.retain(|(workflow_id, key, _)| {
            parents || self.run(workflow_id, &key.run_id).is_some_and(|run| run.children.is_empty())
        });
        for (workflow_id, key, task) in &tasks {
            self.poll_workflow(workflow_id, key, task, false);
            if let Some(token) = self.workflow_tokens.last().filter(|token| token.run_id == key.run_id).cloned() {
                let commands = vec![commands::last(self.polls)];
                let request = RespondWorkflowTaskCompletedRequest { commands, ..Default::default() };
                self.complete_workflow(token, request);
            }
        }
        !tasks.is_empty()
    }

    /// Signals the workflows that wait for nothing else; says whether there were any.
    fn nudge(&mut self) -> bool {
        let idle = |run: &Run| {
            let pending = run.activities.len() + run.timers.len() + run.children.len();
            run.is_running() && run.pending_task().is_none() && !run.is_backing_off() && pending == 0
        };
        let mut ids = self.shell.workflow_ids();
        ids.retain(|workflow_id| self.open_run(workflow_id).as_ref().is_some_and(idle));
        for workflow_id in &ids {
            let workflow_execution =
                Some(WorkflowExecution { workflow_id: workflow_id.clone(), ..WorkflowExecution::default() });
            let signal =
                SignalWorkflowExecutionRequest { workflow_execution, signal_name: "end".into(), ..Default::default() };
            let outcome = self.send(workflow_id, input::Kind::Signal(signal));
            assert!(outcome.changed, "an idle workflow takes no signal: {:?}", outcome.reply);
        }
        !ids.is_empty()
    }

    /// The open run, loaded or not.
    fn open_run(&self, workflow_id: &str) -> Option<Run> {
        self.current(workflow_id).filter(Run::is_running)
    }

    fn has_deadline(&self) -> bool {
        self.shell.workflow_ids().iter().any(|workflow_id| self.wakes_at(workflow_id).is_some())
    }
}

fn execution(workflow: u8) -> WorkflowExecution {
    WorkflowExecution { workflow_id: name(workflow), ..WorkflowExecution::default() }
}

fn pending(run: &Run) -> Vec<i64> {
    run.activities.iter().map(|(id, _)| *id).collect()
}

fn sticky_attributes() -> StickyExecutionAttributes {
    StickyExecutionAttributes {
        worker_task_queue: Some(TaskQueue { name: STICKY.into(), ..TaskQueue::default() }),
        schedule_to_start_timeout: Some(bristlecone_machine::stamp::duration(3 * SECOND)),
    }
}

fn failure(retryable: bool, delay_s: i64) -> Failure {
    let info = ApplicationFailureInfo {
        non_retryable: !retryable,
        next_retry_delay: (delay_s > 0).then(|| bristlecone_machine::stamp::duration(delay_s * SECOND)),
        ..ApplicationFailureInfo::default()
    };
    Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Failure::default() }
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome.reply.kind, Some(reply::Kind::Done(_)))
}

/// Codes of rejections that leave a message where it is.
fn is_temporary(code: i32) -> bool {
    use bristlecone_machine::reply::code;
    !matches!(code, code::NOT_FOUND | code::ALREADY_EXISTS | code::INVALID_ARGUMENT | code::PERMISSION_DENIED)
}
