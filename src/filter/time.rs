//! Times and durations as users write them in queries and search attributes.

use jiff::civil::date;
use jiff::fmt::temporal::Pieces;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// RFC 3339 with a zone, as Unix nanoseconds; years that don't fit become the first or last moment that does.
pub fn parse_datetime(text: &str) -> Option<i64> {
    // The parser knows more notations than RFC 3339: a space for the T, zone names in brackets.
    if !matches!(text.as_bytes().get(10)?, b'T' | b't') || text.contains('[') {
        return None;
    }
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    let local = pieces.date().to_datetime(pieces.time()?);
    let since_epoch = local.duration_since(date(1970, 1, 1).at(0, 0, 0, 0)).as_nanos();
    let nanos = since_epoch - i128::from(offset.seconds()) * i128::from(SECOND);
    Some(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}

/// A duration in nanoseconds: a plain number of them, `1h30m` (units ns, us, µs, ms, s, m, h, d), or `hh:mm:ss`.
pub fn parse_duration(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| parse_units(text)).or_else(|| parse_clock(text))
}

fn parse_units(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(number_end)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let nanos = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * nanos as f64;
        rest = after;
    }
    let total = if negative { -total } else { total };
    (total.abs() < i64::MAX as f64).then(|| total.round() as i64)
}

fn parse_clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let below_sixty = |value: i64| (0..60).contains(&value);
    if parts.next().is_some() || hours < 0 || !below_sixty(minutes) || !below_sixty(seconds) {
        return None;
    }
    hours.checked_mul(HOUR)?.checked_add(minutes * MINUTE + seconds * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datetimes_need_a_zone() {
        assert_eq!(parse_datetime("1970-01-01T00:00:01Z"), Some(SECOND));
        assert_eq!(parse_datetime("1970-01-01T01:00:00.5+01:00"), Some(SECOND / 2));
        assert_eq!(parse_datetime("9999-12-31T23:59:59Z"), Some(i64::MAX));
        for bad in ["", "1970-01-01", "1970-01-01T00:00:01", "1970-01-01 00:00:01Z", "1970-01-01T00:00:01Z[UTC]", "now"]
        {
            assert_eq!(parse_datetime(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_have_three_notations() {
        let cases = [
            ("1500", 1500),
            ("1h30m", 90 * MINUTE),
            ("-1.5h", -90 * MINUTE),
            ("1d2h", DAY + 2 * HOUR),
            ("300ms", 300_000_000),
            ("2µs", 2_000),
            (".5s", SECOND / 2),
            ("01:02:03", HOUR + 2 * MINUTE + 3 * SECOND),
            ("100:00:00", 100 * HOUR),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse_duration(text), Some(nanos), "{text}");
        }
        for bad in ["", "-", "h", "1x", "1", "1h-2m", "1:60:00", "1:2", "1:2:3:4", "-1:00:00", "99999999999d"] {
            assert_eq!(parse_duration(bad), if bad == "1" { Some(1) } else { None }, "{bad}");
        }
    }
}
