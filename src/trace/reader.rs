//! A trace file, opened: its metadata, and the ways to read its rows.
//!
//! Opening checks that the file is a trace this program understands, and reads nothing but the
//! footer. Files are hostile: what does not fit is a typed error, and the Parquet library, which
//! was not written for hostile files, is called behind [`guarded`].

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::column::page::PageReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::statistics::Statistics;

use super::decode::{TypeMismatch, reading_schema};
use super::derived::Origin;
use super::error::Error;
use super::events::Events;
use super::footer::{MAGIC, MAX_FOOTER_BYTES, TRAILER_BYTES};
use super::metadata::{FORMAT_VERSION_KEY, KEY_PREFIX, MIN_READER_VERSION_KEY, STOP_REASON_KEY};
use super::recover::{self, Completeness, RECOVERED_KEY, Recovery};
use super::scan::Scan;
use super::schema::{Column, READER_VERSION};
use super::source::{Source, SourceRead};
use super::totals::Totals;
use super::{MAX_GROUP_LIST_VALUES, levels, pages, thrift};
use crate::time::WallNanos;

/// Most rows that one row group may claim; a recorder closes it long before. Bounds what is kept
/// per row while a group is read.
const MAX_GROUP_ROWS: i64 = 1 << 24;

/// Columns without which no row can be placed.
const INDISPENSABLE: [Column; 3] = [Column::Ts, Column::Seq, Column::Kind];

/// An open trace.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// What was passed over while reading, because it is no event that this program knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Rows of kinds that a newer recorder writes, by kind.
    pub unknown_kinds: BTreeMap<String, u64>,
    /// Rows whose values contradict the format.
    pub damaged_rows: u64,
    /// What was wrong with the first damaged row.
    pub first_damage: Option<String>,
}

impl Skipped {
    /// Distinct unknown kinds that are told apart; more are counted under the last.
    const MOST_KINDS: usize = 64;

    pub(crate) fn count_unknown(&mut self, kind: &str, rows: u64) {
        const LONGEST_CHARS: usize = 64;
        let kind: String = kind.chars().take(LONGEST_CHARS).collect();
        let known = self.unknown_kinds.contains_key(&kind);
        let key = if known || self.unknown_kinds.len() < Self::MOST_KINDS {
            kind
        } else {
            "...".to_owned()
        };
        *self.unknown_kinds.entry(key).or_default() += rows;
    }

    pub(crate) fn count_damaged(&mut self, damage: &impl ToString) {
        self.damaged_rows += 1;
        self.first_damage.get_or_insert_with(|| damage.to_string());
    }
}

