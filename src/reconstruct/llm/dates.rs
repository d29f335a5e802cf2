//! Times and durations as providers write them in heads and error details.

use crate::time::WallNanos;

const SECOND_NS: f64 = 1e9;
const DAY_SECONDS: i64 = 86_400;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `2026-11-20T15:00:00Z`, with a fraction or an offset (RFC 3339).
pub(super) fn rfc3339(text: &str) -> Option<WallNanos> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    let days = days_since_epoch(number(year, 4)?, number(month, 2)?, number(day, 2)?)?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let seconds = clock_seconds(whole)?;
    let offset = match zone.split_at(1) {
        (_, "") => 0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let offset = number(hours, 2)? * 3600 + number(minutes, 2)? * 60;
            if sign == "-" { -offset } else { offset }
        }
    };
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos = number(&digits, 9)?;
    wall((days * DAY_SECONDS + seconds - offset) as f64).map(|ts| WallNanos(ts.0 + nanos))
}

/// `Fri, 20 Nov 2026 15:00:00 GMT` (RFC 9110 section 5.6.7; obsolete forms are not sent any more).
pub(super) fn http_date(text: &str) -> Option<WallNanos> {
    let (_, date) = text.trim().split_once(", ")?;
    let words: Vec<&str> = date.split(' ').collect();
    let [day, month, year, clock, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let days = days_since_epoch(number(year, 4)?, month, number(day, 2)?)?;
    wall((days * DAY_SECONDS + clock_seconds(clock)?) as f64)
}

/// Seconds since 1970, or milliseconds where they are too many for seconds.
pub(super) fn epoch(number: f64) -> Option<WallNanos> {
    // 10^11 seconds are the year 5138, as milliseconds 1973.
    wall(if number < 1e11 { number } else { number / 1e3 })
}

/// `1.5s`: seconds, with unit, as milliseconds.
pub(super) fn seconds_ms(text: &str) -> Option<f64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds * 1e3)
}

/// `6m0s`, `1h2m3.5s`, `120ms`: a duration as Go writes it, as milliseconds.
pub(super) fn go_duration_ms(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (amount, after) = rest.split_at(unit_at);
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_ms = match unit {
            "d" => 86_400e3,
            "h" => 3_600e3,
            "m" => 60e3,
            "s" => 1e3,
            "ms" => 1.0,
            "us" | "\u{b5}s" => 1e-3,
            "ns" => 1e-6,
            _ => return None,
        };
        total += amount.parse::<f64>().ok()? * unit_ms;
        rest = after;
    }
    (!text.is_empty() && total.is_finite()).then_some(total)
}

/// A time some milliseconds later.
pub(super) fn later(ts: WallNanos, ms: f64) -> Option<WallNanos> {
    let nanos = ms * 1e6;
    let fits = nanos.is_finite() && nanos.abs() < i64::MAX as f64;
    fits.then(|| WallNanos(ts.0.saturating_add(nanos as i64)))
}

fn wall(seconds: f64) -> Option<WallNanos> {
    let nanos = seconds * SECOND_NS;
    // Whole seconds are exact in a double, nanoseconds since 1970 are not.
    let whole = (seconds.floor() as i64).checked_mul(1_000_000_000)?;
    let fraction = (seconds.fract().abs() * SECOND_NS) as i64;
    (nanos.is_finite() && seconds >= 0.0).then(|| whole.checked_add(fraction).map(WallNanos))?
}

fn clock_seconds(clock: &str) -> Option<i64> {
    let mut parts = clock.splitn(3, ':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    Some(number(hours, 2)? * 3600 + number(minutes, 2)? * 60 + number(seconds, 2)?)
}

/// Digits, and this many of them.
fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of one.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year / 4 - year / 100 + year / 400;
    Some(year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: WallNanos = WallNanos(1_795_176_000_000_000_000);

    #[test]
    fn dates_of_both_forms_are_read() {
        assert_eq!(rfc3339("2026-11-20T12:00:00Z"), Some(NOON));
        assert_eq!(rfc3339("2026-11-20T13:30:00.25+01:30"), Some(WallNanos(NOON.0 + 250_000_000)));
        assert_eq!(http_date("Fri, 20 Nov 2026 12:00:00 GMT"), Some(NOON));
        assert_eq!(rfc3339("1970-01-01T00:00:00Z"), Some(WallNanos(0)));
        assert_eq!(rfc3339("2028-02-29T00:00:00Z"), rfc3339("2028-02-28T24:00:00Z"));
    }

    #[test]
    fn numbers_since_1970_are_seconds_or_milliseconds() {
        assert_eq!(epoch(1_795_176_000.0), Some(NOON));
        assert_eq!(epoch(1_795_176_000_000.0), Some(NOON));
        assert_eq!(epoch(f64::NAN), None);
        assert_eq!(epoch(1e30), None);
        assert_eq!(epoch(-5.0), None);
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(go_duration_ms("6m0s"), Some(360_000.0));
        assert_eq!(go_duration_ms("1h2m3.5s"), Some(3_723_500.0));
        assert_eq!(go_duration_ms("120ms"), Some(120.0));
        assert_eq!(seconds_ms("5s"), Some(5_000.0));
        for wrong in ["", "5", "m", "1x", "1..2s", "-1s"] {
            assert_eq!(go_duration_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for wrong in ["", "T", "2026-11-20", "2026-13-01T00:00:00Z", "2026-1-1T0:0:0Z", "\u{e9}TZ"]
        {
            assert_eq!(rfc3339(wrong), None, "{wrong}");
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
        assert_eq!(later(NOON, f64::INFINITY), None);
        assert_eq!(later(NOON, 1.5), Some(WallNanos(NOON.0 + 1_500_000)));
    }
}
