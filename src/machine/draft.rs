//! A decision in the making: a working copy of the chain that collects what it does.
//!
//! # Contract
//! Dropping a draft is the rollback. Whoever changes a run calls [`Draft::begin_transition`] first,
//! then [`Draft::add`] for events (their effect on state is folded in at once) and [`Draft::run_mut`]
//! for what no event tells, then [`Draft::finish`], which computes the rows.
//!
//! | call | for |
//! |---|---|
//! | `find`, `find_running`, `run`, `current` | looking up runs |
//! | `begin_transition` | before anything else is done to a run |
//! | `add`, `add_event`, `add_command_event` | events: classified, numbered or buffered, folded |
//! | `schedule_workflow_task` | after any event that a worker has to see |
//! | `send` | an outbox row to another chain |
//! | `new_id`, `new_run_id` | an id that nobody else has |
//! | `create_run` | a new run, which becomes the current one |
//! | `finish`, `reject`, `unchanged` | the step |
//!
//! # Depends on
//! `fold.rs` for the effect of events, `draft/buffer.rs` for the order in which buffered ones are
//! numbered, `draft/diff.rs` for the rows.

mod buffer;
mod diff;
mod speculative;
mod task;
mod weight;

pub(crate) use task::{current_queue, normal_queue};
pub(crate) use weight::weight;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::chain::reply::Kind;
use bristlecone_proto::chain::{ChainId, Input, Rejection, Reply, Send};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{Link, WorkflowExecution};
use bristlecone_proto::temporal::api::enums::v1::EventType;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::sdk::v1::UserMetadata;

use crate::chain::{Chain, ReceiptKey, Run, Schedule};
use crate::new_run::NewRun;
use crate::stamp::{Stamp, UnixNanos};
use crate::terminate::{self, Terminate};
use crate::update::UpdateNews;
use crate::{Step, event, fold, ids, reply, standalone, tasks};

pub(crate) struct Draft<'a> {
    before: &'a Chain,
    chain: Chain,
    at: &'a Stamp<'a>,
    /// What this step writes, by run.
    writing: BTreeMap<String, Writing>,
    purged: Vec<String>,
    forgets_counts: bool,
    ids_made: u64,
    /// The deadline row may move later: a wake found nothing due.
    rewrite_deadline: bool,
    /// What became of updates.
    pub(crate) news: Vec<UpdateNews>,
}

/// What a step writes to the history of one run.
#[derive(Debug, Default)]
struct Writing {
    finished: Vec<Vec<HistoryEvent>>,
    batch: Vec<HistoryEvent>,
    /// Started event ids by scheduled (or initiated) event id, of start events numbered in this step.
    started_ids: BTreeMap<i64, i64>,
}

impl<'a> Draft<'a> {
    pub fn new(before: &'a Chain, at: &'a Stamp<'a>) -> Self {
        Self {
            before,
            chain: before.clone(),
            at,
            writing: BTreeMap::new(),
            purged: Vec::new(),
            forgets_counts: false,
            ids_made: 0,
            rewrite_deadline: false,
            news: Vec::new(),
        }
    }

    // ------------------------------------------------------------ looking

    pub fn at(&self) -> &'a Stamp<'a> {
        self.at
    }

    pub fn now(&self) -> UnixNanos {
        self.at.now
    }

    pub fn id(&self) -> &ChainId {
        &self.chain.id
    }

    pub fn record(&self) -> Option<&record::Chain> {
        self.chain.record.as_ref()
    }

    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The run, when it is loaded.
    pub fn get(&self, run_id: &str) -> Option<&Run> {
        self.chain.runs.get(run_id).map(|run| &**run)
    }

    /// A run whose id came from [`Draft::find`] and the like.
    pub fn run(&self, run_id: &str) -> &Run {
        self.get(run_id).expect("run ids are taken from loaded runs")
    }

