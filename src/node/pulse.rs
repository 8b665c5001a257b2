//! Whether this process gets the processor when it wants it.
//!
//! # Contract
//! A task that wants to be woken four times a second notes how much later it is. A node that is woken late again and
//! again while the others are not is starved (by a limit on its container, by a neighbour on its machine): as a leader
//! it would hold up everybody, as a follower nobody. When all are late it is the load, and nobody moves. One long gap, as
//! of a process that was stopped, says nothing about now.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How often the task wants to be woken.
pub const EVERY: Duration = Duration::from_millis(250);
/// Wakes that are looked at together: five seconds.
const WAKES: usize = 20;
/// The median from which on a node may be starved, and how many times that of the others it has to be.
const LATE: Duration = Duration::from_millis(30);
const TIMES: u32 = 4;
/// For how long a node that was starved leads nothing: what it is spared tells little of what it could bear. When it is
/// starved again within `AGAIN` of that, the next time is twice as long, up to `HOLD_MAX`.
const HOLD: Duration = Duration::from_secs(60);
const HOLD_MAX: Duration = Duration::from_secs(960);
const AGAIN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub struct Pulse {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How late the last wakes were.
    late: VecDeque<Duration>,
    /// Until when it leads nothing, and how long a hold that is.
    hold: Option<(Instant, Duration)>,
}

impl Pulse {
    pub fn woken(&self, late: Duration) {
        let mut state = self.state.lock();
        if state.late.len() == WAKES {
            state.late.pop_front();
        }
        state.late.push_back(late);
    }

    /// By how much this node is woken late: the median of the last wakes; nothing until there were enough.
    pub fn lateness(&self) -> Duration {
        let state = self.state.lock();
        if state.late.len() < WAKES { Duration::ZERO } else { median(state.late.iter().copied().collect()) }
    }

    /// Whether this node is, or lately was, short of the processor, unlike `others` (their lateness).
    pub fn is_starved(&self, others: Vec<Duration>) -> bool {
        let own = self.lateness();
        let unlike_others = !others.is_empty() && own >= median(others) * TIMES;
        let (mut state, now) = (self.state.lock(), Instant::now());
        if own >= LATE && unlike_others {
            let hold = match state.hold {
                Some((until, hold)) if now < until => hold,
                Some((until, hold)) if now < until + AGAIN => (hold * 2).min(HOLD_MAX),
                Some(_) | None => HOLD,
            };
            state.hold = Some((now + hold, hold));
        }
        state.hold.is_some_and(|(until, _)| now < until)
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn woken(late: impl IntoIterator<Item = Duration>) -> Pulse {
        let pulse = Pulse::default();
        late.into_iter().for_each(|late| pulse.woken(late));
        pulse
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_woken_late_unlike_the_others_is_starved_for_a_while() {
        let starved = woken([40 * MS; WAKES]);
        assert!(starved.is_starved(vec![MS, 2 * MS]));
        (0..WAKES).for_each(|_| starved.woken(MS));
        tokio::time::advance(HOLD - MS).await;
        assert!(starved.is_starved(vec![MS, MS]));
        tokio::time::advance(MS).await;
        assert!(!starved.is_starved(vec![MS, MS]));
        // It could not bear it.
        (0..WAKES).for_each(|_| starved.woken(40 * MS));
        assert!(starved.is_starved(vec![MS, MS]));
        (0..WAKES).for_each(|_| starved.woken(MS));
        tokio::time::advance(HOLD * 2 - MS).await;
        assert!(starved.is_starved(vec![MS, MS]));
        tokio::time::advance(MS).await;
        assert!(!starved.is_starved(vec![MS, MS]));
    }

    #[tokio::test(start_paused = true)]
    async fn load_on_all_a_gap_and_a_beginning_are_no_starvation() {
        assert!(!woken([40 * MS; WAKES]).is_starved(vec![30 * MS, 50 * MS]), "all are late");
        assert!(!woken([40 * MS; WAKES]).is_starved(vec![]), "nobody to compare with");
        assert!(!woken([40 * MS; WAKES - 1]).is_starved(vec![MS, MS]), "not for long enough");
        let stopped = woken((0..WAKES).map(|wake| if wake % 4 == 0 { 20_000 * MS } else { MS }));
        assert!(!stopped.is_starved(vec![MS, MS]), "it was stopped a few times");
    }
}
