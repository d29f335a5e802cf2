//! The open row group: rows that are not in the file yet, and how they become a row group of it.
//!
//! Rows gather as cells with their payload kept once. Its memory is accounted here, by bytes and
//! rows: the Parquet writer's own `memory_size` counts buffers it has only reserved.

use std::io::{self, Write};
use std::ops::Range;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;

use super::MAX_EVENT_BYTES;
use super::arena::{Arena, Span};
use super::cells::{self, RowReader};
use super::chunk::{ChunkId, ChunkStore, MAX_CHUNK_BYTES};
use super::encode::Sheet;
use super::error::Error;
use super::footer::{MAGIC, PayloadStorage, properties, shifted};
use super::schema::{Column, ColumnType, KINDS, arrow_schema_of};
use crate::event::{Body, Event};
use crate::time::WallNanos;

/// Rows and payload that are Arrow arrays at one time while a group is closed.
const BATCH_ROWS: usize = 4096;
const BATCH_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Payload of which fewer chunks than one in this many occur again is stored as it comes: building a
/// dictionary would take a fifth of the time of closing a group and save less than this.
const REPEATING_ONE_IN: usize = 100;

/// The rows that are not in the file yet.
pub(crate) struct OpenGroup {
    rows: Vec<Row>,
    /// What [`Row::cells`] point to.
    cells: Arena,
    chunks: ChunkStore,
    /// Values of all lists in the rows.
    list_values: usize,
    /// Chunks that the rows are made of, each as often as it occurs.
    chunk_uses: usize,
    first_ts: Option<WallNanos>,
    last_ts: Option<WallNanos>,
    /// Scratch for one row.
    row: Vec<u8>,
}

/// Where a row is to go, and where its cells are. There are many, and what they take is taken from
/// the payload that the group can hold.
struct Row {
    ts: WallNanos,
    /// Payload it will take in a batch, at most [`MAX_EVENT_BYTES`].
    payload_bytes: u32,
    /// Distinct chunks that there were once it was added: it refers to none after them.
    chunks: u32,
    cells: Span,
    /// Position in [`KINDS`].
    kind: u8,
}

impl Row {
    fn kind(&self) -> &'static str {
        KINDS[usize::from(self.kind)].name
    }
}

/// A row as it lies in the open group, for the log.
pub(crate) struct OpenRow<'group> {
    pub(crate) kind: &'static str,
    pub(crate) cells: &'group [u8],
    pub(crate) payload_bytes: usize,
    /// Chunks that have to stand before it.
    pub(crate) chunks: usize,
}

impl OpenGroup {
    pub(crate) fn new() -> Self {
        Self {
            rows: Vec::new(),
            cells: Arena::default(),
            chunks: ChunkStore::new(),
            list_values: 0,
            chunk_uses: 0,
            first_ts: None,
            last_ts: None,
            row: Vec::new(),
        }
    }

