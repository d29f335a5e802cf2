//! A recording written by hand: processes, TLS connections and `/proc` samples on a made-up clock.
//!
//! Everything follows from the calls made on [`Recording`], so that the same calls always give the
//! same events. It knows no SQL and no report; it uses the library's event vocabulary only.

mod io;

pub use io::{Ends, failed, made, read};

use agentsight::event::{
    Body, Direction, Event, Exit, Fork, Image, Loss, Probe, ProbeState, ProcessId, Sample, Source,
    StreamData,
};
use agentsight::time::{CLOCK_TICK_NS, WallNanos};

/// 2026-01-15 09:30:00 UTC, where every made-up recording begins.
const START_NS: i64 = 1_768_469_400_000_000_000;

/// Real user id of every made-up process.
const UID: u32 = 1000;

/// How often the made-up sampler looks.
pub const SAMPLE_INTERVAL_MS: u64 = 1000;

/// The instant `ms` milliseconds into a recording.
pub fn at(ms: u64) -> WallNanos {
    WallNanos(START_NS + (ms * 1_000_000).cast_signed())
}

/// A handle to a process of a [`Recording`].
#[derive(Clone, Copy)]
pub struct Process(usize);

/// A handle to a TLS connection of a [`Recording`].
#[derive(Clone, Copy)]
pub struct Connection(usize);

/// What a process does to its machine from `from_ms` until `to_ms`.
struct Load {
    from_ms: u64,
    to_ms: u64,
    /// Percent of one core, nine tenths of it in user mode.
    cpu_percent: u64,
    rss_bytes: u64,
}

struct ProcessState {
    id: ProcessId,
    ppid: u32,
    comm: String,
    start_ms: u64,
    end_ms: Option<u64>,
    loads: Vec<Load>,
}

impl ProcessState {
    /// CPU time used until `ms`, user and system.
    fn cpu_ns(&self, ms: u64) -> (u64, u64) {
        let busy: u64 = self
            .loads
            .iter()
            .map(|load| {
                let until = load.to_ms.min(ms);
                until.saturating_sub(load.from_ms) * 1_000_000 * load.cpu_percent / 100
            })
            .sum();
        (busy / 10 * 9, busy / 10)
    }

    fn rss_bytes(&self, ms: u64) -> u64 {
        let current = self.loads.iter().rev().find(|load| load.from_ms <= ms);
        current.map_or(1 << 20, |load| load.rss_bytes)
    }

    fn peak_rss_bytes(&self) -> u64 {
        self.loads.iter().map(|load| load.rss_bytes).max().unwrap_or(1 << 20)
    }
}

struct ConnectionState {
    conn_id: u64,
    process: Process,
    library: String,
    sent_bytes: u64,
    received_bytes: u64,
}

/// A made-up recording that grows call by call.
#[derive(Default)]
pub struct Recording {
    events: Vec<Event>,
    processes: Vec<ProcessState>,
    connections: Vec<ConnectionState>,
    sockets: Vec<io::SocketState>,
}

impl Recording {
    /// `ppid` forks `pid`, which a millisecond later runs `exe` with `argv`.
    pub fn start(&mut self, ms: u64, ppid: u32, pid: u32, exe: &str, argv: &[&str]) -> Process {
        // As the recorder does: floored to a clock tick.
        let tick = i64::try_from(CLOCK_TICK_NS).expect("a clock tick is ten milliseconds");
        let start_ts = WallNanos(at(ms).0 / tick * tick);
        let process = Process(self.processes.len());
        self.processes.push(ProcessState {
            id: ProcessId { pid, start_ts },
            ppid,
            comm: comm_of(exe),
            start_ms: ms,
            end_ms: None,
            loads: Vec::new(),
        });
        self.push(ms, process, Body::ProcessFork(Fork { ppid, uid: UID }));
        let image = self.image(process, exe, argv, ppid);
        self.push(ms + 1, process, Body::ProcessExec(image));
        process
    }

    /// A process that ran before the recording began.
    pub fn found(&mut self, ms: u64, started_s_ago: u64, pid: u32, argv: &[&str]) -> Process {
        let process = Process(self.processes.len());
        let start_ts = WallNanos(START_NS - (started_s_ago * 1_000_000_000).cast_signed());
        self.processes.push(ProcessState {
            id: ProcessId { pid, start_ts },
            ppid: 1,
            comm: comm_of(argv[0]),
            start_ms: ms,
            end_ms: None,
            loads: Vec::new(),
        });
        let image = self.image(process, argv[0], argv, 0);
        self.push(ms, process, Body::ProcessSeen(image));
        process
    }

