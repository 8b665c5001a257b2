//! Events that wait for the workflow task in a worker's hands to close, and the order in which they
//! get their ids.
//!
//! # Contract
//! A buffered event is folded when it arrives and is a row of its own (arrival number, no id). When the
//! buffer is flushed, events keep their order, save that those which end an activity or child go behind
//! the others. A step that leaves a workflow task started leaves the buffer as it is; any other step
//! flushes it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use prost::Message;

use super::Draft;
use crate::event::{self, Link};
use crate::fold;

impl Draft<'_> {
    /// Folds the event and puts it at the end of the buffer.
    pub(super) fn buffer(&mut self, run_id: &str, event: HistoryEvent) {
        let limits = self.at.limits;
        let (run, _) = self.parts(run_id);
        fold::apply(run, &event, 0, limits);
        let arrival = run.head.next_arrival;
        run.head.next_arrival += 1;
        run.head.buffered_count += 1;
        run.head.buffered_bytes += encoded_len(&event);
        run.buffered.put(arrival, event);
    }

    pub fn has_buffered(&self, run_id: &str) -> bool {
        !self.run(run_id).buffered.is_empty()
    }

    /// Whether a buffered event fits.
    pub fn any_buffered(&self, run_id: &str, fits: impl Fn(&Attributes) -> bool) -> bool {
        self.run(run_id).buffered.iter().any(|(_, event)| event.attributes.as_ref().is_some_and(&fits))
    }

    /// Takes the first buffered event that fits out of the buffer. What its arrival changed stays.
    pub fn take_buffered(&mut self, run_id: &str, fits: impl Fn(&Attributes) -> bool) -> Option<HistoryEvent> {
        let (run, _) = self.parts(run_id);
        let arrival = run
            .buffered
            .iter()
            .find(|(_, event)| event.attributes.as_ref().is_some_and(&fits))
            .map(|(arrival, _)| *arrival)?;
        let event = run.buffered.remove(&arrival)?;
        run.head.buffered_count -= 1;
        run.head.buffered_bytes -= encoded_len(&event);
        Some(Arc::unwrap_or_clone(event))
    }

    /// Numbers everything that waits in the buffer, at the end of the current batch.
    pub fn flush_buffer(&mut self, run_id: &str) {
        if !self.has_buffered(run_id) {
            return;
        }
        let (run, writing) = self.parts(run_id);
        let arrivals: Vec<i64> = run.buffered.iter().map(|(arrival, _)| *arrival).collect();
        let events = arrivals.iter().filter_map(|arrival| run.buffered.remove(arrival)).map(Arc::unwrap_or_clone);
        let (last, first): (Vec<_>, Vec<_>) = events.partition(|event| event::is_flushed_last(event.event_type()));
        run.head.buffered_count = 0;
        run.head.buffered_bytes = 0;
        for mut event in first.into_iter().chain(last) {
            let id = run.head.next_event_id;
            run.head.next_event_id += 1;
            event.event_id = id;
            event.task_id = id;
            match event::link(&mut event) {
                Link::Started(scheduled_id) => {
                    writing.started_ids.insert(scheduled_id, id);
                }
                Link::Closed(scheduled_id, started_id) => {
                    if let Some(id) = writing.started_ids.get(&scheduled_id) {
                        *started_id = *id;
                    }
                }
                Link::None => {}
            }
            fold::number(run, &event);
            writing.batch.push(event);
        }
    }

    /// What has to happen to every run that was touched before the rows are computed.
    pub(super) fn close_transitions(&mut self) {
        let run_ids: Vec<_> = self.writing.keys().cloned().collect();
        for run_id in run_ids {
            if self.run(&run_id).is_running() {
                self.relieve_buffer(&run_id);
                if !self.run(&run_id).has_started_task() {
                    self.flush_buffer(&run_id);
                }
                self.schedule_task_for_updates(&run_id);
            }
            self.end_batch(&run_id);
        }
    }

    /// A buffer that grew too large ends the workflow task that it waits for.
    fn relieve_buffer(&mut self, run_id: &str) {
        let limits = self.at.limits;
        let run = self.run(run_id);
        let too_large =
            run.head.buffered_count > limits.buffered_events_max || run.head.buffered_bytes > limits.buffered_bytes_max;
        if too_large && run.has_started_task() {
            self.fail_workflow_task(run_id, WorkflowTaskFailedCause::ForceCloseCommand, None, "history-service", "");
            self.flush_buffer(run_id);
            self.schedule_workflow_task(run_id);
        }
    }
}

pub(super) fn encoded_len(event: &HistoryEvent) -> i64 {
    i64::try_from(event.encoded_len()).unwrap_or(i64::MAX)
}
