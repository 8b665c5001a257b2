//! How much a run weighs: the bytes of its rows besides the history, and what one step writes.
//!
//! # Contract
//! A run's weight is kept in its head and moved by what each step changes, so that nobody has to
//! read all rows to know it. A run that grew too heavy is terminated, as is one whose step writes more than
//! fits into one transaction.

use alloc::string::String;
use alloc::vec::Vec;

use prost::Message;

use super::Draft;
use crate::chain::Run;
use crate::rows::Rows;

/// What a step does to the weight of a run, in bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Moved {
    /// By how much the rows grew.
    grown: i64,
    written: i64,
}

impl Draft<'_> {
    /// Brings the weights of all runs that were touched up to date. The transitions must be closed.
    pub(super) fn weigh(&mut self) {
        let run_ids: Vec<String> = self.writing.keys().cloned().collect();
        for run_id in run_ids {
            let moved = self.moved(&run_id);
            let before = self.before.runs.get(&run_id).map_or(0, |run| run.head.state_bytes);
            self.raw_run_mut(&run_id).head.state_bytes = before.saturating_add(moved.grown).max(0);
        }
    }

    /// Bytes that this step writes of a run, events and rows.
    pub(super) fn written_bytes(&self, run_id: &str) -> i64 {
        let events = self.new_events(run_id).map(super::buffer::encoded_len).sum::<i64>();
        events.saturating_add(self.moved(run_id).written)
    }

    fn moved(&self, run_id: &str) -> Moved {
        let Some(run) = self.get(run_id) else { return Moved::default() };
        let before = self.before.runs.get(run_id).map(|run| &**run);
        let mut moved = Moved::default();
        moved.rows(&run.activities);
        moved.rows(&run.timers);
        moved.rows(&run.children);
        moved.rows(&run.external_signals);
        moved.rows(&run.external_cancels);
        moved.rows(&run.buffered);
        moved.rows(&run.updates);
        for (request_id, before, now) in run.signal_requests.changes() {
            moved.row(before.map_or(0, |()| bytes(request_id.len())), now.map_or(0, |()| bytes(request_id.len())));
        }
        let fields = |run: &Run| bytes(run.fields.encoded_len());
        if before.is_none_or(|before| !alloc::sync::Arc::ptr_eq(&before.fields, &run.fields)) {
            moved.row(before.map_or(0, fields), fields(run));
        }
        moved
    }
}

/// What the head of the run says that it weighs, counted anew.
pub(crate) fn weight(run: &Run) -> i64 {
    fn rows<K: Ord + Clone, V: Clone + Message>(rows: &Rows<K, V>) -> i64 {
        rows.iter().map(|(_, row)| bytes(row.encoded_len())).sum()
    }
    let requests = run.signal_requests.iter().map(|(request_id, ())| bytes(request_id.len())).sum::<i64>();
    rows(&run.activities)
        + rows(&run.timers)
        + rows(&run.children)
        + rows(&run.external_signals)
        + rows(&run.external_cancels)
        + rows(&run.buffered)
        + rows(&run.updates)
        + requests
        + bytes(run.fields.encoded_len())
}

impl Moved {
    fn rows<K: Ord + Clone, V: Clone + Message>(&mut self, rows: &Rows<K, V>) {
        for (_, before, now) in rows.changes() {
            let weight = |row: Option<&V>| row.map_or(0, |row| bytes(row.encoded_len()));
            self.row(weight(before), weight(now));
        }
    }

    fn row(&mut self, before: i64, now: i64) {
        self.grown = self.grown.saturating_add(now - before);
        self.written = self.written.saturating_add(now);
    }
}

fn bytes(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
