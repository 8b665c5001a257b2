//! How far this node's wall clock is from the others'.
//!
//! # Contract
//! Every node tells the others its time twice a second. A node that is more than 500 ms away from the
//! median must not lead: timers would fire early or late. A reading that was under way for long looks as if the
//! other clock were slow, never as if it were fast: of a node's recent readings the latest time counts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::node::ClockReading;
use bristlecone_storage::runtime::Clock;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How often nodes tell their time, which is also how they show that they are alive.
pub const EVERY: Duration = Duration::from_millis(500);
/// A reading counts for so long.
const FRESH: Duration = Duration::from_secs(4);
/// Readings of one node that are kept: more than come while they are fresh.
const READINGS_MAX: usize = 16;
/// Nanoseconds.
const OFFSET_MAX: i64 = 500_000_000;

#[derive(Debug)]
pub struct Clocks {
    clock: Arc<dyn Clock>,
    /// By node, oldest first: when it was heard, and its clock minus ours in nanoseconds.
    offsets: Mutex<HashMap<u64, VecDeque<(Instant, i64)>>>,
}

impl Clocks {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, offsets: Mutex::default() }
    }

    pub fn heard(&self, node_id: u64, reading: ClockReading) {
        let offset = reading.wall.saturating_sub(self.clock.wall());
        let mut offsets = self.offsets.lock();
        let readings = offsets.entry(node_id).or_default();
        if readings.len() == READINGS_MAX {
            readings.pop_front();
        }
        readings.push_back((Instant::now(), offset));
    }

    pub fn reading(&self) -> ClockReading {
        ClockReading { wall: self.clock.wall() }
    }

    /// Nanoseconds by which the median of all clocks is ahead of ours, when it is too far away.
    pub fn too_far(&self) -> Option<i64> {
        let mut offsets: Vec<i64> = {
            let mut known = self.offsets.lock();
            known.retain(|_, readings| {
                readings.retain(|(at, _)| at.elapsed() < FRESH);
                !readings.is_empty()
            });
            known.values().filter_map(|readings| readings.iter().map(|(_, offset)| *offset).max()).collect()
        };
        offsets.push(0);
        offsets.sort_unstable();
        // Of an even number the one nearer to us counts: two nodes cannot tell who is wrong.
        let middle = offsets.len() / 2;
        let upper = offsets.get(middle).copied().unwrap_or(0);
        let lower = if offsets.len().is_multiple_of(2) { offsets.get(middle - 1).copied().unwrap_or(0) } else { upper };
        let median = if lower.abs() < upper.abs() { lower } else { upper };
        (median.abs() > OFFSET_MAX).then_some(median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(i64);

    impl Clock for Fixed {
        fn wall(&self) -> i64 {
            self.0
        }
    }

    const SECOND: i64 = 1_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn the_odd_one_out_notices_and_the_others_do_not() {
        let wrong = Clocks::new(Arc::new(Fixed(3_600 * SECOND)));
        wrong.heard(2, ClockReading { wall: 0 });
        wrong.heard(3, ClockReading { wall: SECOND / 10 });
        assert_eq!(wrong.too_far(), Some(SECOND / 10 - 3_600 * SECOND));
        let right = Clocks::new(Arc::new(Fixed(0)));
        right.heard(1, ClockReading { wall: 3_600 * SECOND });
        right.heard(3, ClockReading { wall: SECOND / 10 });
        assert_eq!(right.too_far(), None);
        // Alone, or with one other, nobody can be outvoted.
        let alone = Clocks::new(Arc::new(Fixed(0)));
        assert_eq!(alone.too_far(), None);
        alone.heard(2, ClockReading { wall: 3_600 * SECOND });
        assert_eq!(alone.too_far(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn readings_that_were_under_way_for_long_do_not_mislead() {
        let clocks = Clocks::new(Arc::new(Fixed(3_600 * SECOND)));
        for node in [2, 3] {
            clocks.heard(node, ClockReading { wall: 3_600 * SECOND });
            clocks.heard(node, ClockReading { wall: 3_597 * SECOND });
        }
        assert_eq!(clocks.too_far(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn old_readings_do_not_count() {
        let clocks = Clocks::new(Arc::new(Fixed(3_600 * SECOND)));
        clocks.heard(2, ClockReading { wall: 0 });
        clocks.heard(3, ClockReading { wall: 0 });
        assert!(clocks.too_far().is_some());
        tokio::time::advance(FRESH).await;
        assert_eq!(clocks.too_far(), None);
    }
}
