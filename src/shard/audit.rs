//! Whether the rows behind listings are those that the runs demand: for `bristlecone visibility`.
//!
//! # Contract
//! Looks at one slot, at one moment, and changes nothing. What a run's rows must be follows from the run alone
//! ([`bristlecone_machine::listing_of_run`]), so everything else is a fault. Runs don't name their namespace: a run
//! belongs to the one whose chain of the workflow id that it began with has this slot.
//!
//! # Used by
//! `src/cluster/check.rs` (to find), `mend.rs` (what the rows should be).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bristlecone_machine::{listing_of_run, listing_of_schedule};
use bristlecone_proto::chain::ChainId;
use bristlecone_proto::node::ListingFaults;
use bristlecone_proto::record::Visibility;
use bristlecone_proto::temporal::api::history::v1::History;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_storage::state::keys::{self, ChainRow, Id, Key, RunRow, Slot, slot_of};
use bristlecone_storage::state::{Direction, Error, Read};
use bytes::Bytes;
use prost::Message;

use super::load::{self, LoadError};
use super::visibility;

/// Listings that one audit names for mending.
const NAMED_MAX: usize = 1_000;

/// What an audit found, and where.
#[derive(Debug, Default, PartialEq)]
pub struct Audit {
    pub faults: ListingFaults,
    /// What to mend first; it may be a part.
    pub named: Vec<Listing>,
}

/// The rows of one run, or schedule, behind listings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listing {
    pub namespace_id: String,
    /// Empty when nothing tells it.
    pub workflow_id: String,
    pub run_id: String,
    /// Keys of index rows that should not be, perhaps.
    pub strays: Vec<Bytes>,
}

/// Looks at a slot. `namespaces` are the ids of all that there are, `only` is one of them or empty.
pub fn audit(rows: &dyn Read, slot: Slot, namespaces: &[String], only: &str) -> Result<Audit, Error> {
    let mut auditor =
        Auditor { rows, slot, namespaces, only, faults: ListingFaults::default(), suspects: BTreeMap::new() };
    let mut counts = BTreeMap::new();
    for chain in auditor.schedules()? {
        auditor.check_schedule(&chain, &mut counts)?;
    }
    for run_id in auditor.runs()? {
        auditor.check_run(&run_id, &mut counts)?;
    }
    for namespace_id in auditor.wanted() {
        auditor.check_records(namespace_id)?;
        auditor.check_index(namespace_id)?;
        auditor.check_counts(namespace_id, &counts)?;
    }
    let Auditor { faults, suspects, .. } = auditor;
    let named = suspects.into_iter().map(|((namespace_id, run_id), (workflow_id, strays))| Listing {
        namespace_id,
        workflow_id,
        run_id,
        strays,
    });
    Ok(Audit { faults, named: named.collect() })
}

/// What a listing has to show of a run or schedule; `None` when there is none of this chain.
pub fn expected(rows: &dyn Read, slot: Slot, chain: &ChainId, run_id: &str) -> Result<Option<Visibility>, LoadError> {
    if let Some(run) = load::run(rows, slot, chain, run_id)? {
        let owned = rows.get(&Key::chain(&chain.namespace_id, &chain.workflow_id, ChainRow::Record).encode(slot))?;
        return Ok(owned.map(|_| listing_of_run(chain, &run)));
    }
    let schedule = load::chain(rows, slot, chain)?.schedule;
    let schedule = schedule.filter(|schedule| schedule.definition.run_id == run_id);
    Ok(schedule.map(|schedule| listing_of_schedule(chain, &schedule)))
}

/// What listings show of a run.
pub fn record(rows: &dyn Read, slot: Slot, namespace_id: &str, run_id: &str) -> Result<Option<Visibility>, Error> {
    let key = Key::Visibility { namespace: Id::new(namespace_id), run: Id::new(run_id) };
    // One that cannot be read is as good as none, and written anew.
    Ok(rows.get(&key.encode(slot))?.and_then(|record| Visibility::decode(record).ok()))
}

/// How many runs of each kind there are, by the keys of their counters.
pub type Counts = BTreeMap<Vec<u8>, i64>;

pub fn count(counts: &mut Counts, slot: Slot, namespace_id: &str, listed: &Visibility) {
    *counts.entry(visibility::counter(namespace_id, listed).encode(slot)).or_default() += 1;
}

