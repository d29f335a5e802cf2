//! Numbers, times and foreign text as a person reads them.
//!
//! Every function is total and gives the same text for the same value: no locale, no clock, no
//! terminal. Text from a trace is hostile; [`printable`] is the only way it gets into a report.

use std::fmt::Write as _;

/// What stands where a value is not known.
pub(crate) const UNKNOWN: &str = "-";

/// `12345678` as `12,345,678`; from a trillion on `9.22e18`, which no honest count reaches and which
/// would push everything else off the line.
pub(crate) fn count(number: u64) -> String {
    if number >= 1_000_000_000_000 {
        return format!("{:.2e}", number as f64);
    }
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 call`, `2,000 calls`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    // All nouns of the report form a regular plural but this one.
    match noun {
        "process" if number != 1 => format!("{} processes", count(number)),
        _ => format!("{} {noun}{plural}", count(number)),
    }
}

/// Sizes in binary units with three or four digits: `512 B`, `1.50 KiB`, `498 MiB`.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if size < 1024 {
        return format!("{size} B");
    }
    let mut value = size as f64 / 1024.0;
    let mut unit = 0;
    // 1023.5 would be printed as 1024.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", digits(value), UNITS[unit])
}

/// Three significant digits, more before the point where there are more: `1.50`, `15.0`, `1023`.
fn digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A duration: `648 ms`, `3.28 s`, `2 min 05 s`, `1 h 02 min`.
pub(crate) fn duration(ms: f64) -> String {
    if !ms.is_finite() {
        return UNKNOWN.to_owned();
    }
    if ms < 0.0 {
        return format!("-{}", duration(-ms));
    }
    if ms == 0.0 {
        return "0 ms".to_owned();
    }
    if ms < 9.95 {
        return format!("{ms:.1} ms");
    }
    if ms < 999.5 {
        return format!("{ms:.0} ms");
    }
    if ms < 59_950.0 {
        let seconds = ms / 1000.0;
        return if seconds < 9.995 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") };
    }
    let seconds = (ms / 1000.0).round() as u64;
    if seconds < 3600 {
        return format!("{} min {:02} s", seconds / 60, seconds % 60);
    }
    let minutes = (seconds + 30) / 60;
    format!("{} h {:02} min", count(minutes / 60), minutes % 60)
}

/// A position in a recording as `mm:ss.mmm`, or `h:mm:ss.mmm` from an hour on.
pub(crate) fn position(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ms = ns.unsigned_abs() / 1_000_000;
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let (seconds, ms) = (ms / 1000 % 60, ms % 1000);
    if hours == 0 {
        format!("{sign}{minutes:02}:{seconds:02}.{ms:03}")
    } else {
        format!("{sign}{hours}:{minutes:02}:{seconds:02}.{ms:03}")
    }
}

/// US dollars: `$1,234.56`, `$0.0123`; less than a hundredth of a cent is `<$0.0001`.
pub(crate) fn usd(dollars: f64) -> String {
    if !dollars.is_finite() || dollars < 0.0 {
        UNKNOWN.to_owned()
    } else if dollars == 0.0 {
        "$0".to_owned()
    } else if dollars < 0.000_1 {
        "<$0.0001".to_owned()
    } else if dollars < 0.999_95 {
        format!("${dollars:.4}")
    } else {
        let cents = (dollars * 100.0).round() as u64;
        format!("${}.{:02}", count(cents / 100), cents % 100)
    }
}

/// A percentage: `0.4 %`, `88 %`, `1,250 %`.
pub(crate) fn percent(value: f64) -> String {
    if !value.is_finite() {
        UNKNOWN.to_owned()
    } else if value == 0.0 {
        "0 %".to_owned()
    } else if value.abs() < 9.95 {
        format!("{value:.1} %")
    } else if value < 0.0 {
        format!("{value:.0} %")
    } else {
        format!("{} %", count(value.round() as u64))
    }
}

/// Nanoseconds since 1970 as `2026-01-15T09:30:00.000000000Z` (RFC 3339, proleptic Gregorian).
pub(crate) fn timestamp(ns: i64) -> String {
    let (days, nanos_of_day) = (ns.div_euclid(DAY_NS), ns.rem_euclid(DAY_NS));
    let (year, month, day) = civil(days);
    let seconds = nanos_of_day / 1_000_000_000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        nanos_of_day % 1_000_000_000
    )
}

/// Nanoseconds since 1970 as `2026-01-15 09:30:00 UTC`.
pub(crate) fn date_time(ns: i64) -> String {
    let exact = timestamp(ns);
    let (date, time) = exact.split_once('T').unwrap_or((&exact, ""));
    format!("{date} {} UTC", time.get(..8).unwrap_or(time))
}

const DAY_NS: i64 = 86_400_000_000_000;

/// Days since 1970-01-01 as year, month and day, by counting in 400-year cycles from a March 1
/// (so that the leap day ends a year).
fn civil(days: i64) -> (i64, i64, i64) {
    const CYCLE_DAYS: i64 = 146_097;
    let from_march = days + 719_468;
    let (cycle, day) = (from_march.div_euclid(CYCLE_DAYS), from_march.rem_euclid(CYCLE_DAYS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day_of_month)
}

/// `text` with nothing in it that a terminal would obey or that would hide its order, at most
/// `max_chars` characters; a cut shows as `…`.
pub(crate) fn printable(text: &str, max_chars: usize) -> String {
    let mut clean = String::new();
    // Escaping only makes text longer, so no more of it than this can be needed.
    for character in text.chars().take(max_chars + 1) {
        match character {
            '\n' => clean.push_str("\\n"),
            '\r' => clean.push_str("\\r"),
            '\t' => clean.push_str("\\t"),
            _ if is_obeyed(character) => {
                // Writing to a String does not fail.
                let _ = write!(clean, "\\u{{{:x}}}", u32::from(character));
            }
            _ => clean.push(character),
        }
    }
    shorten(&clean, max_chars)
}

/// At most `max_chars` characters of `text`; a cut shows as `…`.
pub(crate) fn shorten(text: &str, max_chars: usize) -> String {
    if text.chars().nth(max_chars).is_none() {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Control characters, and the characters that change direction, join or have no width.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Command arguments as one line that a shell would read back as the same arguments, apart from
/// the escapes of [`printable`].
pub(crate) fn command_line(arguments: &[String], max_chars: usize) -> String {
    let mut line = String::new();
    for argument in arguments {
        if line.chars().nth(max_chars).is_some() {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        let is_plain = |c: char| {
            c.is_alphanumeric()
                || matches!(c, '_' | '-' | '.' | '/' | '=' | ':' | ',' | '+' | '@' | '%')
        };
        if !argument.is_empty() && argument.chars().all(is_plain) {
            line.push_str(argument);
        } else {
            line.push('\'');
            line.push_str(&argument.replace('\'', "'\\''"));
            line.push('\'');
        }
    }
    printable(&line, max_chars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators_between_each_three_digits() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "1.84e19"),
        ];
        for (number, text) in cases {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "call"), "1 call");
        assert_eq!(counted(0, "process"), "0 processes");
    }

    #[test]
    fn sizes_never_show_1024_of_a_unit() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_048_575, "1.00 MiB"),
            (498 << 20, "498 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (size, text) in cases {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn durations_change_unit_where_their_rounding_would() {
        let cases = [
            (0.0, "0 ms"),
            (0.04, "0.0 ms"),
            (9.96, "10 ms"),
            (999.4, "999 ms"),
            (999.6, "1.00 s"),
            (59_940.0, "59.9 s"),
            (59_960.0, "1 min 00 s"),
            (3_599_600.0, "1 h 00 min"),
            (-1500.0, "-1.50 s"),
            (f64::NAN, "-"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn positions_grow_an_hour_field() {
        assert_eq!(position(61_234_999_999), "01:01.234");
        assert_eq!(position(3_600_000_000_000), "1:00:00.000");
        assert_eq!(position(-1_500_000_000), "-00:01.500");
        assert!(position(i64::MIN).starts_with("-2562047:47:16"));
    }

    #[test]
    fn timestamps_are_calendar_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(1_709_164_800_000_000_001), "2024-02-29T00:00:00.000000001Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(date_time(1_768_469_400_000_000_000), "2026-01-15 09:30:00 UTC");
        assert_eq!(timestamp(i64::MAX), "2262-04-11T23:47:16.854775807Z");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(printable("\u{1b}[31m\ta\u{202e}b", 99), "\\u{1b}[31m\\ta\\u{202e}b");
        assert_eq!(printable("\u{9b}2J", 99), "\\u{9b}2J");
        assert_eq!(printable("Grüße 你好", 99), "Grüße 你好");
    }

    #[test]
    fn a_cut_text_keeps_its_bound_and_shows_the_cut() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 6), "abcde…");
        assert_eq!(printable(&"\u{1b}".repeat(1 << 20), 8).chars().count(), 8);
    }

    #[test]
    fn arguments_are_quoted_as_a_shell_would_need_them() {
        let arguments = ["sh", "-c", "echo 'a b'", ""].map(str::to_owned);
        assert_eq!(command_line(&arguments, 99), r"sh -c 'echo '\''a b'\''' ''");
    }

    #[test]
    fn percentages_are_short() {
        assert_eq!(percent(0.04), "0.0 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(-12.5), "-12 %");
        assert_eq!(percent(99.6), "100 %");
        assert_eq!(percent(1250.0), "1,250 %");
    }
}
