//! The wall clock of a simulated node: virtual time, with an offset and a drift of its own.

use std::sync::atomic::{AtomicI64, Ordering};

use bristlecone_storage::runtime::Clock;
use tokio::time::Instant;

/// When every simulation begins: 2027-01-01, in Unix nanoseconds, and in seconds.
const BEGIN: i64 = BEGIN_S * 1_000_000_000;
pub const BEGIN_S: i64 = 1_798_761_600;

#[derive(Debug)]
pub struct SimClock {
    begun: Instant,
    offset: AtomicI64,
    /// Nanoseconds gained per second.
    drift: AtomicI64,
}

impl SimClock {
    pub fn new(begun: Instant) -> Self {
        Self { begun, offset: AtomicI64::new(0), drift: AtomicI64::new(0) }
    }

    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.offset.store(offset_ms * 1_000_000, Ordering::Relaxed);
    }

    /// Whether it was set to something else than the time.
    pub fn is_off(&self) -> bool {
        self.offset.load(Ordering::Relaxed) != 0
    }

    pub fn set_drift_ppm(&self, drift: i64) {
        self.drift.store(drift * 1_000, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall(&self) -> i64 {
        let elapsed = i64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(i64::MAX / 2);
        let gained = elapsed / 1_000_000_000 * self.drift.load(Ordering::Relaxed);
        BEGIN + elapsed + gained + self.offset.load(Ordering::Relaxed)
    }
}
