//! An event as a compact row: the cells that are set, one after the other.
//!
//! Rows of the open group wait in this form, about a quarter of the memory of [`Event`]s, and it is
//! the form in which a row can be written down before its group closes. This is the one place that
//! says which field of an event goes into which [`Column`]; `decode.rs` is its mirror.
//!
//! ```text
//! row   = cell*
//! cell  = column (1 byte, the position in the schema) value
//! value = integer, timestamp   zigzag, then LEB128
//!       | double               8 bytes, little endian
//!       | boolean              1 byte, 0 or 1
//!       | text                 length (LEB128), bytes
//!       | list                 count (LEB128), values; of payload: chunk ids (LEB128)
//! ```

use super::chunk::ChunkId;
use super::schema::{Column, ColumnType};
use crate::event::{
    Body, Channel, Event, Exit, FileAccess, Image, Loss, OpenOperation, Probe, Sample, Source,
    StreamData,
};
use crate::time::WallNanos;

/// Writes the row of an event to the end of `row`. Values the types of the file cannot hold (sizes
/// of 2^63 and more) become the largest that they can.
pub(crate) fn write(event: &Event, seq: u64, payload: &[ChunkId], row: &mut Vec<u8>) {
    RowWriter { row }.event(event, seq, payload);
}

struct RowWriter<'row> {
    row: &'row mut Vec<u8>,
}

