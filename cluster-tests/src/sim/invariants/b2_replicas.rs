//! B-2 and B-8: at an equal applied index replicas have equal states, now and after any restart.
//!
//! The state hash of a group is the chain over all decisions in its cursor row: equal hashes mean that the same
//! decisions were applied in the same order, and that none of another epoch came between.

use std::collections::BTreeMap;

use bristlecone_proto::node::GroupStatus;
use bristlecone_storage::state::{Direction, Limit, ModelStore, Read, keys};
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use crate::sim::node::SimNode;
use crate::sim::world::World;

/// State hashes by group and applied index.
#[derive(Debug, Default)]
pub struct Replicas {
    seen: Mutex<BTreeMap<(u64, u64), (u64, u64)>>,
}

impl Replicas {
    /// Looks at every replica that runs; one line of the trace.
    pub fn look(&self, world: &World) {
        let mut line = String::new();
        for node in world.nodes() {
            let Some(up) = node.up() else { continue };
            for group in up.cluster.parts().groups.0.list() {
                let status = group.status();
                line.push_str(&format!(
                    " {}:{}@{}{}",
                    node.number,
                    status.group_id,
                    status.applied_index,
                    if status.role == "leader" { "*" } else { "" }
                ));
                self.note(world, &node, &status);
            }
        }
        world.trace.line(&line);
    }

    fn note(&self, world: &World, node: &SimNode, status: &GroupStatus) {
        let key = (status.group_id, status.applied_index);
        let (hash, first) = *self.seen.lock().entry(key).or_insert((status.state_hash, node.number));
        if hash != status.state_hash {
            world.violated(format!(
                "B-2: group {} at index {} is one thing on node {first} and another on node {}",
                status.group_id, status.applied_index, node.number
            ));
        }
    }
}

/// The rows of all replicas of each group that stand at the same index.
pub fn rows(world: &World) {
    let mut seen: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for node in world.nodes() {
        let Some(up) = node.up() else { continue };
        for group in up.cluster.parts().groups.0.list() {
            let status = group.status();
            let hash = rows_hash(&node.store(), &status);
            let key = (status.group_id, status.applied_index);
            let (first, of) = *seen.entry(key).or_insert((hash, node.number));
            if first != hash {
                world.violated(format!(
                    "B-2: the rows of group {} at index {} differ between node {of} and node {}",
                    status.group_id, status.applied_index, node.number
                ));
            }
        }
    }
}

fn rows_hash(store: &ModelStore, status: &GroupStatus) -> u64 {
    let mut hash = Xxh3::new();
    let slot = |slot: u32| u16::try_from(slot).unwrap_or(u16::MAX);
    let range = keys::slot_range(slot(status.first_slot), slot(status.end_slot));
    let limit = Limit { rows: usize::MAX, bytes: usize::MAX };
    for (key, value) in store.page(&range, Direction::Forward, limit).map(|page| page.rows).unwrap_or_default() {
        hash.update(&(key.len() as u64).to_le_bytes());
        hash.update(&key);
        hash.update(&(value.len() as u64).to_le_bytes());
        hash.update(&value);
    }
    hash.digest()
}
