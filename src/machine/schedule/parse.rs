//! Canonical specs: what people write, calendars in words and cron strings, becomes ranges and intervals.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bristlecone_proto::temporal::api::schedule::v1::{
    CalendarSpec, IntervalSpec, Range, ScheduleSpec, StructuredCalendarSpec,
};

use super::calendar::YEARS;
use crate::cron;
use crate::stamp::{duration, duration_nanos};

const COMMENT_BYTES_MAX: usize = 200;
const SECOND: i64 = 1_000_000_000;

/// The same times, said with ranges and intervals alone; or why the spec is refused.
pub(super) fn canonical(spec: &ScheduleSpec) -> Result<ScheduleSpec, String> {
    let mut spec = spec.clone();
    for calendar in core::mem::take(&mut spec.calendar) {
        spec.structured_calendar.push(structured(&calendar)?);
    }
    for calendar in core::mem::take(&mut spec.exclude_calendar) {
        spec.exclude_structured_calendar.push(structured(&calendar)?);
    }
    let mut zone: Option<String> = None;
    for text in core::mem::take(&mut spec.cron_string) {
        let cron = cron_string(&text)?;
        // All of them have to agree, also in naming none.
        if zone.as_ref().is_some_and(|zone| *zone != cron.zone) {
            return Err(CONFLICTING_ZONES.to_string());
        }
        zone = Some(cron.zone);
        spec.structured_calendar.extend(cron.calendar);
        spec.interval.extend(cron.interval);
    }
    if let Some(zone) = zone.filter(|zone| !zone.is_empty()) {
        if !spec.timezone_name.is_empty() && spec.timezone_name != zone || !spec.timezone_data.is_empty() {
            return Err(CONFLICTING_ZONES.to_string());
        }
        spec.timezone_name = zone;
    }
    for calendar in &spec.structured_calendar {
        check_calendar(calendar)?;
    }
    for interval in &spec.interval {
        check_interval(interval)?;
    }
    Ok(spec)
}

const CONFLICTING_ZONES: &str = "conflicting timezone names";

/// Fills in what ranges leave out: an end, a step.
pub fn complete_ranges(spec: &mut ScheduleSpec) {
    for calendar in spec.structured_calendar.iter_mut().chain(&mut spec.exclude_structured_calendar) {
        let StructuredCalendarSpec { second, minute, hour, day_of_month, month, year, day_of_week, comment: _ } =
            calendar;
        for range in [second, minute, hour, day_of_month, month, year, day_of_week].into_iter().flatten() {
            range.end = range.end.max(range.start);
            range.step = if range.step == 0 { 1 } else { range.step };
        }
    }
}

fn check_calendar(calendar: &StructuredCalendarSpec) -> Result<(), String> {
    let fields = [
        (&calendar.second, &SECONDS),
        (&calendar.minute, &MINUTES),
        (&calendar.hour, &HOURS),
        (&calendar.day_of_month, &DAYS),
        (&calendar.month, &MONTHS),
        (&calendar.year, &ALL_YEARS),
        (&calendar.day_of_week, &STORED_WEEKDAYS),
    ];
    let mut errors = Vec::new();
    for (ranges, Field { name, min, max, .. }) in fields {
        for range in ranges {
            if !(*min..=*max).contains(&range.start) {
                errors.push(format!("{name} Start is not in range [{min}-{max}]"));
            }
            if range.end != 0 && !(range.start..=*max).contains(&range.end) {
                errors.push(format!("{name} End is before Start or not in range [{min}-{max}]"));
            }
            if range.step < 0 {
                errors.push(format!("{name} has invalid Step"));
            }
        }
    }
    if calendar.comment.len() > COMMENT_BYTES_MAX {
        errors.push("comment is too long".to_string());
    }
    if errors.is_empty() { Ok(()) } else { Err(format!("invalid calendar spec: {}", errors.join(", "))) }
}

fn check_interval(spec: &IntervalSpec) -> Result<(), String> {
    let (interval, phase) = (duration_nanos(spec.interval.as_ref()), duration_nanos(spec.phase.as_ref()));
    let error = if interval < SECOND {
        "interval is too small"
    } else if phase < 0 {
        "phase is negative"
    } else if phase >= interval {
        "phase cannot be greater than Interval"
    } else {
        return Ok(());
    };
    Err(error.to_string())
}

/// A field of a calendar: its name, its values, and other names of these.
struct Field {
    name: &'static str,
    /// When the text says nothing.
    default: &'static str,
    min: i32,
    max: i32,
    /// The first has the value `first`; at least so many letters have to be given.
    names: &'static [&'static str],
    first: i32,
    letters_min: usize,
}

