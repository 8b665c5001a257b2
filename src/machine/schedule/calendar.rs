//! A calendar of a schedule's spec: which civil times it names, whatever the time zone.

use alloc::vec::Vec;

use bristlecone_proto::temporal::api::schedule::v1::{Range, StructuredCalendarSpec};
use jiff::civil::{Date, DateTime};

/// Years that calendars know; later ones never match.
pub(super) const YEARS: core::ops::RangeInclusive<i32> = 2000..=2100;

/// A bit for each value that matches.
#[derive(Debug, Clone)]
pub(super) struct Calendar {
    pub times: Times,
    day: u64,
    month: u64,
    weekday: u64,
    /// Empty: every year.
    years: Vec<i32>,
}

/// Times of a day: all combinations of these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
}

impl Calendar {
    pub fn new(spec: &StructuredCalendarSpec) -> Self {
        Self {
            times: Times { hour: bits(&spec.hour, 23), minute: bits(&spec.minute, 59), second: bits(&spec.second, 59) },
            day: bits(&spec.day_of_month, 31),
            month: bits(&spec.month, 12),
            weekday: bits(&spec.day_of_week, 6),
            years: spec.year.iter().flat_map(|range| values(range, *YEARS.end())).collect(),
        }
    }

    pub fn matches(&self, at: DateTime) -> bool {
        self.has_date(at.date()) && self.times.has(at)
    }

    pub fn has_date(&self, date: Date) -> bool {
        self.has_year(date.year()) && has(self.month, date.month()) && self.has_day(date)
    }

    /// The first match from `from` on, before `end`.
    pub fn next(&self, from: DateTime, end: DateTime) -> Option<DateTime> {
        if [self.times.hour, self.times.minute, self.times.second, self.day, self.month, self.weekday].contains(&0) {
            return None;
        }
        let mut at = from;
        while at < end {
            let date = at.date();
            let later = if !self.has_year(date.year()) {
                Date::new(self.year_after(date.year())?, 1, 1).ok()?
            } else if !has(self.month, date.month()) {
                date.last_of_month().tomorrow().ok()?
            } else if !self.has_day(date) {
                date.tomorrow().ok()?
            } else if let Some(found) = self.times.from(at) {
                return Some(found).filter(|found| *found < end);
            } else {
                date.tomorrow().ok()?
            };
            at = later.at(0, 0, 0, 0);
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        has(self.day, date.day()) && has(self.weekday, date.weekday().to_sunday_zero_offset())
    }

    fn has_year(&self, year: i16) -> bool {
        self.years.is_empty() || self.years.contains(&i32::from(year))
    }

    fn year_after(&self, year: i16) -> Option<i16> {
        let later = self.years.iter().filter(|candidate| **candidate > i32::from(year)).min()?;
        i16::try_from(*later).ok()
    }
}

impl Times {
    pub fn has(&self, at: DateTime) -> bool {
        has(self.hour, at.hour()) && has(self.minute, at.minute()) && has(self.second, at.second())
    }

    /// The first of these times from `at` on, on the same day.
    fn from(&self, at: DateTime) -> Option<DateTime> {
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        let on = |hour: i8, minute: i8, second: i8| at.date().at(hour, minute, second, 0);
        if has(self.hour, hour) {
            if has(self.minute, minute)
                && let Some(second) = lowest(self.second, second)
            {
                return Some(on(hour, minute, second));
            }
            if let Some(minute) = lowest(self.minute, minute + 1) {
                return Some(on(hour, minute, lowest(self.second, 0)?));
            }
        }
        Some(on(lowest(self.hour, hour + 1)?, lowest(self.minute, 0)?, lowest(self.second, 0)?))
    }
}

pub(super) fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits >> value & 1 == 1)
}

/// The lowest value from `from` on.
fn lowest(bits: u64, from: i8) -> Option<i8> {
    let rest = bits >> u32::try_from(from).ok()?;
    if rest == 0 {
        return None;
    }
    Some(from + i8::try_from(rest.trailing_zeros()).ok()?)
}

fn bits(ranges: &[Range], max: i32) -> u64 {
    ranges.iter().flat_map(|range| values(range, max)).fold(0, |bits, value| bits | 1 << value)
}

/// Values of a range within what its field can have: excluded calendars come unchecked.
fn values(range: &Range, max: i32) -> impl Iterator<Item = i32> + use<> {
    let end = range.end.max(range.start).min(max);
    let step = usize::try_from(range.step).unwrap_or(1).max(1);
    (range.start.max(0)..=end).step_by(step)
}
