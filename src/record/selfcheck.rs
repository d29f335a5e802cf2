//! Is plaintext missing that should be there? A process that makes TLS connections and shows no
//! plaintext is the one failure that looks like success, so the user hears of it while recording.
//!
//! Sans IO: events and times in, warnings out. A TLS connection is a socket on which the process
//! sent a handshake's first flight. It is judged some seconds later, when plaintext must have
//! followed, and each program is told of once.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::event::{Body, Direction, Event, Probe, ProbeState, ProcessId, Source};
use crate::time::WallNanos;

/// How long after its first TLS connection a process must have shown plaintext. A handshake with a
/// server at the other end of the world takes a second, a request follows at once.
const GRACE_NS: i64 = 5_000_000_000;
/// Most processes watched at a time; more are not judged.
const MAX_PROCESSES: usize = 4096;
/// Most programs told of, and most outcomes of looking into binaries remembered.
const MAX_PROGRAMS: usize = 1024;
/// Most connections counted of one process.
const MAX_CONNECTIONS: usize = 1000;

/// A process under observation.
#[derive(Debug, Default)]
struct Watched {
    comm: String,
    exe: Option<String>,
    /// Sockets on which it began a handshake.
    connections: BTreeSet<u64>,
    first_connection_ts: Option<WallNanos>,
    plaintext_bytes: u64,
    /// Whether a library of it is probed.
    has_probes: bool,
}

/// A process that should have shown plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The process.
    pub process: ProcessId,
    /// Its name.
    pub comm: String,
    /// Its program.
    pub exe: String,
    /// TLS connections it has begun.
    pub connections: usize,
    /// Why nothing was seen, as far as is known.
    pub reason: String,
}

impl Warning {
    /// What is missing, and why.
    #[must_use]
    pub fn detail(&self) -> String {
        let s = if self.connections == 1 { "" } else { "s" };
        format!("0 plaintext bytes on {} TLS connection{s}: {}", self.connections, self.reason)
    }

    /// The line for the user; `version` is that of the program, where it is known.
    #[must_use]
    pub fn line(&self, version: Option<&str>) -> String {
        let version = version.map_or_else(String::new, |version| format!(" {version}"));
        format!("warning: {}{version} (pid {}): {}", self.comm, self.process.pid, self.detail())
    }

    /// The row for the trace.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe {
            path: self.exe.clone(),
            library: None,
            state: ProbeState::Unresolved,
            detail: self.detail(),
            build_id: None,
        }
    }
}

/// Watches all processes.
#[derive(Debug, Default)]
pub struct SelfCheck {
    processes: HashMap<ProcessId, Watched>,
    /// Latest process of a pid, for forks.
    by_pid: HashMap<u32, ProcessId>,
    /// What came of looking into a binary that could not be probed, by path.
    obstacles: HashMap<String, String>,
    told: HashSet<String>,
}

