//! How far this node's wall clock is from the others', and the time that shards go by.
//!
//! # Contract
//! Every node tells the others its time twice a second. A node that is more than 500 ms away from the
//! median must not lead: timers would fire early or late. A reading that was under way for long looks as if the
//! other clock were slow, never as if it were fast: of a node's recent readings the latest time counts.
//!
//! Shards go by [`Clocks::wall`] (as a [`Clock`]), and only where most members of the cluster, this one among them,
//! were seen to agree with it since the process began ([`Clocks::is_good`]): two nodes that differ cannot tell who is
//! wrong, and a process that has just begun knows no time but its own. From then on a step of the wall clock is not
//! followed until most members confirm it; meanwhile time goes on at the monotonic rate. A shard that followed would
//! fire every timer within the step, and its time, once written, never comes back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bristlecone_proto::node::ClockReading;
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::runtime::Clock;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::pulse::Pulse;

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
/// A step is believed after so long where there are no others to ask; and for so long a new process may be without
/// others that agree before it counts as wrong.
const DOUBT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Clocks {
    clock: Arc<dyn Clock>,
    begun: Instant,
    /// Members of the cluster, this node among them; 0 until the metadata is known to be recent.
    members: AtomicUsize,
    readings: Mutex<HashMap<u64, VecDeque<Heard>>>,
    steady: Mutex<Option<Steady>>,
    /// Whether this node gets the processor.
    pub pulse: Pulse,
}

/// What another node's clock showed, and when that was heard.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    wall: i64,
    leads_nothing: bool,
    late: Duration,
}

impl Heard {
    /// That clock now, minus another time.
    fn ahead_of(&self, wall: i64) -> i64 {
        self.wall.saturating_add(nanos(self.at.elapsed())).saturating_sub(wall)
    }
}

/// The time that shards go by, at the last look.
#[derive(Debug, Clone, Copy)]
struct Steady {
    shown: i64,
    at: Instant,
    /// Whether most members were seen to agree with it.
    agreed: bool,
    /// Since when the wall clock shows something else.
    doubted: Option<Instant>,
}

impl Clock for Clocks {
    fn wall(&self) -> i64 {
        let (wall, now) = (self.clock.wall(), Instant::now());
        let mut steady = self.steady.lock();
        let known = steady.get_or_insert(Steady { shown: wall, at: now, agreed: false, doubted: None });
        let expected = known.shown.saturating_add(nanos(now - known.at));
        known.at = now;
        known.shown = wall;
        if !known.agreed {
            known.agreed = self.agrees(wall, self.begun);
        } else if wall.saturating_sub(expected).abs() <= STEP_MIN {
            known.doubted = None;
        } else if self.confirms(wall, *known.doubted.get_or_insert(now)) {
            tracing::warn!(step_ms = (wall - expected) / 1_000_000, "the wall clock stepped, and the others agree");
            known.doubted = None;
        } else {
            known.shown = expected;
        }
        if planted::has(Bug::WallClock) { wall } else { known.shown }
    }
}

