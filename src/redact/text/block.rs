//! Private keys in PEM (RFC 7468): the lines between `-----BEGIN ... PRIVATE KEY-----` and its end.
//!
//! Tools indent such lines, number them or put quotes around them, so of each only the base64 in it
//! counts. A line that holds none ends the block: source code that names the marker is no key.

use std::ops::Range;

/// Lines of a block looked at; keys have fewer than a hundred.
const MAX_LINES: u32 = 1024;
/// Base64 characters in a line of a key, at least. The last line may have fewer.
const MIN_DATA_BYTES: usize = 32;
/// Longest line of a block without data.
const MAX_OTHER_BYTES: usize = 128;
/// What every marker begins with.
pub(super) const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END";
/// What every marker begins and ends with.
const DASHES: &[u8] = b"-----";

/// Whether lines are those of a key.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyBlock {
    /// Lines that may still follow; 0 outside of a block.
    left: u32,
    /// Data was seen.
    data: bool,
}

impl KeyBlock {
    /// In a block whose first line is next.
    pub(super) fn begun() -> Self {
        Self { left: MAX_LINES, data: false }
    }

    pub(super) fn is_open(&self) -> bool {
        self.left > 0
    }

    /// Takes a line of the block, without its end; returns what of it is part of the key. One that
    /// is not `complete` may hold less data than it will.
    pub(super) fn line(&mut self, line: &[u8], complete: bool) -> Option<Range<usize>> {
        if !self.is_open() {
            return None;
        }
        self.left -= 1;
        let end = memchr::memmem::find(line, END);
        let data = longest_data(&line[..end.unwrap_or(line.len())]);
        let ends = end.is_some();
        let least = match (complete, self.data) {
            (false, _) => 4,
            (true, true) => 1,
            (true, false) => MIN_DATA_BYTES,
        };
        if data.len() >= MIN_DATA_BYTES {
            self.data = true;
        } else if self.data && !data.is_empty() || line.len() > MAX_OTHER_BYTES {
            // The last line of a key is shorter than the others.
            self.left = 0;
        } else if !ends && !is_header(line) {
            self.left = 0;
        }
        if ends {
            self.left = 0;
        }
        (data.len() >= least && line.len() <= MAX_OTHER_BYTES.max(data.len() * 2)).then_some(data)
    }
}

/// Where the marker of a private key ends that begins at `at`.
pub(super) fn marker_end(text: &[u8], at: usize) -> Option<usize> {
    const MAX_LABEL: usize = 40;
    let label = at + BEGIN.len();
    let rest = text.get(label..)?;
    let in_label =
        |byte: &&u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ';
    let length = rest.iter().take(MAX_LABEL).take_while(in_label).count();
    let is_key = memchr::memmem::find(&rest[..length], b"PRIVATE KEY").is_some();
    (is_key && rest[length..].starts_with(b"-----")).then_some(label + length + 5)
}

/// What of the key stands in the same line, behind its marker: all up to the next one, or up to a
/// quote where that was cut off.
pub(super) fn in_line(rest: &[u8], complete: bool) -> Option<Range<usize>> {
    let end = memchr::memmem::find(rest, DASHES);
    let end = end.or_else(|| memchr::memchr3(b'"', b'\'', b'`', rest)).unwrap_or(rest.len());
    let least = if complete { MIN_DATA_BYTES } else { 1 };
    (longest_data(&rest[..end]).len() >= least).then_some(0..end)
}

/// The longest run of base64.
fn longest_data(line: &[u8]) -> Range<usize> {
    let in_data = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let (mut longest, mut start) = (0..0, 0);
    for (at, byte) in line.iter().chain(std::iter::once(&0)).enumerate() {
        if in_data(byte) {
            continue;
        }
        if at - start > longest.len() {
            longest = start..at;
        }
        start = at + 1;
    }
    longest
}

/// Whether this may stand between the marker and the data: nothing, or a header such as `DEK-Info`.
fn is_header(line: &[u8]) -> bool {
    let text = line.trim_ascii();
    let numbered = |byte: &u8| !byte.is_ascii_alphabetic();
    text.iter().all(numbered)
        || ["Proc-Type", "DEK-Info", "Version", "Comment"]
            .iter()
            .any(|name| memchr::memmem::find(text, name.as_bytes()).is_some_and(|at| at <= 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(lines: &[&str]) -> Vec<String> {
        let mut block = KeyBlock::begun();
        let mut part = |line: &&str| block.line(line.as_bytes(), true).map(|r| line[r].to_owned());
        lines.iter().map(|line| part(line).unwrap_or_default()).collect()
    }

    #[test]
    fn lines_of_a_key_are_told_from_what_stands_around_them() {
        let full = "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQC7VJTUt9Us8cKj";
        assert_eq!(
            data(&["Proc-Type: 4,ENCRYPTED", "", full, full, "ab12==", "-----END", "next"]),
            ["", "", full, full, "ab12==", "", ""]
        );
        let numbered = format!("    12\t{full}");
        assert_eq!(data(&[&numbered, &format!("+  \"{full}\\n\","), "x"]), [full, full, "x"]);
        assert_eq!(data(&["return None", full]), ["", ""]);
        assert_eq!(data(&[full, &format!("{full}-----END"), full]), [full, full, ""]);
    }

    #[test]
    fn only_markers_of_private_keys_count() {
        let end = |text: &str| marker_end(text.as_bytes(), 0);
        assert_eq!(end("-----BEGIN PRIVATE KEY-----\n"), Some(27));
        assert_eq!(end("-----BEGIN PGP PRIVATE KEY BLOCK-----"), Some(37));
        assert_eq!(end("-----BEGIN CERTIFICATE-----"), None);
        assert_eq!(end("-----BEGIN PUBLIC KEY-----"), None);
        assert_eq!(end("-----BEGIN PRIVATE KEY"), None);
    }
}