    /// Id of the run that a request means: the given one, or the current one when the run id is empty.
    pub fn find(&self, execution: Option<&WorkflowExecution>) -> Result<String, Rejection> {
        let execution = execution.ok_or_else(|| reply::invalid_argument("Execution is not set on request."))?;
        if execution.workflow_id.is_empty() {
            return Err(reply::invalid_argument("WorkflowId is not set on request."));
        }
        self.find_run(&execution.run_id)
    }

    /// As [`Draft::find`], for requests that may name the chain of runs instead of a run: then the
    /// current run is meant, and [`Draft::belongs_to_chain`] says whether it is one of them.
    pub fn find_of_chain(
        &self,
        execution: Option<&WorkflowExecution>,
        first_run_id: &str,
    ) -> Result<String, Rejection> {
        let run_id = self.find(execution)?;
        if first_run_id.is_empty() { Ok(run_id) } else { self.find_run("") }
    }

    pub fn belongs_to_chain(&self, run_id: &str, first_run_id: &str) -> bool {
        first_run_id.is_empty() || self.run(run_id).started.first_execution_run_id == first_run_id
    }

    /// Id of the run, or of the current one when the id is empty.
    pub fn find_run(&self, run_id: &str) -> Result<String, Rejection> {
        if !run_id.is_empty() && !ids::is_uuid(run_id) {
            return Err(reply::invalid_argument("Invalid RunId."));
        }
        let wanted = match (run_id, self.record()) {
            ("", Some(record)) => record.current_run_id.as_str(),
            (run_id, _) => run_id,
        };
        match self.get(wanted) {
            Some(run) => Ok(run.id.clone()),
            None if standalone::is_standalone(self.id()) => Err(standalone::not_found(self.id())),
            None => Err(reply::workflow_not_found(&self.chain.id.workflow_id, run_id)),
        }
    }

    /// As [`Draft::find`], for what only an open run takes.
    pub fn find_running(&self, execution: Option<&WorkflowExecution>) -> Result<String, Rejection> {
        let run_id = self.find(execution)?;
        if self.run(&run_id).is_running() {
            Ok(run_id)
        } else if standalone::is_standalone(self.id()) {
            Err(standalone::not_found(self.id()))
        } else {
            Err(reply::workflow_completed())
        }
    }

    // ------------------------------------------------------------ changing

    /// Opens a transition of the run: counts it, and makes a soft start durable, so that whatever is
    /// added next comes after it. Calling it again in the same step does nothing.
    pub fn begin_transition(&mut self, run_id: &str) {
        if self.writing.contains_key(run_id) {
            return;
        }
        self.writing.insert(run_id.to_string(), Writing::default());
        self.raw_run_mut(run_id).head.transitions += 1;
        self.write_speculative_task(run_id);
        self.harden(run_id);
    }

    /// Before something is noted on a closed run: its transitions are over, and listings tell their number.
    pub fn begin_note(&mut self, run_id: &str) {
        if self.run(run_id).is_running() {
            self.begin_transition(run_id);
        } else {
            self.writing.entry(run_id.to_string()).or_default();
        }
    }

    /// The run, to be changed in ways that no event tells.
    pub fn run_mut(&mut self, run_id: &str) -> &mut Run {
        debug_assert!(self.writing.contains_key(run_id), "begin_transition comes first");
        self.raw_run_mut(run_id)
    }

    /// Whether the run was open before this step.
    pub fn was_running(&self, run_id: &str) -> bool {
        self.before.runs.get(run_id).is_none_or(|run| run.is_running())
    }

    /// The run without a transition: only for what is in memory alone (soft starts, updates).
    pub fn soft_mut(&mut self, run_id: &str) -> &mut Run {
        self.raw_run_mut(run_id)
    }

    fn raw_run_mut(&mut self, run_id: &str) -> &mut Run {
        Arc::make_mut(self.chain.runs.get_mut(run_id).expect("run ids are taken from loaded runs"))
    }

    /// Adds an event that happens now. Returns its id, or 0 when it waits in the buffer.
    pub fn add(&mut self, run_id: &str, attributes: Attributes) -> i64 {
        self.add_event(run_id, event::new(self.at.now, attributes))
    }