impl SelfCheck {
    /// Learns from an event.
    pub fn observe(&mut self, event: &Event) {
        if let Body::Probe(probe) = &event.body {
            return self.probed(event.process, probe);
        }
        let Some(id) = event.process else { return };
        match &event.body {
            Body::ProcessSeen(image) | Body::ProcessExec(image) => {
                // What the program before it did says nothing of this one.
                let comm = event.comm.clone().unwrap_or_default();
                let exe = image.exe.clone();
                self.insert(id, Watched { comm, exe, ..Watched::default() });
            }
            Body::ProcessFork(fork) => {
                let parent = self.by_pid.get(&fork.ppid).and_then(|id| self.processes.get(id));
                let exe = parent.and_then(|parent| parent.exe.clone());
                let has_probes = parent.is_some_and(|parent| parent.has_probes);
                let comm = event.comm.clone().unwrap_or_default();
                self.insert(id, Watched { comm, exe, has_probes, ..Watched::default() });
            }
            Body::ProcessExit(_) => {
                self.processes.remove(&id);
                if self.by_pid.get(&id.pid) == Some(&id) {
                    self.by_pid.remove(&id.pid);
                }
            }
            Body::Data(data) => {
                let Some(process) = self.processes.get_mut(&id) else { return };
                match data.source {
                    Source::Tls => process.plaintext_bytes += data.data_bytes,
                    Source::TlsHello if data.direction == Direction::Write => {
                        if process.connections.len() < MAX_CONNECTIONS {
                            process.connections.insert(data.conn_id);
                        }
                        process.first_connection_ts.get_or_insert(event.ts);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// What is to be said at this moment, by pid; each program once.
    pub fn due(&mut self, now: WallNanos) -> Vec<Warning> {
        let mut silent: Vec<(&ProcessId, &Watched)> = self
            .processes
            .iter()
            .filter(|(_, process)| {
                let since = process.first_connection_ts;
                process.plaintext_bytes == 0
                    && since.is_some_and(|since| now.0.saturating_sub(since.0) >= GRACE_NS)
            })
            .collect();
        silent.sort_by_key(|(id, _)| **id);
        let mut warnings = Vec::new();
        for (id, process) in silent {
            let exe = process.exe.clone().unwrap_or_else(|| process.comm.clone());
            if self.told.len() >= MAX_PROGRAMS || !self.told.insert(exe.clone()) {
                continue;
            }
            let reason = match self.obstacles.get(&exe) {
                Some(obstacle) => obstacle.clone(),
                None if process.has_probes => {
                    "nothing went through the TLS library that is probed; it may use another one"
                        .to_owned()
                }
                None => "no known TLS library in it or in what it has loaded".to_owned(),
            };
            warnings.push(Warning {
                process: *id,
                comm: process.comm.clone(),
                exe,
                connections: process.connections.len(),
                reason,
            });
        }
        warnings
    }

    fn probed(&mut self, process: Option<ProcessId>, probe: &Probe) {
        match probe.state {
            ProbeState::Attached => {
                if let Some(process) = process.and_then(|id| self.processes.get_mut(&id)) {
                    process.has_probes = true;
                }
            }
            ProbeState::Unresolved | ProbeState::Failed if self.obstacles.len() < MAX_PROGRAMS => {
                self.obstacles.insert(probe.path.clone(), probe.detail.clone());
            }
            ProbeState::Absent | ProbeState::Unresolved | ProbeState::Failed => {}
        }
    }

    fn insert(&mut self, id: ProcessId, process: Watched) {
        if let Some(former) = self.by_pid.remove(&id.pid)
            && former != id
        {
            // Its exit was lost.
            self.processes.remove(&former);
        }
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&id) {
            return;
        }
        self.by_pid.insert(id.pid, id);
        self.processes.insert(id, process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Exit, Fork, Image, StreamData};

    const SECOND: i64 = 1_000_000_000;

    fn id(pid: u32) -> ProcessId {
        ProcessId { pid, start_ts: WallNanos(i64::from(pid)) }
    }

    fn event(pid: u32, ts: i64, body: Body) -> Event {
        Event {
            ts: WallNanos(ts),
            process: Some(id(pid)),
            tid: None,
            comm: Some("agent".into()),
            body,
        }
    }

    fn exec(pid: u32, exe: &str) -> Event {
        event(pid, 0, Body::ProcessExec(Image { exe: Some(exe.into()), ..Image::default() }))
    }

    fn data(pid: u32, ts: i64, source: Source, direction: Direction, conn_id: u64) -> Event {
        let data = StreamData {
            source,
            conn_id,
            direction,
            stream_offset: 0,
            data_bytes: 5,
            lost_bytes: 0,
            data: vec![1; 5],
            library: String::new(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        };
        event(pid, ts, Body::Data(data))
    }

    fn hello(pid: u32, ts: i64, conn_id: u64) -> Event {
        data(pid, ts, Source::TlsHello, Direction::Write, conn_id)
    }

    fn probe(pid: u32, path: &str, state: ProbeState) -> Event {
        let detail = "expected one answer, found 2".to_owned();
        let (path, library, build_id) = (path.to_owned(), None, None);
        event(pid, 0, Body::Probe(Probe { path, library, state, detail, build_id }))
    }

    fn check(events: &[Event]) -> SelfCheck {
        let mut check = SelfCheck::default();
        events.iter().for_each(|event| check.observe(event));
        check
    }

    #[test]
    fn connections_without_plaintext_are_told_of_once_per_program_with_the_reason() {
        let mut check = check(&[
            exec(1, "/bin/agent"),
            exec(2, "/bin/agent"),
            probe(1, "/bin/agent", ProbeState::Unresolved),
            hello(1, SECOND, 10),
            hello(1, SECOND, 10),
            hello(1, 2 * SECOND, 11),
            hello(2, 2 * SECOND, 12),
        ]);
        assert_eq!(check.due(WallNanos(5 * SECOND)), [], "still in time");
        let warnings = check.due(WallNanos(60 * SECOND));
        assert_eq!(warnings.len(), 1);
        assert_eq!(
            warnings[0].line(Some("2.1")),
            "warning: agent 2.1 (pid 1): 0 plaintext bytes on 2 TLS connections: expected one answer, found 2"
        );
        let row = warnings[0].probe();
        assert_eq!((row.path.as_str(), row.state), ("/bin/agent", ProbeState::Unresolved));
        assert_eq!(check.due(WallNanos(120 * SECOND)), []);
    }

    #[test]
    fn plaintext_no_connection_and_servers_are_in_order() {
        let mut check = check(&[
            exec(1, "/bin/a"),
            hello(1, 0, 1),
            data(1, SECOND, Source::Tls, Direction::Write, 2),
            exec(2, "/bin/b"),
            data(2, 0, Source::Socket, Direction::Write, 3),
            exec(3, "/bin/server"),
            data(3, 0, Source::TlsHello, Direction::Read, 4),
            exec(4, "/bin/gone"),
            hello(4, 0, 5),
            event(4, SECOND, Body::ProcessExit(Exit::default())),
        ]);
        assert_eq!(check.due(WallNanos(60 * SECOND)), []);
    }

    #[test]
    fn a_child_without_a_program_of_its_own_is_its_parents() {
        let fork = event(2, 0, Body::ProcessFork(Fork { ppid: 1, uid: 0 }));
        let probed = probe(1, "/lib/libssl.so.3", ProbeState::Attached);
        let mut check = check(&[exec(1, "/bin/a"), probed, fork, hello(2, 0, 1)]);
        let warnings = check.due(WallNanos(60 * SECOND));
        assert_eq!((warnings[0].exe.as_str(), warnings[0].process), ("/bin/a", id(2)));
        assert!(warnings[0].reason.contains("another one"), "{}", warnings[0].reason);
    }

    #[test]
    fn memory_is_bounded_and_a_reused_pid_is_another_process() {
        let mut check = SelfCheck::default();
        for pid in 0..2 * MAX_PROCESSES as u32 {
            check.observe(&exec(pid, &format!("/bin/{pid}")));
            check.observe(&hello(pid, 0, 1));
        }
        assert_eq!(check.processes.len(), MAX_PROCESSES);
        assert!(check.due(WallNanos(60 * SECOND)).len() <= MAX_PROGRAMS);
        let mut other = exec(7, "/bin/other");
        other.process = Some(ProcessId { start_ts: WallNanos(1), ..id(7) });
        check.observe(&other);
        assert!(!check.processes.contains_key(&id(7)));
    }
}
