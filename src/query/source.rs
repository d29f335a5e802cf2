//! The rows of every derived table, made from one trace on demand.
//!
//! Small results are made once and kept: the activity of the processes, the sockets and pipes, what
//! was done to files, and one pass over payload ([`super::kept`]) that serves `http`, `connections`,
//! the gaps, `llm_calls` and what is made of these; `stream_events`, `messages` and the texts of
//! `tool_calls` while they are few. Whatever grows with the payload (chunks, bodies, many texts) is
//! never held: it streams through in batches of bounded size. Everything here blocks; providers call
//! it on blocking threads.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;

use super::kept::{Findings, Kept, stream_event_bytes};
use crate::event::Event;
use crate::price::Prices;
use crate::reconstruct::finding::Finding;
use crate::reconstruct::{Options, Reconstructor};
use crate::tables::activity::{self, Activity};
use crate::tables::{
    self, Channels, Chunk, ConnectionRow, DnsRow, FileOpRow, FileRow, Files, Gaps, HttpRow,
    InfoRow, StdioChunk, Table, TlsChunk, ToolRuns,
};
use crate::trace::{self, Reader};

/// Rows in a batch at most.
const BATCH_ROWS: usize = 1024;

/// Payload in a batch at most, unless one row alone has more.
const BATCH_BYTES: usize = 4 << 20;

/// A body is kept, and one content coding unpacks, up to this size: twice what the largest request
/// to a provider may be. Several are held at a time.
const MAX_BODY_BYTES: u64 = 64 << 20;

/// The events that reconstruction needs.
const RECONSTRUCTED_KINDS: &[&str] = &[
    "tls_data",
    "tls_close",
    "socket_data",
    "stdio_data",
    "channel_open",
    "channel_close",
    "process_exit",
];

/// The derived tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Derived {
    TlsChunks,
    StdioChunks,
    Processes,
    Samples,
    Files,
    FileOps,
    Connections,
    DnsAnswers,
    Http,
    StreamEvents,
    LlmCalls,
    Messages,
    ToolCalls,
    Turns,
    Conversations,
    CacheBreaks,
    Limits,
    McpCalls,
    Gaps,
    Losses,
    Probes,
    TraceInfo,
}

/// Takes batches as they are made; `Break` when no more are wanted.
pub(super) type Sink<'a> = &'a mut dyn FnMut(RecordBatch) -> ControlFlow<()>;

pub(super) type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// A value made when first needed; whoever needs it meanwhile waits for it.
#[derive(Debug)]
struct Once<T>(Mutex<Option<Arc<T>>>);