impl Reader {
    /// Opens a trace and reads its footer; of a recording that was not finished or still runs, also
    /// the log beside it ([`Reader::completeness`]).
    ///
    /// # Errors
    /// When the file cannot be read, is not Parquet, not a trace, cut short without a log, damaged,
    /// or asks for a newer reader.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (source, recovery) = recover::open(path)?;
        Self::from_source(path, source, recovery)
    }

    /// Opens the trace that `source` is, `path` being the name it goes by.
    pub(crate) fn from_source(
        path: &Path,
        source: Source,
        recovery: Option<Recovery>,
    ) -> Result<Self, Error> {
        check_magic(path, &source)?;
        // Types come from Parquet alone: the Arrow schema that a file may embed could ask for any.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        check_footer(path, &source)?;
        let stored = guarded(path, || ArrowReaderMetadata::load(&source, options.clone()))?;
        let keys = keys(&stored);
        check_version(path, &keys)?;
        let schema = reading_schema(stored.schema()).map_err(|mismatch| {
            let TypeMismatch { column, found } = mismatch;
            Error::ColumnType {
                path: path.to_owned(),
                column: column.name().to_owned(),
                expected: column.description().column_type.arrow().to_string(),
                found: found.to_string(),
            }
        })?;
        for column in INDISPENSABLE {
            if schema.field_with_name(column.name()).is_err() {
                return Err(Error::ColumnMissing { path: path.to_owned(), column: column.name() });
            }
        }
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let viewed =
            guarded(path, || ArrowReaderMetadata::try_new(Arc::clone(stored.metadata()), options))?;
        let skipped = Mutex::default();
        let completeness = match recovery {
            Some(recovery) => Completeness::Unfinished(recovery),
            None if keys.contains_key(RECOVERED_KEY) => Completeness::Repaired,
            None if keys.contains_key(STOP_REASON_KEY) => Completeness::Complete,
            None => Completeness::Unfinished(Recovery::default()),
        };
        let path = path.to_owned();
        let shared = Shared { path, source, stored, viewed, keys, completeness, skipped };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether this is all that was recorded.
    #[must_use]
    pub fn completeness(&self) -> &Completeness {
        &self.shared.completeness
    }

    /// What the rows add up to, as the metadata says.
    ///
    /// # Errors
    /// When that is not what it should be.
    pub fn totals(&self) -> Result<Totals, Error> {
        let keys = self.shared.keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Totals::parse(keys).map_err(|error| Error::damaged(&self.shared.path, error))
    }

    /// The name it goes by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The rows for a query engine that reads Parquet by itself.
    ///
    /// # Errors
    /// When the footer makes claims that no recorder makes.
    pub fn scan(&self) -> Result<Scan, Error> {
        Scan::new(Arc::clone(&self.shared))
    }

    /// Row groups of the file.
    pub(crate) fn group_count(&self) -> usize {
        self.shared.group_count()
    }

    /// The footer's entry of a row group, its claims checked.
    pub(crate) fn group(&self, index: usize) -> Result<&RowGroupMetaData, Error> {
        self.shared.group(index)
    }

    /// The bytes of the file from a position on.
    pub(crate) fn bytes_from(&self, start: u64) -> SourceRead {
        self.shared.source.read_from(start)
    }

    /// The columns of the file, if those are the first of [`Column::ALL`].
    pub(crate) fn known_columns(&self) -> Result<&'static [Column], Error> {
        let fields = self.shared.stored.schema().fields();
        let columns = Column::ALL.get(..fields.len()).filter(|columns| {
            columns.iter().zip(fields).all(|(column, field)| column.name() == field.name())
        });
        let unknown = || Error::damaged(&self.shared.path, "it has columns of another version");
        columns.ok_or_else(unknown)
    }

    /// The `agentsight.*` keys of the file.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.shared.keys
    }

    /// Rows in the file, as its footer says.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        let rows = self.shared.stored.metadata().file_metadata().num_rows();
        u64::try_from(rows).unwrap_or(0)
    }

    /// The times of the first and the last event, as the footer says; absent without rows, or where
    /// the footer does not say.
    #[must_use]
    pub fn time_range(&self) -> Option<RangeInclusive<WallNanos>> {
        let groups = self.shared.stored.metadata().row_groups().iter();
        let ranges: Option<Vec<(i64, i64)>> = groups
            .map(|group| {
                let mut columns = group.columns().iter();
                let ts = columns.find(|c| c.column_path().string() == Column::Ts.name())?;
                match ts.statistics()? {
                    Statistics::Int64(range) => Some((*range.min_opt()?, *range.max_opt()?)),
                    _ => None,
                }
            })
            .collect();
        let ranges = ranges?;
        let first = ranges.iter().map(|(first, _)| *first).min()?;
        let last = ranges.iter().map(|(_, last)| *last).max()?;
        Some(WallNanos(first)..=WallNanos(last))
    }

    /// Where the file comes from: recording, part, and whether it begins in the middle of it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::of(&self.shared.keys)
    }

    /// Columns of the file that this program does not know.
    #[must_use]
    pub fn unknown_columns(&self) -> Vec<&str> {
        let fields = self.shared.stored.schema().fields().iter();
        let known = |name: &str| Column::ALL.iter().any(|column| column.name() == name);
        fields.map(|field| field.name().as_str()).filter(|name| !known(name)).collect()
    }

    /// What all readings of this reader have passed over so far.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        self.shared.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The events of these kinds, or all: row group by row group; within a group by time, payload of
    /// one stream by offset. Ends after the first error.
    #[must_use]
    pub fn events(&self, kinds: Option<&[&str]>) -> Events {
        Events::new(Arc::clone(&self.shared), kinds, 0..usize::MAX)
    }

    /// All events of some of the row groups, counted from 0.
    pub(crate) fn events_of_groups(&self, groups: Range<usize>) -> Events {
        Events::new(Arc::clone(&self.shared), None, groups)
    }

    /// As [`Reader::events`], without the first `groups` row groups.
    #[must_use]
    pub fn events_after(&self, groups: usize, kinds: Option<&[&str]>) -> Events {
        Events::new(Arc::clone(&self.shared), kinds, groups..usize::MAX)
    }

    /// How many row groups at the begin of a part only repeat what the part before it said.
    #[must_use]
    pub fn carried_groups(&self) -> usize {
        usize::from(self.origin().carried_rows > 0 && self.group_count() > 0)
    }

    /// The rows as they are stored, with only these columns (those that the file has), in the order
    /// of the file.
    ///
    /// # Errors
    /// When the file cannot be read that way.
    pub fn batches(&self, columns: &[&str]) -> Result<Batches, Error> {
        let shared = Arc::clone(&self.shared);
        let groups: Vec<_> = (0..shared.group_count()).collect();
        groups.iter().try_for_each(|group| shared.group(*group).map(drop))?;
        let builder = shared.builder(&shared.stored, groups, |name| columns.contains(&name))?;
        let reader = guarded(&shared.path, || builder.with_batch_size(BATCH_ROWS).build())?;
        Ok(Batches { shared, reader: Some(reader) })
    }
}

