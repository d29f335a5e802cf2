//! The kernel side: loads `bpf/`, attaches it, reads its rings. The only place that names libbpf.
//!
//! It hands out [`Event`]s in time order and keeps the ledger of what was lost. Which processes and
//! which binaries are of interest is the caller's decision ([`Capture::track`],
//! [`Capture::attach_tls`]); finding TLS functions in a binary is `capture::tls_library`'s.
//!
//! Needs `CAP_BPF` and `CAP_PERFMON`, and `CAP_SYS_ADMIN` on kernels that demand it for uprobes, also
//! later on for new binaries. Pids are those of the initial pid namespace.

mod error;
mod files;
mod function;
mod ledger;
mod load;
mod options;
mod own_probe;
mod provisional;
mod rings;
mod selection;
mod settings;
mod skeleton;
mod tracking;

use std::mem::offset_of;
use std::path::Path;
use std::time::{Duration, Instant};

use libbpf_rs::{Link, MapCore, MapFlags, UprobeOpts};

use crate::capture::abi::{self, Wire};
use crate::capture::cgroup::Hierarchy;
use crate::capture::clock;
use crate::capture::decode::{Decoder, Record};
use crate::capture::order::Merger;
use crate::event::{Body, Event};
use crate::time::{BootNanos, ClockAnchor, WallNanos};
use files::Flush;
use provisional::Provisional;
use rings::{Damage, Rings};
use skeleton::{AgentsightSkel, types};

pub use error::{BTF_PATH, Error, in_initial_namespaces, is_older_than, kernel_release};
pub use function::TlsFunction;
pub use ledger::{ClassLedger, Undecodable};
pub use options::{Drained, MapEntries, Options, Stats, WatchIo};

/// The loaded programs. Dropping it detaches everything.
pub struct Capture {
    // In drop order: links before rings before the maps and programs of the skeleton.
    process_links: Vec<Link>,
    tls_links: Vec<Link>,
    io_link: Option<Link>,
    io: WatchIo,
    rings: Rings,
    skel: AgentsightSkel<'static>,
    merger: Merger<Record>,
    decoder: Decoder,
    provisional: Provisional,
    /// Absent on hosts without cgroup v2.
    hierarchy: Option<Hierarchy>,
    anchor: ClockAnchor,
    has_attach_cookie: bool,
    /// Whether functions of Go are probed.
    has_go: bool,
    stats: Stats,
    undecodable: Damage,
    /// Events of the kernel's classes that user space made of the kernel's maps.
    made: [u64; abi::CLASS_COUNT],
    reported: Vec<ClassLedger>,
    reported_unknown: u64,
    reported_ts: WallNanos,
}

impl Capture {
    /// Loads the programs and attaches those for the process tree: from here on, wanted programs
    /// and all their descendants are followed. Events wait in the rings until [`Self::drain`].
    pub fn load(options: &Options) -> Result<Self, Error> {
        error::check_host()?;
        let (skel, features) = load::load(options)?;
        own_probe::try_uprobe(&skel.progs.handle_tls_free)?;
        let maps = &skel.maps;
        let rings = Rings::new(&maps.control_ring, &maps.payload_ring, &maps.io_ring)
            .map_err(Error::from_load)?;
        // Exit before fork: a process that is tracked must not end unnoticed.
        let programs = [
            &skel.progs.handle_process_exit,
            &skel.progs.handle_process_fork,
            &skel.progs.handle_process_exec,
        ];
        let process_links = programs
            .into_iter()
            .map(|program| program.attach_trace().map_err(Error::from_load))
            .collect::<Result<Vec<_>, _>>()?;

        let anchor = clock::anchor();
        Ok(Self {
            process_links,
            tls_links: Vec::new(),
            io_link: None,
            io: options.io,
            rings,
            skel,
            merger: Merger::default(),
            decoder: Decoder::new(anchor, clock::page_bytes()),
            provisional: Provisional::new(options.command_lines.clone(), options.users.clone()),
            hierarchy: Hierarchy::find().ok(),
            anchor,
            has_attach_cookie: features.attach_cookie,
            has_go: false,
            stats: Stats {
                exact_size: features.exact_size,
                attach_cookie: features.attach_cookie,
                probes: PROCESS_PROBES,
                ..Stats::default()
            },
            undecodable: Damage::default(),
            made: [0; abi::CLASS_COUNT],
            reported: Vec::new(),
            reported_unknown: 0,
            reported_ts: anchor.wall,
        })
    }

