//! How much of a recording is kept, and in how many files: what `--max-size`, `--rotate-size`,
//! `--rotate-time`, `--keep` and `--ring` ask for together.
//!
//! Combinations that contradict each other are refused here, before anything is opened.

use std::time::Duration;

use super::values::{parse_duration, parse_size, split_unit};

/// Smallest part of a rotation: a part costs some 20 KiB of its own.
pub const MIN_PART_BYTES: u64 = 64 << 10;
/// Smallest ring: its parts have room for the largest row that the recorder makes, 1 MiB.
pub const MIN_RING_BYTES: u64 = 8 << 20;
/// Shortest part.
pub const MIN_PART_AGE: Duration = Duration::from_secs(1);
/// A ring is kept in about this many parts: dropping the oldest loses about that fraction.
pub const RING_PARTS: u32 = 8;

/// What is kept of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Retention {
    /// All of it in one file.
    #[default]
    Whole,
    /// One file, and the recording stops when it has this size.
    UpTo {
        /// Size of the trace at which to stop.
        bytes: u64,
    },
    /// Numbered files.
    Rotate(Rotation),
    /// The last part of it, as a flight recorder does.
    Ring(RingSpan),
}

/// When a numbered file ends, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Size at which a file ends.
    pub bytes: Option<u64>,
    /// Age at which a file ends.
    pub age: Option<Duration>,
    /// Number of files kept; all when absent.
    pub keep: Option<u32>,
}

/// How much a flight recorder keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingSpan {
    /// At least what was recorded in this last time.
    Time(Duration),
    /// At most this many bytes on disk.
    Bytes(u64),
}

/// The options as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--max-size`
    pub max_bytes: Option<u64>,
    /// `--rotate-size`
    pub rotate_bytes: Option<u64>,
    /// `--rotate-time`
    pub rotate_age: Option<Duration>,
    /// `--keep`
    pub keep: Option<u32>,
    /// `--ring`
    pub ring: Option<RingSpan>,
}

/// Why the options cannot be obeyed together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// Two of them exclude each other.
    #[error("{0} and {1} exclude each other")]
    Conflict(&'static str, &'static str, &'static str),
    /// One has no meaning without another.
    #[error("--keep has no meaning without --rotate-size or --rotate-time")]
    KeepAlone,
    /// One is too small to be of use.
    #[error("{option}: expected at least {least}")]
    TooSmall {
        /// The option.
        option: &'static str,
        /// The least it may be.
        least: &'static str,
    },
}

impl RetentionError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Conflict(_, _, hint) => hint,
            Self::KeepAlone => "to keep the last part of a recording in one file, use --ring",
            Self::TooSmall { .. } => "every file of a recording repeats some 20 KiB of metadata",
        }
    }
}

impl Asked {
    /// What these options ask for together.
    ///
    /// # Errors
    /// When they contradict each other or one is too small.
    pub fn retention(self) -> Result<Retention, RetentionError> {
        let rotates = self.rotate_bytes.is_some() || self.rotate_age.is_some();
        let rotate = if self.rotate_bytes.is_some() { "--rotate-size" } else { "--rotate-time" };
        if self.ring.is_some() && rotates {
            let hint = "--ring keeps the last part in one file, --rotate writes numbered files";
            return Err(RetentionError::Conflict("--ring", rotate, hint));
        }
        if self.ring.is_some() && self.max_bytes.is_some() {
            let hint = "a ring does not grow: --ring 500MB bounds its size already";
            return Err(RetentionError::Conflict("--ring", "--max-size", hint));
        }
        if self.max_bytes.is_some() && rotates {
            let hint = "to bound the disk space of a rotation, use --keep";
            return Err(RetentionError::Conflict("--max-size", rotate, hint));
        }
        if self.keep.is_some() && !rotates {
            return Err(RetentionError::KeepAlone);
        }
        let too_small = |option, least| Err(RetentionError::TooSmall { option, least });
        if self.rotate_bytes.is_some_and(|bytes| bytes < MIN_PART_BYTES) {
            return too_small("--rotate-size", "64KB");
        }
        if self.max_bytes.is_some_and(|bytes| bytes < MIN_PART_BYTES) {
            return too_small("--max-size", "64KB");
        }
        if self.rotate_age.is_some_and(|age| age < MIN_PART_AGE) {
            return too_small("--rotate-time", "1s");
        }
        if self.keep == Some(0) {
            return too_small("--keep", "1");
        }
        match self.ring {
            Some(RingSpan::Bytes(bytes)) if bytes < MIN_RING_BYTES => {
                return too_small("--ring", "8MB");
            }
            Some(RingSpan::Time(time)) if time < MIN_PART_AGE => return too_small("--ring", "1s"),
            _ => {}
        }
        Ok(match (self.ring, self.max_bytes) {
            (Some(span), _) => Retention::Ring(span),
            (None, Some(bytes)) => Retention::UpTo { bytes },
            (None, None) if rotates => Retention::Rotate(Rotation {
                bytes: self.rotate_bytes,
                age: self.rotate_age,
                keep: self.keep,
            }),
            (None, None) => Retention::Whole,
        })
    }
}

