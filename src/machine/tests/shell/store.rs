//! The rows of one chain, as a store keeps them.

use std::collections::{BTreeMap, BTreeSet};

use bristlecone_machine::chain::ReceiptKey;
use bristlecone_machine::row::{TaskKey, TaskKind};
use bristlecone_machine::{Chain, Row};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Chain,
    Schedule,
    ScheduleHead,
    ScheduleResult,
    Send(u64),
    Receipt(ReceiptKey),
    Head,
    Fields,
    History(i64),
    Activity(i64),
    Timer(i64),
    Child(i64),
    ExternalSignal(i64),
    ExternalCancel(i64),
    Buffered(i64),
    SignalRequest(String),
    Update(String),
}

/// Rows by run (empty: the chain's own) and key.
#[derive(Debug, Default)]
pub struct Store {
    rows: BTreeMap<(String, Key), Row>,
    pub tasks: BTreeMap<TaskKey, record::Task>,
    pub deadlines: BTreeSet<i64>,
    pub listed: BTreeMap<String, record::Visibility>,
}

impl Store {
    /// Applies the rows of a step as one batch.
    pub fn apply(&mut self, rows: &[Row]) {
        for row in rows {
            self.apply_one(row);
        }
    }

    fn apply_one(&mut self, row: &Row) {
        match row {
            Row::Task { key, task: Some(task) } => {
                self.tasks.insert(key.clone(), task.clone());
            }
            Row::Task { key, task: None } => assert!(self.tasks.remove(key).is_some(), "no such task: {key:?}"),
            Row::Deadline { due, armed: true } => assert!(self.deadlines.insert(*due), "armed twice: {due}"),
            Row::Deadline { due, armed: false } => assert!(self.deadlines.remove(due), "not armed: {due}"),
            Row::Visibility { run_id, before, now } => {
                let listed = match now {
                    Some(now) => self.listed.insert(run_id.clone(), now.clone()),
                    None => self.listed.remove(run_id),
                };
                assert_eq!(listed, *before, "the listing was different");
            }
            Row::ForgetCounts => {}
            Row::PurgeRun { run_id } => self.rows.retain(|(run, _), _| run != run_id),
            row => {
                let (run_id, key, stays) = place(row);
                if stays {
                    let known = self.rows.insert((run_id, key.clone()), row.clone());
                    assert!(!matches!(key, Key::History(_)) || known.is_none(), "history was rewritten: {row:?}");
                } else {
                    let known = self.rows.remove(&(run_id, key));
                    assert!(known.is_some(), "removed what is not there: {row:?}");
                }
            }
        }
    }

    pub fn chain_rows(&self) -> Vec<Row> {
        self.run_rows("")
    }

    pub fn run_rows(&self, run_id: &str) -> Vec<Row> {
        self.rows.iter().filter(|((run, _), _)| run == run_id).map(|(_, row)| row.clone()).collect()
    }

    pub fn run_ids(&self) -> Vec<String> {
        let heads = self.rows.keys().filter(|(_, key)| *key == Key::Head);
        heads.map(|(run_id, _)| run_id.clone()).collect()
    }

    /// The history of a run, by batch.
    pub fn batches(&self, run_id: &str) -> Vec<Vec<HistoryEvent>> {
        let of_run = self.rows.iter().filter(|((run, _), _)| run == run_id);
        of_run
            .filter_map(|(_, row)| match row {
                Row::History { events, .. } => Some(events.clone()),
                _ => None,
            })
            .collect()
    }

    /// Rows that follow from the state are there, and no others: the deadline, the tasks.
    pub fn assert_derived(&self, chain: &Chain) {
        let row = chain.record.as_ref().map_or(0, |record| record.deadline_row);
        let expected: BTreeSet<i64> = [row].into_iter().filter(|due| *due != 0).collect();
        assert_eq!(self.deadlines, expected);
        for run in chain.runs.values() {
            let offered = |kind: TaskKind| {
                let of_run = self.tasks.keys().filter(move |key| key.kind == kind && key.run_id == run.id);
                of_run.map(|key| key.scheduled_event_id)
            };
            let waits = |task: &&record::WorkflowTask| task.started_event_id == 0 && !run.is_paused();
            let task = run.head.workflow_task.as_ref().filter(waits);
            assert_eq!(
                offered(TaskKind::Workflow).collect::<Vec<_>>(),
                task.map(|task| task.scheduled_event_id).into_iter().collect::<Vec<_>>()
            );
            let activities: BTreeSet<i64> =
                run.activities.iter().filter(|(_, it)| it.offered && !run.is_paused()).map(|(id, _)| *id).collect();
            assert_eq!(offered(TaskKind::Activity).collect::<BTreeSet<_>>(), activities);
        }
    }
}

/// Run, key, and whether the row is put (or removed).
fn place(row: &Row) -> (String, Key, bool) {
    let of = |run_id: &String, key: Key, stays: bool| (run_id.clone(), key, stays);
    match row {
        Row::Chain(record) => (String::new(), Key::Chain, record.is_some()),
        Row::Schedule(row) => (String::new(), Key::Schedule, row.is_some()),
        Row::ScheduleHead(row) => (String::new(), Key::ScheduleHead, row.is_some()),
        Row::ScheduleResult(row) => (String::new(), Key::ScheduleResult, row.is_some()),
        Row::Send { sequence, send } => (String::new(), Key::Send(*sequence), send.is_some()),
        Row::Receipt { key, receipt } => (String::new(), Key::Receipt(key.clone()), receipt.is_some()),
        Row::Head { run_id, head } => of(run_id, Key::Head, head.is_some()),
        Row::Fields { run_id, fields } => of(run_id, Key::Fields, fields.is_some()),
        Row::History { run_id, first_event_id, .. } => of(run_id, Key::History(*first_event_id), true),
        Row::Activity { run_id, scheduled_event_id, activity } => {
            of(run_id, Key::Activity(*scheduled_event_id), activity.is_some())
        }
        Row::Timer { run_id, started_event_id, timer } => of(run_id, Key::Timer(*started_event_id), timer.is_some()),
        Row::Child { run_id, initiated_event_id, child } => {
            of(run_id, Key::Child(*initiated_event_id), child.is_some())
        }
        Row::ExternalSignal { run_id, initiated_event_id, external } => {
            of(run_id, Key::ExternalSignal(*initiated_event_id), external.is_some())
        }
        Row::ExternalCancel { run_id, initiated_event_id, external } => {
            of(run_id, Key::ExternalCancel(*initiated_event_id), external.is_some())
        }
        Row::Buffered { run_id, arrival, event } => of(run_id, Key::Buffered(*arrival), event.is_some()),
        Row::Update { run_id, update_id, update } => of(run_id, Key::Update(update_id.clone()), update.is_some()),
        Row::SignalRequest { run_id, request_id, seen } => of(run_id, Key::SignalRequest(request_id.clone()), *seen),
        Row::Task { .. } | Row::Deadline { .. } | Row::Visibility { .. } | Row::PurgeRun { .. } | Row::ForgetCounts => {
            unreachable!("kept apart")
        }
    }
}
