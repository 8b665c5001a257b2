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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bristlecone_proto::temporal::api::common::v1::WorkflowType;
    use bristlecone_proto::temporal::api::enums::v1::EventType;
    use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionStartedEventAttributes;
    use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
    use bristlecone_storage::state::{BatchBuilder, Limit, ModelOptions, ModelStore, StateStore};
    use bristlecone_storage::vfs::ModelVfs;
    use proptest::prelude::*;

    use super::*;
    use crate::shard::rows;

    const RUN: &str = "01a2ce8b-f245-7d1c-a1a2-96b94cd5b853";
    const SLOT: Slot = 7;

    fn id() -> ChainId {
        ChainId {
            namespace_id: "32049b68-7872-4094-8e63-d0dd59896a83".into(),
            workflow_id: "order-1".into(),
            namespace: String::new(),
        }
    }

    /// A chain with one run that waits for something of every kind.
    fn stored() -> Vec<Row> {
        let run_id = RUN.to_string();
        let attributes = Attributes::WorkflowExecutionStartedEventAttributes(WorkflowExecutionStartedEventAttributes {
            workflow_id: "order-1".into(),
            workflow_type: Some(WorkflowType { name: "Order".into() }),
            original_execution_run_id: run_id.clone(),
            ..WorkflowExecutionStartedEventAttributes::default()
        });
        let started = HistoryEvent {
            event_id: 1,
            event_type: EventType::WorkflowExecutionStarted.into(),
            attributes: Some(attributes),
            ..HistoryEvent::default()
        };
        let chain = record::Chain { current_run_id: run_id.clone(), ..record::Chain::default() };
        let receipt = ReceiptKey { namespace_id: id().namespace_id, workflow_id: "other".into(), sequence: 3 };
        vec![
            Row::Chain(Some(chain)),
            Row::Receipt { key: receipt, receipt: Some(record::Receipt { reply: Bytes::from_static(b"x") }.into()) },
            Row::Send { sequence: 1, send: Some(Send { run_id: run_id.clone(), ..Send::default() }.into()) },
            Row::History { run_id: run_id.clone(), first_event_id: 1, events: vec![started] },
            Row::Head {
                run_id: run_id.clone(),
                head: Some(record::Head { next_event_id: 9, ..Default::default() }.into()),
            },
            Row::Fields { run_id: run_id.clone(), fields: Some(record::Fields::default().into()) },
            Row::Activity {
                run_id: run_id.clone(),
                scheduled_event_id: 5,
                activity: Some(record::Activity::default().into()),
            },
            Row::Timer { run_id: run_id.clone(), started_event_id: 6, timer: Some(record::Timer::default().into()) },
            Row::Child { run_id: run_id.clone(), initiated_event_id: 7, child: Some(record::Child::default().into()) },
            Row::Update { run_id, update_id: "u".into(), update: Some(record::Update::default().into()) },
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Checksums keep changed rows away; one that was written so (by a fault of ours, by another version) puts
        /// its chain out of service at most.
        #[test]
        fn rows_that_were_written_wrong_break_nothing(
            changes in proptest::collection::vec(
                (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4,
            ),
        ) {
            let store = ModelStore::new(Arc::new(ModelVfs::new(1)), ModelOptions::default());
            let mut batch = BatchBuilder::new();
            for row in stored() {
                rows::write(SLOT, &id(), row, &mut batch);
            }
            store.write(&[batch.finish().expect("small")]).expect("written");
            let whole = run(&store, SLOT, &id(), RUN).expect("as it was written");
            prop_assert!(whole.is_some_and(|run| run.id == RUN));
            let all = keys::slot_range(SLOT, SLOT + 1);
            for (row, at, byte, cut) in &changes {
                let known = store.page(&all, Direction::Forward, Limit { rows: 100, bytes: 1 << 20 }).expect("read").rows;
                let (key, value) = row.get(&known);
                let mut value = value.to_vec();
                let at = at.index(value.len() + 1);
                match (cut, value.get_mut(at)) {
                    (false, Some(place)) => *place = *byte,
                    _ => value.truncate(at),
                }
                let mut batch = BatchBuilder::new();
                batch.put(key, &value);
                store.write(&[batch.finish().expect("small")]).expect("written");
            }
            drop(chain(&store, SLOT, &id()));
            drop(run(&store, SLOT, &id(), RUN));
        }
    }
}