/// Reads how much a flight recorder keeps: a length of time (`10m`, `30s`) or a size (`500MB`).
/// `10M` is refused, as it could be either.
///
/// # Errors
/// With a sentence that says what was expected.
pub fn parse_ring(text: &str) -> Result<RingSpan, String> {
    let (number, unit) = split_unit(text.trim());
    match unit {
        "" => Err(format!("expected a time such as 10m or a size such as 500MB, found {text:?}")),
        "M" => {
            Err(format!("{text:?} could be minutes or megabytes: write {number}min or {number}MB"))
        }
        "ms" | "s" | "m" | "min" | "h" | "d" => parse_duration(text).map(RingSpan::Time),
        _ => parse_size(text).map(RingSpan::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_a_time_or_a_size_and_never_a_guess() {
        assert_eq!(parse_ring("10m"), Ok(RingSpan::Time(Duration::from_secs(600))));
        assert_eq!(parse_ring("90s"), Ok(RingSpan::Time(Duration::from_secs(90))));
        assert_eq!(parse_ring("500MB"), Ok(RingSpan::Bytes(500 << 20)));
        assert_eq!(parse_ring("2G"), Ok(RingSpan::Bytes(2 << 30)));
        let both = parse_ring("10M").unwrap_err();
        assert!(both.contains("10min") && both.contains("10MB"), "{both}");
        for wrong in ["", "10", "MB", "10 parsecs", "-5m"] {
            assert!(parse_ring(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_refused_by_name() {
        let ring = Some(RingSpan::Bytes(1 << 30));
        let size = Some(1 << 20);
        let refused = |asked: Asked| asked.retention().unwrap_err();
        for (asked, words) in [
            (Asked { ring, rotate_bytes: size, ..Asked::default() }, ["--ring", "--rotate-size"]),
            (Asked { ring, max_bytes: size, ..Asked::default() }, ["--ring", "--max-size"]),
            (
                Asked { max_bytes: size, rotate_age: Some(MIN_PART_AGE), ..Asked::default() },
                ["--max-size", "--rotate-time"],
            ),
            (Asked { keep: Some(3), ..Asked::default() }, ["--keep", "--rotate-size"]),
            (Asked { ring, keep: Some(3), ..Asked::default() }, ["--keep", "--rotate-size"]),
            (Asked { rotate_bytes: Some(1), ..Asked::default() }, ["--rotate-size", "64KB"]),
            (Asked { max_bytes: Some(1), ..Asked::default() }, ["--max-size", "64KB"]),
            (
                Asked { ring: Some(RingSpan::Bytes(1)), ..Asked::default() },
                ["--ring", "expected at least"],
            ),
            (
                Asked { rotate_bytes: size, keep: Some(0), ..Asked::default() },
                ["--keep", "expected at least 1"],
            ),
        ] {
            let error = refused(asked);
            assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn each_option_alone_means_what_it_says() {
        assert_eq!(Asked::default().retention(), Ok(Retention::Whole));
        let asked = Asked { max_bytes: Some(1 << 20), ..Asked::default() };
        assert_eq!(asked.retention(), Ok(Retention::UpTo { bytes: 1 << 20 }));
        let asked = Asked { rotate_bytes: Some(1 << 20), keep: Some(2), ..Asked::default() };
        let rotation = Rotation { bytes: Some(1 << 20), age: None, keep: Some(2) };
        assert_eq!(asked.retention(), Ok(Retention::Rotate(rotation)));
    }
}
