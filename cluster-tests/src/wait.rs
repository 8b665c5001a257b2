//! Waiting for conditions, with a bound.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tries until it succeeds, and returns the value.
///
/// # Panics
/// It has not within `time`: with the last error.
pub async fn until<T, E, F, W>(what: &str, time: Duration, mut attempt: F) -> T
where
    E: Debug,
    F: FnMut() -> W,
    W: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + time;
    loop {
        let error = match attempt().await {
            Ok(value) => return value,
            Err(error) => error,
        };
        assert!(Instant::now() < end, "{what} has not come about within {time:?}: {error:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The outcome of something that must end within `time`.
///
/// # Panics
/// It does not.
pub async fn within<T>(what: &str, time: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(time, work).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{what} has not ended within {time:?}"),
    }
}

/// Lets time go by because a fault has to last that long.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