    /// As [`Draft::add`], with the links of the request that caused it.
    pub fn add_linked(&mut self, run_id: &str, attributes: Attributes, links: &[Link]) -> i64 {
        self.add_event(run_id, HistoryEvent { links: links.to_vec(), ..event::new(self.at.now, attributes) })
    }

    /// As [`Draft::add`], with the user metadata of the command that caused it.
    pub fn add_command_event(
        &mut self,
        run_id: &str,
        attributes: Attributes,
        user_metadata: Option<&UserMetadata>,
    ) -> i64 {
        let event = HistoryEvent { user_metadata: user_metadata.cloned(), ..event::new(self.at.now, attributes) };
        self.add_event(run_id, event)
    }

    /// Adds an event made by [`event::new`].
    pub fn add_event(&mut self, run_id: &str, event: HistoryEvent) -> i64 {
        debug_assert!(self.run(run_id).is_running(), "nothing follows a close event");
        if standalone::is_standalone(self.id()) {
            standalone::note(self, run_id, event);
            return 0;
        }
        if event::is_buffered(event.event_type()) {
            self.buffer(run_id, event);
            0
        } else {
            self.number(run_id, event)
        }
    }

    /// Gives the event the next id, folds it, and puts it at the end of the current batch.
    fn number(&mut self, run_id: &str, mut event: HistoryEvent) -> i64 {
        let limits = self.at.limits;
        let (run, writing) = self.parts(run_id);
        let id = run.head.next_event_id;
        run.head.next_event_id += 1;
        event.event_id = id;
        event.task_id = id;
        let batch_id = writing.batch.first().map_or(id, |first| first.event_id);
        fold::apply(run, &event, batch_id, limits);
        writing.batch.push(event);
        id
    }

    /// The run and what is written of it. The transition must have begun.
    fn parts(&mut self, run_id: &str) -> (&mut Run, &mut Writing) {
        let run = self.chain.runs.get_mut(run_id).expect("run ids are taken from loaded runs");
        if !self.writing.contains_key(run_id) {
            self.writing.insert(run_id.to_string(), Writing::default());
        }
        let writing = self.writing.get_mut(run_id).expect("it was just made sure of");
        (Arc::make_mut(run), writing)
    }

    /// Ends the current batch: readers never split one.
    pub fn end_batch(&mut self, run_id: &str) {
        let (run, writing) = self.parts(run_id);
        let Some(first) = writing.batch.first() else { return };
        run.head.last_batch_id = first.event_id;
        run.head.history_size += writing.batch.iter().map(buffer::encoded_len).sum::<i64>();
        writing.finished.push(core::mem::take(&mut writing.batch));
    }

    /// Events that this step has numbered for the run so far.
    pub fn new_events(&self, run_id: &str) -> impl Iterator<Item = &HistoryEvent> {
        self.writing.get(run_id).into_iter().flat_map(|w| w.finished.iter().flatten().chain(&w.batch))
    }

    /// An event of this step by its id.
    pub fn new_event(&self, run_id: &str, event_id: i64) -> Option<&HistoryEvent> {
        self.new_events(run_id).find(|event| event.event_id == event_id)
    }

    /// Puts a row into the outbox; returns its sequence, with which the answer will come.
    pub fn send(&mut self, run_id: &str, target: ChainId, input: Input) -> u64 {
        let record = self.record_mut();
        let sequence = record.next_send;
        record.next_send += 1;
        let send = Send { target: Some(target), run_id: run_id.to_string(), input: Some(input) };
        self.chain.sends.put(sequence, send);
        sequence
    }

    /// Sequences of the outbox rows that this step has written for the run.
    pub fn new_sends(&self, run_id: &str) -> impl Iterator<Item = u64> {
        let is_new = move |before: Option<&Send>, now: Option<&Send>| {
            before.is_none() && now.is_some_and(|send| send.run_id == run_id)
        };
        self.chain.sends.changes().filter(move |(_, before, now)| is_new(*before, *now)).map(|(sequence, ..)| *sequence)
    }