/// The counters of a namespace that are not as they should be, each with the number that it should have.
pub fn wrong_counts(rows: &dyn Read, slot: Slot, namespace_id: &str, counts: &Counts) -> Result<Counts, Error> {
    let range = keys::run_counts(slot, namespace_id);
    let mut wrong: Counts =
        counts.iter().filter(|(key, _)| range.contains(key)).map(|(k, n)| (k.clone(), *n)).collect();
    rows.scan(&range, Direction::Forward, &mut |key, value| {
        let stored = value.try_into().map_or(i64::MIN, i64::from_le_bytes);
        if stored == wrong.get(key).copied().unwrap_or(0) {
            wrong.remove(key);
        } else {
            wrong.entry(key.to_vec()).or_insert(0);
        }
        ControlFlow::Continue(())
    })?;
    Ok(wrong)
}

struct Auditor<'a> {
    rows: &'a dyn Read,
    slot: Slot,
    namespaces: &'a [String],
    only: &'a str,
    faults: ListingFaults,
    /// By namespace and run: the workflow id, and index rows that may be wrong.
    suspects: BTreeMap<(String, String), (String, Vec<Bytes>)>,
}

impl<'a> Auditor<'a> {
    fn wanted(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let only = self.only;
        self.namespaces.iter().map(String::as_str).filter(move |id| only.is_empty() || *id == only)
    }

    fn suspect(&mut self, namespace_id: &str, workflow_id: &str, run_id: &str, stray: Option<&[u8]>) {
        let key = (namespace_id.to_owned(), run_id.to_owned());
        if self.suspects.len() >= NAMED_MAX && !self.suspects.contains_key(&key) {
            return;
        }
        let (known, strays) = self.suspects.entry(key).or_default();
        if known.is_empty() {
            workflow_id.clone_into(known);
        }
        if strays.len() < NAMED_MAX {
            strays.extend(stray.map(Bytes::copy_from_slice));
        }
    }

    fn runs(&self) -> Result<BTreeSet<String>, Error> {
        let mut runs = BTreeSet::new();
        self.rows.scan(&keys::runs(self.slot), Direction::Forward, &mut |key, _| {
            if let Ok((_, Key::Run { run, row: RunRow::Head })) = Key::parse(key) {
                runs.insert(run.to_string());
            }
            ControlFlow::Continue(())
        })?;
        Ok(runs)
    }

