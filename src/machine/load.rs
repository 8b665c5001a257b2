//! Which runs a step needs, and how a chain is put together again from its rows.
//!
//! # Contract
//! The shell loads the chain's own record, outbox rows and receipts, and the runs that [`runs_needed`]
//! names; each with all its rows save the history, of which only the first event is needed. Feeding
//! the rows that steps have written to a [`Loader`] gives the chain as it was.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::chain::input::Kind;
use bristlecone_proto::chain::{ActivityRef, ChainId, Input};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;

use crate::activity;
use crate::chain::{Chain, Due, DueKind, Run, Schedule};
use crate::fold;
use crate::row::Row;
use crate::rows::Rows;
use crate::schedule::Spec;
use crate::stamp::nanos;

/// Ids of the runs that have to be loaded before [`crate::step`] takes the input: the one that the input
/// names, and the current one whenever it is open. A run that is not stored is left out.
pub fn runs_needed(input: &Input, record: Option<&record::Chain>) -> Vec<String> {
    let current = record.map(|record| record.current_run_id.as_str()).filter(|id| !id.is_empty());
    let is_open = record.is_some_and(|record| matches!(record.current_status(), Status::Running | Status::Paused));
    let mut needed: Vec<String> = Vec::new();
    if is_open {
        needed.extend(current.map(String::from));
    }
    let named = match input.kind.as_ref().map(named) {
        None | Some(Named::Nothing) => None,
        Some(Named::Run("")) => current,
        Some(Named::Run(run_id)) => Some(run_id),
    };
    if let Some(run_id) = named
        && !needed.iter().any(|known| known == run_id)
    {
        needed.push(run_id.into());
    }
    needed
}

enum Named<'a> {
    /// At most the current run, if it is open.
    Nothing,
    /// This run; the current one, open or closed, when the id is empty.
    Run(&'a str),
}

fn named(kind: &Kind) -> Named<'_> {
    match kind {
        Kind::Start(_) | Kind::SignalWithStart(_) | Kind::StartChild(_) => Named::Nothing,
        Kind::CreateSchedule(_)
        | Kind::DescribeSchedule(_)
        | Kind::UpdateSchedule(_)
        | Kind::PatchSchedule(_)
        | Kind::ScheduleMatchingTimes(_)
        | Kind::DeleteSchedule(_)
        | Kind::ScheduledStart(_)
        | Kind::ScheduledClosed(_) => Named::Nothing,
        Kind::ScheduledWatch(_) => Named::Run(""),
        Kind::Forget(_) | Kind::Wake(_) | Kind::Release(_) => Named::Nothing,
        Kind::Signal(r) => of_execution(r.workflow_execution.as_ref()),
        Kind::RequestCancel(r) => of_chain(r.workflow_execution.as_ref(), &r.first_execution_run_id),
        Kind::Terminate(r) => of_chain(r.workflow_execution.as_ref(), &r.first_execution_run_id),
        Kind::Delete(r) => of_execution(r.workflow_execution.as_ref()),
        Kind::Describe(r) => of_execution(r.execution.as_ref()),
        Kind::ResetSticky(r) => of_execution(r.execution.as_ref()),
        Kind::PauseActivity(r) => of_execution(r.execution.as_ref()),
        Kind::UnpauseActivity(r) => of_execution(r.execution.as_ref()),
        Kind::ResetActivity(r) => of_execution(r.execution.as_ref()),
        Kind::UpdateActivityOptions(r) => of_execution(r.execution.as_ref()),
        Kind::HistoryHead(r) => of_execution(r.execution.as_ref()),
        Kind::Query(r) => of_execution(r.execution.as_ref()),
        Kind::Update(r) => of_chain(r.workflow_execution.as_ref(), &r.first_execution_run_id),
        Kind::PollUpdate(r) => of_execution(r.update_ref.as_ref().and_then(|r| r.workflow_execution.as_ref())),
        Kind::UpdateWithStart(_) => Named::Run(""),
        Kind::Reset(r) => of_execution(r.request.as_ref().and_then(|r| r.workflow_execution.as_ref())),
        Kind::CompleteWorkflowTask(r) => Named::Run(r.token.as_ref().map_or("", |token| &token.run_id)),
        Kind::FailWorkflowTask(r) => Named::Run(r.token.as_ref().map_or("", |token| &token.run_id)),
        Kind::CompleteActivity(r) => of_activity(r.activity.as_ref()),
        Kind::FailActivity(r) => of_activity(r.activity.as_ref()),
        Kind::CancelActivity(r) => of_activity(r.activity.as_ref()),
        Kind::HeartbeatActivity(r) => of_activity(r.activity.as_ref()),
        Kind::StartWorkflowTask(r) => Named::Run(&r.run_id),
        Kind::StartActivity(r) => Named::Run(&r.run_id),
        Kind::UndoWorkflowTaskStart(r) => Named::Run(&r.run_id),
        Kind::UndoActivityStart(r) => Named::Run(&r.run_id),
        Kind::StickyUnavailable(r) => Named::Run(&r.run_id),
        Kind::StartStandalone(_) => Named::Nothing,
        Kind::DescribeStandalone(r) => Named::Run(&r.run_id),
        Kind::CancelStandalone(r) => Named::Run(&r.run_id),
        Kind::TerminateStandalone(r) => Named::Run(&r.run_id),
        Kind::DeleteStandalone(r) => Named::Run(&r.run_id),
        Kind::ParentRecorded(r) => Named::Run(&r.run_id),
        Kind::ChildClosed(r) => Named::Run(&r.parent_run_id),
        Kind::ParentClosed(_) | Kind::AwaitChild(_) => Named::Run(""),
        Kind::SignalExternal(r) => Named::Run(&r.run_id),
        Kind::CancelExternal(r) => Named::Run(&r.run_id),
        Kind::Answer(r) => Named::Run(&r.run_id),
        Kind::Harden(r) => Named::Run(&r.run_id),
        Kind::Purge(r) => Named::Run(&r.run_id),
        Kind::Raze(_) => Named::Run(""),
        Kind::PauseWorkflow(r) => Named::Run(&r.run_id),
        Kind::UnpauseWorkflow(r) => Named::Run(&r.run_id),
        Kind::UpdateWorkflowOptions(r) => of_execution(r.workflow_execution.as_ref()),
    }
}

