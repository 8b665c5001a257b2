//! How fast the tasks of a queue may go, and whether its worker should poll more or less.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: so many tasks a second, and at most one second's worth at once.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Rate {
    pub fn new(per_second: f64, now: Instant) -> Self {
        Self { per_second, tokens: burst(per_second), at: now }
    }

    /// The rate that was asked for last holds.
    pub fn set(&mut self, per_second: f64, now: Instant) {
        self.refill(now);
        self.per_second = per_second;
        self.tokens = self.tokens.min(burst(per_second));
    }

    /// Lets a task go.
    ///
    /// # Errors
    /// How long to wait for that.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        /// Looked at again after so long at the latest: the rate may change.
        const PAUSE_MAX: f64 = 10.0;
        self.refill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let pause = if self.per_second > 0.0 { (1.0 - self.tokens) / self.per_second } else { PAUSE_MAX };
        Err(Duration::from_secs_f64(pause.clamp(0.001, PAUSE_MAX)))
    }

    /// How long the next task has to wait, if it has.
    pub fn pause(&mut self, now: Instant) -> Option<Duration> {
        let pause = self.take(now).err();
        if pause.is_none() {
            self.tokens += 1.0;
        }
        pause
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(burst(self.per_second));
        self.at = now;
    }
}

fn burst(per_second: f64) -> f64 {
    if per_second > 0.0 { per_second.max(1.0) } else { 0.0 }
}

/// How many times something happened lately, by the second.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    /// By second since the start, modulo their number.
    seconds: [u32; Meter::SECONDS],
    /// The second that was counted last.
    last: u64,
}

impl Meter {
    const SECONDS: usize = 30;
    pub const SPAN: Duration = Duration::from_secs(Self::SECONDS as u64);

    pub fn new(now: Instant) -> Self {
        Self { start: now, seconds: [0; Self::SECONDS], last: 0 }
    }

    pub fn count(&mut self, now: Instant) {
        let second = self.second(now);
        // Seconds in which nothing was counted hold what was counted a whole span before.
        for passed in (self.last + 1..=second).take(Self::SECONDS) {
            self.set(passed, 0);
        }
        self.last = self.last.max(second);
        let counted = self.get(second);
        self.set(second, counted.saturating_add(1));
    }

    /// The average of the last thirty seconds, or of the time since it began.
    pub fn per_second(&self, now: Instant) -> f32 {
        let second = self.second(now);
        let oldest = (second + 1).saturating_sub(Self::SECONDS as u64);
        let counted: u64 = (oldest..=second.min(self.last)).map(|second| u64::from(self.get(second))).sum();
        let age = now.saturating_duration_since(self.start).as_secs_f32().clamp(1.0, Self::SPAN.as_secs_f32());
        counted as f32 / age
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }

    fn get(&self, second: u64) -> u32 {
        self.seconds.get(Self::index(second)).copied().unwrap_or(0)
    }

    fn set(&mut self, second: u64, count: u32) {
        if let Some(slot) = self.seconds.get_mut(Self::index(second)) {
            *slot = count;
        }
    }

    fn index(second: u64) -> usize {
        usize::try_from(second % Self::SECONDS as u64).unwrap_or(0)
    }
}

/// Advice on how many polls a worker should have, given sparingly.
#[derive(Debug)]
pub struct Scaling {
    second: Instant,
    given: u32,
}

impl Scaling {
    pub fn new(now: Instant) -> Self {
        Self { second: now, given: 0 }
    }

    /// 1: more polls would help, −1: a poll had nothing to do, 0: no opinion. `backlog_age`: of the oldest
    /// task that still waits, if any.
    pub fn advice(&mut self, waited: Duration, backlog_age: Option<Duration>, now: Instant) -> i32 {
        const IDLE: Duration = Duration::from_secs(1);
        const OLD: Duration = Duration::from_millis(200);
        const PER_SECOND_MAX: u32 = 10;
        let advice = if waited >= IDLE {
            -1
        } else if backlog_age.is_some_and(|age| age > OLD) {
            1
        } else {
            return 0;
        };
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        if self.given >= PER_SECOND_MAX {
            return 0;
        }
        self.given += 1;
        advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_so_many_go_and_says_when_the_next_may() {
        let start = Instant::now();
        let mut rate = Rate::new(2.0, start);
        assert_eq!(rate.take(start), Ok(()));
        assert_eq!(rate.take(start), Ok(()));
        assert_eq!(rate.take(start), Err(Duration::from_millis(500)));
        assert_eq!(rate.take(start + Duration::from_millis(500)), Ok(()));
        let later = start + Duration::from_secs(60);
        assert_eq!((rate.take(later), rate.take(later)), (Ok(()), Ok(())), "a second's worth is kept, not more");
        assert!(rate.take(later).is_err());
        rate.set(0.0, later);
        assert_eq!(rate.take(later + Duration::from_secs(60)), Err(Duration::from_secs(10)), "nothing goes");
    }

    #[test]
    fn a_meter_forgets_what_is_long_ago() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(start);
        (0..60).for_each(|_| meter.count(start));
        assert!((meter.per_second(at(10)) - 6.0).abs() < 0.01);
        assert!((meter.per_second(at(29)) - 60.0 / 29.0).abs() < 0.01);
        assert!(meter.per_second(at(30)).abs() < 0.01);
        (0..30).for_each(|_| meter.count(at(45)));
        assert!((meter.per_second(at(50)) - 1.0).abs() < 0.01);
        (0..30).for_each(|_| meter.count(at(500)));
        assert!((meter.per_second(at(500)) - 1.0).abs() < 0.01);
    }

    #[test]
    fn advice_follows_idle_polls_and_old_tasks() {
        let now = Instant::now();
        let mut scaling = Scaling::new(now);
        let ms = Duration::from_millis;
        assert_eq!(scaling.advice(ms(1_000), Some(ms(900)), now), -1);
        assert_eq!(scaling.advice(ms(10), Some(ms(201)), now), 1);
        assert_eq!(scaling.advice(ms(10), Some(ms(200)), now), 0);
        assert_eq!(scaling.advice(ms(10), None, now), 0);
        let given: i32 = (0..20).map(|_| scaling.advice(ms(0), Some(ms(500)), now)).sum();
        assert_eq!(given, 8, "ten a second");
        assert_eq!(scaling.advice(ms(0), Some(ms(500)), now + ms(1_000)), 1);
    }
}
