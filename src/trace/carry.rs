//! What is known at a moment of a recording, so that a file that begins there explains itself.
//!
//! A part of a recording, or a cut out of one, has events of processes that started before it. It
//! begins with rows that repeat what was known: a `process_seen` row per live process and the last
//! `probe` row per binary. This follows events and gives those rows, in bounded memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{Body, Event, Image, Loss, Probe, ProcessId};
use crate::time::WallNanos;

/// Live processes followed; a host has some thousand.
const MAX_PROCESSES: usize = 1 << 15;
/// Binaries followed.
const MAX_PROBES: usize = 1 << 12;
/// Arguments of all processes together; those of later processes are left out, which their
/// `argv_lost_bytes` says.
const MAX_ARGV_BYTES: u64 = 8 << 20;

/// Follows the processes and probes of a recording; see the module.
#[derive(Clone, Debug, Default)]
pub struct Carry {
    /// By pid: a process that takes the pid of one whose exit was lost takes its place.
    processes: BTreeMap<u32, Known>,
    argv_bytes: u64,
    /// By path, library and build-id.
    probes: BTreeMap<ProbeKey, Found>,
    /// Processes and probes for which there was no room.
    left_out: (u64, u64),
}

type ProbeKey = (String, Option<String>, Option<String>);

/// A live process.
#[derive(Clone, Debug)]
struct Known {
    /// The row that said what is known.
    seq: u64,
    id: ProcessId,
    comm: Option<String>,
    ppid: u32,
    uid: u32,
    matched: bool,
    /// Shared with the children that have not executed another program.
    image: Arc<Image>,
}

/// What came of looking into a binary.
#[derive(Clone, Debug)]
struct Found {
    seq: u64,
    event: Event,
}

impl Carry {
    /// Learns from the row `seq`; rows come in the order of their times, more or less.
    pub fn observe(&mut self, seq: u64, event: &Event) {
        match &event.body {
            Body::ProcessSeen(image) | Body::ProcessExec(image) => self.image(seq, event, image),
            Body::ProcessFork(fork) => {
                let Some(id) = event.process else { return };
                let parent = self.processes.get(&fork.ppid);
                let image = parent.map(|parent| Arc::clone(&parent.image)).unwrap_or_default();
                let comm = event.comm.clone();
                let (ppid, uid) = (fork.ppid, fork.uid);
                self.insert(Known { seq, id, comm, ppid, uid, matched: false, image });
            }
            Body::ProcessExit(_) => {
                if let Some(id) = event.process
                    && self.processes.get(&id.pid).is_some_and(|known| known.id == id)
                {
                    self.remove(id.pid);
                }
            }
            Body::Probe(probe) => {
                let key = key(probe);
                if self.probes.len() >= MAX_PROBES && !self.probes.contains_key(&key) {
                    self.left_out.1 += 1;
                    return;
                }
                self.probes.insert(key, Found { seq, event: event.clone() });
            }
            _ => {}
        }
    }

    /// Whether an event repeats what is known already: a carried row of a part whose predecessor
    /// was observed here.
    #[must_use]
    pub fn knows(&self, event: &Event) -> bool {
        match (&event.body, event.process) {
            (Body::ProcessSeen(image), Some(id)) => {
                self.processes.get(&id.pid).is_some_and(|known| {
                    known.id == id && known.image.exe == image.exe && known.image.argv == image.argv
                })
            }
            (Body::Probe(probe), _) => {
                let known = self.probes.get(&key(probe));
                known.is_some_and(|known| known.event.body == event.body)
            }
            _ => false,
        }
    }

    /// What is known as rows at `ts`, processes by pid and then binaries by path, each with the
    /// number of the row it repeats; and, if something could not be followed, how much.
    #[must_use]
    pub fn rows(&self, ts: WallNanos) -> Vec<(u64, Event)> {
        let process = |known: &Known| {
            let image = Image {
                ppid: known.ppid,
                uid: known.uid,
                matched: known.matched,
                ..known.image.as_ref().clone()
            };
            let process = Some(known.id);
            let body = Body::ProcessSeen(image);
            (known.seq, Event { ts, process, tid: None, comm: known.comm.clone(), body })
        };
        let probe = |found: &Found| (found.seq, Event { ts, ..found.event.clone() });
        let processes = self.processes.values().map(process);
        processes.chain(self.probes.values().map(probe)).collect()
    }

    /// Processes and binaries that could not be followed.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.0.saturating_add(self.left_out.1)
    }

    /// What could not be followed, as rows at `ts`.
    #[must_use]
    pub fn losses(&self, ts: WallNanos) -> Vec<Event> {
        let loss = |event_class: &str, lost_events| {
            let body = Body::Loss(Loss {
                first_ts: ts,
                event_class: event_class.to_owned(),
                cause: "map_full".to_owned(),
                lost_events,
                lost_bytes: 0,
                conn_id: None,
            });
            (lost_events > 0).then_some(Event { ts, process: None, tid: None, comm: None, body })
        };
        let rows = [loss("process_seen", self.left_out.0), loss("probe", self.left_out.1)];
        rows.into_iter().flatten().collect()
    }

    fn image(&mut self, seq: u64, event: &Event, image: &Image) {
        let Some(id) = event.process else { return };
        let known = self.processes.get(&id.pid).filter(|known| known.id == id);
        let matched = image.matched || known.is_some_and(|known| known.matched);
        let mut image = image.clone();
        let argv_bytes = bytes_of(&image);
        if self.argv_bytes.saturating_add(argv_bytes) > MAX_ARGV_BYTES {
            image.argv.clear();
            image.argv_lost_bytes = image.argv_lost_bytes.saturating_add(argv_bytes);
        }
        let comm = event.comm.clone();
        let (ppid, uid) = (image.ppid, image.uid);
        self.insert(Known { seq, id, comm, ppid, uid, matched, image: Arc::new(image) });
    }

    fn insert(&mut self, known: Known) {
        let pid = known.id.pid;
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&pid) {
            self.left_out.0 += 1;
            return;
        }
        self.remove(pid);
        self.argv_bytes = self.argv_bytes.saturating_add(bytes_of(&known.image));
        self.processes.insert(pid, known);
    }

    fn remove(&mut self, pid: u32) {
        if let Some(gone) = self.processes.remove(&pid) {
            self.argv_bytes = self.argv_bytes.saturating_sub(bytes_of(&gone.image));
        }
    }
}

