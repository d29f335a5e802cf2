//! Rows of the open row group to Arrow record batches.
//!
//! The one place that says which field of an [`Event`] goes into which [`Column`]; `decode.rs` is
//! its mirror. Values the types of the file cannot hold (sizes of 2^63 and more) are stored as the
//! largest that they can.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder,
    ListBuilder, RecordBatch, StringBuilder, TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::chunk::{ChunkId, ChunkStore};
use super::schema::{Column, ColumnType, arrow_schema, kind_of};
use crate::event::{Body, Event, Exit, Image, Loss, Probe, Sample, TlsData};
use crate::time::WallNanos;

/// An event in the open row group, its payload moved into the [`ChunkStore`].
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    /// The event with empty `data`.
    pub(crate) event: Event,
    /// The payload.
    pub(crate) chunks: Box<[ChunkId]>,
}

impl Row {
    /// Order within a row group: kind, then time, then order of arrival.
    pub(crate) fn sort_key(&self) -> (&'static str, WallNanos, u64) {
        (kind_of(&self.event.body), self.event.ts, self.seq)
    }

    /// Payload bytes this row will take in a batch.
    pub(crate) fn payload_bytes(&self) -> u64 {
        match &self.event.body {
            Body::TlsData(tls) => tls.data_bytes.saturating_sub(tls.lost_bytes),
            _ => 0,
        }
    }
}

/// Encodes rows; `rows` must carry chunk ids of `chunks`.
pub(crate) fn encode(rows: &[Row], chunks: &ChunkStore) -> Result<RecordBatch, ArrowError> {
    let mut sheet = Sheet::new();
    for row in rows {
        sheet.row(row, chunks);
    }
    sheet.finish()
}

/// One builder per column.
enum Builder {
    Timestamp(TimestampNanosecondBuilder),
    Int64(Int64Builder),
    Int32(Int32Builder),
    Float64(Float64Builder),
    Boolean(BooleanBuilder),
    Utf8(StringBuilder),
    Utf8List(ListBuilder<StringBuilder>),
    TimestampList(ListBuilder<TimestampNanosecondBuilder>),
    Int64List(ListBuilder<Int64Builder>),
    BinaryList(ListBuilder<BinaryBuilder>),
}

/// Applies one expression to whatever builder it is.
macro_rules! each_builder {
    ($builder:expr, $b:ident => $body:expr) => {
        match $builder {
            Builder::Timestamp($b) => $body,
            Builder::Int64($b) => $body,
            Builder::Int32($b) => $body,
            Builder::Float64($b) => $body,
            Builder::Boolean($b) => $body,
            Builder::Utf8($b) => $body,
            Builder::Utf8List($b) => $body,
            Builder::TimestampList($b) => $body,
            Builder::Int64List($b) => $body,
            Builder::BinaryList($b) => $body,
        }
    };
}

impl Builder {
    fn new(column_type: ColumnType) -> Self {
        let timestamps = || {
            let utc = ColumnType::Timestamp.arrow();
            TimestampNanosecondBuilder::new().with_data_type(utc)
        };
        // The builder must be told the element's field, or it names and types it its own way.
        let element = || match column_type.arrow() {
            DataType::List(field) => field,
            other => Arc::new(Field::new("", other, false)),
        };
        match column_type {
            ColumnType::Timestamp => Self::Timestamp(timestamps()),
            ColumnType::Int64 => Self::Int64(Int64Builder::new()),
            ColumnType::Int32 => Self::Int32(Int32Builder::new()),
            ColumnType::Float64 => Self::Float64(Float64Builder::new()),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Utf8 => Self::Utf8(StringBuilder::new()),
            ColumnType::Utf8List => {
                Self::Utf8List(ListBuilder::new(StringBuilder::new()).with_field(element()))
            }
            ColumnType::TimestampList => {
                Self::TimestampList(ListBuilder::new(timestamps()).with_field(element()))
            }
            ColumnType::Int64List => {
                Self::Int64List(ListBuilder::new(Int64Builder::new()).with_field(element()))
            }
            ColumnType::BinaryList => {
                Self::BinaryList(ListBuilder::new(BinaryBuilder::new()).with_field(element()))
            }
        }
    }