fn of_execution(execution: Option<&WorkflowExecution>) -> Named<'_> {
    Named::Run(execution.map_or("", |execution| &execution.run_id))
}

fn of_chain<'a>(execution: Option<&'a WorkflowExecution>, first_run_id: &str) -> Named<'a> {
    if first_run_id.is_empty() { of_execution(execution) } else { Named::Run("") }
}

fn of_activity(activity: Option<&ActivityRef>) -> Named<'_> {
    Named::Run(activity.map_or("", |activity| &activity.run_id))
}

/// Puts a chain together from rows, in any order.
#[derive(Debug)]
pub struct Loader {
    chain: Chain,
    parts: BTreeMap<String, Parts>,
    schedule: ScheduleParts,
}

/// Rows of a schedule.
#[derive(Debug, Default)]
struct ScheduleParts {
    definition: Option<Arc<record::Schedule>>,
    head: Option<Arc<record::ScheduleHead>>,
    result: Option<Arc<record::ScheduleResult>>,
}

/// Rows of one run.
#[derive(Debug, Default)]
struct Parts {
    first_event: Option<HistoryEvent>,
    head: Option<Arc<record::Head>>,
    fields: Option<Arc<record::Fields>>,
    activities: Rows<i64, record::Activity>,
    timers: Rows<i64, record::Timer>,
    children: Rows<i64, record::Child>,
    external_signals: Rows<i64, record::External>,
    external_cancels: Rows<i64, record::External>,
    buffered: Rows<i64, HistoryEvent>,
    signal_requests: Rows<String, ()>,
    updates: Rows<String, record::Update>,
}

impl Loader {
    pub fn new(id: ChainId) -> Self {
        Self::onto(Chain::new(id))
    }

    /// Adds to a chain of which some is loaded already.
    pub fn onto(chain: Chain) -> Self {
        Self { chain, parts: BTreeMap::new(), schedule: ScheduleParts::default() }
    }

