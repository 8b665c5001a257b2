//! From stored rows back to a chain: what the reader task fetches before a step.

use std::ops::ControlFlow;

use bristlecone_machine::chain::ReceiptKey;
use bristlecone_machine::load::Loader;
use bristlecone_machine::{Chain, Row, Run};
use bristlecone_proto::chain::{ChainId, Send};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::history::v1::{History, HistoryEvent};
use bristlecone_storage::state::keys::{self, ChainRow, Key, RunRow, Slot};
use bristlecone_storage::state::{Direction, Error, KeyRange, Read};
use bytes::Bytes;
use prost::{DecodeError, Message};

/// Why a chain cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] Error),
    /// The rows contradict each other or cannot be decoded: the chain is out of service.
    #[error("damaged rows: {0}")]
    Damaged(String),
}

/// The chain itself, without its runs.
pub fn chain(rows: &(impl Read + ?Sized), slot: Slot, id: &ChainId) -> Result<Chain, LoadError> {
    let mut loader = Loader::new(id.clone());
    let mut known = false;
    scan(rows, &keys::chain_rows(slot, &id.namespace_id, &id.workflow_id), |key, value| {
        known = true;
        loader.row(chain_row(key, value)?);
        Ok(())
    })?;
    if known {
        scan(rows, &keys::outbox_of(slot, &id.namespace_id, &id.workflow_id), |key, value| {
            if let Key::Outbox { sequence, .. } = key {
                loader.row(Row::Send { sequence, send: Some(Send::decode(value)?.into()) });
            }
            Ok(())
        })?;
    }
    Ok(loader.finish())
}

/// One run with everything that it waits for; `None` when there is no such run of this chain.
pub fn run(rows: &(impl Read + ?Sized), slot: Slot, id: &ChainId, run_id: &str) -> Result<Option<Run>, LoadError> {
    let Some(first) = rows.get(&Key::history(run_id, 1).encode(slot))? else { return Ok(None) };
    let events = History::decode(first).map_err(damaged)?.events;
    let mut loader = Loader::new(id.clone());
    loader.row(Row::History { run_id: run_id.to_string(), first_event_id: 1, events });
    scan(rows, &keys::run_rows(slot, run_id), |key, value| {
        if let Key::Run { row, .. } = key {
            loader.row(run_row(run_id, row, value)?);
        }
        Ok(())
    })?;
    let mut chain = loader.finish();
    let Some(run) = chain.runs.remove(run_id) else {
        return Err(LoadError::Damaged(format!(
            "run {run_id} has a history and no head, or does not begin with its start"
        )));
    };
    let run = std::sync::Arc::unwrap_or_clone(run);
    // A slot holds many chains; a run id names one run of one of them.
    Ok((run.started.workflow_id == id.workflow_id).then_some(run))
}

fn chain_row(key: Key<'_>, value: Bytes) -> Result<Row, DecodeError> {
    let Key::Chain { row, .. } = key else { return Ok(Row::Chain(None)) };
    Ok(match row {
        ChainRow::Record => Row::Chain(Some(record::Chain::decode(value)?)),
        ChainRow::Receipt { namespace, workflow, sequence } => Row::Receipt {
            key: ReceiptKey { namespace_id: namespace.to_string(), workflow_id: workflow.into_owned(), sequence },
            receipt: Some(record::Receipt::decode(value)?.into()),
        },
        ChainRow::Schedule => Row::Schedule(Some(record::Schedule::decode(value)?.into())),
        ChainRow::ScheduleHead => Row::ScheduleHead(Some(record::ScheduleHead::decode(value)?.into())),
        ChainRow::ScheduleResult => Row::ScheduleResult(Some(record::ScheduleResult::decode(value)?.into())),
    })
}

fn run_row(run_id: &str, row: RunRow<'_>, value: Bytes) -> Result<Row, DecodeError> {
    let run_id = run_id.to_string();
    Ok(match row {
        RunRow::Head => Row::Head { run_id, head: Some(record::Head::decode(value)?.into()) },
        RunRow::Fields => Row::Fields { run_id, fields: Some(record::Fields::decode(value)?.into()) },
        RunRow::Activity { event } => {
            Row::Activity { run_id, scheduled_event_id: event, activity: Some(record::Activity::decode(value)?.into()) }
        }
        RunRow::Timer { event } => {
            Row::Timer { run_id, started_event_id: event, timer: Some(record::Timer::decode(value)?.into()) }
        }
        RunRow::Child { event } => {
            Row::Child { run_id, initiated_event_id: event, child: Some(record::Child::decode(value)?.into()) }
        }
        RunRow::ExternalSignal { event } => Row::ExternalSignal {
            run_id,
            initiated_event_id: event,
            external: Some(record::External::decode(value)?.into()),
        },
        RunRow::ExternalCancel { event } => Row::ExternalCancel {
            run_id,
            initiated_event_id: event,
            external: Some(record::External::decode(value)?.into()),
        },
        RunRow::Buffered { arrival } => {
            Row::Buffered { run_id, arrival, event: Some(HistoryEvent::decode(value)?.into()) }
        }
        RunRow::SignalRequest { request } => {
            Row::SignalRequest { run_id, request_id: request.into_owned(), seen: true }
        }
        RunRow::Update { update } => {
            Row::Update { run_id, update_id: update.into_owned(), update: Some(record::Update::decode(value)?.into()) }
        }
    })
}

fn scan(
    rows: &(impl Read + ?Sized),
    range: &KeyRange,
    mut visit: impl FnMut(Key<'_>, Bytes) -> Result<(), DecodeError>,
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

fn damaged(error: DecodeError) -> LoadError {
    LoadError::Damaged(error.to_string())
}