fn key(probe: &Probe) -> ProbeKey {
    (probe.path.clone(), probe.library.clone(), probe.build_id.clone())
}

/// Bytes of its arguments, shared or not.
fn bytes_of(image: &Image) -> u64 {
    image.argv.iter().map(|argument| argument.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Exit, Fork, ProbeState};

    fn event(pid: u32, start: i64, body: Body) -> Event {
        let process = Some(ProcessId { pid, start_ts: WallNanos(start) });
        Event { ts: WallNanos(5), process, tid: None, comm: Some(format!("c{pid}")), body }
    }

    fn exec(argv: &str, matched: bool) -> Body {
        let argv = vec![argv.to_owned()];
        Body::ProcessExec(Image { argv, matched, ppid: 1, ..Image::default() })
    }

    fn seen(carry: &Carry) -> Vec<(u64, u32, String, bool)> {
        let rows = carry.rows(WallNanos(9)).into_iter();
        rows.filter_map(|(seq, event)| match event.body {
            Body::ProcessSeen(image) => {
                assert_eq!(event.ts, WallNanos(9));
                Some((seq, event.process?.pid, image.argv.concat(), image.matched))
            }
            _ => None,
        })
        .collect()
    }

    #[test]
    fn live_processes_are_carried_with_their_latest_image() {
        let mut carry = Carry::default();
        carry.observe(0, &event(10, 1, exec("sh", true)));
        carry.observe(1, &event(10, 1, exec("agent", false)));
        carry.observe(2, &event(11, 2, Body::ProcessFork(Fork { ppid: 10, uid: 7 })));
        carry.observe(3, &event(12, 3, exec("gone", false)));
        carry.observe(4, &event(12, 3, Body::ProcessExit(Exit::default())));
        let expected = [(1, 10, "agent".into(), true), (2, 11, "agent".into(), false)];
        assert_eq!(seen(&carry), expected);
        // The exit of an earlier process with that pid comes late.
        carry.observe(5, &event(11, 1, Body::ProcessExit(Exit::default())));
        assert_eq!(seen(&carry).len(), 2);
        assert!(carry.losses(WallNanos(9)).is_empty());
    }

    #[test]
    fn the_last_word_on_a_binary_is_carried_and_known() {
        let probe = |state| {
            Body::Probe(Probe {
                path: "/usr/lib/libssl.so.3".into(),
                library: Some("openssl".into()),
                state,
                detail: String::new(),
                build_id: None,
            })
        };
        let mut carry = Carry::default();
        carry.observe(3, &event(10, 1, probe(ProbeState::Failed)));
        carry.observe(7, &event(11, 1, probe(ProbeState::Attached)));
        let rows = carry.rows(WallNanos(9));
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].0, &rows[0].1.body), (7, &probe(ProbeState::Attached)));
        assert!(carry.knows(&rows[0].1));
        assert!(!carry.knows(&event(10, 1, probe(ProbeState::Failed))));
    }

    #[test]
    fn carried_rows_are_known_to_who_saw_the_originals() {
        let mut carry = Carry::default();
        carry.observe(0, &event(10, 1, exec("agent", true)));
        let (_, row) = carry.rows(WallNanos(9)).remove(0);
        assert!(carry.knows(&row));
        assert!(!Carry::default().knows(&row));
        carry.observe(1, &event(10, 1, exec("other", false)));
        assert!(!carry.knows(&row), "it has executed something else since");
    }

    #[test]
    fn memory_is_bounded_and_what_has_no_room_is_counted() {
        let mut carry = Carry::default();
        let long = "x".repeat(1 << 20);
        for pid in 0..MAX_PROCESSES as u32 + 3 {
            let argv = if pid < 20 { &long } else { "x" };
            carry.observe(u64::from(pid), &event(pid, 1, exec(argv, false)));
        }
        assert!(carry.argv_bytes <= MAX_ARGV_BYTES);
        let rows = carry.rows(WallNanos(9));
        assert_eq!(rows.len(), MAX_PROCESSES);
        let Body::ProcessSeen(image) = &rows[15].1.body else { panic!("expected process_seen") };
        assert_eq!((image.argv.len(), image.argv_lost_bytes), (0, 1 << 20));
        let losses = carry.losses(WallNanos(9));
        assert!(matches!(&losses[0].body, Body::Loss(loss) if loss.lost_events == 3));
        for pid in 0..MAX_PROCESSES as u32 {
            carry.observe(0, &event(pid, 1, Body::ProcessExit(Exit::default())));
        }
        assert_eq!(carry.argv_bytes, 0);
    }
}