const PLAIN: Field = Field { name: "", default: "0", min: 0, max: 59, names: &[], first: 0, letters_min: 0 };
const SECONDS: Field = Field { name: "Second", ..PLAIN };
const MINUTES: Field = Field { name: "Minute", ..PLAIN };
const HOURS: Field = Field { name: "Hour", max: 23, ..PLAIN };
const DAYS: Field = Field { name: "DayOfMonth", default: "*", min: 1, max: 31, ..PLAIN };
const MONTHS: Field = Field {
    name: "Month",
    default: "*",
    min: 1,
    max: 12,
    names: &[
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ],
    first: 1,
    letters_min: 3,
};
const ALL_YEARS: Field = Field { name: "Year", default: "*", min: *YEARS.start(), max: *YEARS.end(), ..PLAIN };
/// 7 is another way to write Sunday.
const WEEKDAYS: Field = Field {
    name: "DayOfWeek",
    default: "*",
    min: 0,
    max: 7,
    names: &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"],
    first: 0,
    letters_min: 2,
};
const STORED_WEEKDAYS: Field = Field { max: 6, ..WEEKDAYS };

fn structured(calendar: &CalendarSpec) -> Result<StructuredCalendarSpec, String> {
    let mut errors = Vec::new();
    let mut parsed = |text: &str, field: &Field| {
        ranges(text, field).unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        })
    };
    let structured = StructuredCalendarSpec {
        second: parsed(&calendar.second, &SECONDS),
        minute: parsed(&calendar.minute, &MINUTES),
        hour: parsed(&calendar.hour, &HOURS),
        day_of_week: parsed(&calendar.day_of_week, &WEEKDAYS),
        day_of_month: parsed(&calendar.day_of_month, &DAYS),
        month: parsed(&calendar.month, &MONTHS),
        year: parsed(&calendar.year, &ALL_YEARS),
        comment: calendar.comment.clone(),
    };
    if errors.is_empty() { Ok(structured) } else { Err(errors.join(", ")) }
}

/// A comma-separated list: `*`, `a`, `a-b`, each with `/step`. All years are no range at all.
fn ranges(text: &str, field: &Field) -> Result<Vec<Range>, String> {
    let text = if text.trim().is_empty() { field.default } else { text.trim() };
    if text == "*" && field.name == ALL_YEARS.name {
        return Ok(Vec::new());
    }
    let mut ranges = Vec::new();
    for part in text.split(',') {
        ranges.extend(range(part, field)?);
    }
    Ok(ranges)
}

fn range(part: &str, field: &Field) -> Result<Vec<Range>, String> {
    let Field { name, min, max, .. } = *field;
    let (part, step) = match part.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(format!("{name} has too many slashes")),
        Some((_, "")) => return Err(format!("{name} missing step value")),
        Some((part, step)) => (part, Some(number(step)?)),
        None => (part, None),
    };
    if step.is_some_and(|step| step < 1) {
        return Err(format!("{name} has invalid Step"));
    }
    let (start, end) = match part.split_once('-') {
        _ if part == "*" => (min, max),
        Some((_, end)) if end.contains('-') => return Err(format!("{name} has too many dashes")),
        Some((start, end)) => {
            let start =
                value(start, field, min).ok_or_else(|| format!("{name} Start is not in range [{min}-{max}]"))?;
            let end = value(end, field, start)
                .ok_or_else(|| format!("{name} End is before Start or not in range [{min}-{max}]"))?;
            (start, end)
        }
        None => {
            let start = value(part, field, min).ok_or_else(|| format!("{name} is not in range [{min}-{max}]"))?;
            (start, if step.is_some() { max } else { start })
        }
    };
    Ok(shortest(start, end, step.unwrap_or(1), name == WEEKDAYS.name))
}

/// The range as it is stored: what says nothing is 0, and Sunday is never 7.
fn shortest(start: i32, mut end: i32, step: i32, is_weekday: bool) -> Vec<Range> {
    let mut ranges = Vec::new();
    if is_weekday && end == 7 {
        if (7 - start) % step == 0 && (step > 1 || start > 1) {
            ranges.push(Range::default());
            if start == 7 {
                return ranges;
            }
        }
        end = 6;
    }
    let end = if start == end { 0 } else { end };
    let step = if step == 1 { 0 } else { step };
    ranges.push(Range { start, end, step });
    ranges
}

fn value(text: &str, field: &Field, min: i32) -> Option<i32> {
    let named = || {
        let lower = text.to_lowercase();
        let at = field.names.iter().position(|name| name.starts_with(&lower))?;
        Some(field.first + i32::try_from(at).ok()?)
    };
    let named = if field.letters_min > 0 && text.len() >= field.letters_min { named() } else { None };
    let value = match named {
        Some(value) => value,
        None => number(text).ok()?,
    };
    (min..=field.max).contains(&value).then_some(value)
}

