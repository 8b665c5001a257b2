//! Reasons for the log that come from outside, at a rate that outsiders cannot raise.
//!
//! # Used by
//! `serve.rs` and `link.rs`.

use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const LINES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Lets at most 20 lines of each 10 s through and counts the others.
#[derive(Debug, Default)]
pub(super) struct Reports {
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    start: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Reports {
    /// Logs why a connection with `address` was ended or refused.
    pub(super) fn connection(&self, address: &str, why: &dyn Display) {
        if let Some(left_out) = self.admit() {
            tracing::warn!(%address, left_out, "internal connection closed: {why}");
        }
    }

    /// `None`: say nothing. Otherwise how many lines were left out since the last one that was not.
    fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut window = self.window.lock();
        if window.start.is_none_or(|start| now - start >= WINDOW) {
            window.start = Some(now);
            window.lines = 0;
        }
        if window.lines == LINES_MAX {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_reasons_is_counted_not_logged() {
        let reports = Reports::default();
        for _ in 0..LINES_MAX {
            assert_eq!(reports.admit(), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(reports.admit(), None);
        }
        tokio::time::advance(WINDOW).await;
        assert_eq!(reports.admit(), Some(1_000));
        assert_eq!(reports.admit(), Some(0));
    }
}
