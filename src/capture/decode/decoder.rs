//! Records to events: the only state between the two.
//!
//! It converts clocks, numbers connections, and puts argument areas together that came in parts.
//! All three memories are bounded; what falls out of a bound is counted or becomes a new number,
//! never an error. Of every record that goes in it is known whether it came out ([`Decoded`]).

use std::collections::BTreeMap;

use super::files::FileUses;
use super::io;
use crate::capture::abi::{
    self, DataEvent, EventHeader, ExecArgvEvent, ProcessExecEvent, ProcessExitEvent,
};
use crate::capture::decode::Record;
use crate::event::{
    Body, Direction, Event, Exit, FileOp, Fork, Image, ProcessId, Source, StreamData,
};
use crate::time::{BootNanos, ClockAnchor, WallNanos};

/// Connections remembered at once: eight times what the kernel's map holds. Beyond it the oldest
/// numbers are forgotten, and a connection that lives on gets a new one.
const MAX_CONNECTIONS: usize = 262_144;

/// Argument areas in the making. The kernel sends one at a time per CPU; more can pile up only when
/// the records that end them are lost.
const MAX_ARGV_AREAS: usize = 64;

/// The largest argument area that is put together, twice what the kernel sends.
const MAX_ARGV_BYTES: usize = 4 << 20;

/// What tells connections apart: process, library handle and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ConnectionId {
    pid: u32,
    process_start_boot_ns: u64,
    handle: u64,
    generation_boot_ns: u64,
}

/// A connection that its process left open when it ended; the kernel's map still holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// Its number.
    pub conn_id: u64,
    /// Its process.
    pub process: ProcessId,
    /// Its library handle, or its address in the kernel.
    pub handle: u64,
    /// Which use of that.
    pub generation_boot_ns: u64,
    /// When the process ended.
    pub ended_ts: WallNanos,
}

impl Abandoned {
    /// The end of a channel, with what the kernel side had counted.
    #[must_use]
    pub fn closed(&self, connection: &abi::Connection) -> Event {
        let [read_bytes, written_bytes] = connection.stream_offset;
        let body = Body::ChannelClose { conn_id: self.conn_id, read_bytes, written_bytes };
        Event { ts: self.ended_ts, process: Some(self.process), tid: None, comm: None, body }
    }
}

/// What became of the records of one class that were decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Events handed out.
    pub events: u64,
    /// Bytes in them: plaintext (`tls_data`) or arguments (`process_exec`).
    pub bytes: u64,
    /// Events that cannot be used because what they refer to was lost.
    pub unusable_events: u64,
    /// Bytes that cannot be used because what they continue was lost.
    pub unusable_bytes: u64,
    /// Events of processes that were observed until it was clear that they are not to be.
    pub unselected_events: u64,
    /// Bytes of those.
    pub unselected_bytes: u64,
}

/// Turns records, in time order, into events.
#[derive(Debug)]
pub struct Decoder {
    anchor: ClockAnchor,
    /// Bytes of a memory page, the unit of the kernel's resident set sizes.
    page_bytes: u64,
    /// Names by library tag; a tag beyond the end is `unknown`.
    libraries: Vec<String>,
    connections: BTreeMap<ConnectionId, u64>,
    last_conn_id: u64,
    /// By thread id: the contiguous beginning of an argument area.
    argv_areas: BTreeMap<u32, Vec<u8>>,
    abandoned: Vec<Abandoned>,
    files: FileUses,
    decoded: [Decoded; abi::CLASS_COUNT],
}

impl Decoder {
    /// `page_bytes` is the page size of the recording host.
    #[must_use]
    pub fn new(anchor: ClockAnchor, page_bytes: u64) -> Self {
        Self {
            anchor,
            page_bytes,
            libraries: Vec::new(),
            connections: BTreeMap::new(),
            last_conn_id: 0,
            argv_areas: BTreeMap::new(),
            abandoned: Vec::new(),
            files: FileUses::new(anchor),
            decoded: [Decoded::default(); abi::CLASS_COUNT],
        }
    }

    /// What became of the records so far, by class. Arguments whose exec record is still to come
    /// are in none of the numbers.
    #[must_use]
    pub fn decoded(&self) -> &[Decoded; abi::CLASS_COUNT] {
        &self.decoded
    }