    fn image(&self, process: Process, exe: &str, argv: &[&str], ppid: u32) -> Image {
        let known = self.processes.iter().any(|other| other.id.pid == ppid);
        Image {
            ppid: self.processes[process.0].ppid,
            uid: UID,
            exe: Some(exe.to_owned()),
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            argv_lost_bytes: 0,
            cwd: Some("/home/demo/project".to_owned()),
            cgroup: None,
            matched: !known,
        }
    }

    /// `process` uses CPU and memory for a while.
    pub fn load(
        &mut self,
        process: Process,
        (from_ms, to_ms): (u64, u64),
        cpu_percent: u64,
        rss_mib: u64,
    ) {
        let load = Load { from_ms, to_ms, cpu_percent, rss_bytes: rss_mib << 20 };
        self.processes[process.0].loads.push(load);
    }

    /// `process` ends with an exit code (`Ok`) or a signal (`Err`).
    pub fn exit(&mut self, ms: u64, process: Process, outcome: Result<i32, i32>) {
        let state = &mut self.processes[process.0];
        state.end_ms = Some(ms);
        let (cpu_user_ns, cpu_system_ns) = state.cpu_ns(ms);
        let exit = Exit {
            ppid: state.ppid,
            exit_code: outcome.ok(),
            signal: outcome.err(),
            cpu_user_ns,
            cpu_system_ns,
            peak_rss_bytes: state.peak_rss_bytes(),
            read_bytes: 4096,
            written_bytes: 8192,
        };
        self.push(ms, process, Body::ProcessExit(exit));
    }

    /// `process` opens a TLS connection.
    pub fn connect(&mut self, process: Process, library: &str) -> Connection {
        let connection = Connection(self.connections.len());
        self.connections.push(ConnectionState {
            conn_id: self.connections.len() as u64 + 1,
            process,
            library: library.to_owned(),
            sent_bytes: 0,
            received_bytes: 0,
        });
        connection
    }

    /// The process sends `data`.
    pub fn send(&mut self, ms: u64, connection: Connection, data: &[u8]) {
        self.transfer(ms, connection, Direction::Write, data, 0);
    }

    /// The process receives `data`.
    pub fn receive(&mut self, ms: u64, connection: Connection, data: &[u8]) {
        self.transfer(ms, connection, Direction::Read, data, 0);
    }

    /// The process receives `data` and then bytes that the recorder could not copy.
    pub fn receive_torn(&mut self, ms: u64, connection: Connection, data: &[u8], lost_bytes: u64) {
        self.transfer(ms, connection, Direction::Read, data, lost_bytes);
        let conn_id = Some(self.connections[connection.0].conn_id);
        self.lose(ms, ("tls_data", "copy_fault"), 1, lost_bytes, conn_id);
    }