fn number(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
}

struct CronString {
    calendar: Option<StructuredCalendarSpec>,
    interval: Option<IntervalSpec>,
    zone: String,
}

fn cron_string(text: &str) -> Result<CronString, String> {
    let mut text = text.trim();
    let mut zone = "";
    if let Some(zoned) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        (zone, text) = zoned.split_once(' ').ok_or("CronString has time zone but missing fields")?;
    }
    let (fields, comment) = text.split_once('#').unwrap_or((text, ""));
    let (fields, comment) = (fields.trim(), comment.trim());
    if fields.starts_with("@every") {
        // An interval knows no zone.
        return Ok(CronString { calendar: None, interval: Some(every(fields)?), zone: String::new() });
    }
    let fields = match fields {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        fields => fields,
    };
    let mut words: Vec<&str> = fields.split_whitespace().take(8).collect();
    match words.len() {
        5 => words = [vec![""], words, vec![""]].concat(),
        6 => words.insert(0, ""),
        7 => {}
        _ => return Err("CronString does not have 5-7 fields".to_string()),
    }
    let mut words = words.into_iter().map(ToString::to_string);
    let mut next = || words.next().unwrap_or_default();
    let calendar = CalendarSpec {
        second: next(),
        minute: next(),
        hour: next(),
        day_of_month: next(),
        month: next(),
        day_of_week: next(),
        year: next(),
        comment: comment.to_string(),
    };
    Ok(CronString { calendar: Some(structured(&calendar)?), interval: None, zone: zone.to_string() })
}

/// `@every 36h/12h`
fn every(text: &str) -> Result<IntervalSpec, String> {
    let (_, text) = text.split_once(' ').ok_or("CronString does not have interval after @every")?;
    let (interval, phase) = text.split_once('/').unwrap_or((text, ""));
    let parsed = |text: &str| span(text).map(duration);
    let phase = if phase.is_empty() { None } else { Some(parsed(phase)?) };
    Ok(IntervalSpec { interval: Some(parsed(interval)?), phase })
}