    /// Arguments whose exec record is still to come.
    #[must_use]
    pub fn open_argv_bytes(&self) -> u64 {
        self.argv_areas.values().map(|area| area.len() as u64).sum()
    }

    /// Gives up waiting for exec records: no record is on its way any more.
    pub fn finish(&mut self) {
        for (_, area) in std::mem::take(&mut self.argv_areas) {
            self.argv_is_unusable(area.len());
        }
    }

    /// The tag under which records will name this library; 0 (`unknown`) when all are taken.
    pub fn library_tag(&mut self, name: &str) -> u8 {
        if self.libraries.is_empty() {
            self.libraries.push("unknown".to_owned());
        }
        if let Some(at) = self.libraries.iter().position(|known| known == name) {
            return at as u8;
        }
        match u8::try_from(self.libraries.len()) {
            Ok(tag) => {
                self.libraries.push(name.to_owned());
                tag
            }
            Err(_) => 0,
        }
    }

    /// What processes do to files.
    pub fn files(&mut self) -> &mut FileUses {
        &mut self.files
    }

    /// Connections whose process has ended since the last call without closing them.
    pub fn take_abandoned(&mut self) -> Vec<Abandoned> {
        std::mem::take(&mut self.abandoned)
    }

    /// Takes back what was handed out of one class since `before`: it is of a process that is not
    /// to be observed.
    pub fn unselect(&mut self, class: usize, before: Decoded) {
        let decoded = &mut self.decoded[class];
        decoded.unselected_events += decoded.events - before.events;
        decoded.unselected_bytes += decoded.bytes - before.bytes;
        (decoded.events, decoded.bytes) = (before.events, before.bytes);
    }

    /// Counts a record of a process that is not to be observed, and learns nothing from it.
    pub fn pass_over(&mut self, record: &Record) {
        let decoded = &mut self.decoded[record.class()];
        decoded.unselected_events += 1;
        if let Record::Data { data, .. } = record {
            decoded.unselected_bytes += data.len() as u64;
        }
    }

    /// Takes one record; `None` for one that only prepares a later one.
    pub fn push(&mut self, record: Record) -> Option<Event> {
        let header = *record.header();
        let class = record.class();
        let body = match record {
            Record::Fork(event) => Body::ProcessFork(Fork { ppid: event.ppid, uid: event.uid }),
            Record::Exec { event, exe, cwd, argv } => {
                Body::ProcessExec(self.image(&event, &exe, &cwd, &argv))
            }
            Record::Argv { event, argv } => {
                self.keep_argv(&event, &argv);
                return None;
            }
            Record::Exit(event) => {
                self.forget_process(&header);
                Body::ProcessExit(exit(&event, self.page_bytes))
            }
            Record::Data { event, data } => Body::Data(self.data(&event, data)),
            Record::Close(event) => {
                let id = connection_id(&header, event.handle, event.generation_boot_ns);
                let Some(conn_id) = self.connections.remove(&id) else {
                    // Its data was all lost: nobody knows the connection.
                    self.decoded[class].unusable_events += 1;
                    return None;
                };
                Body::TlsClose { conn_id }
            }
            Record::Channel(event) => {
                let id = connection_id(&header, event.handle, event.generation_boot_ns);
                Body::ChannelOpen(io::channel(&event, self.conn_id(id)))
            }
            Record::ChannelClose(event) => {
                let id = connection_id(&header, event.handle, event.generation_boot_ns);
                // One whose opening was lost gets its number now: its bytes are worth knowing.
                let conn_id = self.conn_id(id);
                self.connections.remove(&id);
                let (read_bytes, written_bytes) = (event.read_bytes, event.written_bytes);
                Body::ChannelClose { conn_id, read_bytes, written_bytes }
            }
            Record::TlsSocket(event) => {
                let tls = connection_id(&header, event.handle, event.generation_boot_ns);
                let socket = connection_id(&header, event.socket, event.socket_generation_boot_ns);
                let (conn_id, socket_conn_id) = (self.conn_id(tls), self.conn_id(socket));
                Body::TlsSocket(io::tls_socket(&event, conn_id, socket_conn_id))
            }
            Record::Path { event, path, base, new_path, new_base } => {
                let path = io::absolute(&path, &base, event.flags & abi::PATH_TRUNCATED != 0);
                let new_path = io::absolute(&new_path, &new_base, false);
                match io::path_operation(&event) {
                    Some(operation) => Body::FileOp(FileOp { operation, path, new_path }),
                    None => {
                        self.decoded[class].events += 1;
                        let (process, comm) = (self.process_id(&header), until_nul(&header.comm));
                        self.files.announce(&event, process, &comm, path);
                        return None;
                    }
                }
            }
        };
        self.decoded[class].events += 1;
        Some(self.event(&header, body))
    }

