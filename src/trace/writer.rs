//! Events to a Parquet file.
//!
//! Rows gather in the open row group with their payload kept once; the group closes when what it
//! accounts for reaches [`Limits::group_bytes`] or its first event is [`Limits::group_age_ns`] old,
//! is sorted, and goes out in batches of bounded size. [`Writer::close_row_group`] is the one
//! boundary after which everything pushed is in the file's row groups.
//!
//! Its memory is accounted here, by bytes and rows: the Parquet writer's own `memory_size` counts
//! buffers it has only reserved.

use std::io::{self, Write};

use arrow::array::RecordBatch;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::arena::{Arena, Span};
use super::chunk::{ChunkStore, cut};
use super::encode::Sheet;
use super::error::Error;
use super::metadata::{ClosingMetadata, Keys, Metadata, key_values};
use super::schema::{Column, ColumnType, arrow_schema};
use super::totals::Totals;
use super::{MAX_EVENT_BYTES, MAX_GROUP_LIST_VALUES, cells};
use crate::event::{Body, Event};
use crate::time::WallNanos;

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
    /// recorder's memory is the other bound: this much keeps the writer under 40 MiB resident
    /// whatever it is given (`docs/FORMAT.md`, "Row groups").
    fn default() -> Self {
        Self { group_bytes: 8 * 1024 * 1024, group_age_ns: 10 * 60 * 1_000_000_000 }
    }
}

/// Rows and payload that are Arrow arrays at one time while a group is closed.
const BATCH_ROWS: usize = 4096;
const BATCH_PAYLOAD_BYTES: usize = 1024 * 1024;

/// A dictionary larger than any row group: the payload column never falls back to plain encoding.
const DICTIONARY_BYTES: usize = 1 << 30;

const ZSTD_LEVEL: i32 = 3;

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
    parquet: ArrowWriter<W>,
    limits: Limits,
    metadata: Metadata,
    totals: Totals,
    payload_bytes: u64,
    next_seq: u64,
    open: OpenGroup,
    /// Scratch for one row.
    row: Vec<u8>,
}

/// The rows that are not in the file yet.
struct OpenGroup {
    rows: Vec<Row>,
    /// What [`Row::cells`] point to.
    cells: Arena,
    chunks: ChunkStore,
    /// Values of all lists in the rows.
    list_values: usize,
    first_ts: Option<WallNanos>,
}

/// Where a row is to go, and where its cells are.
struct Row {
    kind: &'static str,
    ts: WallNanos,
    seq: u64,
    /// Payload it will take in a batch.
    payload_bytes: usize,
    cells: Span,
}

impl OpenGroup {
    fn new() -> Self {
        Self {
            rows: Vec::new(),
            cells: Arena::default(),
            chunks: ChunkStore::new(),
            list_values: 0,
            first_ts: None,
        }
    }

    fn accounted_bytes(&self) -> usize {
        // The list of rows doubles when it grows.
        let rows = self.rows.len() * size_of::<Row>() * 2;
        rows + self.cells.used_bytes() + self.chunks.accounted_bytes()
    }

