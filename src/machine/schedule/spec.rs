//! Which times a schedule's spec names.
//!
//! # Contract
//! Calendars name civil times of the spec's time zone: one that a clock change skips is skipped, one that
//! comes twice matches twice. Intervals count from the Unix epoch. A time is named when a calendar or an
//! interval names it, no excluded calendar does, and it lies between start and end. Jitter follows from the
//! time and a seed alone, and never reaches the following time.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::schedule::v1::ScheduleSpec;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::calendar::{Calendar, Times, YEARS};
use crate::cron;
use crate::stamp::{UnixNanos, duration_nanos, nanos};

const SECOND: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;
/// Times that are looked at, one after another, for one that is not excluded.
const EXCLUDED_MAX: u32 = 200_000;

/// A spec, ready to be asked.
#[derive(Debug)]
pub struct Spec {
    zone: TimeZone,
    calendars: Vec<Calendar>,
    excludes: Vec<Calendar>,
    intervals: Vec<Interval>,
    start: UnixNanos,
    end: Option<UnixNanos>,
    jitter_ms: u64,
    /// Every time that calendars and intervals name is one of these.
    times: Times,
}

/// Seconds.
#[derive(Debug)]
struct Interval {
    every: i64,
    phase: i64,
}

/// A time that a spec names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub nominal: UnixNanos,
    /// With jitter.
    pub actual: UnixNanos,
}

impl Spec {
    /// The spec of a stored schedule.
    pub fn of(schedule: &record::Schedule) -> Result<Self, String> {
        Self::new(schedule.spec.as_ref().unwrap_or(&ScheduleSpec::default()))
    }

    /// A spec in its canonical form (`parse.rs`).
    pub fn new(spec: &ScheduleSpec) -> Result<Self, String> {
        let calendars: Vec<_> = spec.structured_calendar.iter().map(Calendar::new).collect();
        let intervals: Vec<_> = spec.interval.iter().map(Interval::new).collect();
        let times = all_times(&calendars, &intervals);
        Ok(Self {
            zone: zone(spec)?,
            calendars,
            excludes: spec.exclude_structured_calendar.iter().map(Calendar::new).collect(),
            intervals,
            start: spec.start_time.as_ref().map_or(0, nanos),
            end: spec.end_time.as_ref().map(nanos),
            jitter_ms: u64::try_from(duration_nanos(spec.jitter.as_ref()) / 1_000_000).unwrap_or(0),
            times,
        })
    }

    /// The first time after `after` that the spec names.
    pub fn next(&self, seed: &str, after: UnixNanos) -> Option<Next> {
        let after = after.max(self.start.saturating_sub(SECOND)).div_euclid(SECOND);
        let nominal = self.first_not_excluded(after)?;
        let mut jitter_ms = self.jitter_ms;
        if jitter_ms > 0
            && let Some(following) = self.raw(nominal)
        {
            jitter_ms = jitter_ms.min(u64::try_from((following - nominal).saturating_mul(1_000)).unwrap_or(0));
        }
        let jitter = (u64::from(hash(seed, nominal)) * jitter_ms.min(u64::from(u32::MAX))) >> 32;
        let nominal = nominal.checked_mul(SECOND)?;
        Some(Next { nominal, actual: nominal.saturating_add(i64::try_from(jitter).ok()? * 1_000_000) })
    }

    fn first_not_excluded(&self, after: i64) -> Option<i64> {
        let mut after = after;
        for _ in 0..EXCLUDED_MAX {
            let candidate = self.raw(after)?;
            if self.end.is_some_and(|end| candidate.saturating_mul(SECOND) > end) {
                return None;
            }
            let local = self.local(candidate)?;
            if i32::from(local.year()) > *YEARS.end() {
                return None;
            }
            let Some(exclude) = self.excludes.iter().find(|exclude| exclude.matches(local)) else {
                return Some(candidate);
            };
            after = self.last_excluded(exclude, candidate, local);
        }
        None
    }

    /// The first time after `after` that a calendar or an interval names.
    fn raw(&self, after: i64) -> Option<i64> {
        let calendars = self.calendars.iter().filter_map(|calendar| self.next_of(calendar, after));
        let intervals = self.intervals.iter().map(|interval| interval.next(after));
        calendars.chain(intervals).min()
    }

