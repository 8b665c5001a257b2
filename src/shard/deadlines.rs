//! When chains have to be woken: the near future in memory, the rest in the deadline rows.
//!
//! # Contract
//! [`Deadlines::due`] names every chain of the shard whose row is due, and every chain whose soft state
//! is. Rows are read only when their time comes within the horizon: nothing polls all slots.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::Duration;

use bristlecone_proto::chain::ChainId;
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::runtime::UnixNanos;
use bristlecone_storage::state::keys::{self, Key, Slot};
use bristlecone_storage::state::{Direction, Error, Read};

use super::ChainKey;

/// How far ahead rows are in memory.
const HORIZON: Duration = Duration::from_secs(60);
/// Chains that are woken in one go, so that a restart with many due timers does not starve the rest.
const WAKES_MAX: usize = 256;

#[derive(Debug, Default)]
pub struct Deadlines {
    /// Rows that are due before the horizon.
    near: BTreeSet<(UnixNanos, ChainKey)>,
    /// The earliest row of each slot that is due at or after the horizon.
    far: BTreeMap<Slot, UnixNanos>,
    horizon: UnixNanos,
    soft: BTreeSet<(UnixNanos, ChainKey)>,
    soft_of: HashMap<ChainKey, UnixNanos>,
}

/// What a look at the rows of some slots brought.
#[derive(Debug, Default)]
pub struct Found {
    near: Vec<(UnixNanos, ChainId)>,
    far: Vec<(Slot, UnixNanos)>,
    horizon: UnixNanos,
}

impl Deadlines {
    /// A row was written or removed by the batch that is being built.
    pub fn row(&mut self, slot: Slot, chain: &ChainKey, due: UnixNanos, armed: bool) {
        if due >= self.horizon {
            if armed {
                let earliest = self.far.entry(slot).or_insert(due);
                *earliest = due.min(*earliest);
            }
        } else if armed {
            self.near.insert((due, chain.clone()));
        } else {
            self.near.remove(&(due, chain.clone()));
        }
    }

    /// The chain's soft state wants to be looked at by then, or no more.
    pub fn set_soft(&mut self, chain: &ChainKey, due: Option<UnixNanos>) {
        if let Some(before) = self.soft_of.get(chain).copied() {
            if Some(before) == due {
                return;
            }
            self.soft_of.remove(chain);
            self.soft.remove(&(before, chain.clone()));
        }
        if let Some(due) = due {
            self.soft_of.insert(chain.clone(), due);
            self.soft.insert((due, chain.clone()));
        }
    }

    /// A wake of the chain failed: it is to be woken again then.
    pub fn again(&mut self, chain: &ChainKey, due: UnixNanos) {
        self.near.insert((due, chain.clone()));
    }

    /// When [`Deadlines::due`] has something to say next.
    pub fn next(&self) -> Option<UnixNanos> {
        [&self.near, &self.soft].iter().filter_map(|set| set.first().map(|(due, _)| *due)).min()
    }

    /// Takes the chains that are due; the oldest first, a bounded number at once.
    ///
    /// A taken row is not named again until it is written again.
    pub fn due(&mut self, now: UnixNanos) -> Vec<ChainKey> {
        let mut chains = BTreeSet::new();
        for set in [&mut self.near, &mut self.soft] {
            while chains.len() < WAKES_MAX {
                let Some((due, _)) = set.first() else { break };
                if *due > now {
                    break;
                }
                if let Some((_, chain)) = set.pop_first() {
                    chains.insert(chain);
                }
            }
        }
        for chain in &chains {
            self.soft_of.remove(chain);
        }
        chains.into_iter().collect()
    }

    /// Slots whose rows have to be read again before `now` comes too near to the horizon.
    ///
    /// Moves the horizon: rows written from now on are near if they are due before the new one.
    pub fn extend(&mut self, now: UnixNanos) -> Option<(Vec<Slot>, UnixNanos)> {
        let horizon = now + nanos(HORIZON);
        if now + nanos(HORIZON / 3) < self.horizon {
            return None;
        }
        self.horizon = horizon;
        let slots: Vec<Slot> = self.far.iter().filter(|(_, due)| **due < horizon).map(|(slot, _)| *slot).collect();
        for slot in &slots {
            self.far.remove(slot);
        }
        Some((slots, horizon))
    }

    /// Takes in what [`scan`] found.
    pub fn found(&mut self, found: Found, key: impl Fn(&ChainId) -> ChainKey) {
        if planted::has(Bug::DeadlinesForgotten) {
            self.horizon = self.horizon.max(found.horizon);
            return;
        }
        for (due, chain) in found.near {
            self.near.insert((due, key(&chain)));
        }
        for (slot, due) in found.far {
            let earliest = self.far.entry(slot).or_insert(due);
            *earliest = due.min(*earliest);
        }
        self.horizon = self.horizon.max(found.horizon);
    }
}

/// Reads the rows of slots that are due before the horizon, and the first one after it.
pub fn scan(rows: &(impl Read + ?Sized), slots: &[Slot], horizon: UnixNanos) -> Result<Found, Error> {
    let mut found = Found { horizon, ..Found::default() };
    for slot in slots {
        rows.scan(&keys::deadlines(*slot), Direction::Forward, &mut |key, _| {
            let Ok((_, Key::Deadline { due, namespace, workflow })) = Key::parse(key) else {
                return ControlFlow::Continue(());
            };
            if due >= horizon {
                found.far.push((*slot, due));
                return ControlFlow::Break(());
            }
            let chain = ChainId {
                namespace_id: namespace.to_string(),
                workflow_id: workflow.into_owned(),
                namespace: String::new(),
            };
            found.near.push((due, chain));
            ControlFlow::Continue(())
        })?;
    }
    Ok(found)
}

fn nanos(duration: Duration) -> UnixNanos {
    UnixNanos::try_from(duration.as_nanos()).unwrap_or(UnixNanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn near_rows_wake_in_order_and_far_ones_are_read_when_their_time_comes() {
        let mut deadlines = Deadlines::default();
        let (slots, horizon) = deadlines.extend(0).expect("nothing is known yet");
        assert!(slots.is_empty());
        deadlines.row(1, &ChainKey::new("ns", "b"), 20 * SECOND, true);
        deadlines.row(1, &ChainKey::new("ns", "a"), 10 * SECOND, true);
        deadlines.row(2, &ChainKey::new("ns", "gone"), 5 * SECOND, true);
        deadlines.row(2, &ChainKey::new("ns", "gone"), 5 * SECOND, false);
        deadlines.row(3, &ChainKey::new("ns", "far"), 100 * SECOND, true);
        assert_eq!(horizon, 60 * SECOND);
        assert_eq!(deadlines.next(), Some(10 * SECOND));
        assert_eq!(deadlines.due(9 * SECOND), []);
        assert_eq!(deadlines.due(20 * SECOND).len(), 2);
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadlines.extend(30 * SECOND), None);
        let (slots, horizon) = deadlines.extend(45 * SECOND).expect("the horizon is near");
        assert_eq!((slots, horizon), (vec![3], 105 * SECOND));
    }

    #[test]
    fn soft_deadlines_are_replaced() {
        let mut deadlines = Deadlines::default();
        let chain = ChainKey::new("ns", "a");
        deadlines.set_soft(&chain, Some(5));
        deadlines.set_soft(&chain, Some(9));
        assert_eq!(deadlines.due(8), []);
        assert_eq!(deadlines.due(9), std::slice::from_ref(&chain));
        deadlines.set_soft(&chain, Some(10));
        deadlines.set_soft(&chain, None);
        assert_eq!(deadlines.next(), None);
    }
}
