//! Names of the files that belong to one recording, all made from the name of its trace.
//!
//! ```text
//! run.parquet                  the trace
//! run-0001.parquet, ...        the files of a rotation
//! run-snapshot-0001.parquet    snapshots
//! run.parquet.ring/000001.parquet, ...   the parts of a flight recorder
//! ```

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Digits of a number in a file name; larger numbers have more.
const DIGITS: usize = 4;

/// The names that go with one trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    trace: PathBuf,
}

impl Names {
    /// The names that go with the trace at this path.
    #[must_use]
    pub fn of(trace: &Path) -> Self {
        Self { trace: trace.to_owned() }
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> &Path {
        &self.trace
    }

    /// A file of a rotation.
    #[must_use]
    pub fn rotated(&self, number: u32) -> PathBuf {
        self.numbered("-", number)
    }

    /// A snapshot.
    #[must_use]
    pub fn snapshot(&self, number: u32) -> PathBuf {
        self.numbered("-snapshot-", number)
    }

    /// The directory of a flight recorder's parts.
    #[must_use]
    pub fn ring(&self) -> PathBuf {
        let mut name = self.trace.as_os_str().to_owned();
        name.push(".ring");
        name.into()
    }

    /// A part of a flight recorder.
    #[must_use]
    pub fn ring_part(&self, number: u32) -> PathBuf {
        self.ring().join(format!("{number:06}.parquet"))
    }

    /// The number of a file of a rotation, from its name alone.
    #[must_use]
    pub fn number_of_rotated(&self, file_name: &OsStr) -> Option<u32> {
        let name = file_name.as_encoded_bytes();
        let name = name.strip_prefix(self.stem().as_encoded_bytes())?.strip_prefix(b"-")?;
        let name = match self.trace.extension() {
            Some(extension) => {
                name.strip_suffix(extension.as_encoded_bytes())?.strip_suffix(b".")?
            }
            None => name,
        };
        digits(name, DIGITS)
    }

    fn stem(&self) -> &OsStr {
        self.trace.file_stem().unwrap_or_default()
    }

    fn numbered(&self, word: &str, number: u32) -> PathBuf {
        let mut name: OsString = self.stem().to_owned();
        name.push(format!("{word}{number:0DIGITS$}"));
        if let Some(extension) = self.trace.extension() {
            name.push(".");
            name.push(extension);
        }
        self.trace.with_file_name(name)
    }
}

/// The number of a part of a ring, from its file name alone.
#[must_use]
pub fn number_of_ring_part(file_name: &OsStr) -> Option<u32> {
    digits(file_name.as_encoded_bytes().strip_suffix(b".parquet")?, 6)
}

/// A number of at least `least` digits and no more zeros in front than that takes.
fn digits(text: &[u8], least: usize) -> Option<u32> {
    let is_plain = text.len() >= least
        && text.iter().all(u8::is_ascii_digit)
        && (text.len() == least || text[0] != b'0');
    is_plain.then(|| std::str::from_utf8(text).ok()?.parse().ok())?.filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_from_the_traces_name() {
        let names = Names::of(Path::new("/data/my.run.parquet"));
        assert_eq!(names.rotated(1), Path::new("/data/my.run-0001.parquet"));
        assert_eq!(names.snapshot(12), Path::new("/data/my.run-snapshot-0012.parquet"));
        assert_eq!(names.ring_part(3), Path::new("/data/my.run.parquet.ring/000003.parquet"));
        assert_eq!(Names::of(Path::new("run")).rotated(12_345), Path::new("run-12345"));
    }

    #[test]
    fn numbers_come_back_from_names_and_from_nothing_else() {
        let names = Names::of(Path::new("/data/run.parquet"));
        for number in [1, 9999, 10_000, u32::MAX] {
            let path = names.rotated(number);
            assert_eq!(names.number_of_rotated(path.file_name().unwrap()), Some(number));
            let path = names.ring_part(number);
            assert_eq!(number_of_ring_part(path.file_name().unwrap()), Some(number));
        }
        for name in [
            "run.parquet",
            "run-1.parquet",
            "run-0000.parquet",
            "run-00001.parquet",
            "run-0001.parquet.wal",
            "run-snapshot-0001.parquet",
            "other-0001.parquet",
            "run-99999999999.parquet",
            "run-+001.parquet",
        ] {
            assert_eq!(names.number_of_rotated(OsStr::new(name)), None, "{name}");
        }
        assert_eq!(number_of_ring_part(OsStr::new("000001.parquet.wal")), None);
    }
}
