//! The rows in which the draft differs from the chain before.
//!
//! # Contract
//! A row that is the same before and after is not written. Rows of the backlog and of the listing are
//! functions of the state, so comparing both sides gives the changes.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::record;

use super::{Draft, Writing};
use crate::chain::{Due, DueKind, Run, Schedule};
use crate::row::Row;
use crate::stamp::nanos;
use crate::{activity, deadline, schedule, tasks, visibility};

impl Draft<'_> {
    pub(super) fn rows(&mut self) -> Vec<Row> {
        let mut rows = Vec::with_capacity(8);
        self.align_record();
        for (run_id, writing) in core::mem::take(&mut self.writing) {
            self.index_due(&run_id);
            self.run_rows(&run_id, writing, &mut rows);
        }
        for run_id in core::mem::take(&mut self.purged) {
            self.purge_rows(run_id, &mut rows);
        }
        self.schedule_rows(&mut rows);
        rows.extend(self.chain.sends.writes().map(|(sequence, send)| Row::Send { sequence: *sequence, send }));
        rows.extend(self.chain.receipts.writes().map(|(key, receipt)| Row::Receipt { key: key.clone(), receipt }));
        self.deadline_rows(&mut rows);
        self.drop_empty_record();
        if self.chain.record != self.before.record {
            rows.push(Row::Chain(self.chain.record.clone()));
        }
        if self.forgets_counts {
            rows.push(Row::ForgetCounts);
        }
        rows
    }

    /// The chain's own row repeats what has to be known of the current run without loading it.
    fn align_record(&mut self) {
        let Some(record) = &mut self.chain.record else { return };
        if record.current_run_id.is_empty() {
            record.request_ids.clear();
            return;
        }
        let Some(run) = self.chain.runs.get(&record.current_run_id) else { return };
        record.current_status = run.head.status;
        record.current_start_time = Some(crate::stamp::timestamp(run.start_time));
        if record.request_ids != run.head.request_ids {
            record.request_ids.clone_from(&run.head.request_ids);
        }
    }

    /// Keeps the index of due times equal to what the pending activities and timers say.
    fn index_due(&mut self, run_id: &str) {
        let Some(run) = self.chain.runs.get_mut(run_id) else { return };
        let activities = run.activities.changes().map(|(id, before, now)| {
            let due = |activity: &record::Activity| activity::due(activity);
            (DueKind::Activity, *id, before.and_then(due), now.and_then(due))
        });
        let timers = run.timers.changes().map(|(id, before, now)| {
            let due = |timer: &record::Timer| timer.due.as_ref().map(nanos);
            (DueKind::Timer, *id, before.and_then(due), now.and_then(due))
        });
        let changed: Vec<_> = activities.chain(timers).filter(|(.., before, now)| before != now).collect();
        if changed.is_empty() {
            return;
        }
        let due = &mut Arc::make_mut(run).due;
        for (kind, event_id, before, now) in changed {
            if let Some(at) = before {
                due.remove(&Due { at, kind, event_id });
            }
            if let Some(at) = now {
                due.put(Due { at, kind, event_id }, ());
            }
        }
    }

    fn run_rows(&self, run_id: &str, writing: Writing, rows: &mut Vec<Row>) {
        let Some(run) = self.chain.runs.get(run_id) else { return };
        let before = self.before.runs.get(run_id).map(|run| &**run);
        for events in writing.finished {
            let first_event_id = events.first().map_or(0, |event| event.event_id);
            rows.push(Row::History { run_id: run_id.to_string(), first_event_id, events });
        }
        let run_id = || run_id.to_string();
        rows.push(Row::Head { run_id: run_id(), head: Some(run.head.share()) });
        if before.is_none_or(|before| !Arc::ptr_eq(&before.fields, &run.fields) && before.fields != run.fields) {
            rows.push(Row::Fields { run_id: run_id(), fields: Some(run.fields.clone()) });
        }
        for (id, activity) in run.activities.writes() {
            rows.push(Row::Activity { run_id: run_id(), scheduled_event_id: *id, activity });
        }
        for (id, timer) in run.timers.writes() {
            rows.push(Row::Timer { run_id: run_id(), started_event_id: *id, timer });
        }
        for (id, child) in run.children.writes() {
            rows.push(Row::Child { run_id: run_id(), initiated_event_id: *id, child });
        }
        for (id, external) in run.external_signals.writes() {
            rows.push(Row::ExternalSignal { run_id: run_id(), initiated_event_id: *id, external });
        }
        for (id, external) in run.external_cancels.writes() {
            rows.push(Row::ExternalCancel { run_id: run_id(), initiated_event_id: *id, external });
        }
        for (arrival, event) in run.buffered.writes() {
            rows.push(Row::Buffered { run_id: run_id(), arrival: *arrival, event });
        }
        for (request_id, seen) in run.signal_requests.writes() {
            let request_id = request_id.clone();
            rows.push(Row::SignalRequest { run_id: run_id(), request_id, seen: seen.is_some() });
        }
        for (update_id, update) in run.updates.writes() {
            rows.push(Row::Update { run_id: run_id(), update_id: update_id.clone(), update });
        }
        self.task_rows(before, run, rows);
        self.visibility_row(before, run, rows);
    }

    fn task_rows(&self, before: Option<&Run>, now: &Run, rows: &mut Vec<Row>) {
        let workflow_id = &self.chain.id.workflow_id;
        let task = |run: &Run| tasks::of_workflow(workflow_id, run);
        tasks::change(before.and_then(task), task(now), rows);
        // Pausing, going on and another priority change every activity that is offered, so these are all that may differ.
        for (_, activity_before, activity) in now.activities.changes() {
            let offer = |run: &Run, activity: &record::Activity| tasks::of_activity(workflow_id, run, activity);
            let offered_before = activity_before.and_then(|activity| offer(before.unwrap_or(now), activity));
            tasks::change(offered_before, activity.and_then(|activity| offer(now, activity)), rows);
        }
    }

    fn visibility_row(&self, before: Option<&Run>, now: &Run, rows: &mut Vec<Row>) {
        // What a listing shows of an open run stands in these, but for the delay of a standalone activity.
        let same = |before: &Run| {
            before.head.status == now.head.status && Arc::ptr_eq(&before.fields, &now.fields) && now.is_running()
        };
        if now.head.standalone.is_none() && before.is_some_and(same) {
            return;
        }
        let before = before.map(|run| visibility::of(&self.chain.id, run));
        let listed = visibility::of(&self.chain.id, now);
        if before.as_ref() != Some(&listed) {
            rows.push(Row::Visibility { run_id: now.id.clone(), before, now: Some(listed) });
        }
    }

    fn purge_rows(&self, run_id: String, rows: &mut Vec<Row>) {
        if let Some(run) = self.before.runs.get(&run_id) {
            let workflow_id = &self.chain.id.workflow_id;
            tasks::change(tasks::of_workflow(workflow_id, run), None, rows);
            for (_, activity) in run.activities.iter() {
                tasks::change(tasks::of_activity(workflow_id, run, activity), None, rows);
            }
            rows.push(Row::Visibility {
                run_id: run_id.clone(),
                before: Some(visibility::of(&self.chain.id, run)),
                now: None,
            });
        }
        rows.push(Row::PurgeRun { run_id });
    }

    fn schedule_rows(&self, rows: &mut Vec<Row>) {
        let (before, now) = (self.before.schedule.as_ref(), self.chain.schedule.as_ref());
        let Some(run_id) = now.or(before).map(|schedule| schedule.definition.run_id.clone()) else { return };
        // A schedule that was removed and made again in one step is another one.
        let before = before.filter(|before| now.is_none_or(|now| now.definition.run_id == before.definition.run_id));
        if before.map(|s| &s.definition) != now.map(|s| &s.definition) {
            rows.push(Row::Schedule(now.map(|s| s.definition.clone())));
        }
        if before.map(|s| &s.head) != now.map(|s| &s.head) {
            rows.push(Row::ScheduleHead(now.map(|s| s.head.share())));
        }
        if before.map(|s| &s.result) != now.map(|s| &s.result) {
            rows.push(Row::ScheduleResult(now.map(|s| s.result.share())));
        }
        let listed = |schedule: &Schedule| schedule::listed(&self.chain.id, schedule);
        let (before, now) = (before.map(listed), now.map(listed));
        if before != now {
            rows.push(Row::Visibility { run_id, before, now });
        }
    }

    /// A chain without a current run, and with nothing sent or received that matters, is forgotten.
    fn drop_empty_record(&mut self) {
        let chain = &mut self.chain;
        let empty = |record: &record::Chain| record.current_run_id.is_empty() && record.quarantined.is_empty();
        if chain.schedule.is_none()
            && chain.sends.is_empty()
            && chain.receipts.is_empty()
            && chain.record.as_ref().is_some_and(empty)
        {
            chain.record = None;
        }
    }

    /// The deadline row may be early, never late: it moves when the deadline comes earlier, when the row's
    /// own time has come, when a wake found nothing due, and it goes when nothing is waited for.
    fn deadline_rows(&mut self, rows: &mut Vec<Row>) {
        let earliest = deadline::durable(&self.chain);
        let Some(record) = &mut self.chain.record else { return };
        let current = &record.current_run_id;
        if !current.is_empty() && !self.chain.runs.contains_key(current) {
            return;
        }
        let row = record.deadline_row;
        let now = self.at.now;
        let due = match earliest {
            None => 0,
            Some(due) if row == 0 || due < row || row <= now || self.rewrite_deadline => due,
            Some(_) => row,
        };
        if due == row {
            return;
        }
        if row != 0 {
            rows.push(Row::Deadline { due: row, armed: false });
        }
        if due != 0 {
            rows.push(Row::Deadline { due, armed: true });
        }
        record.deadline_row = due;
    }
}
