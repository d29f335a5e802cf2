//! Row groups of finished traces to another trace, by their bytes.
//!
//! Nothing is decoded: a row group is copied as it is and only its place in the file changes. For
//! parts of one recording, whose sequence numbers and connections are already unique together.

use std::io::{Read, Write};

use parquet::file::metadata::RowGroupMetaData;

use super::draft::{Counting, Draft};
use super::error::Error;
use super::footer::{MAGIC, MAX_GROUPS, shifted};
use super::metadata::{Entry, Keys};
use super::reader::Reader;
use super::totals::Totals;
use super::writer::{Limits, Summary};

/// Writes one trace of row groups that exist.
pub struct Assembler<W: Write> {
    sink: W,
    draft: Draft,
    /// Whether a trace was added: all must have the columns of the first.
    begun: bool,
}

impl<W: Write> Assembler<W> {
    /// Begins a trace in `sink` with metadata as another trace has it; its totals are made of those
    /// of the traces added.
    ///
    /// # Errors
    /// When `sink` cannot be written.
    pub fn create(mut sink: W, keys: Keys) -> Result<Self, Error> {
        sink.write_all(MAGIC).map_err(Error::Flush)?;
        Ok(Self { sink, draft: Draft::new(keys, Limits::default()), begun: false })
    }

    /// Sets a key of the metadata that may be of any origin.
    pub(crate) fn set_text(&mut self, key: &str, value: String) {
        self.draft.keys.set_text(key, value);
    }

    /// Sets an entry of the metadata, replacing what it was.
    pub fn set(&mut self, entry: Entry) {
        self.draft.keys.set(entry);
    }

    /// Copies all row groups of a trace, and adds its totals.
    ///
    /// # Errors
    /// When it has columns that no trace of this version has, or others than those before it, when
    /// it is damaged or cannot be read, or when the sink cannot be written.
    pub fn copy(&mut self, reader: &Reader) -> Result<(), Error> {
        self.copy_from(reader, 0)
    }

    /// The same without the rows that only repeat what the trace before it said: the first row
    /// group of a part, where the metadata says that it has such rows.
    ///
    /// # Errors
    /// As [`Assembler::copy`].
    pub fn copy_next(&mut self, reader: &Reader) -> Result<(), Error> {
        self.copy_from(reader, reader.carried_groups())
    }

    fn copy_from(&mut self, reader: &Reader, first: usize) -> Result<(), Error> {
        let columns = reader.known_columns()?;
        if self.begun && columns.len() != self.draft.columns.len() {
            let (expected, found) = (self.draft.columns.len(), columns.len());
            let reason = format!("expected {expected} columns as before, found {found}");
            return Err(Error::damaged(reader.path(), reason));
        }
        self.draft.columns = columns;
        self.begun = true;
        for group in first..reader.group_count() {
            self.copy_group(reader, group)?;
        }
        let mut totals = reader.totals()?;
        let mut left_out = Totals::default();
        for event in reader.events_of_groups(0..first) {
            left_out.count(&event?);
        }
        totals.subtract(&left_out);
        self.draft.totals.merge(&totals);
        Ok(())
    }

    /// Writes the footer.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn finish(mut self) -> Result<Summary, Error> {
        let mut footer = Counting { sink: &mut self.sink, bytes: 0 };
        self.draft.write_footer(&[], &mut footer)?;
        let file_bytes = self.draft.base_bytes + footer.bytes;
        self.sink.flush().map_err(Error::Flush)?;
        Ok(self.draft.summary(file_bytes))
    }

    fn copy_group(&mut self, reader: &Reader, index: usize) -> Result<(), Error> {
        if self.draft.groups.len() >= MAX_GROUPS {
            return Err(Error::TooManyGroups);
        }
        let group = reader.group(index)?;
        let (start, length) = extent(group).ok_or_else(|| {
            Error::damaged(reader.path(), format!("row group {index} has no place in the file"))
        })?;
        let mut bytes = reader.bytes_from(start).take(length);
        let copied = std::io::copy(&mut bytes, &mut self.sink).map_err(Error::Flush)?;
        if copied < length {
            let reason = format!("row group {index}: expected {length} bytes, found {copied}");
            return Err(Error::damaged(reader.path(), reason));
        }
        // Both are positions in files, which are far below 2^63.
        let by_bytes = self.draft.base_bytes.cast_signed() - start.cast_signed();
        self.draft.groups.push(shifted(group, by_bytes)?);
        self.draft.base_bytes += length;
        Ok(())
    }
}

/// Where a row group lies in its file, as its columns say: start and length. Traces have the pages
/// of a group one behind the other, with no others in between.
fn extent(group: &RowGroupMetaData) -> Option<(u64, u64)> {
    let mut extent: Option<(u64, u64)> = None;
    for column in group.columns() {
        let data = column.data_page_offset();
        let start = column.dictionary_page_offset().map_or(data, |dictionary| dictionary.min(data));
        let start = u64::try_from(start).ok()?;
        let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
        let (first, last) = extent.unwrap_or((start, end));
        extent = Some((first.min(start), last.max(end)));
    }
    extent.filter(|(_, end)| *end <= i64::MAX as u64).map(|(start, end)| (start, end - start))
}