    /// Takes a stored row. Rows that say nothing of the state (tasks, deadlines, listings, history beyond
    /// the first event) are passed over.
    pub fn row(&mut self, row: Row) {
        match row {
            Row::Chain(record) => self.chain.record = record,
            Row::Schedule(definition) => self.schedule.definition = definition,
            Row::ScheduleHead(head) => self.schedule.head = head,
            Row::ScheduleResult(result) => self.schedule.result = result,
            Row::Send { sequence, send: Some(send) } => self.chain.sends.load(sequence, send),
            Row::Receipt { key, receipt: Some(receipt) } => self.chain.receipts.load(key, receipt),
            Row::History { run_id, first_event_id: 1, events } => {
                self.part(run_id).first_event = events.into_iter().next();
            }
            Row::Head { run_id, head } => self.part(run_id).head = head,
            Row::Fields { run_id, fields } => self.part(run_id).fields = fields,
            Row::Activity { run_id, scheduled_event_id, activity: Some(activity) } => {
                self.part(run_id).activities.load(scheduled_event_id, activity);
            }
            Row::Timer { run_id, started_event_id, timer: Some(timer) } => {
                self.part(run_id).timers.load(started_event_id, timer);
            }
            Row::Child { run_id, initiated_event_id, child: Some(child) } => {
                self.part(run_id).children.load(initiated_event_id, child);
            }
            Row::ExternalSignal { run_id, initiated_event_id, external: Some(external) } => {
                self.part(run_id).external_signals.load(initiated_event_id, external);
            }
            Row::ExternalCancel { run_id, initiated_event_id, external: Some(external) } => {
                self.part(run_id).external_cancels.load(initiated_event_id, external);
            }
            Row::Buffered { run_id, arrival, event: Some(event) } => {
                self.part(run_id).buffered.load(arrival, event);
            }
            Row::SignalRequest { run_id, request_id, seen: true } => {
                self.part(run_id).signal_requests.load(request_id, ());
            }
            Row::Update { run_id, update_id, update: Some(update) } => {
                self.part(run_id).updates.load(update_id, update);
            }
            Row::Send { send: None, .. }
            | Row::Receipt { receipt: None, .. }
            | Row::History { .. }
            | Row::Activity { activity: None, .. }
            | Row::Timer { timer: None, .. }
            | Row::Child { child: None, .. }
            | Row::ExternalSignal { external: None, .. }
            | Row::ExternalCancel { external: None, .. }
            | Row::Buffered { event: None, .. }
            | Row::SignalRequest { seen: false, .. }
            | Row::Update { update: None, .. }
            | Row::Task { .. }
            | Row::Deadline { .. }
            | Row::Visibility { .. }
            | Row::PurgeRun { .. }
            | Row::ForgetCounts => {}
        }
    }

    /// The chain. Runs without a head or a first event are left out: they are not (or no longer) stored.
    pub fn finish(mut self) -> Chain {
        for (run_id, parts) in self.parts {
            if let Some(run) = parts.assemble(&run_id) {
                self.chain.runs.insert(run_id, Arc::new(run));
            }
        }
        if let Some(schedule) = self.schedule.assemble() {
            self.chain.schedule = Some(schedule);
        }
        self.chain
    }

    fn part(&mut self, run_id: String) -> &mut Parts {
        self.parts.entry(run_id).or_default()
    }
}

impl ScheduleParts {
    fn assemble(self) -> Option<Schedule> {
        let (definition, head) = (self.definition?, self.head?);
        let spec = Spec::of(&definition).map(Arc::new);
        Some(Schedule { definition, head: head.into(), result: self.result.unwrap_or_default().into(), spec })
    }
}

impl Parts {
    fn assemble(self, run_id: &str) -> Option<Run> {
        let run =
            fold::start::assemble(run_id, &self.first_event?, self.head?.into(), self.fields.unwrap_or_default())?;
        let mut run = Run {
            activities: self.activities,
            timers: self.timers,
            children: self.children,
            external_signals: self.external_signals,
            external_cancels: self.external_cancels,
            buffered: self.buffered,
            signal_requests: self.signal_requests,
            updates: self.updates,
            ..run
        };
        for (id, pending) in run.activities.iter() {
            run.activity_ids.load(pending.activity_id.clone(), *id);
            if let Some(at) = activity::due(pending) {
                run.due.load(Due { at, kind: DueKind::Activity, event_id: *id }, ());
            }
        }
        for (id, timer) in run.timers.iter() {
            run.timer_ids.load(timer.timer_id.clone(), *id);
            if let Some(at) = timer.due.as_ref().map(nanos) {
                run.due.load(Due { at, kind: DueKind::Timer, event_id: *id }, ());
            }
        }
        Some(run)
    }
}