    /// The process that a record is about.
    pub fn process_id(&self, header: &EventHeader) -> ProcessId {
        let start = BootNanos(header.process_start_boot_ns);
        ProcessId { pid: header.pid, start_ts: self.anchor.process_start(start) }
    }

    fn event(&self, header: &EventHeader, body: Body) -> Event {
        Event {
            ts: self.anchor.wall(BootNanos(header.boot_ns)),
            process: Some(self.process_id(header)),
            tid: Some(header.tid),
            comm: Some(until_nul(&header.comm)),
            body,
        }
    }

    fn keep_argv(&mut self, event: &ExecArgvEvent, part: &[u8]) {
        let tid = event.header.tid;
        if event.argv_offset == 0 {
            // One that this thread has begun before belongs to an exec whose record was lost.
            let forgotten = match self.argv_areas.remove(&tid) {
                None if self.argv_areas.len() >= MAX_ARGV_AREAS => {
                    self.argv_areas.pop_first().map(|(_, area)| area)
                }
                begun => begun,
            };
            self.argv_is_unusable(forgotten.map_or(0, |area| area.len()));
            self.argv_areas.insert(tid, Vec::new());
        }
        // Behind a lost part nothing can be used: an argument might begin anywhere.
        let area = self.argv_areas.get_mut(&tid).filter(|area| {
            area.len() == event.argv_offset as usize && area.len() + part.len() <= MAX_ARGV_BYTES
        });
        match area {
            Some(area) => area.extend_from_slice(part),
            None => self.argv_is_unusable(part.len()),
        }
    }

    fn argv_is_unusable(&mut self, bytes: usize) {
        self.decoded[abi::CLASS_PROCESS_EXEC].unusable_bytes += bytes as u64;
    }

    fn image(&mut self, event: &ProcessExecEvent, exe: &[u8], cwd: &[u8], tail: &[u8]) -> Image {
        let mut area = self.argv_areas.remove(&event.header.tid).unwrap_or_default();
        if event.argv_offset == 0 {
            // A small area comes whole; what was kept belongs to an exec whose record was lost.
            self.argv_is_unusable(area.len());
            area.clear();
        }
        if area.len() == event.argv_offset as usize {
            area.extend_from_slice(tail);
        } else {
            self.argv_is_unusable(tail.len());
        }
        self.decoded[abi::CLASS_PROCESS_EXEC].bytes += area.len() as u64;
        let cwd_truncated = event.flags & abi::EXEC_CWD_TRUNCATED != 0;
        Image {
            ppid: event.ppid,
            uid: event.uid,
            exe: path(exe, event.flags & abi::EXEC_EXE_TRUNCATED != 0),
            argv: arguments(&area),
            argv_lost_bytes: u64::from(event.argv_total_bytes).saturating_sub(area.len() as u64),
            cwd: path(cwd, cwd_truncated).or_else(|| (!cwd_truncated).then(|| "/".to_owned())),
            matched: event.flags & abi::EXEC_MATCHED != 0,
            cgroup: None,
        }
    }

