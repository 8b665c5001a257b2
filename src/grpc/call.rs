//! What a call brings besides its request: who calls, and how long the caller waits.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::{Result, errors};

/// Deadline of calls that come without one.
const CALL_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// No plain call is worked on for longer, whatever its caller says.
const CALL_TIME_MAX: Duration = Duration::from_secs(120);
/// A poll with less time than this is refused.
const POLL_TIME_MIN: Duration = Duration::from_secs(2);
/// A poll ends this long before the caller's deadline, so that its answer arrives in time.
const POLL_TAIL: Duration = Duration::from_secs(1);
/// A reader of a history ends so long before its caller's deadline.
const WAIT_TAIL: Duration = Duration::from_millis(100);

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    pub started: Instant,
    /// The caller's own; `None` when it did not say.
    pub deadline: Option<Instant>,
    /// Empty when the caller did not say.
    pub client_name: String,
}

impl Call {
    pub fn of(headers: &HeaderMap, now: Instant) -> Self {
        let client_name = headers.get("client-name").and_then(|name| name.to_str().ok()).unwrap_or_default();
        Self {
            started: now,
            deadline: timeout(headers).and_then(|timeout| now.checked_add(timeout)),
            client_name: client_name.to_owned(),
        }
    }

    /// A call that the server makes of itself.
    pub fn own() -> Self {
        Self::own_within(CALL_TIME_DEFAULT)
    }

    pub fn own_within(time: Duration) -> Self {
        let started = Instant::now();
        Self { started, deadline: Some(started + time), client_name: String::new() }
    }

    /// When a call that only waits for its work must be answered.
    pub fn answer_by(&self) -> Instant {
        match self.deadline {
            Some(deadline) => deadline.min(self.started + CALL_TIME_MAX),
            None => self.started + CALL_TIME_DEFAULT,
        }
    }

    /// Until when a poll waits for a task, for `longest` at most.
    pub fn poll_until(&self, longest: Duration) -> Result<Instant> {
        let deadline = self.deadline.ok_or_else(errors::no_deadline)?;
        if deadline.saturating_duration_since(self.started) < POLL_TIME_MIN {
            return Err(errors::deadline_too_short());
        }
        Ok((deadline - POLL_TAIL).min(self.started + longest))
    }

    /// Until when a reader of a history waits for its next event, for `longest` at most.
    pub fn wait_until(&self, longest: Duration) -> Result<Instant> {
        let longest = self.started + longest;
        match self.deadline {
            None => Ok(longest),
            Some(deadline) if deadline.saturating_duration_since(self.started) < WAIT_TAIL => {
                Err(errors::deadline_too_short())
            }
            Some(deadline) => Ok((deadline - WAIT_TAIL).min(longest)),
        }
    }

    /// Whether the caller takes events that stand in no row yet. People look at a history through these
    /// two, and should see what is written; workers and their test tools need the rest.
    pub fn wants_virtual_events(&self) -> bool {
        !matches!(self.client_name.as_str(), "temporal-cli" | "temporal-ui")
    }
}

/// The header `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const POLL: Duration = Duration::from_secs(60);
    const WAIT: Duration = Duration::from_secs(20);

    fn call(timeout: Option<&'static str>) -> Call {
        let mut headers = HeaderMap::new();
        if let Some(timeout) = timeout {
            headers.insert("grpc-timeout", HeaderValue::from_static(timeout));
        }
        Call::of(&headers, Instant::now())
    }

    fn left(call: &Call, until: Instant) -> Duration {
        until - call.started
    }

    #[test]
    fn timeouts_have_units() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("70S", Some(Duration::from_secs(70))),
            ("1500m", Some(Duration::from_millis(1500))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5", None),
            ("-5S", None),
            ("5x", None),
        ] {
            let call = call(Some(text));
            assert_eq!(call.deadline.map(|deadline| left(&call, deadline)), expected, "{text}");
        }
    }

    #[test]
    fn polls_end_before_their_callers_do() {
        assert_eq!(call(None).poll_until(POLL), Err(errors::no_deadline()));
        assert_eq!(call(Some("1999m")).poll_until(POLL), Err(errors::deadline_too_short()));
        for (text, seconds) in [("2S", 1), ("10S", 9), ("70S", 60), ("5M", 60)] {
            let call = call(Some(text));
            let until = call.poll_until(POLL).expect("long enough");
            assert_eq!(left(&call, until), Duration::from_secs(seconds), "{text}");
        }
    }

    #[test]
    fn calls_are_answered_in_time() {
        for (text, seconds) in [(None, 30), (Some("5S"), 5), (Some("1H"), 120)] {
            let call = call(text);
            assert_eq!(left(&call, call.answer_by()), Duration::from_secs(seconds), "{text:?}");
        }
        let waiting = call(Some("5S"));
        assert_eq!(left(&waiting, waiting.wait_until(WAIT).expect("long enough")), Duration::from_millis(4_900));
        assert_eq!(call(Some("1m")).wait_until(WAIT), Err(errors::deadline_too_short()));
    }
}
