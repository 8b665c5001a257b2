//! Cron schedules of workflows: five fields (minute, hour, day of month, month, day of week), the
//! shorthands `@hourly` and so on, `@every <duration>`, and the prefixes `CRON_TZ=` and `TZ=`.
//!
//! # Contract
//! Pure: time zones come from the database compiled into the program. A day matches when both day
//! fields do; when neither is `*`, one of them is enough. A local time that a clock change skips is
//! skipped; one that comes twice matches twice.

use alloc::string::String;

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::stamp::UnixNanos;

const SECOND: i64 = 1_000_000_000;

/// A parsed schedule.
#[derive(Debug, Clone)]
pub(crate) struct Cron {
    zone: TimeZone,
    spec: Spec,
}

#[derive(Debug, Clone, PartialEq)]
enum Spec {
    Fields(Fields),
    /// Nanoseconds, at least a second.
    Every(i64),
}

/// A bit for each value that matches.
#[derive(Debug, Clone, PartialEq)]
struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Both day fields say `*` (or `?`) or at least one of them does.
    any_day_star: bool,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invalid {
    Syntax,
    /// No time within five years matches.
    Never,
}

impl Invalid {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Syntax => "invalid CronSchedule.",
            Self::Never => "invalid CronSchedule, no time can be found to satisfy the schedule",
        }
    }
}

/// Whether the text is a schedule that matches some time after `now`. Empty: no schedule, which is valid.
pub(crate) fn validate(text: &str, now: UnixNanos) -> Result<(), Invalid> {
    if text.is_empty() {
        return Ok(());
    }
    let cron = Cron::parse(text).ok_or(Invalid::Syntax)?;
    cron.next(now).map(|_| ()).ok_or(Invalid::Never)
}

/// Nanoseconds from `now` to the next start (whole seconds, rounded up), for a run that was scheduled to
/// execute at `scheduled`. `None`: no schedule, or it matches no more.
pub(crate) fn backoff(text: &str, scheduled: UnixNanos, now: UnixNanos) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let cron = Cron::parse(text)?;
    let next = if now < scheduled { scheduled } else { cron.next_not_before(scheduled, now)? };
    let wait = next.saturating_sub(now);
    let seconds = wait / SECOND + i64::from(wait % SECOND > 0);
    Some(seconds.saturating_mul(SECOND))
}

impl Cron {
    pub fn parse(text: &str) -> Option<Self> {
        let (zone, rest) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            Some(zoned) => {
                let (name, rest) = zoned.split_once(' ')?;
                (zone(name)?, rest.trim())
            }
            None => (TimeZone::UTC, text),
        };
        let spec = if rest.starts_with('@') { descriptor(rest)? } else { Spec::Fields(fields(rest)?) };
        Some(Self { zone, spec })
    }

    /// The first match after `after`.
    pub fn next(&self, after: UnixNanos) -> Option<UnixNanos> {
        match &self.spec {
            Spec::Every(interval) => after.checked_sub(after.rem_euclid(SECOND))?.checked_add(*interval),
            Spec::Fields(fields) => self.next_match(fields, after),
        }
    }

    /// The first of the matches after `scheduled` that is not before `now`.
    fn next_not_before(&self, scheduled: UnixNanos, now: UnixNanos) -> Option<UnixNanos> {
        match &self.spec {
            Spec::Every(interval) => {
                let first = self.next(scheduled)?;
                let missed = now.saturating_sub(first).max(0);
                let steps = missed / interval + i64::from(missed % interval > 0);
                first.checked_add(steps.checked_mul(*interval)?)
            }
            Spec::Fields(_) => {
                let first = self.next(scheduled)?;
                // Matches depend on the clock alone, so those that were missed need not be walked through.
                if first >= now { Some(first) } else { self.next(now.checked_sub(1)?) }
            }
        }
    }

    /// Walks from field to field, the coarse ones first, skipping what can't match.
    fn next_match(&self, fields: &Fields, after: UnixNanos) -> Option<UnixNanos> {
        const YEARS: i16 = 5;
        let start = Timestamp::from_second(after.div_euclid(SECOND).checked_add(1)?).ok()?;
        let mut at = start;
        let last_year = self.local(at).year().checked_add(YEARS)?;
        loop {
            let local = self.local(at);
            if local.year() > last_year {
                return None;
            }
            let later = if !has(fields.month, local.month()) {
                self.instant(local.first_of_month().checked_add(jiff::Span::new().months(1)).ok()?.start_of_day())?
            } else if !fields.matches_day(local) {
                self.instant(local.tomorrow().ok()?.start_of_day())?
            } else if !has(fields.hour, local.hour()) {
                at.checked_add(SignedDuration::from_secs(3_600 - seconds_into_hour(local))).ok()?
            } else if !has(fields.minute, local.minute()) || local.second() != 0 {
                at.checked_add(SignedDuration::from_secs(60 - i64::from(local.second()))).ok()?
            } else {
                return at.as_second().checked_mul(SECOND);
            };
            // A clock change can make the start of a day lie before the instant from which it was reached.
            at = if later > at { later } else { at.checked_add(SignedDuration::from_hours(1)).ok()? };
        }
    }

    fn local(&self, at: Timestamp) -> DateTime {
        self.zone.to_datetime(at)
    }

    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        self.zone.to_timestamp(local).ok()
    }
}