    fn transfer(
        &mut self,
        ms: u64,
        connection: Connection,
        direction: Direction,
        data: &[u8],
        lost_bytes: u64,
    ) {
        let state = &mut self.connections[connection.0];
        let position = match direction {
            Direction::Read => &mut state.received_bytes,
            Direction::Write => &mut state.sent_bytes,
        };
        let data_bytes = data.len() as u64 + lost_bytes;
        let stream_offset = *position;
        *position += data_bytes;
        let body = Body::Data(StreamData {
            source: Source::Tls,
            conn_id: state.conn_id,
            direction,
            stream_offset,
            data_bytes,
            lost_bytes,
            data: data.to_vec(),
            library: state.library.clone(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        });
        let process = state.process;
        self.push(ms, process, body);
    }

    /// The process frees its TLS connection.
    pub fn close(&mut self, ms: u64, connection: Connection) {
        let ConnectionState { conn_id, process, .. } = self.connections[connection.0];
        self.push(ms, process, Body::TlsClose { conn_id });
    }

    /// The recorder could not keep something in the 200 ms before `ms`.
    pub fn lose(
        &mut self,
        ms: u64,
        (event_class, cause): (&str, &str),
        lost_events: u64,
        lost_bytes: u64,
        conn_id: Option<u64>,
    ) {
        let loss = Loss {
            first_ts: at(ms - 200),
            event_class: event_class.to_owned(),
            cause: cause.to_owned(),
            lost_events,
            lost_bytes,
            conn_id,
        };
        self.push_bare(ms, Body::Loss(loss));
    }

    /// The recorder looked for TLS functions in the binary that `process` runs or maps.
    pub fn probe(&mut self, ms: u64, process: Process, path: &str, state: ProbeState) {
        let library = if path.contains("libssl") { "openssl" } else { "boringssl" };
        let (library, detail) = match state {
            ProbeState::Attached => (Some(library), "SSL_read@0x31c40, SSL_write@0x32010"),
            ProbeState::Absent => (None, "no TLS library recognised"),
            ProbeState::Unresolved => {
                (Some("boringssl"), "expected one candidate for SSL_read, found 3")
            }
            ProbeState::Failed => (Some("openssl"), "perf_event_open: permission denied"),
        };
        let probe = Probe {
            path: path.to_owned(),
            library: library.map(str::to_owned),
            state,
            detail: detail.to_owned(),
            build_id: Some("00112233445566778899aabbccddeeff00112233".to_owned()),
        };
        self.push(ms, process, Body::Probe(probe));
    }

    /// All events in time order, with samples of every process until `end_ms`.
    pub fn finish(mut self, end_ms: u64) -> Vec<Event> {
        for tick in 1..=end_ms / SAMPLE_INTERVAL_MS {
            self.sample_all(tick * SAMPLE_INTERVAL_MS);
        }
        // Stable: events of one instant stay in the order in which they were told.
        self.events.sort_by_key(|event| event.ts);
        self.events
    }

    fn sample_all(&mut self, ms: u64) {
        let alive = |state: &ProcessState| {
            state.start_ms < ms && state.end_ms.is_none_or(|end_ms| ms < end_ms)
        };
        let pids: Vec<u32> = self.processes.iter().map(|state| state.ppid).collect();
        let mut samples = Vec::new();
        for (index, state) in self.processes.iter().enumerate().filter(|(_, state)| alive(state)) {
            let (cpu_user_ns, cpu_system_ns) = state.cpu_ns(ms);
            let before_ms = ms - SAMPLE_INTERVAL_MS;
            let (user_before, system_before) = state.cpu_ns(before_ms);
            let used_ns = cpu_user_ns + cpu_system_ns - user_before - system_before;
            let sample = Sample {
                ppid: state.ppid,
                // A first look has nothing to compare with.
                cpu_percent: (before_ms > state.start_ms)
                    .then(|| used_ns as f64 / (SAMPLE_INTERVAL_MS * 10_000) as f64),
                cpu_user_ns,
                cpu_system_ns,
                rss_bytes: state.rss_bytes(ms),
                vsz_bytes: state.rss_bytes(ms) * 3,
                threads: 4,
                children: pids.iter().filter(|&&ppid| ppid == state.id.pid).count() as u32,
                read_bytes: Some(4096),
                written_bytes: None,
            };
            samples.push((Process(index), sample));
        }
        for (process, sample) in samples {
            self.push(ms, process, Body::Sample(sample));
        }
        let own = Sample {
            ppid: 1,
            cpu_percent: Some(0.5),
            cpu_user_ns: ms * 4_000,
            cpu_system_ns: ms * 1_000,
            rss_bytes: 18 << 20,
            vsz_bytes: 90 << 20,
            threads: 3,
            children: 1,
            read_bytes: Some(0),
            written_bytes: Some(ms * 100),
        };
        self.push_bare(ms, Body::RecorderSample(own));
    }

    fn push(&mut self, ms: u64, process: Process, body: Body) {
        let state = &self.processes[process.0];
        let by_thread = matches!(body, Body::Data(_) | Body::TlsClose { .. });
        self.events.push(Event {
            ts: at(ms),
            process: Some(state.id),
            tid: by_thread.then_some(state.id.pid),
            comm: Some(state.comm.clone()),
            body,
        });
    }

    fn push_bare(&mut self, ms: u64, body: Body) {
        self.events.push(Event { ts: at(ms), process: None, tid: None, comm: None, body });
    }
}

/// As the kernel names a task: the last part of the path, at most 15 bytes.
fn comm_of(exe: &str) -> String {
    exe.rsplit('/').next().unwrap_or(exe).chars().take(15).collect()
}
