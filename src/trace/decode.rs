//! Arrow record batches to events, checking every value used.
//!
//! The mirror of `encode.rs`. Files are hostile: a row whose values contradict each other or the
//! format is [`Damage`], which costs that row only. Text and payload are read as views into the
//! decoded dictionary, so a small file cannot make a batch large by repeating itself; bytes are
//! copied only once a row has passed its size limit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Int64Type, Schema, TimestampNanosecondType,
};

use super::MAX_EVENT_BYTES;
use super::schema::{Column, ColumnType};
use crate::event::{
    Body, Channel, ChannelType, Confidence, Direction, Event, Exit, FileAccess, FileOp, Fork,
    Image, Loss, OpenOperation, PathOperation, Probe, ProbeState, ProcessId, Role, Sample, Source,
    StreamData, TlsSocket,
};
use crate::time::WallNanos;

/// Why a row is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column '{column}': {reason}")]
pub(crate) struct Damage {
    column: &'static str,
    reason: String,
}

impl Damage {
    fn new(column: Column, reason: impl Into<String>) -> Self {
        Self { column: column.name(), reason: reason.into() }
    }

    fn absent(column: Column) -> Self {
        Self::new(column, "expected a value, found null")
    }
}

type Result<T> = std::result::Result<T, Damage>;

/// A column whose type in the file is not the format's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeMismatch {
    pub(crate) column: Column,
    pub(crate) found: DataType,
}

/// The schema to read a file with: `file`'s own, with views in the place of copied bytes.
pub(crate) fn reading_schema(file: &Schema) -> std::result::Result<Schema, TypeMismatch> {
    let field = |field: &Arc<Field>| {
        let Some(column) = Column::ALL.iter().find(|column| column.name() == field.name()) else {
            return Ok(Arc::clone(field));
        };
        let expected = column.description().column_type;
        if *field.data_type() != expected.arrow() {
            return Err(TypeMismatch { column: *column, found: field.data_type().clone() });
        }
        Ok(Arc::new(field.as_ref().clone().with_data_type(viewed(expected))))
    };
    Ok(Schema::new(file.fields().iter().map(field).collect::<std::result::Result<Vec<_>, _>>()?))
}

/// Every column of the format with the type to read it as.
pub(super) fn known_columns() -> Schema {
    let field = |column: &Column| {
        let about = column.description();
        Field::new(about.name, viewed(about.column_type), !about.required)
    };
    Schema::new(Column::ALL.iter().map(field).collect::<Vec<_>>())
}

/// The type of a column while it is read.
fn viewed(column_type: ColumnType) -> DataType {
    let list = |item| match column_type.arrow() {
        DataType::List(field) => {
            DataType::List(Arc::new(field.as_ref().clone().with_data_type(item)))
        }
        other => other,
    };
    match column_type {
        ColumnType::Utf8 => DataType::Utf8View,
        ColumnType::Utf8List => list(DataType::Utf8View),
        ColumnType::BinaryList => list(DataType::BinaryView),
        other => other.arrow(),
    }
}

/// The rows of one batch, read with [`reading_schema`].
pub(crate) struct Rows {
    /// Indexed by [`Column`]; absent where the file or the projection has none.
    arrays: Vec<Option<ArrayRef>>,
    length: usize,
}