impl RowWriter<'_> {
    fn event(&mut self, event: &Event, seq: u64, payload: &[ChunkId]) {
        self.ts(Column::Ts, event.ts);
        self.count(Column::Seq, seq);
        self.text(Column::Kind, event.body.kind());
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
            Body::Data(data) => self.data(data, payload),
            Body::TlsClose { conn_id } => self.identifier(Column::ConnId, *conn_id),
            Body::ChannelOpen(channel) => self.channel(channel),
            Body::ChannelClose { conn_id, read_bytes, written_bytes } => {
                self.identifier(Column::ConnId, *conn_id);
                self.count(Column::ReadBytes, *read_bytes);
                self.count(Column::WrittenBytes, *written_bytes);
            }
            Body::TlsSocket(link) => {
                self.identifier(Column::ConnId, link.conn_id);
                self.identifier(Column::SocketConnId, link.socket_conn_id);
                self.text(Column::Confidence, link.confidence.as_str());
            }
            Body::FileOp(op) => {
                self.optional_text(Column::Path, op.path.as_deref());
                self.text(Column::Operation, op.operation.as_str());
                self.optional_text(Column::NewPath, op.new_path.as_deref());
            }
            Body::FileAccess(access) => self.file_access(access),
            Body::Sample(sample) | Body::RecorderSample(sample) => self.sample(sample),
            Body::Loss(loss) => self.loss(loss),
            Body::Probe(probe) => self.probe(probe),
        }
    }

    fn image(&mut self, image: &Image) {
        self.count(Column::Ppid, image.ppid);
        self.count(Column::Uid, image.uid);
        self.optional_text(Column::Exe, image.exe.as_deref());
        self.begin_list(Column::Argv, ColumnType::Utf8List, image.argv.len());
        image.argv.iter().for_each(|argument| self.raw_text(argument));
        self.count(Column::ArgvLostBytes, image.argv_lost_bytes);
        self.optional_text(Column::Cwd, image.cwd.as_deref());
        self.begin(Column::Matched, ColumnType::Boolean);
        self.row.push(u8::from(image.matched));
        self.optional_text(Column::Cgroup, image.cgroup.as_deref());
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

    fn data(&mut self, data: &StreamData, payload: &[ChunkId]) {
        self.identifier(Column::ConnId, data.conn_id);
        self.text(Column::Direction, data.direction.as_str());
        self.count(Column::StreamOffset, data.stream_offset);
        self.count(Column::DataBytes, data.data_bytes);
        self.count(Column::LostBytes, data.lost_bytes);
        self.begin_list(Column::Data, ColumnType::BinaryList, payload.len());
        payload.iter().for_each(|id| self.raw_unsigned(u64::from(id.0)));
        if data.source == Source::Tls {
            self.text(Column::Library, &data.library);
        }
        self.optional_count(Column::Fd, data.fd);
        if data.call_ts.is_empty() {
            return;
        }
        self.begin_list(Column::CallTs, ColumnType::TimestampList, data.call_ts.len());
        data.call_ts.iter().for_each(|ts| self.raw_integer(ts.0));
        self.begin_list(Column::CallBytes, ColumnType::Int64List, data.call_bytes.len());
        data.call_bytes.iter().for_each(|bytes| self.raw_integer(saturate(*bytes)));
    }

    fn channel(&mut self, channel: &Channel) {
        self.identifier(Column::ConnId, channel.conn_id);
        self.text(Column::ChannelType, channel.channel_type.as_str());
        self.text(Column::Role, channel.role.as_str());
        self.count(Column::Fd, channel.fd);
        self.optional_text(Column::LocalAddr, channel.local_addr.as_deref());
        self.optional_text(Column::RemoteAddr, channel.remote_addr.as_deref());
        self.count(Column::Errno, channel.errno);
    }

    fn file_access(&mut self, access: &FileAccess) {
        self.optional_text(Column::Path, access.path.as_deref());
        self.optional_text(Column::Operation, access.operation.map(OpenOperation::as_str));
        self.optional_text(Column::Flags, access.flags.as_deref());
        self.ts(Column::FirstTs, access.first_ts);
        self.count(Column::OpenCount, access.open_count);
        self.count(Column::ReadCount, access.read_count);
        self.count(Column::ReadBytes, access.read_bytes);
        self.count(Column::WriteCount, access.write_count);
        self.count(Column::WrittenBytes, access.written_bytes);
        self.count(Column::Errno, access.errno);
    }

    fn sample(&mut self, sample: &Sample) {
        self.count(Column::Ppid, sample.ppid);
        if let Some(percent) = sample.cpu_percent {
            self.begin(Column::CpuPercent, ColumnType::Float64);
            self.row.extend_from_slice(&percent.to_le_bytes());
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
            self.identifier(Column::ConnId, conn_id);
        }
    }

    fn probe(&mut self, probe: &Probe) {
        self.text(Column::Path, &probe.path);
        self.optional_text(Column::Library, probe.library.as_deref());
        self.text(Column::ProbeState, probe.state.as_str());
        self.text(Column::Detail, &probe.detail);
        self.optional_text(Column::BuildId, probe.build_id.as_deref());
    }

    fn ts(&mut self, column: Column, value: WallNanos) {
        self.begin(column, ColumnType::Timestamp);
        self.raw_integer(value.0);
    }

    fn count(&mut self, column: Column, value: impl Into<u64>) {
        self.begin(column, ColumnType::Int64);
        self.raw_integer(saturate(value.into()));
    }

    fn optional_count(&mut self, column: Column, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.count(column, value);
        }
    }

    /// Not a quantity: all 64 bits are kept.
    fn identifier(&mut self, column: Column, value: u64) {
        self.begin(column, ColumnType::Int64);
        self.raw_integer(value.cast_signed());
    }

    fn optional_int32(&mut self, column: Column, value: Option<i32>) {
        if let Some(value) = value {
            self.begin(column, ColumnType::Int32);
            self.raw_integer(i64::from(value));
        }
    }

    fn text(&mut self, column: Column, value: &str) {
        self.begin(column, ColumnType::Utf8);
        self.raw_text(value);
    }

    fn optional_text(&mut self, column: Column, value: Option<&str>) {
        if let Some(value) = value {
            self.text(column, value);
        }
    }

    fn begin_list(&mut self, column: Column, as_type: ColumnType, count: usize) {
        self.begin(column, as_type);
        self.raw_unsigned(count as u64);
    }

    fn begin(&mut self, column: Column, as_type: ColumnType) {
        debug_assert_eq!(column.description().column_type, as_type, "column {}", column.name());
        self.row.push(column as u8);
    }

    fn raw_text(&mut self, value: &str) {
        self.raw_unsigned(value.len() as u64);
        self.row.extend_from_slice(value.as_bytes());
    }

    fn raw_integer(&mut self, value: i64) {
        self.raw_unsigned((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    fn raw_unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.row.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.row.push(value as u8);
    }
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A row that does not read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected cells of known columns, found something else")]
pub(crate) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// Reads the values of a row, in order; the type of each follows from its column.
pub(crate) struct RowReader<'row> {
    rest: &'row [u8],
}

impl<'row> RowReader<'row> {
    pub(crate) fn new(row: &'row [u8]) -> Self {
        Self { rest: row }
    }

    /// The column of the next cell; `None` at the end of the row.
    pub(crate) fn column(&mut self) -> Result<Option<Column>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let [position] = self.fixed()?;
        Column::ALL.get(usize::from(position)).copied().map(Some).ok_or(Malformed)
    }

    pub(crate) fn integer(&mut self) -> Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    pub(crate) fn double(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.fixed()?))
    }

    pub(crate) fn boolean(&mut self) -> Result<bool> {
        let [value] = self.fixed()?;
        Ok(value != 0)
    }

    pub(crate) fn text(&mut self) -> Result<&'row str> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| Malformed)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }

    /// The number of values of a list.
    pub(crate) fn list_length(&mut self) -> Result<u64> {
        self.unsigned()
    }

    pub(crate) fn chunk_id(&mut self) -> Result<ChunkId> {
        u32::try_from(self.unsigned()?).map(ChunkId).map_err(|_| Malformed)
    }

    /// Passes over a value; says how many values it holds if it is a list, else 0.
    pub(crate) fn pass(&mut self, column_type: ColumnType) -> Result<usize> {
        match column_type {
            ColumnType::Timestamp | ColumnType::Int64 => self.integer().map(|_| 0),
            ColumnType::Int32 => {
                i32::try_from(self.integer()?).map_err(|_| Malformed)?;
                Ok(0)
            }
            ColumnType::Float64 => self.double().map(|_| 0),
            ColumnType::Boolean => self.boolean().map(|_| 0),
            ColumnType::Utf8 => self.text().map(|_| 0),
            ColumnType::Utf8List => self.pass_list(|reader| reader.text().map(drop)),
            ColumnType::TimestampList | ColumnType::Int64List => {
                self.pass_list(|reader| reader.integer().map(drop))
            }
            ColumnType::BinaryList => self.pass_list(|reader| reader.chunk_id().map(drop)),
        }
    }

    fn pass_list(&mut self, pass: impl Fn(&mut Self) -> Result<()>) -> Result<usize> {
        let count = self.list_length()?;
        // Every value takes at least a byte, so this ends with the row whatever was claimed.
        for _ in 0..count {
            pass(self)?;
        }
        usize::try_from(count).map_err(|_| Malformed)
    }

    fn unsigned(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'row [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(value in any::<i64>()) {
            let mut row = Vec::new();
            RowWriter { row: &mut row }.raw_integer(value);
            let mut reader = RowReader::new(&row);
            prop_assert_eq!(reader.integer(), Ok(value));
            prop_assert_eq!(reader.column(), Ok(None));
        }

        #[test]
        fn any_bytes_read_as_something_or_malformed(row in proptest::collection::vec(any::<u8>(), 0..40)) {
            for read in [
                |reader: &mut RowReader| reader.integer().map(drop),
                |reader: &mut RowReader| reader.text().map(drop),
                |reader: &mut RowReader| reader.double().map(drop),
                |reader: &mut RowReader| reader.column().map(drop),
            ] {
                let mut reader = RowReader::new(&row);
                while !reader.rest.is_empty() && read(&mut reader).is_ok() {}
            }
        }
    }
}