    /// Goes through the stretches of time in which the zone's offset stays the same.
    fn next_of(&self, calendar: &Calendar, after: i64) -> Option<i64> {
        let limit = Date::new(i16::try_from(*YEARS.end()).ok()? + 1, 1, 1).ok()?.at(0, 0, 0, 0);
        let mut from = Timestamp::from_second(after.checked_add(1)?).ok()?;
        loop {
            let offset = self.zone.to_offset(from);
            let change = self.zone.following(from).map(|t| t.timestamp()).find(|at| *at > from);
            let end = change.map_or(limit, |at| offset.to_datetime(at)).min(limit);
            if let Some(found) = calendar.next(offset.to_datetime(from), end) {
                return Some(offset.to_timestamp(found).ok()?.as_second());
            }
            from = change.filter(|_| end < limit)?;
        }
    }

    fn local(&self, at: i64) -> Option<DateTime> {
        Some(self.zone.to_datetime(Timestamp::from_second(at).ok()?))
    }

    /// The last second of which it is clear that nothing up to it is named and not excluded: the calendar
    /// excludes whole days, hours or minutes of what can be named at all.
    fn last_excluded(&self, exclude: &Calendar, at: i64, local: DateTime) -> i64 {
        let covers = |named: u64, excluded: u64| named & !excluded == 0;
        let (named, excluded) = (&self.times, &exclude.times);
        let seconds = covers(named.second, excluded.second);
        let minutes = seconds && covers(named.minute, excluded.minute);
        let hours = minutes && covers(named.hour, excluded.hour);
        let of_minute = i64::from(local.second());
        let of_hour = i64::from(local.minute()) * 60 + of_minute;
        let left = if hours {
            DAY_SECONDS - 1 - i64::from(local.hour()) * 3_600 - of_hour
        } else if minutes {
            3_600 - 1 - of_hour
        } else if seconds {
            60 - 1 - of_minute
        } else {
            0
        };
        let last = at.saturating_add(left);
        // A clock change may end the day, hour or minute early.
        let from = Timestamp::from_second(at).ok();
        let change = from.and_then(|from| self.zone.following(from).map(|t| t.timestamp()).find(|at| *at > from));
        change.map_or(last, |change| last.min(change.as_second() - 1)).max(at)
    }
}

impl Interval {
    fn new(spec: &bristlecone_proto::temporal::api::schedule::v1::IntervalSpec) -> Self {
        let seconds = |duration: Option<&prost_types::Duration>| duration_nanos(duration) / SECOND;
        Self { every: seconds(spec.interval.as_ref()).max(1), phase: seconds(spec.phase.as_ref()).max(0) }
    }

    fn next(&self, after: i64) -> i64 {
        let steps = after.saturating_sub(self.phase).div_euclid(self.every).saturating_add(1);
        steps.saturating_mul(self.every).saturating_add(self.phase)
    }
}

/// What all calendars and intervals can name of a day; offsets of zones may be anything, so an interval's
/// hours and minutes are.
fn all_times(calendars: &[Calendar], intervals: &[Interval]) -> Times {
    let mut times = Times { hour: 0, minute: 0, second: 0 };
    for calendar in calendars {
        times.hour |= calendar.times.hour;
        times.minute |= calendar.times.minute;
        times.second |= calendar.times.second;
    }
    for interval in intervals {
        times.hour |= HOURS;
        times.minute |= SIXTY;
        times.second |= if interval.every % 60 == 0 { 1 << interval.phase.rem_euclid(60) } else { SIXTY };
    }
    times
}

const HOURS: u64 = (1 << 24) - 1;
const SIXTY: u64 = (1 << 60) - 1;

fn zone(spec: &ScheduleSpec) -> Result<TimeZone, String> {
    if !spec.timezone_data.is_empty() {
        return TimeZone::tzif(&spec.timezone_name, &spec.timezone_data)
            .map_err(|_| "malformed time zone information".to_string());
    }
    let name = spec.timezone_name.as_str();
    let known = cron::zone(name);
    // Names are written in one way only.
    let exact = known.filter(|zone| name.is_empty() || name == "Local" || zone.iana_name() == Some(name));
    exact.ok_or_else(|| format!("unknown time zone {name}"))
}