    fn len(&self) -> usize {
        use arrow::array::ArrayBuilder as _;
        each_builder!(self, builder => builder.len())
    }

    fn append_null(&mut self) {
        each_builder!(self, builder => builder.append_null());
    }

    fn finish(mut self) -> ArrayRef {
        each_builder!(&mut self, builder => Arc::new(builder.finish()))
    }
}

/// A batch being filled: values are set by column, and what a row leaves out becomes null.
struct Sheet {
    /// Indexed by [`Column`].
    builders: Vec<Builder>,
    rows: usize,
}

impl Sheet {
    fn new() -> Self {
        let builder = |column: &Column| Builder::new(column.description().column_type);
        Self { builders: Column::ALL.iter().map(builder).collect(), rows: 0 }
    }

    fn finish(self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.builders.into_iter().map(Builder::finish).collect();
        RecordBatch::try_new(arrow_schema(), arrays)
    }

    fn row(&mut self, row: &Row, chunks: &ChunkStore) {
        let event = &row.event;
        self.ts(Column::Ts, event.ts);
        self.count(Column::Seq, row.seq);
        self.text(Column::Kind, kind_of(&event.body));
        if let Some(process) = event.process {
            self.count(Column::Pid, process.pid);
            self.ts(Column::ProcessStartTs, process.start_ts);
        }
        self.optional_count(Column::Tid, event.tid);
        self.optional_text(Column::Comm, event.comm.as_deref());
        match &event.body {
            Body::ProcessSeen(image) | Body::ProcessExec(image) => self.image(image),
            Body::ProcessFork(fork) => {
                self.count(Column::Ppid, fork.ppid);
                self.count(Column::Uid, fork.uid);
            }
            Body::ProcessExit(exit) => self.exit(exit),
            Body::TlsData(tls) => self.tls_data(tls, &row.chunks, chunks),
            Body::TlsClose { conn_id } => self.conn_id(*conn_id),
            Body::Sample(sample) | Body::RecorderSample(sample) => self.sample(sample),
            Body::Loss(loss) => self.loss(loss),
            Body::Probe(probe) => self.probe(probe),
        }
        self.end_row();
    }

    fn image(&mut self, image: &Image) {
        self.count(Column::Ppid, image.ppid);
        self.count(Column::Uid, image.uid);
        self.optional_text(Column::Exe, image.exe.as_deref());
        match self.builder(Column::Argv) {
            Builder::Utf8List(list) => list.append_value(image.argv.iter().map(Some)),
            _ => wrong_type(Column::Argv),
        }
        self.count(Column::ArgvLostBytes, image.argv_lost_bytes);
        self.optional_text(Column::Cwd, image.cwd.as_deref());
        match self.builder(Column::Matched) {
            Builder::Boolean(builder) => builder.append_value(image.matched),
            _ => wrong_type(Column::Matched),
        }
    }

    fn exit(&mut self, exit: &Exit) {
        self.count(Column::Ppid, exit.ppid);
        self.optional_int32(Column::ExitCode, exit.exit_code);
        self.optional_int32(Column::Signal, exit.signal);
        self.count(Column::CpuUserNs, exit.cpu_user_ns);
        self.count(Column::CpuSystemNs, exit.cpu_system_ns);
        self.count(Column::PeakRssBytes, exit.peak_rss_bytes);
        self.count(Column::ReadBytes, exit.read_bytes);
        self.count(Column::WrittenBytes, exit.written_bytes);
    }

