//! Where replicas and leaders of shards belong: pure, on the metadata and on who answers.
//!
//! # Contract
//! One change at a time and only changes that help: replicas move away from members that leave, missing
//! replicas go to the member that holds fewest, a replica beyond the replication factor goes away, and
//! leaders are spread evenly. Applied to its own result it comes to rest.

use std::collections::{BTreeMap, BTreeSet};

use bristlecone_proto::record::Shard;
use bristlecone_proto::record::member::State;

use super::view::MetaView;

/// The next shard record to write, if any is to be changed.
///
/// `alive` are the nodes that answer; a member that does not answer keeps its replicas (it may come
/// back) but gets no new ones, and no leader belongs there.
pub fn next_change(view: &MetaView, alive: &BTreeSet<u64>) -> Option<Shard> {
    let members: BTreeMap<u64, State> = view.present_members().map(|m| (m.node_id, m.state())).collect();
    let homes: BTreeSet<u64> = members
        .iter()
        .filter(|(node, state)| matches!(state, State::Active | State::Draining) && alive.contains(node))
        .map(|(node, _)| *node)
        .collect();
    let held = replicas_by_node(view, &members);
    view.shards()
        .find_map(|shard| place_replicas(shard, &members, &homes, &held, factor(view)))
        .or_else(|| even_out_replicas(view, &homes, &held))
        .or_else(|| place_leaders(view, &members, alive))
}

fn factor(view: &MetaView) -> usize {
    usize::try_from(view.cluster.replication_factor.max(1)).unwrap_or(1)
}

fn replicas_by_node(view: &MetaView, members: &BTreeMap<u64, State>) -> BTreeMap<u64, usize> {
    let mut held: BTreeMap<u64, usize> = members.keys().map(|node| (*node, 0)).collect();
    for replica in view.shards().flat_map(|shard| &shard.replicas) {
        if let Some(count) = held.get_mut(replica) {
            *count += 1;
        }
    }
    held
}

fn place_replicas(
    shard: &Shard,
    members: &BTreeMap<u64, State>,
    homes: &BTreeSet<u64>,
    held: &BTreeMap<u64, usize>,
    factor: usize,
) -> Option<Shard> {
    let stays = |node: &u64| matches!(members.get(node), Some(State::Active | State::Draining | State::Joining));
    let staying = shard.replicas.iter().filter(|node| stays(node)).count();
    let newcomer = homes
        .iter()
        .filter(|node| !shard.replicas.contains(node))
        .min_by_key(|node| (held.get(node).copied().unwrap_or(0), **node));
    let mut changed = shard.clone();
    if let (true, Some(newcomer)) = (staying < factor, newcomer) {
        changed.replicas.push(*newcomer);
        changed.replicas.sort_unstable();
        return Some(changed);
    }
    // Those that leave go only once enough others hold the shard, or nobody else can take it.
    let leaver = shard.replicas.iter().find(|node| !stays(node));
    if let Some(leaver) = leaver.filter(|leaver| staying >= factor || !members.contains_key(leaver) || staying > 0) {
        changed.replicas.retain(|node| node != leaver);
        return Some(changed);
    }
    if staying > factor {
        let surplus = shard.replicas.iter().max_by_key(|node| (held.get(node).copied().unwrap_or(0), **node))?;
        changed.replicas.retain(|node| node != surplus);
        return Some(changed);
    }
    None
}

/// Moves a replica from the fullest to the emptiest member when they differ by two or more.
fn even_out_replicas(view: &MetaView, homes: &BTreeSet<u64>, held: &BTreeMap<u64, usize>) -> Option<Shard> {
    let count = |node: &u64| held.get(node).copied().unwrap_or(0);
    let emptiest = homes.iter().min_by_key(|node| (count(node), **node))?;
    let fullest = homes.iter().max_by_key(|node| (count(node), **node))?;
    if count(fullest) < count(emptiest) + 2 {
        return None;
    }
    let shard = view.shards().find(|s| s.replicas.contains(fullest) && !s.replicas.contains(emptiest))?;
    let mut changed = (**shard).clone();
    // The newcomer is added; the surplus goes in a later step, when it is.
    changed.replicas.push(*emptiest);
    changed.replicas.sort_unstable();
    Some(changed)
}