    fn schedules(&self) -> Result<Vec<ChainId>, Error> {
        let mut chains = Vec::new();
        for namespace_id in self.wanted() {
            let range = keys::chains_of_namespace(self.slot, namespace_id);
            self.rows.scan(&range, Direction::Forward, &mut |key, _| {
                if let Ok((_, Key::Chain { workflow, row: ChainRow::Schedule, .. })) = Key::parse(key) {
                    chains.push(chain_id(namespace_id, &workflow));
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(chains)
    }

    fn check_schedule(&mut self, chain: &ChainId, counts: &mut Counts) -> Result<(), Error> {
        match load::chain(self.rows, self.slot, chain) {
            Ok(loaded) => {
                if let Some(schedule) = loaded.schedule {
                    let listed = listing_of_schedule(chain, &schedule);
                    self.check_listed(chain, &listed, counts)?;
                }
                Ok(())
            }
            Err(LoadError::Store(error)) => Err(error),
            Err(LoadError::Damaged(_)) => {
                self.faults.unreadable += 1;
                Ok(())
            }
        }
    }

    fn check_run(&mut self, run_id: &str, counts: &mut Counts) -> Result<(), Error> {
        let Some(chain) = self.owner(run_id)? else {
            self.faults.unreadable += u64::from(self.only.is_empty());
            return Ok(());
        };
        if !self.only.is_empty() && chain.namespace_id != self.only {
            return Ok(());
        }
        match load::run(self.rows, self.slot, &chain, run_id) {
            Ok(Some(run)) => self.check_listed(&chain, &listing_of_run(&chain, &run), counts),
            Err(LoadError::Store(error)) => Err(error),
            Ok(None) | Err(LoadError::Damaged(_)) => {
                self.faults.unreadable += 1;
                Ok(())
            }
        }
    }

    /// The chain that a run is one of.
    fn owner(&self, run_id: &str) -> Result<Option<ChainId>, Error> {
        let Some(first) = self.rows.get(&Key::history(run_id, 1).encode(self.slot))? else { return Ok(None) };
        let first = History::decode(first).ok().and_then(|history| history.events.into_iter().next());
        let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) =
            first.and_then(|event| event.attributes)
        else {
            return Ok(None);
        };
        let workflow_id = started.workflow_id;
        let mut owners = Vec::new();
        for namespace_id in self.namespaces.iter().filter(|id| slot_of(id, &workflow_id) == self.slot) {
            let chain = Key::chain(namespace_id, &workflow_id, ChainRow::Record).encode(self.slot);
            if self.rows.get(&chain)?.is_some() {
                owners.push(namespace_id);
            }
        }
        // The rare case of one id and one slot in two namespaces: what is listed tells.
        if owners.len() > 1 {
            let mut listing = Vec::new();
            for owner in &owners {
                listing.push(record(self.rows, self.slot, owner, run_id)?.is_some());
            }
            let mut listing = listing.into_iter();
            owners.retain(|_| listing.next().unwrap_or(false));
        }
        Ok(owners.first().map(|namespace_id| chain_id(namespace_id, &workflow_id)))
    }

    /// Holds the rows of a run or schedule against what they should be.
    fn check_listed(&mut self, chain: &ChainId, listed: &Visibility, counts: &mut Counts) -> Result<(), Error> {
        let ChainId { namespace_id, workflow_id, .. } = chain;
        self.faults.checked += 1;
        count(counts, self.slot, namespace_id, listed);
        let stored = record(self.rows, self.slot, namespace_id, &listed.run_id)?;
        let mut wrong = true;
        match &stored {
            None => self.faults.missing += 1,
            Some(stored) if stored != listed => self.faults.different += 1,
            Some(_) => wrong = false,
        }
        let index: Vec<Vec<u8>> = visibility::index_rows(namespace_id, &listed.run_id, listed)
            .iter()
            .map(|row| row.encode(self.slot))
            .collect();
        let keys: Vec<&[u8]> = index.iter().map(Vec::as_slice).collect();
        if self.rows.multi_get(&keys)?.iter().any(Option::is_none) {
            self.faults.unindexed += 1;
            wrong = true;
        }
        if wrong {
            self.suspect(namespace_id, workflow_id, &listed.run_id, None);
        }
        Ok(())
    }

    /// Looks for records of what does not exist.
    fn check_records(&mut self, namespace_id: &str) -> Result<(), Error> {
        let mut records = Vec::new();
        self.rows.scan(&keys::visibility(self.slot, namespace_id), Direction::Forward, &mut |key, value| {
            if let Ok((_, Key::Visibility { run, .. })) = Key::parse(key) {
                let workflow_id = Visibility::decode(value).map(|record| record.workflow_id).unwrap_or_default();
                records.push((workflow_id, run.to_string()));
            }
            ControlFlow::Continue(())
        })?;
        for (workflow_id, run_id) in records {
            match expected(self.rows, self.slot, &chain_id(namespace_id, &workflow_id), &run_id) {
                Ok(Some(_)) | Err(LoadError::Damaged(_)) => {}
                Ok(None) => {
                    self.faults.superfluous += 1;
                    self.suspect(namespace_id, &workflow_id, &run_id, None);
                }
                Err(LoadError::Store(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks for index rows of values that a run does not have.
    fn check_index(&mut self, namespace_id: &str) -> Result<(), Error> {
        let mut strays = Vec::new();
        let mut failed = None;
        let all = keys::indexes(self.slot, namespace_id);
        self.rows.scan(&all, Direction::Forward, &mut |key, _| {
            match self.stray(namespace_id, key) {
                Ok(Some(stray)) => strays.push((stray, Bytes::copy_from_slice(key))),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
            if failed.is_none() && strays.len() < NAMED_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for ((workflow_id, run_id), key) in strays {
            self.faults.misindexed += 1;
            self.suspect(namespace_id, &workflow_id, &run_id, Some(&key));
        }
        Ok(())
    }

    /// Workflow and run of an index row that the run's record does not demand.
    fn stray(&self, namespace_id: &str, key: &[u8]) -> Result<Option<(String, String)>, Error> {
        let Ok((_, row)) = Key::parse(key) else { return Ok(None) };
        let Key::Index { run, .. } = &row else { return Ok(None) };
        let run_id = run.to_string();
        let Some(record) = record(self.rows, self.slot, namespace_id, &run_id)? else {
            return Ok(Some((String::new(), run_id)));
        };
        let demanded = visibility::index_rows(namespace_id, &run_id, &record).contains(&row);
        Ok((!demanded).then_some((record.workflow_id, run_id)))
    }

    fn check_counts(&mut self, namespace_id: &str, counts: &Counts) -> Result<(), Error> {
        let wrong = wrong_counts(self.rows, self.slot, namespace_id, counts)?;
        self.faults.miscounted += wrong.len() as u64;
        Ok(())
    }
}

fn chain_id(namespace_id: &str, workflow_id: &str) -> ChainId {
    ChainId { namespace_id: namespace_id.to_owned(), workflow_id: workflow_id.to_owned(), namespace: String::new() }
}
