//! What stands after an option on the command line: lengths of time and sizes, from text.
//!
//! A value that could mean two things is refused with both of them named: `10m` is ten minutes to
//! one option and could be taken for ten megabytes by a reader of another.

use std::time::Duration;

use crate::trace::Sync;

/// The shortest sampling interval: `/proc` costs about 50 us per process and tick.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Reads a length of time: `500ms`, `10s`, `2m` or `2min`, `1h`, `1d`, or a plain number of seconds.
///
/// # Errors
/// With a sentence that says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, unit) = split_unit(text);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("expected a unit of ms, s, m, h or d, found {unit:?}")),
    };
    let number: f64 = number.trim().parse().map_err(|_| {
        format!("expected a length of time such as 500ms, 10s or 2m, found {text:?}")
    })?;
    Duration::try_from_secs_f64(number * scale)
        .map_err(|_| format!("expected a length of time from 0, found {text:?}"))
}

/// Reads a sampling interval: a duration from [`MIN_INTERVAL`].
///
/// # Errors
/// With a sentence that says what was expected.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < MIN_INTERVAL {
        return Err(format!("expected at least {} ms", MIN_INTERVAL.as_millis()));
    }
    Ok(interval)
}

/// Reads a size: a number, also with a fraction, and its unit, as `500MB`, `500M` or `1.5GiB`. Units
/// are powers of 1024. A number alone, or with a lower-case letter, is refused: it would be bytes to
/// one reader, minutes to another.
///
/// # Errors
/// With a sentence that says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a size such as 500MB, 64K or 2G, found {text:?}");
    let (number, unit) = split_unit(text.trim());
    let unit = match unit {
        "k" | "m" | "g" | "t" => {
            let upper = unit.to_uppercase();
            return Err(format!("{text:?} could be a time; for a size write {number}{upper}B"));
        }
        "" => return Err(format!("expected a unit of KB, MB, GB or TB after {text:?}")),
        unit => unit.to_ascii_uppercase(),
    };
    let power = match unit.as_str() {
        "B" => 0,
        "K" | "KB" | "KIB" => 1,
        "M" | "MB" | "MIB" => 2,
        "G" | "GB" | "GIB" => 3,
        "T" | "TB" | "TIB" => 4,
        _ => return Err(expected()),
    };
    let number: f64 = number.trim().parse().map_err(|_| expected())?;
    let bytes = number * 1024_f64.powi(power);
    // An f64 counts whole bytes up to 2^53, eight pebibytes.
    let fits = bytes.is_finite() && (1.0..=2_f64.powi(53)).contains(&bytes);
    fits.then_some(bytes as u64).ok_or_else(expected)
}

/// Reads the size of the buffer that the kernel fills: bytes, or with K or M for KiB and MiB; the
/// kernel wants a power of two.
///
/// # Errors
/// With a sentence that says what was expected.
pub fn parse_buffer_bytes(text: &str) -> Result<u32, String> {
    let expected = || format!("expected a power of two from 64K to 1024M, found {text:?}");
    let (number, scale) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1_u32 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let bytes = number.parse::<u32>().ok().and_then(|n| n.checked_mul(scale));
    bytes
        .filter(|bytes| bytes.is_power_of_two() && (1 << 16..=1 << 30).contains(bytes))
        .ok_or_else(expected)
}

/// Reads what is to survive a power failure: `none`, `interval` or `always`.
///
/// # Errors
/// With a sentence that says what was expected.
pub fn parse_sync(text: &str) -> Result<Sync, String> {
    match text {
        "none" => Ok(Sync::None),
        "interval" => Ok(Sync::Interval),
        "always" => Ok(Sync::Always),
        _ => Err(format!("expected none, interval or always, found {text:?}")),
    }
}

/// The number and the letters behind it.
pub(crate) fn split_unit(text: &str) -> (&str, &str) {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("2").unwrap(), Duration::from_secs(2));
        assert_eq!(parse_duration("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("10min").unwrap(), Duration::from_secs(600));
        assert_eq!(parse_duration("1h").unwrap(), Duration::from_secs(3600));
        for wrong in ["", "ms", "10 parsecs", "-1s", "nan", "1e400s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn intervals_have_a_floor() {
        assert_eq!(parse_interval("100ms").unwrap(), MIN_INTERVAL);
        assert!(parse_interval("99ms").unwrap_err().contains("100 ms"));
    }

    #[test]
    fn sizes_are_powers_of_1024_with_a_unit_that_cannot_be_a_time() {
        for (text, bytes) in [
            ("500MB", 500 << 20),
            ("500M", 500 << 20),
            ("1.5GiB", 3 << 29),
            ("2G", 2 << 30),
            ("64 kb", 64 << 10),
            ("100B", 100),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert!(parse_size("10m").unwrap_err().contains("10MB"));
        assert!(parse_size("4096").unwrap_err().contains("unit"));
        for wrong in ["", "MB", "-1MB", "0.1B", "nanMB", "1e30TB", "5 parsecs"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn buffers_are_powers_of_two() {
        assert_eq!(parse_buffer_bytes("16M").unwrap(), 16 << 20);
        assert_eq!(parse_buffer_bytes("65536").unwrap(), 65536);
        for wrong in ["", "M", "3M", "1K", "4096M", "-1"] {
            assert!(parse_buffer_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
