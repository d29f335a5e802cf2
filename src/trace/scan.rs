//! The rows of a trace for a query engine that reads Parquet by itself: footer, types and bytes.
//!
//! The engine is no more careful with hostile files than the Parquet library is, so the checks of
//! this project's own readings come before the bytes: row groups of believable size, lists that do
//! not unfold without bound, and repetition levels that are all there.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::{ChunkReader, Length};

use super::decode::known_columns;
use super::error::Error;
use super::reader::{Shared, guarded};
use super::schema::Column;

/// A trace as a query engine reads it.
#[derive(Debug)]
pub struct Scan {
    shared: Arc<Shared>,
    checked: Mutex<Checked>,
}

/// What was found to be in order.
#[derive(Debug, Default)]
struct Checked {
    groups: HashSet<usize>,
    /// Column chunks of lists: their row groups and where they begin in the file.
    lists: HashSet<(usize, u64)>,
}

impl Scan {
    /// Checks the footer's claims; no page is looked at.
    ///
    /// # Errors
    /// When a row group claims more rows than any recorder writes.
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, Error> {
        for group in 0..shared.group_count() {
            shared.group_claims(group)?;
        }
        Ok(Self { shared, checked: Mutex::default() })
    }

    /// The footer.
    #[must_use]
    pub fn footer(&self) -> &Arc<ParquetMetaData> {
        self.shared.footer()
    }

    /// All columns of the file, in its order, with the types to read them as: those that this
    /// program knows as in [`Scan::known_columns`].
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        self.shared.reading_schema()
    }

    /// The columns that this program knows, whatever a file has of them. Text and bytes are views:
    /// a few bytes of a file can repeat a value any number of times.
    #[must_use]
    pub fn known_columns() -> SchemaRef {
        Arc::new(known_columns())
    }

    /// Length of the file, bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.shared.source().len()
    }

    /// Bytes of the file. The row group they are of has been checked before, and the lists.
    ///
    /// # Errors
    /// When they cannot be read, reach beyond the end, or are of pages that break their promises.
    pub fn bytes(&self, range: Range<u64>) -> Result<Bytes, Error> {
        self.check(&range)?;
        let length = range.end.saturating_sub(range.start);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        guarded(&self.shared.path, || self.shared.source().get_bytes(range.start, length))
    }

    /// Checks the column chunks that a range touches, each once.
    fn check(&self, range: &Range<u64>) -> Result<(), Error> {
        for (index, group) in self.footer().row_groups().iter().enumerate() {
            for chunk in group.columns() {
                // It asserts that neither is negative.
                let place = || Ok::<_, Error>(chunk.byte_range());
                let (start, length) = guarded(&self.shared.path, place)?;
                if range.start < start.saturating_add(length) && start < range.end {
                    self.check_chunk(index, start, chunk)?;
                }
            }
        }
        Ok(())
    }

    fn check_chunk(
        &self,
        group: usize,
        start: u64,
        chunk: &ColumnChunkMetaData,
    ) -> Result<(), Error> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let Checked { groups, lists } = &mut *checked;
        if !groups.contains(&group) {
            self.shared.group(group)?;
            groups.insert(group);
        }
        let [name, _, _] = chunk.column_path().parts() else { return Ok(()) };
        let known = Column::ALL.iter().find(|column| column.name() == name);
        if let Some(column) = known.filter(|_| !lists.contains(&(group, start))) {
            self.shared.check_list(group, *column)?;
            self.shared.check_levels(group, *column)?;
            lists.insert((group, start));
        }
        Ok(())
    }
}
