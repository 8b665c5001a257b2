//! B-2 of listings: the rows behind them are those that the runs demand, whatever the runs went through.

use std::collections::BTreeSet;

use bristlecone::shard::audit;
use bristlecone_proto::node::ListingFaults;
use bristlecone_storage::state::ModelStore;
use bristlecone_storage::state::keys::Slot;

use crate::sim::world::World;

/// Looks at one replica of each group: replicas have equal rows.
pub fn check(world: &World) {
    let mut looked_at = BTreeSet::new();
    for node in world.nodes() {
        let Some(up) = node.up() else { continue };
        let namespaces: Vec<String> = up.cluster.meta().namespaces().map(|entry| entry.record.id.clone()).collect();
        for group in up.cluster.parts().groups.0.list() {
            let status = group.status();
            if looked_at.insert(status.group_id) {
                let slots = status.first_slot..status.end_slot;
                slots.filter_map(|slot| Slot::try_from(slot).ok()).for_each(|slot| {
                    check_slot(world, &node.store(), slot, &namespaces);
                });
            }
        }
    }
}

fn check_slot(world: &World, store: &ModelStore, slot: Slot, namespaces: &[String]) {
    match audit(store, slot, namespaces, "") {
        Ok(audit) if audit.faults == (ListingFaults { checked: audit.faults.checked, ..Default::default() }) => {
            world.tally.add("listing checked at the end", audit.faults.checked);
        }
        Ok(audit) => world.violated(format!("B-2: slot {slot} has wrong rows behind listings: {audit:?}")),
        Err(error) => world.violated(format!("B-2: slot {slot} cannot be read: {error}")),
    }
}
