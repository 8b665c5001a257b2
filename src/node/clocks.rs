//! How far this node's wall clock is from the others', and the time that shards go by.
//!
//! # Contract
//! Every node tells the others its time twice a second. A node that is more than 500 ms away from the
//! median must not lead: timers would fire early or late. A reading that was under way for long looks as if the
//! other clock were slow, never as if it were fast: of a node's recent readings the latest time counts.
//!
//! Shards go by [`Clocks::wall`] (as a [`Clock`]), which does not follow a step of the wall clock at once: until
//! the readings of others confirm it, time goes on from before the step at the monotonic rate. A shard that followed
//! would fire every timer within the step, and its time, once written, never comes back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::node::ClockReading;
use bristlecone_storage::planted::{self, Bug};
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
/// The wall clock stepped when it and the monotonic clock came so far apart between two looks. Nanoseconds.
const STEP_MIN: i64 = 250_000_000;
/// A step that nobody can confirm, because nobody is heard, is believed after so long.
const DOUBT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Clocks {
    clock: Arc<dyn Clock>,
    /// By node, oldest first: when it was heard, and its clock minus ours in nanoseconds.
    offsets: Mutex<HashMap<u64, VecDeque<(Instant, i64)>>>,
    steady: Mutex<Option<Steady>>,
}

/// The time that shards go by, at the last look.
#[derive(Debug, Clone, Copy)]
struct Steady {
    shown: i64,
    at: Instant,
    /// Since when the wall clock shows something else.
    doubted: Option<Instant>,
}

impl Clock for Clocks {
    fn wall(&self) -> i64 {
        let (wall, now) = (self.clock.wall(), Instant::now());
        if planted::has(Bug::WallClock) {
            return wall;
        }
        let mut steady = self.steady.lock();
        let Some(known) = &mut *steady else {
            *steady = Some(Steady { shown: wall, at: now, doubted: None });
            return wall;
        };
        let passed = i64::try_from((now - known.at).as_nanos()).unwrap_or(0);
        let expected = known.shown.saturating_add(passed);
        known.at = now;
        known.shown = wall;
        if wall.saturating_sub(expected).abs() <= STEP_MIN {
            known.doubted = None;
        } else if self.confirms(*known.doubted.get_or_insert(now)) {
            tracing::warn!(step_ms = (wall - expected) / 1_000_000, "the wall clock stepped, and the others agree");
            known.doubted = None;
        } else {
            known.shown = expected;
        }
        known.shown
    }
}

impl Clocks {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, offsets: Mutex::default(), steady: Mutex::default() }
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
        // Looked at twice a second, so that a slow drift is not taken for a step.
        self.wall();
        ClockReading { wall: self.clock.wall() }
    }

    /// Whether any other node was heard.
    pub fn is_compared(&self) -> bool {
        !self.offsets.lock().is_empty()
    }

    /// Whether most nodes, of those that are heard, say since then what our wall clock says.
    fn confirms(&self, since: Instant) -> bool {
        let offsets = self.offsets.lock();
        let heard = offsets.values().filter_map(VecDeque::back).filter(|(at, _)| at.elapsed() < FRESH);
        let (mut known, mut agree) = (0, 0);
        for (at, offset) in heard {
            known += 1;
            if *at > since && offset.abs() <= OFFSET_MAX {
                agree += 1;
            }
        }
        // This node counts too.
        if known == 0 { since.elapsed() >= DOUBT } else { agree > 0 && (agree + 1) * 2 > known + 1 }
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

    #[derive(Debug, Default)]
    struct Settable(std::sync::atomic::AtomicI64);

    impl Clock for Settable {
        fn wall(&self) -> i64 {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shards_follow_a_step_of_the_wall_clock_only_when_others_confirm_it() {
        let settable = Arc::new(Settable::default());
        let set = |wall: i64| settable.0.store(wall, std::sync::atomic::Ordering::Relaxed);
        let clocks = Clocks::new(Arc::clone(&settable) as Arc<dyn Clock>);
        assert!(!clocks.is_compared());
        clocks.heard(2, ClockReading { wall: 0 });
        clocks.heard(3, ClockReading { wall: 0 });
        assert!(clocks.is_compared());
        assert_eq!(clocks.wall(), 0);
        // It goes an hour ahead, alone: the shards' time goes on as before, and back with the wall clock.
        set(3_600 * SECOND);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clocks.wall(), SECOND);
        clocks.heard(2, ClockReading { wall: SECOND });
        clocks.heard(3, ClockReading { wall: SECOND });
        assert_eq!(clocks.wall(), SECOND);
        set(SECOND + SECOND / 10);
        assert_eq!(clocks.wall(), SECOND + SECOND / 10);
        // All go ahead together, as after a pause of the whole machine.
        set(7_200 * SECOND);
        assert_eq!(clocks.wall(), SECOND + SECOND / 10);
        tokio::time::advance(Duration::from_millis(500)).await;
        clocks.heard(2, ClockReading { wall: 7_200 * SECOND });
        clocks.heard(3, ClockReading { wall: 7_200 * SECOND });
        assert_eq!(clocks.wall(), 7_200 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn who_hears_nobody_believes_its_wall_clock_after_a_while() {
        let settable = Arc::new(Settable::default());
        let clocks = Clocks::new(Arc::clone(&settable) as Arc<dyn Clock>);
        assert_eq!(clocks.wall(), 0);
        settable.0.store(100 * SECOND, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(clocks.wall(), 0);
        tokio::time::advance(DOUBT).await;
        assert_eq!(clocks.wall(), 100 * SECOND);
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