fn place_leaders(view: &MetaView, members: &BTreeMap<u64, State>, alive: &BTreeSet<u64>) -> Option<Shard> {
    let may_lead = |node: &u64| members.get(node) == Some(&State::Active) && alive.contains(node);
    let mut leads: BTreeMap<u64, usize> = members.keys().filter(|node| may_lead(node)).map(|node| (*node, 0)).collect();
    for shard in view.shards() {
        if let Some(count) = leads.get_mut(&shard.preferred_leader) {
            *count += 1;
        }
    }
    let count = |node: &u64| leads.get(node).copied().unwrap_or(usize::MAX);
    for shard in view.shards() {
        let best = shard.replicas.iter().filter(|node| may_lead(node)).min_by_key(|node| (count(node), **node));
        let Some(best) = best else { continue };
        let misplaced = !shard.replicas.contains(&shard.preferred_leader) || !may_lead(&shard.preferred_leader);
        if misplaced || count(&shard.preferred_leader) > count(best) + 1 {
            return Some(Shard { preferred_leader: *best, ..(**shard).clone() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::decide;
    use bristlecone_proto::record::{Cluster, Member};

    fn cluster(states: &[State], shards: u32, factor: u32) -> MetaView {
        let record = Cluster { replication_factor: factor, ..Cluster::default() };
        let members: Vec<_> = (1..)
            .zip(states)
            .map(|(node_id, state)| Member { node_id, state: (*state).into(), ..Member::default() })
            .collect();
        let shards: Vec<_> = (0..shards)
            .map(|n| Shard {
                group_id: u64::from(n) + 2,
                first_slot: n,
                end_slot: n + 1,
                replicas: vec![1],
                preferred_leader: 1,
                ..Shard::default()
            })
            .collect();
        let mut view = MetaView::default();
        for member in &members {
            let rows = decide::found(&record, member, &shards).finish().expect("small");
            view = view.after(1, &rows).expect("own rows");
        }
        view
    }

    fn settle(mut view: MetaView, alive: &[u64]) -> MetaView {
        let alive = alive.iter().copied().collect();
        for _ in 0..200 {
            let Some(shard) = next_change(&view, &alive) else { return view };
            let mut rows = bristlecone_storage::state::BatchBuilder::new();
            rows.put_row(
                bristlecone_storage::state::keys::META_SLOT,
                &bristlecone_storage::state::keys::Key::Shard { group: shard.group_id },
                &shard,
            );
            view = view.after(2, &rows.finish().expect("small")).expect("own rows");
        }
        panic!("placement does not come to rest");
    }

    fn leaders(view: &MetaView) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for shard in view.shards() {
            *counts.entry(shard.preferred_leader).or_default() += 1;
        }
        counts
    }

    #[test]
    fn three_nodes_hold_everything_and_lead_evenly() {
        let view = settle(cluster(&[State::Active; 3], 3, 3), &[1, 2, 3]);
        assert!(view.shards().all(|shard| shard.replicas == [1, 2, 3]));
        assert_eq!(leaders(&view), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    }

    #[test]
    fn a_silent_member_keeps_its_replicas_and_leads_nothing() {
        let view = settle(settle(cluster(&[State::Active; 3], 3, 3), &[1, 2, 3]), &[1, 2]);
        assert!(view.shards().all(|shard| shard.replicas == [1, 2, 3]));
        assert!(!leaders(&view).contains_key(&3));
    }

    #[test]
    fn a_leaving_member_ends_with_nothing() {
        let view = settle(cluster(&[State::Active, State::Active, State::Leaving, State::Active], 6, 3), &[1, 2, 3, 4]);
        assert!(view.shards().all(|shard| shard.replicas == [1, 2, 4]));
    }

    #[test]
    fn a_fifth_node_takes_its_share() {
        let view = settle(cluster(&[State::Active; 5], 10, 3), &[1, 2, 3, 4, 5]);
        let mut held: BTreeMap<u64, usize> = BTreeMap::new();
        for replica in view.shards().flat_map(|shard| shard.replicas.clone()) {
            *held.entry(replica).or_default() += 1;
        }
        assert!(held.values().all(|count| (5..=7).contains(count)), "{held:?}");
        assert!(leaders(&view).values().all(|count| *count == 2), "{:?}", leaders(&view));
    }
}
