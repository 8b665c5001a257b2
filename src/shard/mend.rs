//! Makes the rows behind listings what the runs demand: for `bristlecone visibility rebuild`.
//!
//! # Contract
//! Done by the actor while no batch is in flight or in the making, in a batch of its own: what is applied then is all
//! that there is, so no change gets lost. Doing it twice changes nothing more.
//!
//! # Used by
//! `actor.rs`; asked for by `src/cluster/check.rs`.

use std::ops::ControlFlow;

use bristlecone_proto::chain::{ChainId, Reply};
use bristlecone_proto::record::Visibility;
use bristlecone_storage::state::keys::{self, Id, Key, Slot};
use bristlecone_storage::state::{BatchBuilder, Direction, Error, Read};
use prost::Message;

use super::CallError;
use super::actor::{Actor, Over};
use super::audit::{self, Counts, Listing};
use super::load::LoadError;
use super::mailbox::Answer;
use super::visibility;

/// Listings that are mended in one turn of the actor.
pub const AT_ONCE: usize = 64;

/// What is to be mended in one slot.
#[derive(Debug)]
pub enum Mend {
    /// At most [`AT_ONCE`].
    Listings(Vec<Listing>),
    /// The counters of a namespace, once its records are right.
    Counts { namespace_id: String },
}

impl Actor {
    pub fn mend(&mut self, slot: Slot, mend: &Mend, respond: Answer) -> Result<(), Over> {
        if !self.slots.contains(&slot) {
            // Who asked may be gone.
            drop(respond.send(Err(CallError::WrongShard)));
            return Ok(());
        }
        let store = &*self.around.store;
        let mended = match mend {
            Mend::Listings(listings) => listings.iter().try_for_each(|listing| {
                match listed(store, slot, listing, &mut self.pending.rows) {
                    // It says so whenever it is asked for anything.
                    Err(LoadError::Damaged(_)) => Ok(()),
                    Err(LoadError::Store(error)) => Err(error),
                    Ok(()) => Ok(()),
                }
            }),
            Mend::Counts { namespace_id } => counts(store, slot, namespace_id, &mut self.pending.rows),
        };
        mended.map_err(|error| self.storage(&error))?;
        self.pending.reply(respond, Reply::default());
        Ok(())
    }
}

/// Writes the rows of one run or schedule, its counter apart.
pub fn listed(rows: &dyn Read, slot: Slot, listing: &Listing, batch: &mut BatchBuilder) -> Result<(), LoadError> {
    let Listing { namespace_id, run_id, .. } = listing;
    let stored = audit::record(rows, slot, namespace_id, run_id)?;
    let chain = ChainId {
        namespace_id: namespace_id.clone(),
        workflow_id: match &stored {
            Some(stored) if listing.workflow_id.is_empty() => stored.workflow_id.clone(),
            _ => listing.workflow_id.clone(),
        },
        namespace: String::new(),
    };
    let wanted = audit::expected(rows, slot, &chain, run_id)?;
    let key = Key::Visibility { namespace: Id::new(namespace_id), run: Id::new(run_id) };
    match &wanted {
        Some(wanted) => batch.put_row(slot, &key, wanted),
        None => batch.delete_row(slot, &key),
    }
    let index = |listed: &Option<Visibility>| -> Vec<Vec<u8>> {
        let rows = listed.as_ref().map(|listed| visibility::index_rows(namespace_id, run_id, listed));
        rows.iter().flatten().map(|row| row.encode(slot)).collect()
    };
    let wanted = index(&wanted);
    for stray in index(&stored).iter().map(Vec::as_slice).chain(listing.strays.iter().map(|key| &key[..])) {
        if !wanted.iter().any(|row| row == stray) {
            batch.delete(stray);
        }
    }
    for row in &wanted {
        batch.put(row, &[]);
    }
    Ok(())
}

/// Writes the counters of a namespace as its records demand.
pub fn counts(rows: &dyn Read, slot: Slot, namespace_id: &str, batch: &mut BatchBuilder) -> Result<(), Error> {
    let mut counts = Counts::new();
    rows.scan(&keys::visibility(slot, namespace_id), Direction::Forward, &mut |_, record| {
        if let Ok(record) = Visibility::decode(record) {
            audit::count(&mut counts, slot, namespace_id, &record);
        }
        ControlFlow::Continue(())
    })?;
    for (key, runs) in audit::wrong_counts(rows, slot, namespace_id, &counts)? {
        match runs {
            0 => batch.delete(&key),
            runs => batch.put(&key, &runs.to_le_bytes()),
        }
    }
    Ok(())
}