    /// The clock reading by which all events of this capture are converted.
    #[must_use]
    pub fn clock_anchor(&self) -> ClockAnchor {
        self.anchor
    }

    /// Probes one function of one binary, in every process that has it mapped, now and later.
    /// `file_offset` is a position in the file, not an address. Probes stay until the capture is
    /// dropped or [`Self::detach`] is called.
    pub fn attach_tls(
        &mut self,
        path: &Path,
        file_offset: u64,
        function: TlsFunction,
        library: &str,
    ) -> Result<(), Error> {
        let progs = &self.skel.progs;
        let entry = match function {
            TlsFunction::Read => &progs.handle_tls_read,
            TlsFunction::ReadEx => &progs.handle_tls_read_ex,
            TlsFunction::Write => &progs.handle_tls_write,
            TlsFunction::WriteEx => &progs.handle_tls_write_ex,
            TlsFunction::WriteEx2 => &progs.handle_tls_write_ex2,
            TlsFunction::Free => &progs.handle_tls_free,
            TlsFunction::ReadUnseen => &progs.handle_tls_read_unseen,
            TlsFunction::WriteUnseen => &progs.handle_tls_write_unseen,
            TlsFunction::GoRead => &progs.handle_go_read,
            TlsFunction::GoWrite => &progs.handle_go_write,
            TlsFunction::GoReturn => &progs.handle_go_return,
            TlsFunction::GoClose => &progs.handle_go_close,
            TlsFunction::RustlsRead(_) => &progs.handle_rustls_read,
            TlsFunction::RustlsWrite(_) => &progs.handle_rustls_write,
        };
        if let TlsFunction::RustlsRead(place) = function
            && !self.has_attach_cookie
            && !place.is_first_arguments()
        {
            return Err(Error::NoCookie { path: path.to_owned(), offset: file_offset });
        }
        let returning = match function {
            TlsFunction::RustlsWrite(_) => &progs.handle_rustls_write_return,
            _ => &progs.handle_tls_return,
        };
        let tag = u64::from(self.decoder.library_tag(library));
        let cookie = if self.has_attach_cookie { tag | function.place_bits() } else { 0 };
        let attach = |program: &libbpf_rs::ProgramMut<'_>, retprobe| {
            let opts = UprobeOpts { retprobe, cookie, ..UprobeOpts::default() };
            program
                .attach_uprobe_with_opts(ALL_PROCESSES, path, file_offset as usize, opts)
                .map_err(|source| Error::Attach {
                    path: path.to_owned(),
                    function,
                    offset: file_offset,
                    source,
                })
        };
        // The return probe first: a return without its entry is ignored, but not the reverse.
        let mut links = Vec::with_capacity(2);
        if function.has_return() {
            links.push(attach(returning, true)?);
        }
        links.push(attach(entry, false)?);
        self.has_go |= function == TlsFunction::GoReturn;
        self.stats.probes += links.len();
        self.tls_links.append(&mut links);
        Ok(())
    }

    /// Begins or ends watching files, sockets and pipes, as far as the options say. While it is
    /// on, every system call of every process costs about 0.1 us more; what is not observed leaves
    /// after a look at two tables.
    pub fn watch_io(&mut self, on: bool) -> Result<(), Error> {
        match (on && self.io != WatchIo::NOTHING, &self.io_link) {
            (true, None) => {
                let program = &self.skel.progs.handle_syscall_exit;
                self.io_link = Some(program.attach_trace().map_err(Error::from_load)?);
            }
            (false, Some(_)) => self.io_link = None,
            _ => {}
        }
        Ok(())
    }

    /// Whether this thread may attach to functions of programs, as it is now.
    #[must_use]
    pub fn may_attach(&self) -> bool {
        own_probe::try_uprobe(&self.skel.progs.handle_tls_free).is_ok()
    }

    /// Waits until something is to be read, at most `timeout`, and hands out what is there, oldest
    /// first. Call it with about 10 ms again and again: plaintext does not wake the reader. A
    /// signal ends the wait early.
    pub fn drain(
        &mut self,
        timeout: Duration,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Drained, Error> {
        self.rings.wait(timeout).map_err(Error::Ring)?;
        let start = clock::boot_now();
        self.read_pass(start, sink)
    }

    /// Detaches all probes and hands out everything that is left. The ledger stays readable, and is
    /// final from here on.
    pub fn detach(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Drained, Error> {
        self.tls_links.clear();
        self.io_link = None;
        self.process_links.clear();
        let mut total = Drained::default();
        let deadline = Instant::now() + SETTLE_PATIENCE;
        loop {
            let pass = self.read_pass(BootNanos(u64::MAX), sink)?;
            total.events += pass.events;
            if pass.more {
                continue;
            }
            // Only exec records end argument areas, and a program that was running when its link
            // was cut may still be writing one.
            let open_bytes = self.decoder.open_argv_bytes();
            if Instant::now() >= deadline || settled_but(&self.losses()?, open_bytes) {
                self.decoder.finish();
                total.events += self.flush_files(Flush::Everything, sink);
                return Ok(total);
            }
            std::thread::sleep(SETTLE_INTERVAL);
        }
    }

    fn read_pass(
        &mut self,
        start: BootNanos,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Drained, Error> {
        // In this order: see `order`.
        let control = self.rings.read_control();
        let mut payload = self.rings.read_payload();
        let io = self.rings.read_io();
        for pass in [&control, &payload, &io] {
            self.undecodable.add(&pass.undecodable);
            self.stats.last_decode_error = pass.last_error.or(self.stats.last_decode_error);
        }
        let more = control.more || payload.more || io.more;
        // Stable, so that each ring keeps its own order.
        payload.records.extend(io.records);
        payload.records.sort_by_key(|(at, _)| *at);

        let (mut events, mut ends) = (0, 0);
        for record in self.merger.merge(control.records, payload.records, start) {
            if let Some(event) = self.decode(record) {
                ends += usize::from(matches!(event.body, Body::ProcessExit(_)));
                sink(event);
                events += 1;
            }
        }
        events += self.remove_abandoned(sink);
        events += self.flush_files(Flush::Ended, sink);
        self.stats.events += events as u64;
        if ends > 0 && self.has_go {
            // Reads that were waiting when their process ended.
            self.remove_untracked(&self.skel.maps.go_calls, offset_of!(types::go_call_key, pid));
        }
        Ok(Drained { events, more })
    }

    /// Takes connections of ended processes out of the kernel's map, and tells how much went
    /// through those that are channels. Returns how many events that were.
    fn remove_abandoned(&mut self, sink: &mut dyn FnMut(Event)) -> usize {
        let mut closes = Vec::new();
        for abandoned in self.decoder.take_abandoned() {
            let key = connection_key(abandoned.handle, abandoned.process.pid);
            let connections = &self.skel.maps.connections;
            let value = connections.lookup(&key, MapFlags::ANY).ok().flatten();
            // It may be gone: SSL_free, or a loss of the record that told of it.
            let _ = connections.delete(&key);
            let connection = value.and_then(|value| abi::Connection::take(&mut value.as_slice()));
            if let Some(connection) = connection
                && connection.channel_type != 0
                && connection.generation_boot_ns == abandoned.generation_boot_ns
            {
                closes.push(abandoned.closed(&connection));
            }
        }
        self.made[abi::CLASS_CHANNEL_CLOSE] += closes.len() as u64;
        let count = closes.len();
        closes.into_iter().for_each(sink);
        count
    }

    /// Takes out what [`Self::remove_abandoned`] cannot know of: connections whose every record was
    /// lost. Connections of processes that are still observed stay.
    fn sweep_connections(&self) {
        self.remove_untracked(&self.skel.maps.connections, offset_of!(abi::ConnectionKey, pid));
    }

    /// Takes out of a map what belongs to processes that are not observed any more. `pid_at`: where
    /// the pid is in the key.
    fn remove_untracked(&self, map: &impl MapCore, pid_at: usize) {
        let stale: Vec<Vec<u8>> = map
            .keys()
            .filter(|key| {
                let mut pid = &key[pid_at..];
                u32::take(&mut pid).is_some_and(|pid| !self.is_tracked(pid))
            })
            .collect();
        for key in stale {
            let _ = map.delete(&key);
        }
    }

    /// Entries in the kernel's maps of processes and of connections, to see that nothing piles up.
    #[must_use]
    pub fn map_entries(&self) -> MapEntries {
        MapEntries {
            tracked: self.skel.maps.tracked.keys().count(),
            connections: self.skel.maps.connections.keys().count(),
            active_calls: self.skel.maps.go_calls.keys().count(),
            descriptors: self.skel.maps.descriptors.keys().count(),
            threads: self.skel.maps.threads.keys().count(),
            files: self.skel.maps.file_uses.keys().count(),
        }
    }

    /// The loss counters since the capture was loaded, one per class of events.
    pub fn losses(&self) -> Result<Vec<ClassLedger>, Error> {
        let decoded = self.decoder.decoded();
        let mut classes = ledger::read(&self.skel.maps.ledger, decoded, &self.undecodable.classes)?;
        for (class, made) in classes.iter_mut().zip(self.made) {
            class.add_made(made);
        }
        Ok(classes)
    }

    /// `loss` events for what was lost since the last call (at first: since the load).
    pub fn take_losses(&mut self) -> Result<Vec<Event>, Error> {
        let now = self.losses()?;
        let (first_ts, ts) = (self.reported_ts, self.anchor.wall(clock::boot_now()));
        let mut losses = ledger::new_losses(&self.reported, &now, first_ts, ts);
        let unknown = self.undecodable.unknown - self.reported_unknown;
        if unknown > 0 {
            losses.push(ledger::unknown_loss(unknown, first_ts, ts));
        }
        if !losses.is_empty() {
            self.sweep_connections();
        }
        self.reported = now;
        self.reported_unknown = self.undecodable.unknown;
        self.reported_ts = ts;
        Ok(losses)
    }

    /// Figures about the capture itself.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

/// Whether nothing is on its way any more but for `open_argv_bytes`, which the decoder holds.
fn settled_but(ledger: &[ClassLedger], open_argv_bytes: u64) -> bool {
    ledger.iter().enumerate().all(|(class, ledger)| {
        let mut ledger = ledger.clone();
        if class == abi::CLASS_PROCESS_EXEC {
            ledger.decoded.bytes += open_argv_bytes;
        }
        ledger.is_settled()
    })
}

/// Layout of [`abi::ConnectionKey`].
fn connection_key(handle: u64, pid: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(abi::ConnectionKey::BYTES);
    key.extend_from_slice(&handle.to_ne_bytes());
    key.extend_from_slice(&pid.to_ne_bytes());
    key.extend_from_slice(&0_u32.to_ne_bytes());
    key
}

/// The `pid` of a uprobe that is to fire in every process; the programs filter by the tracked map,
/// which is cheaper than the kernel's own filter and covers processes yet to come.
const ALL_PROCESSES: i32 = -1;

/// How long programs that were running when their links were cut may take to end. They take
/// microseconds; beyond this the ledger is taken as it is.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
const SETTLE_INTERVAL: Duration = Duration::from_millis(1);

/// Programs for fork, exec and exit.
const PROCESS_PROBES: usize = 3;

// The recorder reads it on a thread of its own.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Capture>();
};
