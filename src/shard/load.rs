//! From rows back to a chain: what the reader task fetches before a step.

use std::ops::ControlFlow;
use std::sync::Arc;

use bristlecone_machine::chain::ReceiptKey;
use bristlecone_machine::rows::Rows;
use bristlecone_machine::stamp::nanos;
use bristlecone_machine::{Chain, Run};
use bristlecone_proto::chain::{ChainId, Send};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::history::v1::{History, HistoryEvent, history_event::Attributes};
use bristlecone_storage::state::keys::{self, ChainRow, Key, RunRow, Slot};
use bristlecone_storage::state::{Direction, Error, Read};
use bytes::Bytes;
use prost::Message;

/// Why a chain cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] Error),
    /// The rows contradict each other or cannot be decoded: the chain is quarantined.
    #[error("damaged rows: {0}")]
    Damaged(String),
}

/// The chain itself, without its runs.
pub fn chain(rows: &(impl Read + ?Sized), slot: Slot, id: &ChainId) -> Result<Chain, LoadError> {
    let mut chain = Chain {
        id: id.clone(),
        record: None,
        runs: Default::default(),
        sends: Rows::default(),
        receipts: Rows::default(),
    };
    scan(rows, &keys::chain_rows(slot, &id.namespace_id, &id.workflow_id), |key, value| {
        match key {
            Key::Chain { row: ChainRow::Record, .. } => chain.record = Some(record::Chain::decode(value)?),
            Key::Chain { row: ChainRow::Receipt { namespace, workflow, sequence }, .. } => {
                let key = ReceiptKey {
                    namespace_id: namespace.to_string(),
                    workflow_id: workflow.into_owned(),
                    sequence,
                };
                chain.receipts.load(key, record::Receipt::decode(value)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    if chain.record.is_some() {
        scan(rows, &keys::outbox_of(slot, &id.namespace_id, &id.workflow_id), |key, value| {
            if let Key::Outbox { sequence, .. } = key {
                chain.sends.load(sequence, Send::decode(value)?);
            }
            Ok(())
        })?;
    }
    Ok(chain)
}

/// One run with everything that it waits for; `None` when there is no such run of this chain.
pub fn run(rows: &(impl Read + ?Sized), slot: Slot, id: &ChainId, run_id: &str) -> Result<Option<Run>, LoadError> {
    let Some(first) = rows.get(&Key::history(run_id, 1).encode(slot))? else { return Ok(None) };
    let first = History::decode(first).map_err(damaged)?.events.into_iter().next();
    let Some(HistoryEvent { event_time, attributes: Some(Attributes::WorkflowExecutionStartedEventAttributes(started)), .. }) =
        first
    else {
        return Err(LoadError::Damaged(format!("the history of run {run_id} does not begin with its start")));
    };
    // A slot holds many chains; a run id names one run of one of them.
    if started.workflow_id != id.workflow_id {
        return Ok(None);
    }
    let mut run = Run {
        id: run_id.to_string(),
        started: Arc::new(started),
        start_time: event_time.as_ref().map_or(0, nanos),
        head: record::Head::default(),
        fields: Arc::default(),
        activities: Rows::default(),
        timers: Rows::default(),
        children: Rows::default(),
        external_signals: Rows::default(),
        external_cancels: Rows::default(),
        buffered: Rows::default(),
        signal_requests: Rows::default(),
        soft_start: None,
    };
    scan(rows, &keys::run_rows(slot, run_id), |key, value| {
        let Key::Run { row, .. } = key else { return Ok(()) };
        match row {
            RunRow::Head => run.head = record::Head::decode(value)?,
            RunRow::Fields => run.fields = Arc::new(record::Fields::decode(value)?),
            RunRow::Activity { event } => run.activities.load(event, record::Activity::decode(value)?),
            RunRow::Timer { event } => run.timers.load(event, record::Timer::decode(value)?),
            RunRow::Child { event } => run.children.load(event, record::Child::decode(value)?),
            RunRow::ExternalSignal { event } => run.external_signals.load(event, record::External::decode(value)?),
            RunRow::ExternalCancel { event } => run.external_cancels.load(event, record::External::decode(value)?),
            RunRow::Buffered { arrival } => run.buffered.load(arrival, HistoryEvent::decode(value)?),
            RunRow::SignalRequest { request } => run.signal_requests.load(request.into_owned(), ()),
        }
        Ok(())
    })?;
    if run.head.next_event_id == 0 {
        return Err(LoadError::Damaged(format!("run {run_id} has a history and no head")));
    }
    Ok(Some(run))
}

fn scan(
    rows: &(impl Read + ?Sized),
    range: &bristlecone_storage::state::KeyRange,
    mut visit: impl FnMut(Key<'_>, Bytes) -> Result<(), prost::DecodeError>,
) -> Result<(), LoadError> {
    let mut failed = None;
    rows.scan(range, Direction::Forward, &mut |key, value| {
        let outcome = match Key::parse(key) {
            Ok((_, parsed)) => visit(parsed, Bytes::copy_from_slice(value)).map_err(damaged),
            Err(error) => Err(LoadError::Damaged(error.to_string())),
        };
        match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}

fn damaged(error: prost::DecodeError) -> LoadError {
    LoadError::Damaged(error.to_string())
}