/// 32 bits that follow from the seed and the time alone.
fn hash(seed: &str, nominal: i64) -> u32 {
    // FNV-1a, then splitmix64's finaliser.
    let bytes = nominal.to_be_bytes().into_iter().chain(seed.bytes());
    let mut x =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |x, byte| (x ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::super::parse::canonical;
    use super::*;
    use bristlecone_proto::temporal::api::schedule::v1::{CalendarSpec, IntervalSpec};
    use prost_types::Duration;

    fn seconds(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a timestamp").as_second()
    }

    fn at(text: &str) -> UnixNanos {
        seconds(text) * SECOND
    }

    fn text(nanos: UnixNanos) -> String {
        Timestamp::from_nanosecond(i128::from(nanos)).expect("in range").to_string()
    }

    fn compiled(spec: &ScheduleSpec) -> Spec {
        Spec::new(&canonical(spec).expect("a valid spec")).expect("a known zone")
    }

    /// The first times after one, without jitter.
    fn times(spec: &ScheduleSpec, after: &str, count: usize) -> Vec<String> {
        let spec = compiled(spec);
        let mut after = at(after);
        let mut times = Vec::new();
        while times.len() < count
            && let Some(next) = spec.next("seed", after)
        {
            times.push(text(next.nominal));
            after = next.nominal;
        }
        times
    }

    fn cron(text: &str) -> ScheduleSpec {
        ScheduleSpec { cron_string: [text.to_string()].into(), ..ScheduleSpec::default() }
    }

    fn every(seconds: i64, phase: i64) -> IntervalSpec {
        let span = |seconds| Some(Duration { seconds, nanos: 0 });
        IntervalSpec { interval: span(seconds), phase: span(phase) }
    }

    #[test]
    fn months_end_and_leap_years_come() {
        let last = times(&cron("0 12 31 * *"), "2026-01-31T12:00:00Z", 3);
        assert_eq!(last, ["2026-03-31T12:00:00Z", "2026-05-31T12:00:00Z", "2026-07-31T12:00:00Z"]);
        let leap = times(&cron("0 0 29 2 *"), "2096-03-01T00:00:00Z", 3);
        assert_eq!(leap, Vec::<String>::new(), "2100 is no leap year, and the last one");
        assert_eq!(
            times(&cron("0 0 29 2 *"), "2026-03-01T00:00:00Z", 2),
            ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]
        );
        assert_eq!(times(&cron("0 0 31 2 *"), "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
    }

    #[test]
    fn both_day_fields_have_to_match() {
        let friday_13 = times(&cron("0 0 13 * fri"), "2026-01-01T00:00:00Z", 3);
        assert_eq!(friday_13, ["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z", "2026-11-13T00:00:00Z"]);
    }

    #[test]
    fn fields_of_cron_strings() {
        let seconds = times(&cron("*/20 30 9 * * * 2027"), "2026-01-01T00:00:00Z", 4);
        assert_eq!(
            seconds,
            ["2027-01-01T09:30:00Z", "2027-01-01T09:30:20Z", "2027-01-01T09:30:40Z", "2027-01-02T09:30:00Z"]
        );
        assert_eq!(times(&cron("@hourly"), "2026-01-01T00:00:00Z", 1), ["2026-01-01T01:00:00Z"]);
        assert_eq!(
            times(&cron("@every 36h/12h"), "2026-01-01T00:00:00Z", 2),
            ["2026-01-01T12:00:00Z", "2026-01-03T00:00:00Z"]
        );
        assert_eq!(times(&cron("0 0 * * 7"), "2026-01-01T00:00:00Z", 1), ["2026-01-04T00:00:00Z"]);
        assert_eq!(times(&cron("15 8 * dec mon-wed # late"), "2026-01-01T00:00:00Z", 1), ["2026-12-01T08:15:00Z"]);
    }

    #[test]
    fn a_time_that_clocks_skip_is_skipped() {
        let half_past_two = cron("TZ=America/New_York 30 2 * * *");
        assert_eq!(times(&half_past_two, "2026-03-06T12:00:00Z", 2), ["2026-03-07T07:30:00Z", "2026-03-09T06:30:00Z"]);
    }

    #[test]
    fn a_time_that_comes_twice_matches_twice() {
        let half_past_one = cron("CRON_TZ=America/New_York 30 1 * * *");
        assert_eq!(
            times(&half_past_one, "2026-11-01T04:00:00Z", 3),
            ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z"]
        );
        // Half an hour is repeated on Lord Howe Island.
        let lord_howe = cron("TZ=Australia/Lord_Howe 45 1 * * *");
        assert_eq!(
            times(&lord_howe, "2026-04-04T14:00:00Z", 3),
            ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-05T15:15:00Z"]
        );
    }

    #[test]
    fn intervals_count_from_the_epoch_and_unite_with_calendars() {
        let spec = ScheduleSpec { interval: [every(3_600, 600)].into(), ..cron("5 * * * *") };
        assert_eq!(
            times(&spec, "2026-01-01T00:05:00Z", 3),
            ["2026-01-01T00:10:00Z", "2026-01-01T01:05:00Z", "2026-01-01T01:10:00Z"]
        );
        let days = ScheduleSpec { interval: [every(10 * DAY_SECONDS, 2 * DAY_SECONDS)].into(), ..Default::default() };
        let first = compiled(&days).next("", at("2026-01-01T00:00:00Z")).expect("a time").nominal;
        assert_eq!((first / SECOND - 2 * DAY_SECONDS) % (10 * DAY_SECONDS), 0);
    }

    #[test]
    fn start_and_end_belong_to_the_range() {
        let bound = |text| Some(crate::stamp::timestamp(at(text)));
        let spec = ScheduleSpec {
            start_time: bound("2026-01-02T00:00:00Z"),
            end_time: bound("2026-01-02T02:00:00Z"),
            ..cron("@hourly")
        };
        assert_eq!(
            times(&spec, "2026-01-01T00:00:00Z", 9),
            ["2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z", "2026-01-02T02:00:00Z"]
        );
    }

    fn calendar(hour: &str, month: &str) -> CalendarSpec {
        let all = || "*".to_string();
        CalendarSpec {
            second: all(),
            minute: all(),
            hour: hour.to_string(),
            month: month.to_string(),
            ..CalendarSpec::default()
        }
    }

    #[test]
    fn excluded_times_are_left_out() {
        let spec = ScheduleSpec { exclude_calendar: [calendar("1-22", "*")].into(), ..cron("0 * * * *") };
        assert_eq!(
            times(&spec, "2026-01-01T00:00:00Z", 3),
            ["2026-01-01T23:00:00Z", "2026-01-02T00:00:00Z", "2026-01-02T23:00:00Z"]
        );
        // Eleven months of seconds are not walked through one by one.
        let rare = ScheduleSpec {
            interval: [every(1, 0)].into(),
            exclude_calendar: [calendar("*", "1-11")].into(),
            ..ScheduleSpec::default()
        };
        assert_eq!(times(&rare, "2026-01-01T00:00:00Z", 1), ["2026-12-01T00:00:00Z"]);
        let never = ScheduleSpec { exclude_calendar: [calendar("*", "*")].into(), ..rare };
        assert_eq!(times(&never, "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
    }

    #[test]
    fn jitter_is_the_same_each_time_and_stays_below_the_following_time() {
        let spec = |seconds| ScheduleSpec { jitter: Some(Duration { seconds, nanos: 0 }), ..cron("* * * * *") };
        let (short, long) = (compiled(&spec(10)), compiled(&spec(3_600)));
        let mut after = at("2026-01-01T00:00:00Z");
        let mut moved = 0;
        for _ in 0..200 {
            let next = short.next("a", after).expect("a time");
            assert_eq!(short.next("a", after), Some(next));
            assert!((0..10 * SECOND).contains(&(next.actual - next.nominal)), "{next:?}");
            moved += u32::from(next.actual != next.nominal);
            let far = long.next("b", after).expect("a time");
            assert!((0..60 * SECOND).contains(&(far.actual - far.nominal)), "{far:?}");
            // Whoever goes on from the time with jitter misses nothing.
            assert_eq!(long.next("b", far.actual).expect("a time").nominal, far.nominal + 60 * SECOND);
            after = next.nominal;
        }
        assert!(moved > 190, "{moved}");
        assert_eq!(compiled(&spec(0)).next("a", 0).map(|next| next.actual - next.nominal), Some(0));
    }

    #[test]
    fn nothing_is_named_by_nothing_or_by_an_incomplete_calendar() {
        use bristlecone_proto::temporal::api::schedule::v1::StructuredCalendarSpec;
        assert_eq!(times(&ScheduleSpec::default(), "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
        let bare =
            ScheduleSpec { structured_calendar: [StructuredCalendarSpec::default()].into(), ..Default::default() };
        assert_eq!(times(&bare, "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
    }

    #[test]
    fn zones_are_known_by_their_exact_names() {
        let named = |name: &str| {
            Spec::new(&ScheduleSpec { timezone_name: name.to_string(), ..ScheduleSpec::default() }).map(|_| ())
        };
        for name in ["", "UTC", "Europe/Berlin", "Asia/Kolkata"] {
            assert_eq!(named(name), Ok(()), "{name}");
        }
        assert_eq!(named("Nowhere/Land"), Err("unknown time zone Nowhere/Land".to_string()));
        assert_eq!(named("europe/berlin"), Err("unknown time zone europe/berlin".to_string()));
        let data = ScheduleSpec { timezone_data: bytes::Bytes::from_static(b"TZ"), ..ScheduleSpec::default() };
        assert_eq!(Spec::new(&data).map(|_| ()), Err("malformed time zone information".to_string()));
    }
}
