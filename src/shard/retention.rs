//! Closed runs whose retention is over: found by a sweep over the closing times, purged by their chains.
//!
//! # Contract
//! A sweep reads the end of each namespace's listing, where the runs that closed first stand; it never reads
//! what is to stay. The namespace's retention of now counts, not the one of when the run closed. What a sweep
//! leaves over, the next one finds: nothing of it is remembered.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bristlecone_proto::chain::ChainId;
use bristlecone_proto::record::Visibility;
use bristlecone_storage::runtime::UnixNanos;
use bristlecone_storage::state::keys::{self, Attribute, Id, IndexValue, Key, Slot};
use bristlecone_storage::state::{Direction, Error, Read};
use prost::Message;

/// How often a shard sweeps.
pub const EVERY: Duration = Duration::from_secs(60);
/// How soon it sweeps again when there was more than it takes at once.
pub const AGAIN: Duration = Duration::from_secs(1);
/// Runs that one sweep finds.
pub const RUNS_MAX: usize = 1_000;

/// A run whose retention is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired {
    pub chain: ChainId,
    pub run_id: String,
}

/// Finds runs that closed longer ago than their namespace keeps them, at most [`RUNS_MAX`].
/// `retentions` is in nanoseconds, by namespace id; 0 keeps for ever.
pub fn sweep(
    rows: &(impl Read + ?Sized),
    slots: &[Slot],
    retentions: &HashMap<String, i64>,
    now: UnixNanos,
) -> Result<Vec<Expired>, Error> {
    let mut expired = Vec::new();
    for slot in slots {
        for (namespace_id, retention) in retentions.iter().filter(|(_, retention)| **retention > 0) {
            let oldest_kept = now.saturating_sub(*retention);
            let listing = keys::index_of(*slot, namespace_id, &Attribute::All, &IndexValue::Absent);
            let mut runs = Vec::new();
            rows.scan(&listing, Direction::Reverse, &mut |key, _| match Key::parse(key) {
                Ok((_, Key::Index { close, run, .. })) if close != keys::OPEN && close.0 < oldest_kept => {
                    runs.push(run.to_string());
                    if expired.len() + runs.len() < RUNS_MAX {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                }
                _ => ControlFlow::Break(()),
            })?;
            for run_id in runs {
                let record = Key::Visibility { namespace: Id::new(namespace_id), run: Id::new(&run_id) };
                let Some(record) = rows.get(&record.encode(*slot))? else { continue };
                let Ok(record) = Visibility::decode(record) else { continue };
                let chain = ChainId {
                    namespace_id: namespace_id.clone(),
                    workflow_id: record.workflow_id,
                    namespace: String::new(),
                };
                expired.push(Expired { chain, run_id });
            }
            if expired.len() >= RUNS_MAX {
                return Ok(expired);
            }
        }
    }
    Ok(expired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_machine::stamp::timestamp;
    use bristlecone_storage::state::{BatchBuilder, ModelOptions, ModelStore, StateStore};
    use bristlecone_storage::vfs::ModelVfs;
    use std::sync::Arc;

    const NAMESPACE: &str = "2b1f0d7a-3f0c-4f4e-9c2b-0a4f8d1c5e6f";

    fn run(number: u8, closed: Option<i64>) -> (String, Visibility) {
        let run_id = format!("00000000-0000-4000-8000-0000000000{number:02}");
        let record = Visibility {
            workflow_id: format!("w{number}"),
            run_id: run_id.clone(),
            workflow_type: "t".into(),
            start_time: Some(timestamp(1)),
            close_time: closed.map(timestamp),
            ..Visibility::default()
        };
        (run_id, record)
    }

    #[test]
    fn only_runs_that_closed_long_enough_ago_are_found() {
        let store = ModelStore::new(Arc::new(ModelVfs::new(1)), ModelOptions::default());
        let mut batch = BatchBuilder::default();
        for (run_id, record) in [run(1, Some(100)), run(2, Some(500)), run(3, None), run(4, Some(50))] {
            super::super::visibility::write(7, NAMESPACE, &run_id, None, Some(&record), &mut batch);
        }
        store.write(&[batch.finish().expect("a batch")]).expect("it applies");
        let found = |retention, now| {
            let retentions = HashMap::from([(NAMESPACE.to_string(), retention)]);
            let expired = sweep(&store, &[6, 7, 8], &retentions, now).expect("rows");
            expired.into_iter().map(|expired| expired.chain.workflow_id).collect::<Vec<_>>()
        };
        assert_eq!(found(300, 401), ["w4", "w1"]);
        assert_eq!(found(300, 400), ["w4"]);
        assert_eq!(found(300, 10_000), ["w4", "w1", "w2"]);
        assert!(found(0, 10_000).is_empty());
    }
}
