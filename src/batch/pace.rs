//! So many operations per second, and a second's worth of them at once after a pause.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

#[derive(Debug)]
pub struct Pace {
    /// Between two operations.
    spacing: Duration,
    /// How far operations may run ahead of their spacing.
    ahead: Duration,
    /// When the next one would be due if all were spaced.
    next: Mutex<Instant>,
}

impl Pace {
    pub fn new(per_second: f64) -> Self {
        let spacing = Duration::from_secs_f64(1.0 / per_second.clamp(0.001, 1e6));
        let burst = per_second.ceil().max(1.0) - 1.0;
        Self { spacing, ahead: spacing.mul_f64(burst), next: Mutex::new(Instant::now()) }
    }

    /// Completes when one more operation may begin.
    pub async fn wait(&self) {
        let due = {
            let mut next = self.next.lock();
            let due = *next;
            *next = due.max(Instant::now()) + self.spacing;
            due
        };
        if let Some(begin) = due.checked_sub(self.ahead) {
            sleep_until(begin).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_may_be_used_up_at_once_and_no_more() {
        let pace = Pace::new(10.0);
        let begin = Instant::now();
        for _ in 0..10 {
            pace.wait().await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            pace.wait().await;
        }
        let took = begin.elapsed();
        assert!((Duration::from_millis(1_990)..Duration::from_millis(2_010)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn less_than_one_a_second_is_a_pace_too() {
        let pace = Pace::new(0.5);
        let begin = Instant::now();
        pace.wait().await;
        pace.wait().await;
        assert_eq!(begin.elapsed().as_secs(), 2);
    }
}
