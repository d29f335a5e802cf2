//! The tables of HPACK (RFC 7541 section 2.3 and appendix A).
//!
//! The dynamic table is a queue: an index counts from the newest entry. So what was inserted after a
//! loss is found at its index whatever was lost before it.

use std::collections::VecDeque;

/// The static table: index 1 is the first.
pub(super) const FIXED: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The size that encoders begin with (RFC 9113 section 6.5.2).
const DEFAULT_BYTES: usize = 4096;

/// The largest table that is kept: what large clients and servers allow each other.
const MAX_BYTES: usize = 64 << 10;

/// What every entry counts besides its text (RFC 7541 section 4.1).
const ENTRY_BYTES: usize = 32;

/// A field of the dynamic table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `None`: it was given by reference to an entry that was not seen.
    pub(super) name: Option<String>,
    pub(super) value: String,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.name.as_ref().map_or(0, String::len) + self.value.len() + ENTRY_BYTES
    }
}

/// The dynamic table.
#[derive(Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// The sum of their sizes; not above `max_bytes`.
    bytes: usize,
    max_bytes: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, max_bytes: DEFAULT_BYTES }
    }
}

impl Table {
    /// An entry by its age.
    pub(super) fn get(&self, age: usize) -> Option<&Entry> {
        self.entries.get(age)
    }

    /// Adds an entry; older ones make room. One that is larger than the table leaves it empty
    /// (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        self.evict(self.max_bytes.saturating_sub(bytes));
        if bytes <= self.max_bytes {
            self.bytes += bytes;
            self.entries.push_front(entry);
        }
    }

    /// Takes the size that the encoder says it uses; whether all of it can be kept.
    pub(super) fn resize(&mut self, max_bytes: u64) -> bool {
        let wanted = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        self.max_bytes = wanted.min(MAX_BYTES);
        self.evict(self.max_bytes);
        wanted <= MAX_BYTES
    }

    /// Forgets everything. How large the table is may have been said in what was lost: entries are
    /// kept for longer than the encoder may, which does not refer to those it has evicted.
    pub(super) fn lose(&mut self) {
        *self = Self { max_bytes: MAX_BYTES, ..Self::default() };
    }

    fn evict(&mut self, to_bytes: usize) {
        while self.bytes > to_bytes
            && let Some(oldest) = self.entries.pop_back()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry { name: Some(name.to_owned()), value: "v".repeat(67) }
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let mut table = Table::default();
        table.resize(200);
        table.insert(entry("a"));
        table.insert(entry("b"));
        assert_eq!(table.get(0), Some(&entry("b")));
        assert_eq!(table.get(1), Some(&entry("a")));
        table.insert(entry("c"));
        assert_eq!((table.get(1), table.get(2)), (Some(&entry("b")), None));
        table.resize(100);
        assert_eq!((table.get(0), table.get(1)), (Some(&entry("c")), None));
        table.insert(Entry { name: None, value: "v".repeat(69) });
        assert_eq!(table.get(0), None, "larger than the table");
    }

    #[test]
    fn a_table_never_grows_beyond_what_is_kept() {
        let mut table = Table::default();
        assert!(!table.resize(u64::MAX));
        for _ in 0..2000 {
            table.insert(entry("a"));
            assert!(table.bytes <= MAX_BYTES);
        }
        table.lose();
        assert_eq!((table.get(0), table.bytes), (None, 0));
    }
}
