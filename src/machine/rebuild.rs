//! A run rebuilt from its history alone.
//!
//! # Contract
//! What history does not tell is at its beginning: attempts of activities and of the workflow task,
//! heartbeats, sticky queues, request ids.
//!
//! # Used by
//! The tests' replay check.

use alloc::vec::Vec;

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use prost::Message;

use crate::chain::Run;
use crate::fold;
use crate::stamp::Limits;

/// The run after these batches of events, and the events that wait behind them without an id. `None`
/// when the first event is no first event.
pub fn rebuild(run_id: &str, batches: &[Vec<HistoryEvent>], buffered: &[HistoryEvent], limits: &Limits) -> Option<Run> {
    let mut run = fold::start::run(run_id, batches.first()?.first()?)?;
    for batch in batches {
        let batch_id = batch.first()?.event_id;
        for event in batch {
            fold::apply(&mut run, event, batch_id, limits);
            run.head.next_event_id = event.event_id + 1;
            run.head.history_size += i64::try_from(event.encoded_len()).unwrap_or(i64::MAX);
        }
        run.head.last_batch_id = batch_id;
    }
    for event in buffered {
        fold::apply(&mut run, event, 0, limits);
    }
    Some(run)
}