impl Clocks {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            begun: Instant::now(),
            members: AtomicUsize::new(0),
            readings: Mutex::default(),
            steady: Mutex::default(),
            pulse: Pulse::default(),
        }
    }

    pub fn heard(&self, node_id: u64, reading: ClockReading) {
        let mut readings = self.readings.lock();
        let readings = readings.entry(node_id).or_default();
        if readings.len() == READINGS_MAX {
            readings.pop_front();
        }
        let ClockReading { wall, leads_nothing, late_us } = reading;
        let late = Duration::from_micros(late_us.into());
        readings.push_back(Heard { at: Instant::now(), wall, leads_nothing, late });
    }

    /// `leads_nothing`: whether this node would hand leaderships over.
    pub fn reading(&self, leads_nothing: bool) -> ClockReading {
        // Looked at twice a second, so that a slow drift is not taken for a step.
        self.wall();
        let late_us = u32::try_from(self.pulse.lateness().as_micros()).unwrap_or(u32::MAX);
        ClockReading { wall: self.clock.wall(), leads_nothing, late_us }
    }

    /// Whether this node is short of the processor, unlike the others.
    pub fn is_starved(&self) -> bool {
        let readings = self.readings.lock();
        let last = readings.values().filter_map(VecDeque::back).filter(|heard| heard.at.elapsed() < FRESH);
        let others = last.map(|heard| heard.late).collect();
        drop(readings);
        self.pulse.is_starved(others)
    }

    /// Whether the node said, when it was last heard, that it would hand leaderships over.
    pub fn leads_nothing(&self, node_id: u64) -> bool {
        let readings = self.readings.lock();
        readings.get(&node_id).and_then(VecDeque::back).is_some_and(|heard| heard.leads_nothing)
    }

    /// How many members the cluster has, this node among them, by metadata that is recent.
    pub fn set_members(&self, members: usize) {
        self.members.store(members, Ordering::Relaxed);
    }

    /// Whether shards may go by this clock.
    pub fn is_good(&self) -> bool {
        self.wall();
        let agreed = self.steady.lock().is_some_and(|steady| steady.agreed);
        (agreed || planted::has(Bug::WallClock)) && self.too_far().is_none()
    }

    /// Whether this process had time to find members that agree with its clock, and did not.
    pub fn is_lonely(&self) -> bool {
        self.begun.elapsed() > DOUBT * 2 && !self.steady.lock().is_some_and(|steady| steady.agreed)
    }

    /// Whether most members, this one among them, were heard to show this time, after `since`.
    fn agrees(&self, wall: i64, since: Instant) -> bool {
        let readings = self.readings.lock();
        let offsets = readings.values().filter_map(|readings| {
            let fresh = readings.iter().filter(|heard| heard.at > since && heard.at.elapsed() < FRESH);
            fresh.map(|heard| heard.ahead_of(wall)).max()
        });
        let agreeing = 1 + offsets.filter(|offset| offset.abs() <= OFFSET_MAX).count();
        let members = self.members.load(Ordering::Relaxed);
        members > 0 && agreeing > members / 2
    }

    /// Whether a step to this time, seen first at `since`, is to be followed.
    fn confirms(&self, wall: i64, since: Instant) -> bool {
        let alone = self.members.load(Ordering::Relaxed) == 1;
        if alone { since.elapsed() >= DOUBT } else { self.agrees(wall, since) }
    }

    /// Nanoseconds by which the median of all clocks is ahead of ours, when it is too far away.
    pub fn too_far(&self) -> Option<i64> {
        let wall = self.clock.wall();
        let mut offsets: Vec<i64> = {
            let mut known = self.readings.lock();
            known.retain(|_, readings| {
                readings.retain(|heard| heard.at.elapsed() < FRESH);
                !readings.is_empty()
            });
            known.values().filter_map(|readings| readings.iter().map(|heard| heard.ahead_of(wall)).max()).collect()
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

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
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
        wrong.heard(2, ClockReading { wall: 0, leads_nothing: false, late_us: 0 });
        wrong.heard(3, ClockReading { wall: SECOND / 10, leads_nothing: false, late_us: 0 });
        assert_eq!(wrong.too_far(), Some(SECOND / 10 - 3_600 * SECOND));
        let right = Clocks::new(Arc::new(Fixed(0)));
        right.heard(1, ClockReading { wall: 3_600 * SECOND, leads_nothing: false, late_us: 0 });
        right.heard(3, ClockReading { wall: SECOND / 10, leads_nothing: false, late_us: 0 });
        assert_eq!(right.too_far(), None);
        // Alone, or with one other, nobody can be outvoted.
        let alone = Clocks::new(Arc::new(Fixed(0)));
        assert_eq!(alone.too_far(), None);
        alone.heard(2, ClockReading { wall: 3_600 * SECOND, leads_nothing: false, late_us: 0 });
        assert_eq!(alone.too_far(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn readings_that_were_under_way_for_long_do_not_mislead() {
        let clocks = Clocks::new(Arc::new(Fixed(3_600 * SECOND)));
        for node in [2, 3] {
            clocks.heard(node, ClockReading { wall: 3_600 * SECOND, leads_nothing: false, late_us: 0 });
            clocks.heard(node, ClockReading { wall: 3_597 * SECOND, leads_nothing: false, late_us: 0 });
        }
        assert!(!clocks.is_good());
        clocks.set_members(3);
        assert!(!clocks.is_good());
        tokio::time::advance(Duration::from_millis(1)).await;
        for node in [2, 3] {
            clocks.heard(node, ClockReading { wall: 3_600 * SECOND, leads_nothing: false, late_us: 0 });
            clocks.heard(node, ClockReading { wall: 3_597 * SECOND, leads_nothing: false, late_us: 0 });
        }
        assert!(clocks.is_good());
        assert_eq!(clocks.too_far(), None);
    }

    #[derive(Debug, Default)]
    struct Settable(std::sync::atomic::AtomicI64);

    impl Clock for Settable {
        fn wall(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn settable() -> (Arc<Settable>, Clocks) {
        let settable = Arc::new(Settable::default());
        let clocks = Clocks::new(Arc::clone(&settable) as Arc<dyn Clock>);
        (settable, clocks)
    }

    impl Settable {
        fn set(&self, wall: i64) {
            self.0.store(wall, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shards_follow_a_step_of_the_wall_clock_only_when_others_confirm_it() {
        let (wall, clocks) = settable();
        clocks.set_members(3);
        tokio::time::advance(Duration::from_nanos(1)).await;
        clocks.heard(2, ClockReading { wall: 0, leads_nothing: false, late_us: 0 });
        assert_eq!(clocks.wall(), 0);
        assert!(clocks.is_good());
        // It goes an hour ahead, alone: the shards' time goes on as before, and back with the wall clock.
        wall.set(3_600 * SECOND);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clocks.wall(), SECOND);
        clocks.heard(2, ClockReading { wall: SECOND, leads_nothing: false, late_us: 0 });
        clocks.heard(3, ClockReading { wall: SECOND, leads_nothing: false, late_us: 0 });
        assert_eq!(clocks.wall(), SECOND);
        assert!(!clocks.is_good());
        wall.set(SECOND + SECOND / 10);
        assert_eq!(clocks.wall(), SECOND + SECOND / 10);
        // All go ahead together, as after a pause of the whole machine.
        wall.set(7_200 * SECOND);
        assert_eq!(clocks.wall(), SECOND + SECOND / 10);
        tokio::time::advance(Duration::from_millis(500)).await;
        clocks.heard(2, ClockReading { wall: 7_200 * SECOND, leads_nothing: false, late_us: 0 });
        clocks.heard(3, ClockReading { wall: 7_200 * SECOND, leads_nothing: false, late_us: 0 });
        assert_eq!(clocks.wall(), 7_200 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_process_with_a_wrong_clock_decides_nothing() {
        let (wall, clocks) = settable();
        clocks.set_members(3);
        wall.set(1_800 * SECOND);
        tokio::time::advance(Duration::from_secs(1)).await;
        // Of two that differ neither is the odd one out.
        clocks.heard(2, ClockReading { wall: 0, leads_nothing: false, late_us: 0 });
        assert_eq!(clocks.too_far(), None);
        assert!(!clocks.is_good() && !clocks.is_lonely());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(clocks.is_lonely());
        wall.set(6 * SECOND);
        clocks.heard(3, ClockReading { wall: 6 * SECOND, leads_nothing: false, late_us: 0 });
        assert!(clocks.is_good() && !clocks.is_lonely());
    }

    #[tokio::test(start_paused = true)]
    async fn who_hears_nobody_does_not_follow_a_step() {
        let (wall, clocks) = settable();
        clocks.set_members(3);
        tokio::time::advance(Duration::from_nanos(1)).await;
        clocks.heard(3, ClockReading { wall: 0, leads_nothing: false, late_us: 0 });
        assert_eq!(clocks.wall(), 0);
        wall.set(1_800 * SECOND);
        tokio::time::advance(Duration::from_secs(60)).await;
        clocks.wall();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clocks.wall(), 120 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_member_believes_its_wall_clock_after_a_while() {
        let (wall, clocks) = settable();
        clocks.set_members(1);
        assert_eq!(clocks.wall(), 0);
        wall.set(100 * SECOND);
        assert_eq!(clocks.wall(), 0);
        tokio::time::advance(DOUBT).await;
        assert_eq!(clocks.wall(), 100 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn old_readings_do_not_count() {
        let clocks = Clocks::new(Arc::new(Fixed(3_600 * SECOND)));
        clocks.heard(2, ClockReading { wall: 0, leads_nothing: false, late_us: 0 });
        clocks.heard(3, ClockReading { wall: 0, leads_nothing: false, late_us: 0 });
        assert!(clocks.too_far().is_some());
        tokio::time::advance(FRESH).await;
        assert_eq!(clocks.too_far(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leads_nothing_says_so_and_takes_it_back() {
        let clocks = Clocks::new(Arc::new(Fixed(SECOND)));
        assert!(!clocks.leads_nothing(2));
        for leads_nothing in [true, false] {
            clocks.heard(2, ClockReading { wall: SECOND, leads_nothing, late_us: 0 });
            assert_eq!(clocks.leads_nothing(2), leads_nothing);
        }
    }
}