/// Rows of the batches that [`Reader::batches`] returns.
const BATCH_ROWS: usize = 1024;

/// Record batches of a trace; see [`Reader::batches`].
pub struct Batches {
    shared: Arc<Shared>,
    /// Absent after the end or an error.
    reader: Option<ParquetRecordBatchReader>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = self.reader.take()?;
        let batch = next_batch(&self.shared.path, &mut reader).transpose()?;
        self.reader = batch.is_ok().then_some(reader);
        Some(batch)
    }
}

/// What readings of one file share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    source: Source,
    /// The footer, with the types that the file has.
    stored: ArrowReaderMetadata,
    /// The footer, with the types that [`super::decode`] reads.
    viewed: ArrowReaderMetadata,
    keys: BTreeMap<String, String>,
    completeness: Completeness,
    pub(crate) skipped: Mutex<Skipped>,
}

type Builder = ParquetRecordBatchReaderBuilder<Source>;

impl Shared {
    pub(crate) fn group_count(&self) -> usize {
        self.viewed.metadata().num_row_groups()
    }

    pub(super) fn footer(&self) -> &Arc<ParquetMetaData> {
        self.viewed.metadata()
    }

    pub(super) fn reading_schema(&self) -> &SchemaRef {
        self.viewed.schema()
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The footer's entry of a row group, its claims and those of its pages checked.
    pub(crate) fn group(&self, index: usize) -> Result<&RowGroupMetaData, Error> {
        let group = self.group_claims(index)?;
        guarded(&self.path, || pages::check_group(&self.source, index, group))?;
        Ok(group)
    }

    /// The footer's entry of a row group, what it says itself checked.
    pub(super) fn group_claims(&self, index: usize) -> Result<&RowGroupMetaData, Error> {
        let group = self.viewed.metadata().row_group(index);
        if !(0..=MAX_GROUP_ROWS).contains(&group.num_rows()) {
            let reason = format!(
                "row group {index}: expected at most {MAX_GROUP_ROWS} rows, found {}",
                group.num_rows()
            );
            return Err(Error::damaged(&self.path, reason));
        }
        Ok(group)
    }

    /// Whether the statistics of a row group allow that it has rows of `kind`: its range of kinds,
    /// and that the column which every row of the kind sets is not null in all rows.
    pub(crate) fn may_hold(&self, group: &RowGroupMetaData, kind: &str) -> bool {
        let statistics = |column: Column| {
            let mut columns = group.columns().iter();
            let found = columns.find(|c| c.column_path().string() == column.name());
            found.and_then(|column| column.statistics())
        };
        let is_in_range = match statistics(Column::Kind) {
            Some(Statistics::ByteArray(range)) => {
                range.min_bytes_opt().is_none_or(|min| min <= kind.as_bytes())
                    && range.max_bytes_opt().is_none_or(|max| max >= kind.as_bytes())
            }
            _ => true,
        };
        let nulls = telling_column(kind).and_then(statistics).and_then(Statistics::null_count_opt);
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        is_in_range && nulls.is_none_or(|nulls| nulls < rows)
    }

    /// A cursor over some columns of a row group, as views.
    pub(crate) fn cursor(
        &self,
        group: usize,
        wanted: impl Fn(Column) -> bool,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader, Error> {
        let is_wanted =
            |name: &str| Column::ALL.iter().any(|column| column.name() == name && wanted(*column));
        for column in Column::ALL.iter().filter(|column| wanted(**column)) {
            if column.description().column_type.is_list() {
                self.check_list(group, *column)?;
            }
        }
        let builder = self.builder(&self.viewed, vec![group], is_wanted)?;
        guarded(&self.path, || builder.with_batch_size(batch_rows).build())
    }

    /// Counts the values of a list column by its page headers alone.
    pub(super) fn check_list(&self, group: usize, column: Column) -> Result<(), Error> {
        let Some(chunk) = self.list_chunk(group, column) else { return Ok(()) };
        let values = guarded(&self.path, || -> Result<usize, ParquetError> {
            let mut pages = self.pages(group, chunk)?;
            let mut values = 0_usize;
            while let Some(page) = pages.peek_next_page()? {
                values = values.saturating_add(page.num_levels.unwrap_or(0));
                pages.skip_next_page()?;
            }
            Ok(values)
        })?;
        if values > MAX_GROUP_LIST_VALUES {
            let name = column.name();
            let reason = format!(
                "column '{name}' of row group {group}: expected at most {MAX_GROUP_LIST_VALUES} values, found {values}"
            );
            return Err(Error::damaged(&self.path, reason));
        }
        Ok(())
    }

    /// Checks that the pages of a list column have as many repetition levels as they say.
    pub(super) fn check_levels(&self, group: usize, column: Column) -> Result<(), Error> {
        let Some(chunk) = self.list_chunk(group, column) else { return Ok(()) };
        let fault = guarded(&self.path, || -> Result<Option<String>, ParquetError> {
            let mut pages = self.pages(group, chunk)?;
            while let Some(page) = pages.get_next_page()? {
                if let Some(fault) = levels::fault(&page) {
                    return Ok(Some(fault));
                }
            }
            Ok(None)
        })?;
        fault.map_or(Ok(()), |fault| {
            let name = column.name();
            let reason = format!("column '{name}' of row group {group}: {fault}");
            Err(Error::damaged(&self.path, reason))
        })
    }

    fn list_chunk(&self, group: usize, column: Column) -> Option<&ColumnChunkMetaData> {
        let path = column.parquet_path().join(".");
        let footer = self.viewed.metadata().row_group(group);
        footer.columns().iter().find(|chunk| chunk.column_path().string() == path)
    }

    fn pages(
        &self,
        group: usize,
        chunk: &ColumnChunkMetaData,
    ) -> Result<SerializedPageReader<Source>, ParquetError> {
        let rows = self.viewed.metadata().row_group(group).num_rows();
        let rows = usize::try_from(rows).unwrap_or(0);
        SerializedPageReader::new(Arc::new(self.source.clone()), chunk, rows, None)
    }

    fn builder(
        &self,
        footer: &ArrowReaderMetadata,
        groups: Vec<usize>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Builder, Error> {
        guarded(&self.path, || {
            let fields = footer.schema().fields().iter().enumerate();
            let roots = fields.filter(|(_, field)| wanted(field.name())).map(|(index, _)| index);
            let mask = ProjectionMask::roots(footer.parquet_schema(), roots);
            let builder = Builder::new_with_metadata(self.source.clone(), footer.clone());
            Ok::<_, Error>(builder.with_row_groups(groups).with_projection(mask))
        })
    }
}

/// A column that every row of a kind sets and few other kinds do, where there is one with
/// statistics: a row group in which it is null throughout has no row of the kind.
fn telling_column(kind: &str) -> Option<Column> {
    Some(match kind {
        "process_seen" | "process_exec" => Column::Matched,
        "process_fork" => Column::Uid,
        "process_exit" => Column::PeakRssBytes,
        "tls_data" | "socket_data" | "stdio_data" | "tls_hello" | "dns_data" => {
            Column::StreamOffset
        }
        "tls_close" | "channel_close" => Column::ConnId,
        "channel_open" => Column::ChannelType,
        "tls_socket" => Column::SocketConnId,
        "file_op" => Column::Operation,
        "file_access" => Column::OpenCount,
        "sample" | "recorder_sample" => Column::RssBytes,
        "loss" => Column::LostEvents,
        "probe" => Column::ProbeState,
        _ => return None,
    })
}

/// Calls into the Parquet library, making an error of a panic: a file that is made to harm may break
/// an assumption the library asserts. Nothing that the call may have left half-changed is used after
/// it. The panic still prints its message on stderr.
pub(crate) fn guarded<T, E: std::fmt::Display>(
    path: &Path,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| Error::damaged(path, error)),
        Err(_) => Err(Error::damaged(path, "its contents contradict each other")),
    }
}

/// The next batch of a cursor; `None` at its end.
pub(crate) fn next_batch(
    path: &Path,
    reader: &mut ParquetRecordBatchReader,
) -> Result<Option<RecordBatch>, Error> {
    guarded(path, || reader.next().transpose())
}

/// Tells files that are not Parquet, or only the beginning of one, from damaged ones.
fn check_magic(path: &Path, source: &Source) -> Result<(), Error> {
    let open_error = |source| Error::Open { path: path.to_owned(), source };
    let mut head = [0; MAGIC.len()];
    let length = source.read_at(0, &mut head).map_err(open_error)?;
    let head = &head[..length];
    if head != MAGIC {
        let found = match head {
            [] => "nothing".to_owned(),
            head => format!("'{}'", head.escape_ascii()),
        };
        return Err(Error::NotParquet { path: path.to_owned(), found });
    }
    let bytes = source.len();
    let mut tail = [0; MAGIC.len()];
    let tail_start = bytes.saturating_sub(MAGIC.len() as u64);
    source.read_at(tail_start, &mut tail).map_err(open_error)?;
    // The two magics of a file may not be the same four bytes, and the footer has a length.
    if tail != *MAGIC || bytes < 12 {
        return Err(Error::Truncated { path: path.to_owned(), bytes });
    }
    Ok(())
}

/// Refuses a footer that would cost the Parquet library more than its length.
fn check_footer(path: &Path, source: &Source) -> Result<(), Error> {
    guarded(path, || {
        let trailer_start = source.len() - TRAILER_BYTES;
        let trailer = source.get_bytes(trailer_start, TRAILER_BYTES as usize)?;
        let length = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
        let start = trailer_start.checked_sub(u64::from(length));
        let start = start.filter(|_| u64::from(length) <= MAX_FOOTER_BYTES).ok_or_else(|| {
            ParquetError::General(format!("expected a footer, found {length} bytes"))
        })?;
        let footer = source.get_bytes(start, length as usize)?;
        thrift::check_struct(&footer).map_err(|error| ParquetError::External(Box::new(error)))
    })
}

fn keys(footer: &ArrowReaderMetadata) -> BTreeMap<String, String> {
    let stored = footer.metadata().file_metadata().key_value_metadata();
    let own = stored.into_iter().flatten().filter(|pair| pair.key.starts_with(KEY_PREFIX));
    own.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect()
}

fn check_version(path: &Path, keys: &BTreeMap<String, String>) -> Result<(), Error> {
    let number = |key: &str| -> Result<u32, Error> {
        let Some(value) = keys.get(key) else {
            let missing = format!("its metadata has no key '{key}'");
            return Err(Error::NotATrace { path: path.to_owned(), missing });
        };
        value.parse().map_err(|_| {
            let reason = format!("metadata key '{key}': expected a number, found {value:?}");
            Error::damaged(path, reason)
        })
    };
    number(FORMAT_VERSION_KEY)?;
    let needs = number(MIN_READER_VERSION_KEY)?;
    if needs > READER_VERSION {
        return Err(Error::Newer { path: path.to_owned(), needs });
    }
    Ok(())
}