    fn data(&mut self, event: &DataEvent, data: Vec<u8>) -> StreamData {
        let id = connection_id(&event.header, event.handle, event.generation_boot_ns);
        let conn_id = self.conn_id(id);
        let source = io::source(event.header.kind);
        let class = super::data_class(event.header.kind);
        self.decoded[class].bytes += data.len() as u64;
        let known = self.libraries.get(usize::from(event.library));
        StreamData {
            source,
            conn_id,
            direction: if event.direction == abi::DIRECTION_READ {
                Direction::Read
            } else {
                Direction::Write
            },
            stream_offset: event.stream_offset,
            data_bytes: u64::from(event.data_bytes),
            // `parse` has checked that captured_bytes, the length of `data`, is not larger.
            lost_bytes: u64::from(event.data_bytes).saturating_sub(data.len() as u64),
            data,
            library: match source {
                Source::Tls => known.map_or_else(|| "unknown".to_owned(), Clone::clone),
                _ => String::new(),
            },
            fd: (event.fd != abi::NO_FD).then_some(event.fd),
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        }
    }

    fn conn_id(&mut self, id: ConnectionId) -> u64 {
        if let Some(conn_id) = self.connections.get(&id) {
            return *conn_id;
        }
        if self.connections.len() >= MAX_CONNECTIONS {
            self.connections.pop_first();
        }
        self.last_conn_id += 1;
        self.connections.insert(id, self.last_conn_id);
        self.last_conn_id
    }

    fn forget_process(&mut self, header: &EventHeader) {
        let pid = header.pid;
        let process_start_boot_ns = header.process_start_boot_ns;
        let first = ConnectionId { pid, process_start_boot_ns, handle: 0, generation_boot_ns: 0 };
        let last = ConnectionId { handle: u64::MAX, generation_boot_ns: u64::MAX, ..first };
        let open: Vec<ConnectionId> =
            self.connections.range(first..=last).map(|(id, _)| *id).collect();
        let process = self.process_id(header);
        let ended_ts = self.anchor.wall(BootNanos(header.boot_ns));
        for id in open {
            let Some(conn_id) = self.connections.remove(&id) else { continue };
            let ConnectionId { handle, generation_boot_ns, .. } = id;
            self.abandoned.push(Abandoned {
                conn_id,
                process,
                handle,
                generation_boot_ns,
                ended_ts,
            });
        }
        self.files.end(process);
    }
}

fn connection_id(header: &EventHeader, handle: u64, generation_boot_ns: u64) -> ConnectionId {
    ConnectionId {
        pid: header.pid,
        process_start_boot_ns: header.process_start_boot_ns,
        handle,
        generation_boot_ns,
    }
}

fn until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A path from its components, last first and NUL-terminated. `None` when there is none.
pub(super) fn path(components: &[u8], truncated: bool) -> Option<String> {
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    if components.is_empty() {
        return None;
    }
    // A path that lacks its beginning must not look like one from the root.
    let mut path = if truncated { "...".to_owned() } else { String::new() };
    for component in components.split(|byte| *byte == 0).rev() {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    Some(path)
}

fn arguments(area: &[u8]) -> Vec<String> {
    if area.is_empty() {
        return Vec::new();
    }
    let area = area.strip_suffix(&[0]).unwrap_or(area);
    area.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

fn exit(event: &ProcessExitEvent, page_bytes: u64) -> Exit {
    // wait(2): the low seven bits are the signal, the eighth says whether there is a core dump.
    let signal = event.wait_status & 0x7f;
    let code = event.wait_status >> 8 & 0xff;
    let (cpu_user_ns, cpu_system_ns) = split_cpu(event);
    Exit {
        ppid: event.ppid,
        exit_code: (signal == 0).then_some(code as i32),
        signal: (signal != 0).then_some(signal as i32),
        cpu_user_ns,
        cpu_system_ns,
        peak_rss_bytes: event.peak_rss_pages.saturating_mul(page_bytes),
        read_bytes: event.read_bytes,
        written_bytes: event.written_bytes,
    }
}

/// Splits the exact run time in the ratio that the ticks saw, as `cputime_adjust` in
/// kernel/sched/cputime.c does. Without any tick in system mode all of it counts as user time.
fn split_cpu(event: &ProcessExitEvent) -> (u64, u64) {
    let (user, system) =
        (u128::from(event.cpu_user_sampled_ns), u128::from(event.cpu_system_sampled_ns));
    let runtime = u128::from(event.cpu_runtime_ns);
    if system == 0 {
        return (event.cpu_runtime_ns, 0);
    }
    // Not above the run time, so it fits.
    let system_ns = (runtime * system / (user + system)) as u64;
    (event.cpu_runtime_ns - system_ns, system_ns)
}