    /// The batch of some of its rows.
    fn encode(&self, rows: &[Row]) -> Result<RecordBatch, ParquetError> {
        let mut sheet = Sheet::new();
        for row in rows {
            sheet
                .push(self.cells.bytes(row.cells), &self.chunks)
                .map_err(|malformed| ParquetError::External(Box::new(malformed)))?;
        }
        Ok(sheet.finish()?)
    }
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
        let options = ArrowWriterOptions::new()
            .with_properties(properties()?)
            .with_schema_root("agentsight_trace".to_owned());
        let parquet = ArrowWriter::try_new_with_options(sink, arrow_schema(), options)?;
        Ok(Self {
            parquet,
            limits,
            metadata,
            totals: Totals::default(),
            payload_bytes: 0,
            next_seq: 0,
            open: OpenGroup::new(),
            row: Vec::new(),
        })
    }

    /// Takes in one event, and closes the row group if that makes it full.
    ///
    /// # Errors
    /// When the sink cannot be written; the trace is then unusable beyond its last closed group.
    pub fn push(&mut self, mut event: Event) -> Result<(), Error> {
        bound_payload(&mut event);
        self.totals.count(&event);
        let seq = self.next_seq;
        self.next_seq += 1;
        self.keep(&event, seq).map_err(Error::Memory)?;
        let first = *self.open.first_ts.get_or_insert(event.ts);
        let age_ns = event.ts.0.saturating_sub(first.0);
        let full = self.open.accounted_bytes() >= self.limits.group_bytes
            || self.open.list_values >= MAX_GROUP_LIST_VALUES / 2;
        if full || age_ns >= self.limits.group_age_ns {
            self.close_row_group()?;
        }
        Ok(())
    }

    /// Adds a row to the open group.
    fn keep(&mut self, event: &Event, seq: u64) -> io::Result<()> {
        let data = match &event.body {
            Body::TlsData(tls) => tls.data.as_slice(),
            _ => &[],
        };
        let chunks = &mut self.open.chunks;
        let payload: Vec<_> =
            cut(data).map(|chunk| chunks.intern(chunk)).collect::<Result<_, _>>()?;
        self.payload_bytes += data.len() as u64;
        self.row.clear();
        cells::write(event, seq, &payload, &mut self.row);
        let cells = self.open.cells.keep(&self.row)?;
        self.open.list_values += match &event.body {
            Body::ProcessSeen(image) | Body::ProcessExec(image) => image.argv.len(),
            Body::TlsData(tls) => payload.len().max(tls.call_ts.len()),
            _ => 0,
        };
        let (kind, ts, payload_bytes) = (event.body.kind(), event.ts, data.len());
        self.open.rows.push(Row { kind, ts, seq, payload_bytes, cells });
        Ok(())
    }

    /// Rows that are not in a closed row group yet.
    #[must_use]
    pub fn open_rows(&self) -> usize {
        self.open.rows.len()
    }

    /// Writes the open rows as one row group and forgets them. Nothing happens if there are none.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn close_row_group(&mut self) -> Result<(), Error> {
        let mut group = std::mem::replace(&mut self.open, OpenGroup::new());
        let mut rows = std::mem::take(&mut group.rows);
        rows.sort_unstable_by_key(|row| (row.kind, row.ts, row.seq));
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_length(rest));
            self.parquet.write(&group.encode(batch)?)?;
            rest = later;
        }
        // The dictionary of the Parquet writer holds the payload by now; compressing it needs the
        // memory that these give back.
        drop((rows, group));
        self.parquet.flush()?;
        Ok(())
    }

    /// Writes what is open and the footer.
    ///
    /// # Errors
    /// When the sink cannot be written; the file is then not a valid trace.
    pub fn finish(mut self, closing: ClosingMetadata) -> Result<Summary, Error> {
        self.close_row_group()?;
        let mut keys = Keys::new(&self.metadata);
        closing.entries(&self.metadata).into_iter().for_each(|entry| keys.set(entry));
        for key_value in key_values(&keys, &self.totals) {
            self.parquet.append_key_value_metadata(key_value);
        }
        let footer = self.parquet.finish()?;
        self.parquet.inner_mut().flush().map_err(Error::Flush)?;
        Ok(Summary {
            rows: self.next_seq,
            row_groups: footer.num_row_groups(),
            file_bytes: self.parquet.bytes_written() as u64,
            payload_bytes: self.payload_bytes,
            totals: self.totals,
        })
    }
}

/// Cuts a payload that no reader would accept down to the size that readers do, and says so in
/// `lost_bytes`. No TLS library moves that much in one call; a joined event stays far below it.
fn bound_payload(event: &mut Event) {
    if let Body::TlsData(tls) = &mut event.body
        && tls.data.len() > MAX_EVENT_BYTES
    {
        tls.lost_bytes += (tls.data.len() - MAX_EVENT_BYTES) as u64;
        tls.data.truncate(MAX_EVENT_BYTES);
    }
}

/// How many of `rows` go into the next batch; at least one.
fn batch_length(rows: &[Row]) -> usize {
    let mut payload_bytes = 0;
    let fits = |row: &&Row| {
        payload_bytes += row.payload_bytes;
        payload_bytes <= BATCH_PAYLOAD_BYTES
    };
    rows.iter().take(BATCH_ROWS).take_while(fits).count().max(1)
}

/// How each column is encoded.
fn properties() -> Result<WriterProperties, Error> {
    let ascending = |column: Column| SortingColumn {
        column_idx: column as i32,
        descending: false,
        nulls_first: false,
    };
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        // The writer closes groups itself, by its own accounting.
        .set_max_row_group_row_count(None)
        // Page-level statistics and indexes cost 8-20 % of a file of small values and made no
        // query faster: within a sorted group the chunk statistics already prune.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_sorting_columns(Some(vec![
            ascending(Column::Kind),
            ascending(Column::Ts),
            ascending(Column::Seq),
        ]));
    for column in Column::ALL {
        let path = ColumnPath::new(column.parquet_path());
        properties = match column.description().column_type {
            ColumnType::BinaryList => properties
                .set_column_dictionary_page_size_limit(path.clone(), DICTIONARY_BYTES)
                .set_column_statistics_enabled(path, EnabledStatistics::None),
            ColumnType::Utf8List => {
                properties.set_column_statistics_enabled(path, EnabledStatistics::None)
            }
            // Distinct in nearly every row: a dictionary would only be in the way.
            ColumnType::Timestamp if *column == Column::Ts => {
                properties.set_column_dictionary_enabled(path, false)
            }
            // Delta encoding is for `seq` alone, although with times and offsets it would make a file
            // of small events 20 % smaller: fastparquet decodes differences of more than 28 bits
            // wrongly, and reads beyond the end of a page without values.
            ColumnType::Int64 if *column == Column::Seq => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            _ => properties,
        };
    }
    Ok(properties.build())
}