    fn tls_data(&mut self, tls: &TlsData, payload: &[ChunkId], chunks: &ChunkStore) {
        self.conn_id(tls.conn_id);
        self.text(Column::Direction, tls.direction.as_str());
        self.count(Column::StreamOffset, tls.stream_offset);
        self.count(Column::DataBytes, tls.data_bytes);
        self.count(Column::LostBytes, tls.lost_bytes);
        match self.builder(Column::Data) {
            Builder::BinaryList(list) => {
                payload.iter().for_each(|id| list.values().append_value(chunks.bytes(*id)));
                list.append(true);
            }
            _ => wrong_type(Column::Data),
        }
        self.text(Column::Library, &tls.library);
        if tls.call_ts.is_empty() {
            return;
        }
        match self.builder(Column::CallTs) {
            Builder::TimestampList(list) => {
                list.append_value(tls.call_ts.iter().map(|ts| Some(ts.0)))
            }
            _ => wrong_type(Column::CallTs),
        }
        match self.builder(Column::CallBytes) {
            Builder::Int64List(list) => {
                list.append_value(tls.call_bytes.iter().map(|bytes| Some(saturate(*bytes))));
            }
            _ => wrong_type(Column::CallBytes),
        }
    }

    fn sample(&mut self, sample: &Sample) {
        self.count(Column::Ppid, sample.ppid);
        if let Some(percent) = sample.cpu_percent {
            match self.builder(Column::CpuPercent) {
                Builder::Float64(builder) => builder.append_value(percent),
                _ => wrong_type(Column::CpuPercent),
            }
        }
        self.count(Column::CpuUserNs, sample.cpu_user_ns);
        self.count(Column::CpuSystemNs, sample.cpu_system_ns);
        self.count(Column::RssBytes, sample.rss_bytes);
        self.count(Column::VszBytes, sample.vsz_bytes);
        self.count(Column::Threads, sample.threads);
        self.count(Column::Children, sample.children);
        self.optional_count(Column::ReadBytes, sample.read_bytes);
        self.optional_count(Column::WrittenBytes, sample.written_bytes);
    }

    fn loss(&mut self, loss: &Loss) {
        self.ts(Column::FirstTs, loss.first_ts);
        self.text(Column::EventClass, &loss.event_class);
        self.text(Column::Cause, &loss.cause);
        self.count(Column::LostEvents, loss.lost_events);
        self.count(Column::LostBytes, loss.lost_bytes);
        if let Some(conn_id) = loss.conn_id {
            self.conn_id(conn_id);
        }
    }

    fn probe(&mut self, probe: &Probe) {
        self.text(Column::Path, &probe.path);
        self.optional_text(Column::Library, probe.library.as_deref());
        self.text(Column::ProbeState, probe.state.as_str());
        self.text(Column::Detail, &probe.detail);
        self.optional_text(Column::BuildId, probe.build_id.as_deref());
    }

    /// Everything the row did not set becomes null.
    fn end_row(&mut self) {
        self.rows += 1;
        for builder in &mut self.builders {
            if builder.len() < self.rows {
                builder.append_null();
            }
        }
    }

    fn builder(&mut self, column: Column) -> &mut Builder {
        &mut self.builders[column as usize]
    }

    fn ts(&mut self, column: Column, value: WallNanos) {
        match self.builder(column) {
            Builder::Timestamp(builder) => builder.append_value(value.0),
            _ => wrong_type(column),
        }
    }

    fn count(&mut self, column: Column, value: impl Into<u64>) {
        self.int64(column, saturate(value.into()));
    }

    fn optional_count(&mut self, column: Column, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.count(column, value);
        }
    }

    /// An identifier, not a quantity: all 64 bits are kept.
    fn conn_id(&mut self, value: u64) {
        self.int64(Column::ConnId, value.cast_signed());
    }

    fn int64(&mut self, column: Column, value: i64) {
        match self.builder(column) {
            Builder::Int64(builder) => builder.append_value(value),
            _ => wrong_type(column),
        }
    }

    fn optional_int32(&mut self, column: Column, value: Option<i32>) {
        match self.builder(column) {
            Builder::Int32(builder) => builder.append_option(value),
            _ => wrong_type(column),
        }
    }

    fn text(&mut self, column: Column, value: &str) {
        match self.builder(column) {
            Builder::Utf8(builder) => builder.append_value(value),
            _ => wrong_type(column),
        }
    }

    fn optional_text(&mut self, column: Column, value: Option<&str>) {
        if let Some(value) = value {
            self.text(column, value);
        }
    }
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The setter and the schema disagree: a mistake in this file, which any test of that kind finds.
fn wrong_type(column: Column) -> ! {
    unreachable!("column {} is not of the type it is set as", column.name())
}