impl Fields {
    fn matches_day(&self, local: DateTime) -> bool {
        let day = has(self.day, local.day());
        let weekday = has(self.weekday, local.weekday().to_sunday_zero_offset());
        if self.any_day_star { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits >> value & 1 == 1)
}

fn seconds_into_hour(local: DateTime) -> i64 {
    i64::from(local.minute()) * 60 + i64::from(local.second())
}

pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() || name == "UTC" || name == "Local" {
        return Some(TimeZone::UTC);
    }
    TimeZoneDatabase::bundled().get(name).ok()
}

fn descriptor(text: &str) -> Option<Spec> {
    let fields_of = |text| fields(text).map(Spec::Fields);
    match text {
        "@yearly" | "@annually" => fields_of("0 0 1 1 *"),
        "@monthly" => fields_of("0 0 1 * *"),
        "@weekly" => fields_of("0 0 * * 0"),
        "@daily" | "@midnight" => fields_of("0 0 * * *"),
        "@hourly" => fields_of("0 * * * *"),
        _ => {
            let interval = go_duration(text.strip_prefix("@every ")?)?;
            let whole = interval.max(SECOND);
            Some(Spec::Every(whole - whole % SECOND))
        }
    }
}

fn fields(text: &str) -> Option<Fields> {
    let mut parts = text.split_ascii_whitespace();
    let mut part = || parts.next();
    let minute = field(part()?, 0, 59, &[])?;
    let hour = field(part()?, 0, 23, &[])?;
    let day = field(part()?, 1, 31, &[])?;
    let month = field(part()?, 1, 12, &MONTHS)?;
    let weekday = field(part()?, 0, 6, &WEEKDAYS)?;
    if part().is_some() {
        return None;
    }
    Some(Fields {
        minute: minute.0,
        hour: hour.0,
        day: day.0,
        month: month.0,
        weekday: weekday.0,
        any_day_star: day.1 || weekday.1,
    })
}

const MONTHS: [(&str, u32); 12] = [
    ("jan", 1),
    ("feb", 2),
    ("mar", 3),
    ("apr", 4),
    ("may", 5),
    ("jun", 6),
    ("jul", 7),
    ("aug", 8),
    ("sep", 9),
    ("oct", 10),
    ("nov", 11),
    ("dec", 12),
];
const WEEKDAYS: [(&str, u32); 7] = [("sun", 0), ("mon", 1), ("tue", 2), ("wed", 3), ("thu", 4), ("fri", 5), ("sat", 6)];

/// Bits of a comma-separated list of ranges, and whether one of them is a star.
fn field(text: &str, min: u32, max: u32, names: &[(&str, u32)]) -> Option<(u64, bool)> {
    let mut bits = 0;
    let mut star = false;
    // Empty items between commas are ignored.
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (item, None),
        };
        let is_star = range == "*" || range == "?";
        let (low, high) = if is_star {
            (min, max)
        } else if let Some((low, high)) = range.split_once('-') {
            (value(low, names)?, value(high, names)?)
        } else {
            let low = value(range, names)?;
            (low, if step.is_some() { max } else { low })
        };
        if low < min || high > max || low > high {
            return None;
        }
        star |= is_star && step.is_none_or(|step| step == 1);
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        bits |= (low..=high).step_by(step).fold(0, |bits, value| bits | 1 << value);
    }
    Some((bits, star))
}

fn value(text: &str, names: &[(&str, u32)]) -> Option<u32> {
    let lower: String = text.to_ascii_lowercase();
    names.iter().find(|(name, _)| *name == lower).map(|(_, value)| *value).or_else(|| text.parse().ok())
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `250ms`.
fn go_duration(text: &str) -> Option<i64> {
    duration_in(text, &UNITS)
}

/// A duration in these units, in nanoseconds.
pub(crate) fn duration_in(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let (unit, after) = units.iter().find_map(|(name, unit)| after.strip_prefix(name).map(|rest| (*unit, rest)))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            total = total.checked_add(scale.checked_mul(i64::from(digit.checked_sub(b'0')?))?)?;
        }
        rest = after;
    }
    Some(total)
}

