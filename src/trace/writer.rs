//! Events to a Parquet file that is written from start to end.
//!
//! For traces made of other traces, and for tests. What a killed process would lose matters to
//! [`super::Recording`] only.

use std::io::Write;

use super::draft::{Counting, Draft};
use super::error::Error;
use super::footer::MAGIC;
use super::metadata::{ClosingMetadata, Entry, Keys, Metadata};
use super::totals::Totals;
use crate::event::Event;
use crate::time::ClockAnchor;

/// When the open row group closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Accounted memory of the open row group.
    pub group_bytes: usize,
    /// Time between its first event and the newest.
    pub group_age_ns: i64,
}

impl Default for Limits {
    /// Row groups must be few and large, because payload is stored once per group only; the
    /// recorder's memory is the other bound: this much keeps the writer under 45 MiB resident
    /// whatever it is given (`docs/FORMAT.md`, "Row groups").
    fn default() -> Self {
        Self { group_bytes: 10 * 1024 * 1024, group_age_ns: 10 * 60 * 1_000_000_000 }
    }
}

/// What was written, told when a trace is finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows in the file.
    pub rows: u64,
    /// Row groups in the file.
    pub row_groups: usize,
    /// Size of the file.
    pub file_bytes: u64,
    /// Captured payload bytes pushed, before they were stored once.
    pub payload_bytes: u64,
    /// Events and bytes by kind, and losses.
    pub totals: Totals,
}

/// Writes one trace to `W`.
pub struct Writer<W: Write + Send> {
    sink: W,
    draft: Draft,
    /// Those of the start, which come before those that closing adds.
    anchors: Vec<ClockAnchor>,
}

impl<W: Write + Send> Writer<W> {
    /// Begins a trace in `sink` with the default [`Limits`].
    ///
    /// # Errors
    /// When `sink` cannot be written.
    pub fn create(sink: W, metadata: Metadata) -> Result<Self, Error> {
        Self::with_limits(sink, metadata, Limits::default())
    }

    /// Begins a trace in `sink`.
    ///
    /// # Errors
    /// When `sink` cannot be written.
    pub fn with_limits(sink: W, metadata: Metadata, limits: Limits) -> Result<Self, Error> {
        let mut writer = Self::with_keys(sink, Keys::new(&metadata), limits)?;
        writer.anchors = metadata.clock_anchors;
        Ok(writer)
    }

    /// Begins a trace in `sink` with metadata as another trace has it.
    ///
    /// # Errors
    /// When `sink` cannot be written.
    pub fn with_keys(mut sink: W, keys: Keys, limits: Limits) -> Result<Self, Error> {
        sink.write_all(MAGIC).map_err(Error::Flush)?;
        Ok(Self { sink, draft: Draft::new(keys, limits), anchors: Vec::new() })
    }

    /// Takes in one event, and closes the row group if that makes it full.
    ///
    /// # Errors
    /// When the sink cannot be written; the trace is then unusable.
    pub fn push(&mut self, event: Event) -> Result<(), Error> {
        self.draft.keep(event)?;
        if self.draft.is_full() {
            self.close_row_group()?;
        }
        Ok(())
    }

    /// Takes in one event whose row already has a number; later ones are counted on from it.
    ///
    /// # Errors
    /// When the sink cannot be written; the trace is then unusable.
    pub(crate) fn push_numbered(&mut self, event: Event, seq: u64) -> Result<(), Error> {
        self.draft.next_seq = seq;
        self.push(event)
    }

    /// Rows that are not in a closed row group yet.
    #[must_use]
    pub fn open_rows(&self) -> usize {
        self.draft.open.len()
    }

    /// Sets an entry of the metadata, replacing what it was.
    pub fn set(&mut self, entry: Entry) {
        self.draft.keys.set(entry);
    }

    /// Sets a key of the metadata that may be of any origin.
    pub(crate) fn set_text(&mut self, key: &str, value: String) {
        self.draft.keys.set_text(key, value);
    }

    /// Writes the open rows as one row group and forgets them. Nothing happens if there are none.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn close_row_group(&mut self) -> Result<(), Error> {
        self.draft.write_group(&mut self.sink)
    }

    /// Writes what is open and the footer.
    ///
    /// # Errors
    /// When the sink cannot be written; the file is then not a valid trace.
    pub fn finish(self, closing: ClosingMetadata) -> Result<Summary, Error> {
        let closing = closing.entries(&self.anchors);
        self.end(&closing)
    }

    /// Writes what is open and a footer with the metadata as it is.
    ///
    /// # Errors
    /// When the sink cannot be written; the file is then not a valid trace.
    pub(crate) fn complete(self) -> Result<Summary, Error> {
        self.end(&[])
    }

    fn end(mut self, closing: &[Entry]) -> Result<Summary, Error> {
        self.close_row_group()?;
        let mut footer = Counting { sink: &mut self.sink, bytes: 0 };
        self.draft.write_footer(closing, &mut footer)?;
        let file_bytes = self.draft.base_bytes + footer.bytes;
        self.sink.flush().map_err(Error::Flush)?;
        Ok(self.draft.summary(file_bytes))
    }
}
