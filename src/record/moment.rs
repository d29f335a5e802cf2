//! A moment of a trace as it is typed: `+2m` after its first event, `-10s` before its last,
//! `2026-11-20T14:03:00Z`, or `14:03:00` for a time of day in UTC.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::values::parse_duration;
use crate::time::WallNanos;

const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;

/// A moment of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after the first event.
    AfterStart(Duration),
    /// So long before the last event.
    BeforeEnd(Duration),
    /// At this time.
    At(WallNanos),
    /// At the first such time of day, in nanoseconds since midnight UTC, from the first event on.
    TimeOfDay(i64),
}

impl Moment {
    /// The time of the moment in a trace with events in `span`.
    #[must_use]
    pub fn resolve(self, span: &RangeInclusive<WallNanos>) -> WallNanos {
        let ns = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let (first, last) = (span.start().0, span.end().0);
        WallNanos(match self {
            Self::AfterStart(after) => first.saturating_add(ns(after)),
            Self::BeforeEnd(before) => last.saturating_sub(ns(before)),
            Self::At(at) => at.0,
            Self::TimeOfDay(of_day) => {
                let at = first.div_euclid(DAY_NS).saturating_mul(DAY_NS).saturating_add(of_day);
                if at < first { at.saturating_add(DAY_NS) } else { at }
            }
        })
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(after) = text.strip_prefix('+') {
            return parse_duration(after).map(Self::AfterStart);
        }
        if let Some(before) = text.strip_prefix('-') {
            return parse_duration(before).map(Self::BeforeEnd);
        }
        let found = match text.split_once(['T', 't', ' ']) {
            Some((date, time)) => instant(date, time).map(|ns| Self::At(WallNanos(ns))),
            None => of_day(text).map(Self::TimeOfDay),
        };
        found.ok_or_else(|| {
            format!(
                "expected +2m (from the start), -10s (before the end), 14:03:00 or 2026-11-20T14:03:00Z, found {text:?}"
            )
        })
    }
}

/// Nanoseconds since 1970 of an RFC 3339 date and time, whose offset may be left out for UTC.
fn instant(date: &str, time: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let days = days(digits(year)?, digits(month)?, digits(day)?)?;
    let sign_at = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(sign_at);
    let offset_ns = match zone.as_bytes() {
        [] | [b'Z' | b'z'] => 0,
        [sign, ..] => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let of_zone = of_day(&format!("{hours}:{minutes}"))?;
            if *sign == b'-' { -of_zone } else { of_zone }
        }
    };
    days.checked_mul(DAY_NS)?.checked_add(of_day(time)?)?.checked_sub(offset_ns)
}

/// Nanoseconds since midnight of `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fraction`.
fn of_day(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.split(':');
    let mut part = |most: i64| {
        let text = parts.next()?;
        digits(text).filter(|value| text.len() == 2 && *value <= most)
    };
    let (hours, minutes) = (part(23)?, part(59)?);
    let seconds = match clock.matches(':').count() {
        1 => 0,
        2 => part(59)?,
        _ => return None,
    };
    if fraction.len() > 9 {
        return None;
    }
    let fraction = digits(fraction)? * 10_i64.pow(9 - fraction.len() as u32);
    Some(((hours * 60 + minutes) * 60 + seconds) * SECOND_NS + fraction)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, 28 + i64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month - 1).ok().filter(|month| *month < lengths.len())?;
    if !(1..=lengths[month]).contains(&day) || year < 1 {
        return None;
    }
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400;
    /// Days from 0001-01-01 to 1970-01-01.
    const TO_1970: i64 = 719_162;
    Some(before * 365 + leap_days + lengths[..month].iter().sum::<i64>() + day - 1 - TO_1970)
}

/// A number of plain digits, few enough for nine of them to be no overflow.
fn digits(text: &str) -> Option<i64> {
    let is_plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-20T14:03:00Z.
    const AT: i64 = 1_795_183_380 * SECOND_NS;

    fn moment(text: &str) -> i64 {
        let span = WallNanos(AT)..=WallNanos(AT + 600 * SECOND_NS);
        text.parse::<Moment>().unwrap().resolve(&span).0 - AT
    }

    #[test]
    fn moments_are_counted_from_the_ends_or_given() {
        assert_eq!(moment("+2m"), 120 * SECOND_NS);
        assert_eq!(moment("-10s"), 590 * SECOND_NS);
        assert_eq!(moment("2026-11-20T14:03:00Z"), 0);
        assert_eq!(moment("2026-11-20T15:03:00.5+01:00"), SECOND_NS / 2);
        assert_eq!(moment("2026-11-20 14:03"), 0);
        assert_eq!(moment("14:05:30"), 150 * SECOND_NS);
        assert_eq!(moment("14:02:00"), DAY_NS - 60 * SECOND_NS, "the next day");
        assert_eq!(moment("1970-01-01T00:00:00Z"), -AT);
        assert_eq!(moment("2000-02-29T00:00:00Z") + AT, 951_782_400 * SECOND_NS);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for wrong in [
            "",
            "2m",
            "+",
            "-x",
            "14",
            "24:00",
            "14:60:00",
            "14:03:00:00",
            "1:2:3",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "9999-01-01T00:00:00Z",
            "14:03:00.0000000001",
            "2026-11-20T",
            "2026-11-20T14:03:00+1",
            "+-5s",
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}", digits in "[-+0-9T:.Z ]{0,40}") {
            for text in [text, digits] {
                if let Ok(moment) = text.parse::<Moment>() {
                    let _ = moment.resolve(&(WallNanos(i64::MIN)..=WallNanos(i64::MAX)));
                }
            }
        }
    }
}