impl<T> Once<T> {
    fn get(&self, make: impl FnOnce() -> Result<T, trace::Error>) -> Result<Arc<T>, trace::Error> {
        // A panic while the lock was held left the value unmade.
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*value {
            return Ok(Arc::clone(value));
        }
        Ok(Arc::clone(value.insert(Arc::new(make()?))))
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// One trace and what was made of it so far.
#[derive(Debug)]
pub(super) struct Source {
    /// Its files: one, or the parts of a recording in their order.
    readers: Vec<Reader>,
    pub(super) prices: Arc<Prices>,
    info: Once<Vec<InfoRow>>,
    activity: Once<Activity>,
    attributed: Once<Activity>,
    with_tools: Once<Activity>,
    tool_runs: Once<ToolRuns>,
    channels: Once<Channels>,
    files: Once<Vec<FileRow>>,
    findings: Once<Findings>,
    connections: Once<Vec<ConnectionRow>>,
}

impl Source {
    pub(super) fn new(readers: Vec<Reader>, prices: Arc<Prices>) -> Self {
        Self {
            readers,
            prices,
            info: Once::default(),
            activity: Once::default(),
            attributed: Once::default(),
            with_tools: Once::default(),
            tool_runs: Once::default(),
            channels: Once::default(),
            files: Once::default(),
            findings: Once::default(),
            connections: Once::default(),
        }
    }

    /// The files of the trace, in order.
    pub(super) fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// The files of the trace with the number of row groups at the begin of each that only repeat
    /// what the file before it says.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Reader, usize)> {
        let part = |reader: &Reader| reader.origin().part;
        self.readers.iter().enumerate().map(move |(at, reader)| {
            let before = at.checked_sub(1).and_then(|at| part(&self.readers[at]));
            let follows = before.is_some_and(|before| before.checked_add(1) == part(reader));
            (reader, if follows { reader.carried_groups() } else { 0 })
        })
    }

    /// The events of some kinds, file by file.
    pub(super) fn events(
        &self,
        kinds: &[&str],
    ) -> impl Iterator<Item = Result<Event, trace::Error>> {
        self.files().flat_map(|(reader, repeated)| reader.events_after(repeated, Some(kinds)))
    }

    /// Whether connections may have begun before the trace: its first part is not the recording's.
    fn is_midway(&self) -> bool {
        self.readers.first().is_some_and(|reader| reader.origin().is_midway)
    }

    /// Makes the columns `projection` of the rows of a table, batch by batch.
    pub(super) fn produce(
        &self,
        table: Derived,
        projection: &[usize],
        sink: Sink<'_>,
    ) -> Result<()> {
        match table {
            Derived::TlsChunks => self.tls_chunks(projection, sink),
            Derived::StdioChunks => self.stdio_chunks(projection, sink),
            Derived::FileOps => self.file_ops(projection, sink),
            Derived::DnsAnswers => self.dns_answers(projection, sink),
            Derived::Files => send(&tables::FILES, &external(self.file_rows())?, projection, sink),
            Derived::Connections => {
                send(&tables::CONNECTIONS, &external(self.connections())?, projection, sink)
            }
            Derived::Http => self.http(projection, sink),
            Derived::StreamEvents => self.stream_events(projection, sink),
            Derived::Processes => {
                let needs = |names: &[&str]| {
                    names.iter().any(|name| projection.contains(&tables::PROCESSES.index(name)))
                };
                let activity = match () {
                    () if needs(tables::TOOL_COLUMNS) => self.with_tools(),
                    () if needs(&["is_agent"]) => self.attributed(),
                    () => self.activity(),
                };
                send(&tables::PROCESSES, &external(activity)?.processes, projection, sink)
            }
            Derived::Samples => {
                let needs_calls = projection.contains(&tables::SAMPLES.index("call_id"));
                let activity = if needs_calls { self.attributed() } else { self.activity() };
                send(&tables::SAMPLES, &external(activity)?.samples, projection, sink)
            }
            Derived::LlmCalls => {
                let (findings, activity) = (external(self.findings())?, external(self.activity())?);
                let name = |index: &usize| tables::LLM_CALLS.columns[*index].name;
                let needs_prices = projection.iter().map(name).any(tables::needs_prices);
                let prices = needs_prices.then_some(&*self.prices);
                let channels = external(self.channels())?;
                let rows = activity.call_rows(&findings.calls, &channels, prices);
                send(&tables::LLM_CALLS, &rows, projection, sink)
            }
            Derived::Messages => self.messages(projection, sink),
            Derived::ToolCalls => self.tool_calls(projection, sink),
            Derived::Turns => self.turns(projection, sink),
            Derived::Conversations => self.conversations(projection, sink),
            Derived::CacheBreaks => self.cache_breaks(projection, sink),
            Derived::Limits => {
                send(&tables::LIMITS, &external(self.findings())?.limits, projection, sink)
            }
            Derived::McpCalls => {
                let findings = external(self.findings())?;
                let (calls, exchanges) = (&findings.mcp_calls, &findings.exchanges);
                let channels = external(self.channels())?;
                let rows = tables::mcp_rows(calls, exchanges, &findings.tool_calls, &channels);
                send(&tables::MCP_CALLS, &rows, projection, sink)
            }
            Derived::Gaps => {
                let (findings, activity) = (external(self.findings())?, external(self.activity())?);
                let (holes, exchanges) = (&findings.gaps, &findings.exchanges);
                let rows = tables::gap_rows(holes, &activity.losses, exchanges, &findings.calls);
                send(&tables::GAPS, &rows, projection, sink)
            }
            Derived::Losses => {
                let (findings, activity) = (external(self.findings())?, external(self.activity())?);
                let mut rows = activity.losses.clone();
                rows.extend_from_slice(&findings.gaps);
                tables::sort_losses(&mut rows);
                send(&tables::LOSSES, &rows, projection, sink)
            }
            Derived::Probes => {
                send(&tables::PROBES, &external(self.activity())?.probes, projection, sink)
            }
            Derived::TraceInfo => {
                let info = external(self.info.get(|| super::info::rows(self)))?;
                send(&tables::TRACE_INFO, &info, projection, sink)
            }
        }
    }

    fn tls_chunks(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let of_socket = ["remote_addr", "confidence"].map(|it| tables::TLS_CHUNKS.index(it));
        let needs_channels = projection.iter().any(|index| of_socket.contains(index));
        let channels = if needs_channels { external(self.channels())? } else { Arc::default() };
        let mut batches = Batches::new(&tables::TLS_CHUNKS, projection, sink);
        for event in self.events(&["tls_data"]) {
            for chunk in Chunk::split(external(event)?) {
                let (bytes, peer) = (chunk.captured_bytes(), channels.peer(chunk.conn_id()));
                if batches.push(TlsChunk { chunk, peer }, bytes)?.is_break() {
                    return Ok(());
                }
            }
        }
        batches.finish()
    }

    fn stdio_chunks(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let channels = external(self.channels())?;
        let mut batches = Batches::new(&tables::STDIO_CHUNKS, projection, sink);
        for event in self.events(&["stdio_data"]) {
            for chunk in Chunk::split(external(event)?) {
                let chunk = StdioChunk::new(chunk, &channels);
                let bytes = chunk.captured_bytes();
                if batches.push(chunk, bytes)?.is_break() {
                    return Ok(());
                }
            }
        }
        batches.finish()
    }

    fn dns_answers(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let channels = external(self.channels())?;
        let mut batches = Batches::new(&tables::DNS_ANSWERS, projection, sink);
        for event in self.events(&["dns_data"]) {
            for row in DnsRow::from_event(external(event)?, &channels) {
                if batches.push(row, size_of::<DnsRow>())?.is_break() {
                    return Ok(());
                }
            }
        }
        batches.finish()
    }

    fn file_ops(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let mut batches = Batches::new(&tables::FILE_OPS, projection, sink);
        for event in self.events(&["file_op"]) {
            let Some(row) = FileOpRow::from_event(external(event)?) else { continue };
            let bytes = row.bytes();
            if batches.push(row, bytes)?.is_break() {
                return Ok(());
            }
        }
        batches.finish()
    }

    fn http(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let bodies = ["request_body", "response_body"].map(|name| tables::HTTP.index(name));
        if !projection.iter().any(|index| bodies.contains(index)) {
            return send(&tables::HTTP, &external(self.findings())?.exchanges, projection, sink);
        }
        let channels = external(self.channels())?;
        let mut batches = Batches::new(&tables::HTTP, projection, sink);
        self.reconstruct(true, |finding| match finding {
            Finding::Exchange(exchange) => {
                let bodies = [&exchange.request_body, &exchange.response_body];
                let bytes = bodies.into_iter().flatten().map(Vec::len).sum();
                batches.push(HttpRow::new(*exchange, &channels), bytes)
            }
            _ => Ok(ControlFlow::Continue(())),
        })?;
        batches.finish()
    }

    fn stream_events(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        if let Some(rows) = &external(self.findings())?.stream_events {
            return send(&tables::STREAM_EVENTS, rows, projection, sink);
        }
        let mut batches = Batches::new(&tables::STREAM_EVENTS, projection, sink);
        self.reconstruct(false, |finding| match finding {
            Finding::StreamEvent(event) => {
                let bytes = stream_event_bytes(&event);
                batches.push(event, bytes)
            }
            _ => Ok(ControlFlow::Continue(())),
        })?;
        batches.finish()
    }

    pub(super) fn activity(&self) -> Result<Arc<Activity>, trace::Error> {
        self.activity.get(|| {
            let mut activity = Activity::default();
            for event in self.events(activity::KINDS) {
                activity.push(&event?);
            }
            activity.finish();
            Ok(activity)
        })
    }

    /// The activity, with what is known from the calls.
    fn attributed(&self) -> Result<Arc<Activity>, trace::Error> {
        self.attributed.get(|| {
            let mut activity = Activity::clone(&*self.activity()?);
            activity.attribute(&self.findings()?.calls);
            Ok(activity)
        })
    }

    /// The activity, with what is known from the tool calls too.
    fn with_tools(&self) -> Result<Arc<Activity>, trace::Error> {
        self.with_tools.get(|| {
            let mut activity = Activity::clone(&*self.attributed()?);
            activity.attribute_tools(&self.findings()?.tool_calls, &*self.tool_runs()?);
            Ok(activity)
        })
    }

    pub(super) fn tool_runs(&self) -> Result<Arc<ToolRuns>, trace::Error> {
        self.tool_runs.get(|| {
            let (findings, activity) = (self.findings()?, self.activity()?);
            let (tools, files) = (&findings.tool_calls, self.file_rows()?);
            Ok(tables::tool_runs(tools, &activity, &findings.inputs, &files))
        })
    }

    fn channels(&self) -> Result<Arc<Channels>, trace::Error> {
        self.channels.get(|| {
            let mut channels = Channels::default();
            for event in self.events(tables::CHANNEL_KINDS) {
                channels.push(&event?);
            }
            channels.finish();
            Ok(channels)
        })
    }

    fn file_rows(&self) -> Result<Arc<Vec<FileRow>>, trace::Error> {
        self.files.get(|| {
            let mut files = Files::default();
            for event in self.events(tables::FILE_KINDS) {
                files.push(&event?);
            }
            Ok(files.finish())
        })
    }

    fn connections(&self) -> Result<Arc<Vec<ConnectionRow>>, trace::Error> {
        self.connections.get(|| {
            let (findings, activity) = (self.findings()?, self.activity()?);
            let end_of = |id| activity.find(id)?.exit.as_ref().map(|(ts, _)| *ts);
            Ok(findings.traffic.rows(&*self.channels()?, end_of))
        })
    }

    pub(super) fn findings(&self) -> Result<Arc<Findings>, trace::Error> {
        self.findings.get(|| {
            let is_midway = self.is_midway();
            let mut kept = Kept::new(self.channels()?, is_midway);
            let mut gaps = Gaps::new(is_midway);
            let mut reconstructor = Reconstructor::new(options(false)).midway(is_midway);
            let kinds = [RECONSTRUCTED_KINDS, tables::TRAFFIC_KINDS].concat();
            for event in self.events(&kinds) {
                let event = event?;
                gaps.push(&event);
                kept.event(&event);
                reconstructor.push(&event, &mut |finding| kept.push(finding));
            }
            reconstructor.finish(&mut |finding| kept.push(finding));
            let mut findings = kept.finish();
            findings.gaps = gaps.finish();
            Ok(findings)
        })
    }

    /// Reads the trace and hands over every finding until one breaks or fails.
    pub(super) fn reconstruct(
        &self,
        keep_bodies: bool,
        mut take: impl FnMut(Finding) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let is_midway = self.is_midway();
        let mut reconstructor = Reconstructor::new(options(keep_bodies)).midway(is_midway);
        let mut outcome = Ok(ControlFlow::Continue(()));
        // Findings come by callback: after the first break or failure the others are dropped.
        let stopped = Cell::new(false);
        let mut pass = |finding| {
            if !stopped.get() {
                outcome = take(finding);
                stopped.set(!matches!(outcome, Ok(ControlFlow::Continue(()))));
            }
        };
        for event in self.events(RECONSTRUCTED_KINDS) {
            reconstructor.push(&external(event)?, &mut pass);
            // Checked between events because a callback cannot stop the one being taken apart.
            if stopped.get() {
                break;
            }
        }
        if !stopped.get() {
            reconstructor.finish(&mut pass);
        }
        outcome.map(|_| ())
    }
}

fn options(keep_bodies: bool) -> Options {
    Options { keep_bodies, max_body_bytes: MAX_BODY_BYTES }
}

pub(super) fn external<T>(result: Result<T, trace::Error>) -> Result<T> {
    result.map_err(|error| DataFusionError::External(Box::new(error)))
}

/// Sends rows that are already in memory.
pub(super) fn send<R>(
    table: &Table<R>,
    rows: &[R],
    projection: &[usize],
    sink: Sink<'_>,
) -> Result<()> {
    for rows in rows.chunks(BATCH_ROWS) {
        if sink(table.batch(rows, projection)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// Gathers rows into batches of bounded size.
pub(super) struct Batches<'a, R: 'static> {
    table: &'static Table<R>,
    projection: &'a [usize],
    sink: Sink<'a>,
    rows: Vec<R>,
    bytes: usize,
}

impl<'a, R> Batches<'a, R> {
    pub(super) fn new(table: &'static Table<R>, projection: &'a [usize], sink: Sink<'a>) -> Self {
        Self { table, projection, sink, rows: Vec::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, row: R, bytes: usize) -> Result<ControlFlow<()>> {
        self.rows.push(row);
        self.bytes += bytes;
        if self.rows.len() < BATCH_ROWS && self.bytes < BATCH_BYTES {
            return Ok(ControlFlow::Continue(()));
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<ControlFlow<()>> {
        let batch = self.table.batch(&self.rows, self.projection)?;
        self.rows.clear();
        self.bytes = 0;
        Ok((self.sink)(batch))
    }

    pub(super) fn finish(mut self) -> Result<()> {
        if !self.rows.is_empty() {
            let _no_more_follow = self.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconstruct::finding::StreamEvent;
    use crate::time::WallNanos;

    #[test]
    fn batches_are_cut_by_bytes_and_rows_and_stop_when_told() {
        let row = || {
            let (ts, data) = (WallNanos(0), String::new());
            StreamEvent { http_id: 1, seq: 0, ts, event: None, data }
        };
        let mut sizes = Vec::new();
        let mut sink = |batch: RecordBatch| {
            sizes.push(batch.num_rows());
            if sizes.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut batches = Batches::new(&tables::STREAM_EVENTS, &[0], &mut sink);
        assert!(batches.push(row(), 1).unwrap().is_continue());
        assert!(batches.push(row(), BATCH_BYTES).unwrap().is_continue());
        for _ in 1..BATCH_ROWS {
            assert!(batches.push(row(), 1).unwrap().is_continue());
        }
        assert!(batches.push(row(), 1).unwrap().is_break());
        assert_eq!(sizes, [2, BATCH_ROWS]);
    }
}