    /// Adds the row of an event.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub(crate) fn keep(&mut self, event: &Event, seq: u64) -> io::Result<()> {
        let data = match &event.body {
            Body::Data(tls) => tls.data.as_slice(),
            _ => &[],
        };
        let payload = self.chunks.intern_all(data)?;
        self.row.clear();
        cells::write(event, seq, &payload, &mut self.row);
        let list_values = match &event.body {
            Body::ProcessSeen(image) | Body::ProcessExec(image) => image.argv.len(),
            Body::Data(tls) => payload.len().max(tls.call_ts.len()),
            _ => 0,
        };
        let row = std::mem::take(&mut self.row);
        let kept = self.cells.keep(&row);
        self.row = row;
        self.list_values += list_values;
        self.chunk_uses += payload.len();
        self.place(event.body.kind(), event.ts, data.len(), kept?);
        Ok(())
    }

    /// Adds a row that was kept before, as its cells with chunk ids of this group, and says its
    /// sequence number; `None` if that is not what the cells are.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub(crate) fn restore(&mut self, cells: &[u8]) -> io::Result<Option<u64>> {
        let Some(found) = self.examine(cells) else { return Ok(None) };
        let span = self.cells.keep(cells)?;
        self.list_values += found.list_values;
        self.chunk_uses += found.chunk_uses;
        self.place(found.kind, found.ts, found.payload_bytes, span);
        Ok(Some(found.seq))
    }

    /// Adds a chunk that was kept before. Chunks take ids in the order in which they are added;
    /// `false` if one of these bytes is there already or it is larger than any, which a log never
    /// holds.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub(crate) fn restore_chunk(&mut self, chunk: &[u8]) -> io::Result<bool> {
        if chunk.len() > MAX_CHUNK_BYTES {
            return Ok(false);
        }
        let before = self.chunks.len();
        self.chunks.intern(chunk)?;
        Ok(self.chunks.len() > before)
    }

    fn place(&mut self, kind: &'static str, ts: WallNanos, payload_bytes: usize, cells: Span) {
        self.first_ts.get_or_insert(ts);
        self.last_ts = Some(ts);
        let position = KINDS.iter().position(|known| known.name == kind);
        // A test holds that every kind of event is among them.
        let kind = position.expect("every event has a kind of the format") as u8;
        let (payload_bytes, chunks) = (payload_bytes as u32, self.chunks.len() as u32);
        self.rows.push(Row { ts, payload_bytes, chunks, cells, kind });
    }

    /// What has to be known of a row besides its cells.
    fn examine(&self, cells: &[u8]) -> Option<Examined> {
        let mut reader = RowReader::new(cells);
        let (mut ts, mut seq, mut kind) = (None, None, None);
        let (mut payload_bytes, mut list_values, mut chunk_uses) = (0_usize, 0_usize, 0_usize);
        while let Some(column) = reader.column().ok()? {
            match (column, column.description().column_type) {
                (Column::Ts, _) => ts = Some(WallNanos(reader.integer().ok()?)),
                (Column::Seq, _) => seq = u64::try_from(reader.integer().ok()?).ok(),
                (Column::Kind, _) => {
                    let name = reader.text().ok()?;
                    kind = KINDS.iter().find(|known| known.name == name);
                }
                (_, ColumnType::BinaryList) => {
                    let count = reader.list_length().ok()?;
                    for _ in 0..count {
                        let chunk = self.chunks.get(reader.chunk_id().ok()?)?;
                        payload_bytes = payload_bytes.checked_add(chunk.len())?;
                    }
                    chunk_uses = usize::try_from(count).ok()?;
                    list_values = list_values.checked_add(chunk_uses)?;
                }
                (_, other) => list_values = list_values.checked_add(reader.pass(other).ok()?)?,
            }
        }
        if payload_bytes > MAX_EVENT_BYTES {
            return None;
        }
        let kind = kind?.name;
        Some(Examined { kind, ts: ts?, seq: seq?, payload_bytes, list_values, chunk_uses })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn list_values(&self) -> usize {
        self.list_values
    }

    /// Time between the first and the last row added, by event time.
    pub(crate) fn age_ns(&self) -> i64 {
        match (self.first_ts, self.last_ts) {
            (Some(first), Some(last)) => last.0.saturating_sub(first.0),
            _ => 0,
        }
    }

    /// What decides when it closes: about what its payload takes until then. Closing needs three
    /// more times as much for payload, and as much again for everything else, which therefore counts
    /// half (`docs/FORMAT.md`, "Row groups").
    pub(crate) fn accounted_bytes(&self) -> usize {
        // The list of rows doubles when it grows.
        let rows = self.rows.len() * size_of::<Row>() * 2;
        let other = rows + self.cells.used_bytes() + self.chunks.overhead_bytes();
        self.chunks.payload_bytes() + other / 2
    }

    /// The rows from the `from`-th on, in the order in which they were added.
    pub(crate) fn rows_from(&self, from: usize) -> impl Iterator<Item = OpenRow<'_>> {
        self.rows.iter().skip(from).map(|row| OpenRow {
            kind: row.kind(),
            cells: self.cells.bytes(row.cells),
            payload_bytes: row.payload_bytes as usize,
            chunks: row.chunks as usize,
        })
    }

    /// The chunks of these numbers, in the order of their ids.
    pub(crate) fn chunks(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        range.map_while(|id| self.chunks.get(ChunkId(id as u32)))
    }

    /// Writes its rows as one row group of a file that has `columns` and in which `base_bytes` stand
    /// before it, and says what a footer has to say of it. Payload that does not repeat is not
    /// compressed if `is_hurried`. The group is gone afterwards also if that fails: closing it needs
    /// the memory that its rows and payload give back.
    ///
    /// # Errors
    /// When `sink` cannot be written.
    pub(crate) fn write<W: Write + Send>(
        mut self,
        columns: &[Column],
        sink: W,
        base_bytes: u64,
        is_hurried: bool,
    ) -> Result<RowGroupMetaData, Error> {
        let payload = match (self.repeats(), is_hurried) {
            (true, _) => PayloadStorage::Dictionary,
            (false, false) => PayloadStorage::Plain,
            (false, true) => PayloadStorage::Uncompressed,
        };
        let options = ArrowWriterOptions::new()
            .with_properties(properties(payload)?)
            .with_skip_arrow_metadata(true)
            .with_schema_root(super::footer::SCHEMA_ROOT.to_owned());
        let sink = Headless { sink, skip: MAGIC.len() };
        let schema = arrow_schema_of(columns.len());
        let mut parquet = ArrowWriter::try_new_with_options(sink, schema, options)?;
        let mut rows = std::mem::take(&mut self.rows);
        // Stable: they were added in the order of their sequence numbers.
        rows.sort_by_key(|row| (row.kind(), row.ts));
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_length(rest));
            parquet.write(&self.encode(columns, batch)?)?;
            rest = later;
        }
        // The dictionary of the Parquet writer holds the payload by now.
        drop((rows, self));
        parquet.flush()?;
        parquet.sync().map_err(Error::Flush)?;
        let [group] = parquet.flushed_row_groups() else {
            return Err(ParquetError::General("expected one row group".to_owned()).into());
        };
        Ok(shifted(group, base_bytes as i64 - MAGIC.len() as i64)?)
    }

    /// Whether enough chunks occur again to be worth a dictionary.
    fn repeats(&self) -> bool {
        let again = self.chunk_uses.saturating_sub(self.chunks.len());
        again > self.chunk_uses / REPEATING_ONE_IN
    }

    /// The batch of some of its rows.
    fn encode(&self, columns: &[Column], rows: &[Row]) -> Result<RecordBatch, ParquetError> {
        let mut sheet = Sheet::new(columns);
        for row in rows {
            sheet
                .push(self.cells.bytes(row.cells), &self.chunks)
                .map_err(|malformed| ParquetError::External(Box::new(malformed)))?;
        }
        Ok(sheet.finish()?)
    }
}

/// What a row's cells say.
struct Examined {
    kind: &'static str,
    ts: WallNanos,
    seq: u64,
    payload_bytes: usize,
    list_values: usize,
    chunk_uses: usize,
}

/// How many of `rows` go into the next batch; at least one.
fn batch_length(rows: &[Row]) -> usize {
    let mut payload_bytes = 0;
    let fits = |row: &&Row| {
        payload_bytes += row.payload_bytes as usize;
        payload_bytes <= BATCH_PAYLOAD_BYTES
    };
    rows.iter().take(BATCH_ROWS).take_while(fits).count().max(1)
}

/// Drops the first bytes written: the Parquet writer begins every file with its magic, and a row
/// group in the middle of one has none.
struct Headless<W> {
    sink: W,
    skip: usize,
}

impl<W: Write> Write for Headless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len());
        if skipped > 0 {
            self.skip -= skipped;
            return Ok(skipped);
        }
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
