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
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;

use super::decode::known_columns;
use super::error::Error;
use super::reader::{Shared, guarded};
use super::schema::Column;
use crate::time::WallNanos;

/// A trace as a query engine reads it.
#[derive(Debug)]
pub struct Scan {
    shared: Arc<Shared>,
    /// Where the column chunks of lists begin that were found to be in order.
    checked: Mutex<HashSet<u64>>,
}

impl Scan {
    /// Checks the footer's claims.
    ///
    /// # Errors
    /// When a row group claims more rows than any recorder writes.
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, Error> {
        for group in 0..shared.group_count() {
            shared.group(group)?;
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

    /// Times of the first and the last event, as the statistics of the row groups say.
    #[must_use]
    pub fn ts_range(&self) -> Option<(WallNanos, WallNanos)> {
        let range = |group: &RowGroupMetaData| {
            let mut columns = group.columns().iter();
            let ts = columns.find(|it| it.column_path().string() == Column::Ts.name())?;
            match ts.statistics()? {
                Statistics::Int64(ts) => Some((*ts.min_opt()?, *ts.max_opt()?)),
                _ => None,
            }
        };
        let ranges = self.footer().row_groups().iter().filter_map(range);
        let both = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        both.map(|(first, last)| (WallNanos(first), WallNanos(last)))
    }

    /// Length of the file, bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.shared.source().len()
    }

    /// Bytes of the file. Whatever list they are of has been checked before.
    ///
    /// # Errors
    /// When they cannot be read, reach beyond the end, or hold a list that breaks its promises.
    pub fn bytes(&self, range: Range<u64>) -> Result<Bytes, Error> {
        self.check_lists(&range)?;
        let length = range.end.saturating_sub(range.start);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        guarded(&self.shared.path, || self.shared.source().get_bytes(range.start, length))
    }

    /// Checks the lists whose column chunks a range touches, each once.
    fn check_lists(&self, range: &Range<u64>) -> Result<(), Error> {
        for (index, group) in self.footer().row_groups().iter().enumerate() {
            for chunk in group.columns() {
                let path = chunk.column_path();
                let [name, _, _] = path.parts() else { continue };
                let (start, length) = guarded(&self.shared.path, || {
                    // It asserts that neither is negative.
                    Ok::<_, Error>(chunk.byte_range())
                })?;
                if range.start >= start.saturating_add(length) || range.end <= start {
                    continue;
                }
                let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
                if checked.contains(&start) {
                    continue;
                }
                if let Some(column) = Column::ALL.iter().find(|column| column.name() == name) {
                    self.shared.check_list(index, *column)?;
                    self.shared.check_levels(index, *column)?;
                }
                checked.insert(start);
            }
        }
        Ok(())
    }
}