    /// Takes a row out of the outbox.
    pub fn take_send(&mut self, sequence: u64) -> Option<Arc<Send>> {
        self.chain.sends.remove(&sequence)
    }

    pub fn forget_receipt(&mut self, key: &ReceiptKey) -> bool {
        self.chain.receipts.remove(key).is_some()
    }

    /// Takes everything out of the outbox, and forgets what was received.
    pub fn forget_messages(&mut self) {
        let sequences: Vec<u64> = self.chain.sends.iter().map(|(sequence, _)| *sequence).collect();
        for sequence in sequences {
            self.chain.sends.remove(&sequence);
        }
        let keys: Vec<ReceiptKey> = self.chain.receipts.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.chain.receipts.remove(&key);
        }
    }

    /// A fresh id (uuid version 4).
    pub fn new_id(&mut self) -> String {
        self.ids_made += 1;
        ids::uuid(self.at.seed, self.ids_made)
    }

    /// A random number below `end`; 0 when that is no positive number.
    pub fn random_below(&mut self, end: i64) -> i64 {
        self.ids_made += 1;
        ids::random_below(self.at.seed, self.ids_made, end)
    }

    /// A fresh id for a run (uuid version 7).
    pub fn new_run_id(&mut self) -> String {
        self.ids_made += 1;
        ids::run_id(self.at.now, self.at.seed, self.ids_made)
    }

    /// A new run with its first event written; it becomes the current run of the chain. A current run
    /// that is still open must have been closed in this step.
    pub fn create_run(&mut self, new: NewRun) {
        let NewRun { run_id, request_id, attributes, user_metadata, links } = new;
        let first_run_id = attributes.first_execution_run_id.clone();
        let event = event::new(self.at.now, Attributes::WorkflowExecutionStartedEventAttributes(attributes));
        let event = HistoryEvent { user_metadata, links, ..event };
        let mut run = fold::start::run(&run_id, &event).expect("the event was made with these attributes");
        run.head.transitions = 1;
        if !request_id.is_empty() {
            let event_type = EventType::WorkflowExecutionStarted.into();
            run.head.request_ids.insert(request_id, record::RequestIdInfo { event_type, event_id: 1 });
        }
        let record = self.record_mut();
        record.current_run_id.clone_from(&run_id);
        record.first_run_id = first_run_id;
        self.chain.runs.insert(run_id.clone(), Arc::new(run));
        self.writing.insert(run_id.clone(), Writing::default());
        self.number(&run_id, event);
    }

    /// Adds a run that has a history already, which is written as it is.
    pub fn insert_run(&mut self, run: Arc<Run>, batches: Vec<Vec<HistoryEvent>>) {
        self.writing.insert(run.id.clone(), Writing { finished: batches, ..Writing::default() });
        self.chain.runs.insert(run.id.clone(), run);
    }

    /// See [`Row::ForgetCounts`].
    pub fn forget_counts(&mut self) {
        self.forgets_counts = true;
    }

    /// Removes every row of a run. Whatever this step wrote of it is forgotten, save what it sent.
    pub fn purge(&mut self, run_id: &str) {
        self.chain.runs.remove(run_id);
        self.writing.remove(run_id);
        self.purged.push(run_id.to_string());
        if let Some(record) = &mut self.chain.record
            && record.current_run_id == run_id
        {
            record.current_run_id.clear();
            record.first_run_id.clear();
            record.current_status = 0;
            record.current_start_time = None;
        }
    }

    /// The schedule, to be changed; `None` when the chain is none's.
    pub fn schedule_mut(&mut self) -> Option<&mut Schedule> {
        self.chain.schedule.as_mut()
    }

    /// Makes the chain a schedule's, or removes the schedule.
    pub fn set_schedule(&mut self, schedule: Option<Schedule>) {
        if schedule.is_some() {
            self.record_mut();
        }
        self.chain.schedule = schedule;
    }

    /// Says that nothing was due, so that the deadline row may move later.
    pub fn rewrite_deadline(&mut self) {
        self.rewrite_deadline = true;
    }

    /// The chain's own record, made when there is none. A record that was removed and is made again
    /// never repeats an outbox sequence, since sequences begin with the time.
    pub fn record_mut(&mut self) -> &mut record::Chain {
        let now = self.at.now;
        self.chain.record.get_or_insert_with(|| record::Chain {
            next_send: u64::try_from(now).unwrap_or(0),
            ..record::Chain::default()
        })
    }

    // ------------------------------------------------------------ the step

    /// The same decision from the beginning: everything done so far is forgotten.
    pub fn restart(self) -> Self {
        Self::new(self.before, self.at)
    }

    /// The step that this draft has become. A run whose history or state grew beyond all limits is
    /// terminated instead.
    pub fn finish(mut self, reply: Reply) -> Step {
        let too_long = self.too_long();
        self.settle();
        let Some((run_id, reason)) = too_long.or_else(|| self.too_heavy()) else { return self.seal(reply) };
        let mut draft = self.restart();
        let terminate = Terminate { reason, details: None, identity: "history-service", links: &[] };
        terminate::run(&mut draft, &run_id, terminate);
        draft.settle();
        draft.seal(without_tasks(reply))
    }

    fn settle(&mut self) {
        self.close_transitions();
        let touched: Vec<String> = self.writing.keys().cloned().collect();
        for run_id in touched {
            self.end_updates(&run_id);
        }
        self.weigh();
    }

    fn seal(mut self, reply: Reply) -> Step {
        let rows = self.rows();
        let offers = tasks::speculative_change(self.before, &self.chain);
        Step { next: Some(self.chain), rows, reply, offers, news: self.news }
    }

    /// An open run with too long a history, and why it has to end. Making a start durable is no reason, and
    /// what waits in the buffer does not count yet.
    fn too_long(&self) -> Option<(String, &'static str)> {
        let limits = self.at.limits;
        let goes_on = |event: &HistoryEvent| event.event_type() != EventType::WorkflowTaskStarted;
        let touched = self.writing.keys().filter(|run_id| self.new_events(run_id).any(goes_on));
        let touched = touched.filter_map(|run_id| Some((self.before.runs.get(run_id)?, self.get(run_id)?)));
        for (before, run) in touched.filter(|(_, run)| run.is_running()) {
            if before.head.history_size > limits.history_bytes_max {
                return Some((run.id.clone(), "Workflow history size exceeds limit."));
            }
            if run.head.next_event_id - 1 > limits.history_events_max {
                return Some((run.id.clone(), "Workflow history count exceeds limit."));
            }
        }
        None
    }

    /// An open run that waits for too much, or writes too much at once, and why it has to end.
    fn too_heavy(&self) -> Option<(String, &'static str)> {
        let limits = self.at.limits;
        let known = self.writing.keys().filter(|run_id| self.before.runs.contains_key(*run_id));
        for run in known.filter_map(|run_id| self.get(run_id)).filter(|run| run.is_running()) {
            if run.head.state_bytes > limits.state_bytes_max {
                return Some((run.id.clone(), "Workflow mutable state size exceeds limit."));
            }
            if self.written_bytes(&run.id) > limits.transaction_bytes_max {
                return Some((run.id.clone(), "Transaction size exceeds limit."));
            }
        }
        None
    }

    /// A user's mistake: nothing changes.
    pub fn reject(self, rejection: Rejection) -> Step {
        Step::unchanged(reply::rejected(rejection))
    }

    /// Answers without changing anything.
    pub fn unchanged(self, reply: Reply) -> Step {
        Step::unchanged(reply)
    }
}

/// The answer when the run was terminated after all: no task of it is handed out.
fn without_tasks(reply: Reply) -> Reply {
    match reply.kind {
        Some(Kind::WorkflowTaskStarted(_)) => reply::rejected(reply::workflow_completed()),
        Some(Kind::WorkflowTaskCompleted(mut completed)) => {
            completed.next = None;
            completed.eager_activities = Vec::new();
            completed.another_task = false;
            reply::of(Kind::WorkflowTaskCompleted(completed))
        }
        kind => Reply { kind },
    }
}