impl Rows {
    /// Finds the columns of a batch; a column of another type than [`reading_schema`] gave it
    /// counts as absent.
    pub(crate) fn new(batch: &RecordBatch) -> Self {
        let array = |column: &Column| {
            let array = batch.column_by_name(column.name())?;
            let expected = viewed(column.description().column_type);
            (*array.data_type() == expected).then(|| Arc::clone(array))
        };
        Self { arrays: Column::ALL.iter().map(array).collect(), length: batch.num_rows() }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// When the event of a row was observed and its place in the file, if those are there.
    pub(crate) fn position(&self, row: usize) -> Result<(WallNanos, u64)> {
        Ok((self.ts(Column::Ts, row)?, self.count(Column::Seq, row)?))
    }

    /// The connection, direction and offset of a row that has payload.
    pub(crate) fn stream_position(&self, row: usize) -> Result<(u64, Direction, u64)> {
        let conn_id = self.conn_id(row)?.ok_or_else(|| Damage::absent(Column::ConnId))?;
        Ok((conn_id, self.direction(row)?, self.count(Column::StreamOffset, row)?))
    }

    /// The event of a row of a known kind; `None` if the kind is not known.
    pub(crate) fn event(&self, kind: &str, row: usize) -> Result<Option<Event>> {
        let body = match kind {
            "process_seen" => Body::ProcessSeen(self.image(row)?),
            "process_exec" => Body::ProcessExec(self.image(row)?),
            "process_fork" => Body::ProcessFork(Fork {
                ppid: self.count32(Column::Ppid, row)?,
                uid: self.count32(Column::Uid, row)?,
            }),
            "process_exit" => Body::ProcessExit(self.exit(row)?),
            "tls_close" => Body::TlsClose { conn_id: self.required_conn_id(Column::ConnId, row)? },
            "sample" => Body::Sample(self.sample(row)?),
            "recorder_sample" => Body::RecorderSample(self.sample(row)?),
            "loss" => Body::Loss(self.loss(row)?),
            "probe" => Body::Probe(self.probe(row)?),
            "channel_open" => Body::ChannelOpen(self.channel(row)?),
            "channel_close" => Body::ChannelClose {
                conn_id: self.required_conn_id(Column::ConnId, row)?,
                read_bytes: self.count(Column::ReadBytes, row)?,
                written_bytes: self.count(Column::WrittenBytes, row)?,
            },
            "tls_socket" => Body::TlsSocket(TlsSocket {
                conn_id: self.required_conn_id(Column::ConnId, row)?,
                socket_conn_id: self.required_conn_id(Column::SocketConnId, row)?,
                confidence: self.named(Column::Confidence, row, Confidence::from_name)?,
            }),
            "file_op" => Body::FileOp(FileOp {
                operation: self.named(Column::Operation, row, PathOperation::from_name)?,
                path: self.optional_text(Column::Path, row)?,
                new_path: self.optional_text(Column::NewPath, row)?,
            }),
            "file_access" => Body::FileAccess(self.file_access(row)?),
            kind => match Source::from_kind(kind) {
                Some(source) => Body::Data(self.data(source, row)?),
                None => return Ok(None),
            },
        };
        Ok(Some(Event {
            ts: self.ts(Column::Ts, row)?,
            process: self.process(row)?,
            tid: self.optional_count32(Column::Tid, row)?,
            comm: self.optional_text(Column::Comm, row)?,
            body,
        }))
    }

    fn process(&self, row: usize) -> Result<Option<ProcessId>> {
        let pid = self.optional_count32(Column::Pid, row)?;
        let start_ts = self.optional_ts(Column::ProcessStartTs, row);
        match (pid, start_ts) {
            (Some(pid), Some(start_ts)) => Ok(Some(ProcessId { pid, start_ts })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Damage::absent(Column::ProcessStartTs)),
            (None, Some(_)) => Err(Damage::absent(Column::Pid)),
        }
    }

    fn image(&self, row: usize) -> Result<Image> {
        Ok(Image {
            ppid: self.count32(Column::Ppid, row)?,
            uid: self.count32(Column::Uid, row)?,
            exe: self.optional_text(Column::Exe, row)?,
            argv: self.texts(Column::Argv, row)?,
            argv_lost_bytes: self.count(Column::ArgvLostBytes, row)?,
            cwd: self.optional_text(Column::Cwd, row)?,
            matched: self
                .array(Column::Matched, row)
                .map(|array| array.as_boolean().value(row))
                .ok_or_else(|| Damage::absent(Column::Matched))?,
            cgroup: self.optional_text(Column::Cgroup, row)?,
        })
    }

    fn exit(&self, row: usize) -> Result<Exit> {
        Ok(Exit {
            ppid: self.count32(Column::Ppid, row)?,
            exit_code: self.optional_int32(Column::ExitCode, row),
            signal: self.optional_int32(Column::Signal, row),
            cpu_user_ns: self.count(Column::CpuUserNs, row)?,
            cpu_system_ns: self.count(Column::CpuSystemNs, row)?,
            peak_rss_bytes: self.count(Column::PeakRssBytes, row)?,
            read_bytes: self.count(Column::ReadBytes, row)?,
            written_bytes: self.count(Column::WrittenBytes, row)?,
        })
    }

    fn channel(&self, row: usize) -> Result<Channel> {
        Ok(Channel {
            conn_id: self.required_conn_id(Column::ConnId, row)?,
            channel_type: self.named(Column::ChannelType, row, ChannelType::from_name)?,
            role: self.named(Column::Role, row, Role::from_name)?,
            fd: self.count32(Column::Fd, row)?,
            local_addr: self.optional_text(Column::LocalAddr, row)?,
            remote_addr: self.optional_text(Column::RemoteAddr, row)?,
            errno: self.count32(Column::Errno, row)?,
        })
    }

    fn file_access(&self, row: usize) -> Result<FileAccess> {
        Ok(FileAccess {
            path: self.optional_text(Column::Path, row)?,
            operation: match self.array(Column::Operation, row) {
                Some(_) => Some(self.named(Column::Operation, row, OpenOperation::from_name)?),
                None => None,
            },
            flags: self.optional_text(Column::Flags, row)?,
            first_ts: self.ts(Column::FirstTs, row)?,
            open_count: self.count(Column::OpenCount, row)?,
            read_count: self.count(Column::ReadCount, row)?,
            read_bytes: self.count(Column::ReadBytes, row)?,
            write_count: self.count(Column::WriteCount, row)?,
            written_bytes: self.count(Column::WrittenBytes, row)?,
            errno: self.count32(Column::Errno, row)?,
        })
    }

    /// A value of a fixed set of names.
    fn named<T>(&self, column: Column, row: usize, known: fn(&str) -> Option<T>) -> Result<T> {
        let name = self.text(column, row)?;
        known(&name).ok_or_else(|| {
            Damage::new(
                column,
                format!("expected a known {}, found {}", column.name(), shown(&name)),
            )
        })
    }

    fn data(&self, source: Source, row: usize) -> Result<StreamData> {
        let (conn_id, direction, stream_offset) = self.stream_position(row)?;
        let data_bytes = self.count(Column::DataBytes, row)?;
        let lost_bytes = self.count(Column::LostBytes, row)?;
        let (data, lost_bytes) = match self.payload(row)? {
            Some(data) if (data.len() as u64).checked_add(lost_bytes) == Some(data_bytes) => {
                (data, lost_bytes)
            }
            Some(data) => {
                let reason = format!(
                    "expected data and lost_bytes to add up to it, found {data_bytes} for {} and {lost_bytes}",
                    data.len()
                );
                return Err(Damage::new(Column::DataBytes, reason));
            }
            // Withheld from this copy of the trace: to a reader, as good as never captured.
            None => (Vec::new(), data_bytes),
        };
        let (call_ts, call_bytes) = self.calls(row, data_bytes)?;
        Ok(StreamData {
            source,
            conn_id,
            direction,
            stream_offset,
            data_bytes,
            lost_bytes,
            data,
            library: match source {
                Source::Tls => self.text(Column::Library, row)?,
                _ => String::new(),
            },
            fd: self.optional_count32(Column::Fd, row)?,
            call_ts,
            call_bytes,
        })
    }

    /// The joined calls: both lists, of one length, that account for all bytes.
    fn calls(&self, row: usize, data_bytes: u64) -> Result<(Vec<WallNanos>, Vec<u64>)> {
        let lists = (self.list(Column::CallTs, row), self.list(Column::CallBytes, row));
        let (times, sizes) = match lists {
            (None, None) => return Ok((Vec::new(), Vec::new())),
            (Some(times), Some(sizes)) => (times, sizes),
            (None, Some(_)) => return Err(Damage::absent(Column::CallTs)),
            (Some(_), None) => return Err(Damage::absent(Column::CallBytes)),
        };
        let times = times.as_primitive::<TimestampNanosecondType>();
        let sizes = sizes.as_primitive::<Int64Type>();
        if times.len() != sizes.len() {
            let reason =
                format!("expected {} calls as in call_ts, found {}", times.len(), sizes.len());
            return Err(Damage::new(Column::CallBytes, reason));
        }
        let mut sum = 0_u64;
        let mut call_bytes = Vec::with_capacity(sizes.len());
        for size in sizes.values() {
            let size = non_negative(Column::CallBytes, *size)?;
            sum = sum.saturating_add(size);
            call_bytes.push(size);
        }
        if sum != data_bytes && !call_bytes.is_empty() {
            let reason = format!("expected a sum of {data_bytes}, found {sum}");
            return Err(Damage::new(Column::CallBytes, reason));
        }
        Ok((times.values().iter().map(|ts| WallNanos(*ts)).collect(), call_bytes))
    }

    fn sample(&self, row: usize) -> Result<Sample> {
        let cpu_percent = self
            .array(Column::CpuPercent, row)
            .map(|array| array.as_primitive::<Float64Type>().value(row));
        Ok(Sample {
            ppid: self.count32(Column::Ppid, row)?,
            cpu_percent,
            cpu_user_ns: self.count(Column::CpuUserNs, row)?,
            cpu_system_ns: self.count(Column::CpuSystemNs, row)?,
            rss_bytes: self.count(Column::RssBytes, row)?,
            vsz_bytes: self.count(Column::VszBytes, row)?,
            threads: self.count32(Column::Threads, row)?,
            children: self.count32(Column::Children, row)?,
            read_bytes: self.optional_count(Column::ReadBytes, row)?,
            written_bytes: self.optional_count(Column::WrittenBytes, row)?,
        })
    }

    fn loss(&self, row: usize) -> Result<Loss> {
        Ok(Loss {
            first_ts: self.ts(Column::FirstTs, row)?,
            event_class: self.text(Column::EventClass, row)?,
            cause: self.text(Column::Cause, row)?,
            lost_events: self.count(Column::LostEvents, row)?,
            lost_bytes: self.count(Column::LostBytes, row)?,
            conn_id: self.conn_id(row)?,
        })
    }

    fn probe(&self, row: usize) -> Result<Probe> {
        let state = self.named(Column::ProbeState, row, ProbeState::from_name)?;
        Ok(Probe {
            path: self.text(Column::Path, row)?,
            library: self.optional_text(Column::Library, row)?,
            state,
            detail: self.text(Column::Detail, row)?,
            build_id: self.optional_text(Column::BuildId, row)?,
        })
    }

    fn direction(&self, row: usize) -> Result<Direction> {
        let value = self.text(Column::Direction, row)?;
        let known = [Direction::Read, Direction::Write];
        known.into_iter().find(|known| known.as_str() == value).ok_or_else(|| {
            let reason = format!("expected read or write, found {}", shown(&value));
            Damage::new(Column::Direction, reason)
        })
    }

    /// The concatenated chunks; `None` if the row has no payload at all.
    fn payload(&self, row: usize) -> Result<Option<Vec<u8>>> {
        let Some(chunks) = self.list(Column::Data, row) else { return Ok(None) };
        let chunks = chunks.as_binary_view();
        let total = bounded(Column::Data, chunks.lengths().map(|length| length as usize))?;
        let mut data = Vec::with_capacity(total);
        chunks.iter().flatten().for_each(|chunk| data.extend_from_slice(chunk));
        Ok(Some(data))
    }

    fn texts(&self, column: Column, row: usize) -> Result<Vec<String>> {
        let Some(list) = self.list(column, row) else { return Ok(Vec::new()) };
        let texts = list.as_string_view();
        // Even an empty string costs its `String`.
        bounded(column, texts.lengths().map(|length| length as usize + size_of::<String>()))?;
        Ok(texts.iter().flatten().map(str::to_owned).collect())
    }

    fn text(&self, column: Column, row: usize) -> Result<String> {
        self.optional_text(column, row)?.ok_or_else(|| Damage::absent(column))
    }

    fn optional_text(&self, column: Column, row: usize) -> Result<Option<String>> {
        let Some(array) = self.array(column, row) else { return Ok(None) };
        let text = array.as_string_view().value(row);
        bounded(column, [text.len()])?;
        Ok(Some(text.to_owned()))
    }

    fn ts(&self, column: Column, row: usize) -> Result<WallNanos> {
        self.optional_ts(column, row).ok_or_else(|| Damage::absent(column))
    }

    fn optional_ts(&self, column: Column, row: usize) -> Option<WallNanos> {
        let array = self.array(column, row)?;
        Some(WallNanos(array.as_primitive::<TimestampNanosecondType>().value(row)))
    }

    fn count(&self, column: Column, row: usize) -> Result<u64> {
        self.optional_count(column, row)?.ok_or_else(|| Damage::absent(column))
    }

    fn optional_count(&self, column: Column, row: usize) -> Result<Option<u64>> {
        self.int64(column, row).map(|value| non_negative(column, value)).transpose()
    }

    fn count32(&self, column: Column, row: usize) -> Result<u32> {
        self.optional_count32(column, row)?.ok_or_else(|| Damage::absent(column))
    }

    fn optional_count32(&self, column: Column, row: usize) -> Result<Option<u32>> {
        let narrow = |value| {
            u32::try_from(value)
                .map_err(|_| Damage::new(column, format!("expected less than 2^32, found {value}")))
        };
        self.optional_count(column, row)?.map(narrow).transpose()
    }

    fn required_conn_id(&self, column: Column, row: usize) -> Result<u64> {
        let id = self.int64(column, row).map(i64::cast_unsigned);
        id.ok_or_else(|| Damage::absent(column))
    }

    /// An identifier, of which all 64 bits count.
    #[expect(clippy::unnecessary_wraps, reason = "one shape for all getters")]
    fn conn_id(&self, row: usize) -> Result<Option<u64>> {
        Ok(self.int64(Column::ConnId, row).map(i64::cast_unsigned))
    }

    fn int64(&self, column: Column, row: usize) -> Option<i64> {
        Some(self.array(column, row)?.as_primitive::<Int64Type>().value(row))
    }

    fn optional_int32(&self, column: Column, row: usize) -> Option<i32> {
        Some(self.array(column, row)?.as_primitive::<Int32Type>().value(row))
    }

    fn list(&self, column: Column, row: usize) -> Option<ArrayRef> {
        Some(self.array(column, row)?.as_list::<i32>().value(row))
    }

    /// The column, if it is there and not null in this row.
    fn array(&self, column: Column, row: usize) -> Option<&ArrayRef> {
        self.arrays[column as usize].as_ref().filter(|array| array.is_valid(row))
    }
}

fn non_negative(column: Column, value: i64) -> Result<u64> {
    u64::try_from(value)
        .map_err(|_| Damage::new(column, format!("expected 0 or more, found {value}")))
}

/// The sum of `lengths`, if one event may be that large.
fn bounded(column: Column, lengths: impl IntoIterator<Item = usize>) -> Result<usize> {
    let total = lengths.into_iter().fold(0_usize, usize::saturating_add);
    if total > MAX_EVENT_BYTES {
        let reason = format!("expected at most {MAX_EVENT_BYTES} bytes, found {total}");
        return Err(Damage::new(column, reason));
    }
    Ok(total)
}

/// A hostile value, escaped and shortened for a message.
fn shown(value: &str) -> String {
    const LONGEST_CHARS: usize = 40;
    format!("{:?}", value.chars().take(LONGEST_CHARS).collect::<String>())
}
