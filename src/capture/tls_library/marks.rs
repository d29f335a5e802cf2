//! Strings that a TLS library leaves in every program it is linked into, stripped or not.
//!
//! One pass over the unwritable segments, constants first. A mark says that a library is there, not that it is used.

use std::io;

use memchr::{memmem, memrchr};

use super::image::{Image, Kind};

/// Longest string around a mark: build paths stay below.
const MAX_STRING_BYTES: usize = 1024;
/// Most copies of a file name followed; a linker merges them into one.
const MAX_COPIES: usize = 8;

/// `__FILE__` of BoringSSL's error calls ends like this, whatever directory it was built in.
const BORINGSSL_FILE: &[u8] = b"ssl/ssl_lib.cc\0";
/// `__func__` in OpenSSL 3's error calls.
const OPENSSL_READ: &[u8] = b"\0ssl_read_internal\0";
const OPENSSL_WRITE: &[u8] = b"\0ssl_write_internal\0";
/// Start of `OPENSSL_VERSION_TEXT`.
const OPENSSL_VERSION: &[u8] = b"OpenSSL ";
/// Part of rustls' source paths in panic locations.
const RUSTLS_PATH: &[u8] = b"/rustls-";
const SSL_WRITE: &[u8] = b"\0SSL_write\0";

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Addresses of the strings that end in `ssl/ssl_lib.cc`.
    pub(super) boringssl_files: Vec<u64>,
    /// Addresses of the name that OpenSSL's `ssl_read_internal` raises errors under.
    pub(super) openssl_read_names: Vec<u64>,
    /// The same for `ssl_write_internal`: there only if OpenSSL is inside, rather than imported.
    pub(super) openssl_write_names: Vec<u64>,
    /// From the `OpenSSL x.y.z` text; that of OpenSSL 3 before that of others, because libraries
    /// that keep its interface say which OpenSSL they stand in for.
    pub(super) openssl_version: Option<String>,
    /// From `rustls-x.y.z` in source paths.
    pub(super) rustls_version: Option<String>,
    /// Whether the name `SSL_write` occurs, defined or imported; only looked for in files whose
    /// symbols are not read.
    pub(super) names_ssl_write: bool,
}

impl Marks {
    /// Searches `image`: its constants and, only if they show nothing, its code, which some linkers
    /// put constants into.
    pub(super) fn find(image: &Image) -> io::Result<Self> {
        let marks = Self::search(image, |look| image.scan_constants(MAX_STRING_BYTES, look))?;
        if marks != Self::default() {
            return Ok(marks);
        }
        Self::search(image, |look| image.scan(true, MAX_STRING_BYTES, look))
    }

    fn search(
        image: &Image,
        scan: impl FnOnce(&mut dyn FnMut(u64, &[u8]) -> bool) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut marks = Self::default();
        let boringssl = memmem::Finder::new(BORINGSSL_FILE);
        let openssl_read = memmem::Finder::new(OPENSSL_READ);
        let openssl_write = memmem::Finder::new(OPENSSL_WRITE);
        let version = memmem::Finder::new(OPENSSL_VERSION);
        let rustls = memmem::Finder::new(RUSTLS_PATH);
        let foreign = image.kind() == Kind::Foreign;
        scan(&mut |address, bytes| {
            for at in boringssl.find_iter(bytes).take(MAX_COPIES) {
                marks.add_boringssl(address, bytes, at);
            }
            for at in openssl_read.find_iter(bytes).take(MAX_COPIES) {
                add(&mut marks.openssl_read_names, address + at as u64 + 1);
            }
            for at in openssl_write.find_iter(bytes).take(MAX_COPIES) {
                add(&mut marks.openssl_write_names, address + at as u64 + 1);
            }
            marks.names_ssl_write |= foreign && memmem::find(bytes, SSL_WRITE).is_some();
            if !marks.openssl_version.as_deref().is_some_and(is_third) {
                let texts = version.find_iter(bytes).map(|at| &bytes[at + 8..]);
                let versions: Vec<String> = texts.filter_map(version_number).collect();
                let third = versions.iter().find(|version| is_third(version)).cloned();
                let known = marks.openssl_version.take();
                marks.openssl_version = third.or(known).or(versions.into_iter().next());
            }
            if marks.rustls_version.is_none() {
                let mut paths = rustls.find_iter(bytes).map(|at| &bytes[at + 8..]);
                marks.rustls_version = paths.find_map(version_number);
            }
            true
        })?;
        Ok(marks)
    }

    fn add_boringssl(&mut self, address: u64, bytes: &[u8], at: usize) {
        let from = at.saturating_sub(MAX_STRING_BYTES - BORINGSSL_FILE.len());
        let start = memrchr(0, &bytes[from..at]).map_or(from, |zero| from + zero + 1);
        add(&mut self.boringssl_files, address + start as u64);
    }
}

/// Remembers an address that may have been seen before.
fn add(addresses: &mut Vec<u64>, address: u64) {
    if addresses.len() < MAX_COPIES && !addresses.contains(&address) {
        addresses.push(address);
    }
}

fn is_third(version: &str) -> bool {
    version.starts_with("3.")
}

/// `3.0.19`, `1.1.1w` at the start of `text`: two dots, digits around them, an optional letter.
fn version_number(text: &[u8]) -> Option<String> {
    let text = &text[..text.len().min(16)];
    let end = text.iter().position(|b| !(b.is_ascii_digit() || *b == b'.'))?;
    let number = std::str::from_utf8(&text[..end]).ok()?;
    let parts: Vec<&str> = number.split('.').collect();
    if parts.len() != 3 || parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let letter = text.get(end).filter(|b| b.is_ascii_lowercase()).map(|&b| char::from(b));
    Some(number.chars().chain(letter).collect())
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn version_numbers_are_told_from_other_text() {
        assert_eq!(version_number(b"3.0.19 27 Jan").as_deref(), Some("3.0.19"));
        assert_eq!(version_number(b"1.1.1w  11 Sep").as_deref(), Some("1.1.1w"));
        assert_eq!(version_number(b"0.23.46/src/lib.rs").as_deref(), Some("0.23.46"));
        assert_eq!(version_number(b"3 wrapper"), None);
        assert_eq!(version_number(b"3..1 "), None);
        assert_eq!(version_number(b""), None);
    }
}