/// Longer names first where one begins with another.
pub(crate) const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixNanos {
        text.parse::<Timestamp>().expect("a timestamp").as_second() * SECOND
    }

    fn next(cron: &str, after: &str) -> String {
        let next = Cron::parse(cron).expect("a schedule").next(at(after)).expect("a match");
        alloc::string::ToString::to_string(&Timestamp::from_second(next / SECOND).expect("in range"))
    }

    #[test]
    fn fields_match_as_cron_has_it() {
        assert_eq!(next("* * * * *", "2026-01-31T23:59:30Z"), "2026-02-01T00:00:00Z");
        assert_eq!(next("*/15 9-17 * * mon-fri", "2026-01-02T17:50:00Z"), "2026-01-05T09:00:00Z");
        assert_eq!(next("0 0 29 2 *", "2026-03-01T00:00:00Z"), "2028-02-29T00:00:00Z");
        assert_eq!(next("5/20 * * * *", "2026-01-01T00:25:00Z"), "2026-01-01T00:45:00Z");
        // Either day field is enough when both are given.
        assert_eq!(next("0 0 13 * fri", "2026-01-01T00:00:00Z"), "2026-01-02T00:00:00Z");
        assert_eq!(next("0 0 13 * ?", "2026-01-01T00:00:00Z"), "2026-01-13T00:00:00Z");
        assert_eq!(next("@weekly", "2026-01-01T00:00:00Z"), "2026-01-04T00:00:00Z");
    }

    #[test]
    fn a_match_is_never_the_time_asked_about() {
        assert_eq!(next("0 12 * * *", "2026-01-01T12:00:00Z"), "2026-01-02T12:00:00Z");
    }

    #[test]
    fn zones_follow_the_wall_clock() {
        let new_york = "CRON_TZ=America/New_York 30 2 * * *";
        assert_eq!(next(new_york, "2026-03-06T12:00:00Z"), "2026-03-07T07:30:00Z");
        // 2:30 does not exist on the 8th.
        assert_eq!(next(new_york, "2026-03-07T12:00:00Z"), "2026-03-09T06:30:00Z");
        // 1:30 comes twice on the 1st of November.
        let twice = "TZ=America/New_York 30 1 * * *";
        assert_eq!(next(twice, "2026-11-01T04:00:00Z"), "2026-11-01T05:30:00Z");
        assert_eq!(next(twice, "2026-11-01T05:30:00Z"), "2026-11-01T06:30:00Z");
        assert_eq!(next(twice, "2026-11-01T06:30:00Z"), "2026-11-02T06:30:00Z");
    }

    #[test]
    fn every_counts_from_the_whole_second() {
        let every = Cron::parse("@every 1m30s").expect("a schedule");
        assert_eq!(every.next(500), Some(90 * SECOND));
        assert_eq!(Cron::parse("@every 10ms").expect("a schedule").next(0), Some(SECOND));
        assert_eq!(go_duration("1h2m3.5s"), Some(3_723_500_000_000));
        assert_eq!(go_duration("1d"), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* * * 13 *",
            "* * * * 7",
            "*/0 * * * *",
            "@often",
            "5-1 * * * *",
            "CRON_TZ=Nowhere/Land * * * * *",
        ] {
            assert!(Cron::parse(text).is_none(), "{text:?}");
        }
        assert_eq!(validate("0 0 31 2 *", at("2026-01-01T00:00:00Z")), Err(Invalid::Never));
        assert_eq!(validate("x", 0), Err(Invalid::Syntax));
        assert_eq!(validate("", 0), Ok(()));
    }

    #[test]
    fn the_backoff_skips_missed_starts_and_is_whole_seconds() {
        let scheduled = at("2026-01-01T00:00:00Z");
        let now = at("2026-01-01T00:02:10Z") + 1;
        assert_eq!(backoff("* * * * *", scheduled, now), Some(50 * SECOND));
        assert_eq!(backoff("* * * * *", scheduled, scheduled - 5 * SECOND), Some(5 * SECOND));
        assert_eq!(backoff("@every 1m", scheduled, now), Some(50 * SECOND));
        assert_eq!(backoff("* * * * *", scheduled, at("2026-01-01T00:03:00Z")), Some(0));
        assert_eq!(backoff("", scheduled, now), None);
    }
}