fn span(text: &str) -> Result<i64, String> {
    let mut units = vec![("d", 86_400 * SECOND)];
    units.extend(cron::UNITS);
    let (text, sign) = text.strip_prefix('-').map_or((text, 1), |text| (text, -1));
    let nanos = cron::duration_in(text, &units).ok_or_else(|| format!("time: invalid duration {text:?}"))?;
    Ok(nanos.saturating_mul(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: i32, end: i32, step: i32) -> Range {
        Range { start, end, step }
    }

    fn with_cron(texts: &[&str]) -> ScheduleSpec {
        ScheduleSpec { cron_string: texts.iter().map(ToString::to_string).collect(), ..ScheduleSpec::default() }
    }

    fn error(spec: &ScheduleSpec) -> String {
        canonical(spec).expect_err("it is refused")
    }

    #[test]
    fn ranges_are_stored_as_short_as_they_can_be() {
        assert_eq!(ranges("*", &HOURS), Ok(vec![range(0, 23, 0)]));
        assert_eq!(ranges("5", &HOURS), Ok(vec![range(5, 0, 0)]));
        assert_eq!(ranges("1-5/2,8-11", &HOURS), Ok(vec![range(1, 5, 2), range(8, 11, 0)]));
        assert_eq!(ranges("3/5", &HOURS), Ok(vec![range(3, 23, 5)]));
        assert_eq!(ranges(" */15 ", &MINUTES), Ok(vec![range(0, 59, 15)]));
        assert_eq!(ranges("", &DAYS), Ok(vec![range(1, 31, 0)]));
        assert_eq!(ranges("*", &ALL_YEARS), Ok(vec![]));
        assert_eq!(ranges("2030", &ALL_YEARS), Ok(vec![range(2030, 0, 0)]));
        assert_eq!(ranges("Jan-mar,DECEMBER", &MONTHS), Ok(vec![range(1, 3, 0), range(12, 0, 0)]));
    }

    #[test]
    fn sunday_is_no_seventh_day() {
        assert_eq!(ranges("7", &WEEKDAYS), Ok(vec![range(0, 0, 0)]));
        assert_eq!(ranges("0-7", &WEEKDAYS), Ok(vec![range(0, 6, 0)]));
        assert_eq!(ranges("1-7", &WEEKDAYS), Ok(vec![range(1, 6, 0)]));
        assert_eq!(ranges("3-7", &WEEKDAYS), Ok(vec![range(0, 0, 0), range(3, 6, 0)]));
        assert_eq!(ranges("3-7/3", &WEEKDAYS), Ok(vec![range(3, 6, 3)]));
        assert_eq!(ranges("1-7/2", &WEEKDAYS), Ok(vec![range(0, 0, 0), range(1, 6, 2)]));
        assert_eq!(ranges("mo,Thurs", &WEEKDAYS), Ok(vec![range(1, 0, 0), range(4, 0, 0)]));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("60", "Minute is not in range [0-59]"),
            ("x", "Minute is not in range [0-59]"),
            ("5-1", "Minute End is before Start or not in range [0-59]"),
            ("61-62", "Minute Start is not in range [0-59]"),
            ("1-2-3", "Minute has too many dashes"),
            ("1/2/3", "Minute has too many slashes"),
            ("5/", "Minute missing step value"),
            ("5/0", "Minute has invalid Step"),
            ("5/x", "strconv.Atoi: parsing \"x\": invalid syntax"),
        ] {
            assert_eq!(ranges(text, &MINUTES), Err(expected.to_string()), "{text}");
        }
        for (text, expected) in [
            ("* * * *", "CronString does not have 5-7 fields"),
            ("* * * * * * * *", "CronString does not have 5-7 fields"),
            ("TZ=UTC", "CronString has time zone but missing fields"),
            ("@every", "CronString does not have interval after @every"),
            ("@every soon", "time: invalid duration \"soon\""),
            ("@every 10ms", "interval is too small"),
            ("@every 1h/2h", "phase cannot be greater than Interval"),
            ("@every 1h/-1h", "phase is negative"),
            ("70 25 * * *", "Minute is not in range [0-59], Hour is not in range [0-23]"),
        ] {
            assert_eq!(error(&with_cron(&[text])), expected, "{text}");
        }
    }

    #[test]
    fn ranges_have_bounds() {
        let calendar = StructuredCalendarSpec {
            second: vec![range(60, 0, 0)],
            month: vec![range(3, 2, -1)],
            day_of_week: vec![range(0, 7, 0)],
            comment: "c".repeat(201),
            ..StructuredCalendarSpec::default()
        };
        let spec = ScheduleSpec { structured_calendar: vec![calendar], ..ScheduleSpec::default() };
        assert_eq!(
            error(&spec),
            "invalid calendar spec: Second Start is not in range [0-59], Month End is before Start or not in range \
             [1-12], Month has invalid Step, DayOfWeek End is before Start or not in range [0-6], comment is too long"
        );
    }

    #[test]
    fn cron_strings_become_calendars_and_agree_on_their_zone() {
        let spec = canonical(&with_cron(&["TZ=Europe/Berlin 0 12 * * MON # lunch"])).expect("valid");
        assert_eq!((spec.timezone_name.as_str(), spec.cron_string.len()), ("Europe/Berlin", 0));
        let calendar = StructuredCalendarSpec {
            second: vec![range(0, 0, 0)],
            minute: vec![range(0, 0, 0)],
            hour: vec![range(12, 0, 0)],
            day_of_month: vec![range(1, 31, 0)],
            month: vec![range(1, 12, 0)],
            year: vec![],
            day_of_week: vec![range(1, 0, 0)],
            comment: "lunch".to_string(),
        };
        assert_eq!(spec.structured_calendar, [calendar]);
        assert_eq!(canonical(&spec), Ok(spec.clone()), "what is canonical stays as it is");
        let conflict = CONFLICTING_ZONES.to_string();
        assert_eq!(error(&with_cron(&["TZ=UTC @daily", "@daily"])), conflict);
        let named = ScheduleSpec { timezone_name: "UTC".to_string(), ..with_cron(&["TZ=Asia/Tokyo @daily"]) };
        assert_eq!(error(&named), conflict);
        let interval = canonical(&with_cron(&["@every 1d12h/6h"])).expect("valid").interval;
        assert_eq!(
            interval,
            [IntervalSpec { interval: Some(duration(129_600 * SECOND)), phase: Some(duration(21_600 * SECOND)) }]
        );
    }

    #[test]
    fn ranges_are_completed_for_those_who_read_them() {
        let calendar = StructuredCalendarSpec { hour: vec![range(5, 0, 0), range(1, 3, 2)], ..Default::default() };
        let mut spec = ScheduleSpec { structured_calendar: vec![calendar], ..ScheduleSpec::default() };
        complete_ranges(&mut spec);
        assert_eq!(spec.structured_calendar[0].hour, [range(5, 5, 1), range(1, 3, 2)]);
    }
}
