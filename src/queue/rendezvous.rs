//! Which member brokers a queue: the one with the highest hash of (queue, member).

use bristlecone_proto::node::QueueKey;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The first of the members in the queue's own order; `None` when there are none.
pub fn first(queue: &QueueKey, members: &[u64]) -> Option<u64> {
    let namespace = xxh3_64_with_seed(queue.namespace_id.as_bytes(), queue.kind.unsigned_abs().into());
    let queue = xxh3_64_with_seed(queue.name.as_bytes(), namespace);
    members.iter().copied().max_by_key(|member| (xxh3_64_with_seed(&member.to_be_bytes(), queue), *member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_member_moves_only_its_own_queues() {
        let queue = |n: u32| QueueKey { namespace_id: "ns".into(), name: format!("q{n}"), kind: 1 };
        let mut counts = [0u32; 4];
        for n in 0..3_000 {
            let all = first(&queue(n), &[1, 2, 3]).expect("members");
            let without = first(&queue(n), &[1, 2]).expect("members");
            counts[usize::try_from(all).expect("small")] += 1;
            assert!(all == 3 || all == without);
        }
        assert!(counts[1..].iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }
}
