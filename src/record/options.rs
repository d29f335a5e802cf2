//! What a recording is asked to do, checked, before anything is opened.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::trace::Sync;

/// The shortest sampling interval: `/proc` costs about 50 us per process and tick.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// What to record and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of agents, matched against processes ([`crate::capture::matching`]).
    pub names: Vec<String>,
    /// Processes that run already.
    pub pids: Vec<u32>,
    /// A command to run and record.
    pub command: Vec<OsString>,
    /// The trace file.
    pub output: PathBuf,
    /// Whether credentials are replaced before anything is stored.
    pub redact: bool,
    /// Whether an existing file may be replaced.
    pub force: bool,
    /// Time between two looks at `/proc`.
    pub interval: Duration,
    /// When to stop by itself.
    pub duration: Option<Duration>,
    /// Size of the payload ring.
    pub ring_bytes: u32,
    /// What is made to survive a power failure.
    pub sync: Sync,
    /// The command line as typed, for the metadata.
    pub command_line: Vec<OsString>,
}

/// Reads a length of time: `500ms`, `10s`, `2m`, `1h`, or a plain number of seconds.
///
/// # Errors
/// With a sentence that says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("expected a unit of ms, s, m or h, found {unit:?}")),
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

/// Reads a ring size: bytes, or with K or M for KiB and MiB; the kernel wants a power of two.
///
/// # Errors
/// With a sentence that says what was expected.
pub fn parse_ring_bytes(text: &str) -> Result<u32, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("2").unwrap(), Duration::from_secs(2));
        assert_eq!(parse_duration("1.5m").unwrap(), Duration::from_secs(90));
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
    fn rings_are_powers_of_two() {
        assert_eq!(parse_ring_bytes("16M").unwrap(), 16 << 20);
        assert_eq!(parse_ring_bytes("65536").unwrap(), 65536);
        for wrong in ["", "M", "3M", "1K", "4096M", "-1"] {
            assert!(parse_ring_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
