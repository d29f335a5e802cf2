//! The kernel side: loads `bpf/`, attaches it, reads its rings. The only place that names libbpf.
//!
//! It hands out [`Event`]s in time order and keeps the ledger of what was lost. Which processes and
//! which binaries are of interest is the caller's decision ([`Capture::track`],
//! [`Capture::attach_tls`]); finding TLS functions in a binary is `capture::tls_library`'s.
//!
//! Needs `CAP_BPF` and `CAP_PERFMON`, also later on for new binaries. Pids are those of the initial
//! pid namespace.

mod error;
mod ledger;
mod rings;
mod skeleton;

use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, ProgramType, UprobeOpts};

use crate::capture::abi;
use crate::capture::decode::{DecodeError, Decoder, Record};
use crate::capture::order::Merger;
use crate::event::Event;
use crate::time::{BootNanos, ClockAnchor, WallNanos};
use rings::Rings;
use skeleton::{AgentsightSkel, AgentsightSkelBuilder};

pub use error::Error;
pub use ledger::ClassLedger;

/// Programs whose first argument that is not an option names what they really run. Versions at the
/// end (`python3.11`) need not be listed.
const INTERPRETERS: [&str; 16] = [
    "node", "nodejs", "bun", "deno", "tsx", "python", "pypy", "ruby", "perl", "sh", "bash", "dash",
    "zsh", "env", "npx", "uv",
];

/// How to load the capture.
#[derive(Clone, Debug)]
pub struct Options {
    /// File names to match at exec, exactly: that of the program as it was started, of `argv[0]`,
    /// or of the script an interpreter runs. At most 63 bytes each.
    pub names: Vec<String>,
    /// Size of the ring for plaintext: a power of two, at least a page.
    pub payload_ring_bytes: u32,
    /// Size of the ring for fork, exec and exit: a power of two. The largest argument area is
    /// 2 MiB.
    pub control_ring_bytes: u32,
    /// Use only what kernel 5.8 has, to test that path on a newer one.
    pub force_compat: bool,
    /// Print libbpf's messages, the verifier's log included, to stderr.
    pub debug: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            payload_ring_bytes: 16 << 20,
            control_ring_bytes: 4 << 20,
            force_compat: false,
            debug: std::env::var_os("AGENTSIGHT_BPF_LOG").is_some(),
        }
    }
}

/// A function that can be probed, by its calling convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFunction {
    /// `int f(conn, data, size)` returns bytes received, as `SSL_read`.
    Read,
    /// `int f(conn, data, size, size_t *done)` returns 1 on success, as `SSL_read_ex` and OpenSSL's
    /// `ssl_read_internal`.
    ReadEx,
    /// `int f(conn, data, size)` returns bytes sent, as `SSL_write`.
    Write,
    /// `int f(conn, data, size, size_t *done)` returns 1 on success, as `SSL_write_ex` and the
    /// `ssl_write_internal` of OpenSSL before 3.3.
    WriteEx,
    /// `int f(conn, data, size, flags, size_t *done)` returns 1 on success, as `SSL_write_ex2` and
    /// the `ssl_write_internal` of OpenSSL 3.3 and later.
    WriteEx2,
    /// `void f(conn)` ends the connection, as `SSL_free`.
    Free,
}

/// What [`Capture::drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Events handed out.
    pub events: usize,
    /// A ring was left with more to read: drain again without waiting.
    pub more: bool,
}

/// Figures about the capture itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events handed out so far.
    pub events: u64,
    /// Records that could not be decoded so far.
    pub undecodable: u64,
    /// The latest reason for that.
    pub last_decode_error: Option<DecodeError>,
    /// Probes attached, entry and return apart.
    pub probes: usize,
    /// Whether records have their exact size (kernel 6.16), or are rounded up.
    pub exact_size: bool,
}

/// The loaded programs. Dropping it detaches everything.
pub struct Capture {
    // In drop order: links before rings before the maps and programs of the skeleton.
    process_links: Vec<Link>,
    tls_links: Vec<Link>,
    rings: Rings,
    skel: AgentsightSkel<'static>,
    merger: Merger<Record>,
    decoder: Decoder,
    anchor: ClockAnchor,
    has_attach_cookie: bool,
    stats: Stats,
    reported: Vec<ClassLedger>,
    reported_undecodable: u64,
    reported_ts: WallNanos,
}

impl Capture {
    /// Loads the programs and attaches those for the process tree: from here on, wanted programs
    /// and all their descendants are followed. Events wait in the rings until [`Self::drain`].
    pub fn load(options: &Options) -> Result<Self, Error> {
        error::check_host()?;
        check_ring(options.payload_ring_bytes)?;
        check_ring(options.control_ring_bytes)?;
        let names =
            options.names.iter().map(|name| name_key(name)).collect::<Result<Vec<_>, _>>()?;
        set_printing(options.debug);

        let has_attach_cookie = !options.force_compat && attach_cookie_exists();
        let skel = load_skeleton(options, has_attach_cookie)?;
        for name in INTERPRETERS {
            put_name(&skel, &name_key(name)?, abi::NAME_INTERPRETER)?;
        }
        for (name, key) in options.names.iter().zip(&names) {
            let interpreter = INTERPRETERS.contains(&name.as_str());
            let flags = abi::NAME_WANTED | if interpreter { abi::NAME_INTERPRETER } else { 0 };
            put_name(&skel, key, flags)?;
        }
        let rings = Rings::new(&skel.maps.control_ring, &skel.maps.payload_ring)
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

        let anchor = clock_anchor();
        let exact_size = !options.force_compat && kernel_has_function("bpf_probe_read_user_dynptr");
        Ok(Self {
            process_links,
            tls_links: Vec::new(),
            rings,
            skel,
            merger: Merger::default(),
            decoder: Decoder::new(anchor, page_bytes()),
            anchor,
            has_attach_cookie,
            stats: Stats { exact_size, probes: 3, ..Stats::default() },
            reported: Vec::new(),
            reported_undecodable: 0,
            reported_ts: anchor.wall,
        })
    }

    /// The clock reading by which all events of this capture are converted.
    #[must_use]
    pub fn clock_anchor(&self) -> ClockAnchor {
        self.anchor
    }

    /// Observes a running process and what it will start from now on. `matched`: it is itself what
    /// the user asked for; later exec events of it say so. Its existing descendants are the
    /// caller's to find. Harmless if it is observed already.
    pub fn track(&mut self, pid: u32, matched: bool) -> Result<(), Error> {
        let failed = |source| Error::Map { map: "tracked", source };
        let tracked = &self.skel.maps.tracked;
        let key = pid.to_ne_bytes();
        let known = tracked.lookup(&key, MapFlags::ANY).map_err(failed)?.is_some();
        if !known || matched {
            let flags = if matched { abi::TRACKED_MATCHED } else { 0 };
            // Layout of abi::TrackedProcess. Connections that a former process of this pid left
            // behind are older than now, so they are not taken for its own.
            let mut value = Vec::with_capacity(24);
            value.extend_from_slice(&boot_now().0.to_ne_bytes());
            value.extend_from_slice(&0_u64.to_ne_bytes());
            value.extend_from_slice(&flags.to_ne_bytes());
            value.extend_from_slice(&0_u32.to_ne_bytes());
            tracked.update(&key, &value, MapFlags::ANY).map_err(failed)?;
        }
        // If it ended before it was in the map, no exit will take it out.
        if !Path::new("/proc").join(pid.to_string()).exists() {
            let _ = tracked.delete(&key);
            return Err(Error::NoProcess { pid });
        }
        Ok(())
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
        };
        let tag = self.decoder.library_tag(library);
        let cookie = if self.has_attach_cookie { u64::from(tag) } else { 0 };
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
        if function != TlsFunction::Free {
            links.push(attach(&progs.handle_tls_return, true)?);
        }
        links.push(attach(entry, false)?);
        self.stats.probes += links.len();
        self.tls_links.append(&mut links);
        Ok(())
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
        let start = boot_now();
        self.read_pass(start, sink)
    }

    /// Detaches all probes and hands out everything that is left. The ledger stays readable.
    pub fn detach(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Drained, Error> {
        self.tls_links.clear();
        self.process_links.clear();
        let mut total = Drained::default();
        loop {
            let pass = self.read_pass(BootNanos(u64::MAX), sink)?;
            total.events += pass.events;
            if !pass.more {
                return Ok(total);
            }
        }
    }

    fn read_pass(
        &mut self,
        start: BootNanos,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Drained, Error> {
        // In this order: see `order`.
        let control = self.rings.read_control();
        let payload = self.rings.read_payload();
        for pass in [&control, &payload] {
            self.stats.undecodable += pass.undecodable;
            self.stats.last_decode_error = pass.last_error.or(self.stats.last_decode_error);
        }
        let more = control.more || payload.more;

        let mut events = 0;
        for record in self.merger.merge(control.records, payload.records, start) {
            if let Some(event) = self.decoder.push(record) {
                sink(event);
                events += 1;
            }
        }
        self.stats.events += events as u64;
        self.remove_abandoned();
        Ok(Drained { events, more })
    }

    /// Takes connections of ended processes out of the kernel's map.
    fn remove_abandoned(&mut self) {
        for connection in self.decoder.take_abandoned() {
            // Layout of abi::ConnectionKey.
            let mut key = Vec::with_capacity(16);
            key.extend_from_slice(&connection.handle.to_ne_bytes());
            key.extend_from_slice(&connection.pid.to_ne_bytes());
            key.extend_from_slice(&0_u32.to_ne_bytes());
            // It may be gone: SSL_free, or a loss of the record that told of it.
            let _ = self.skel.maps.connections.delete(&key);
        }
    }

    /// The loss counters since the capture was loaded, one per class of events.
    pub fn losses(&self) -> Result<Vec<ClassLedger>, Error> {
        ledger::read(&self.skel.maps.ledger)
    }

    /// `loss` events for what was lost since the last call (at first: since the load).
    pub fn take_losses(&mut self) -> Result<Vec<Event>, Error> {
        let now = self.losses()?;
        let (first_ts, ts) = (self.reported_ts, self.anchor.wall(boot_now()));
        let mut losses = ledger::new_losses(&self.reported, &now, first_ts, ts);
        let undecodable = self.stats.undecodable - self.reported_undecodable;
        if undecodable > 0 {
            losses.push(ledger::loss("unknown", "decode_error", (undecodable, 0), first_ts, ts));
        }
        self.reported = now;
        self.reported_undecodable = self.stats.undecodable;
        self.reported_ts = ts;
        Ok(losses)
    }

    /// Figures about the capture itself.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

/// The `pid` of a uprobe that is to fire in every process; the programs filter by the tracked map,
/// which is cheaper than the kernel's own filter and covers processes yet to come.
const ALL_PROCESSES: i32 = -1;

fn load_skeleton(
    options: &Options,
    has_attach_cookie: bool,
) -> Result<AgentsightSkel<'static>, Error> {
    // The skeleton borrows the slot it is opened into. A pointer's worth of memory is given up for
    // each capture instead of making `Capture` refer to itself.
    let slot = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut open = AgentsightSkelBuilder::default().open(slot).map_err(Error::from_load)?;
    let rodata = open.maps.rodata_data.as_mut().expect("the object has read-only settings");
    rodata.payload_wakeup_bytes = u64::from(options.payload_ring_bytes / 4);
    rodata.has_attach_cookie = u8::from(has_attach_cookie);
    rodata.force_compat = u8::from(options.force_compat);
    rodata.possible_cpus = libbpf_rs::num_possible_cpus().map_err(Error::from_load)? as u32;
    open.maps
        .payload_ring
        .set_max_entries(options.payload_ring_bytes)
        .and_then(|()| open.maps.control_ring.set_max_entries(options.control_ring_bytes))
        .map_err(Error::from_load)?;
    open.load().map_err(Error::from_load)
}

fn check_ring(bytes: u32) -> Result<(), Error> {
    if bytes.is_power_of_two() && u64::from(bytes) >= page_bytes() {
        Ok(())
    } else {
        Err(Error::RingSize { bytes })
    }
}

fn name_key(name: &str) -> Result<[u8; abi::NAME_BYTES], Error> {
    let limit = abi::NAME_BYTES - 1;
    if name.len() > limit {
        return Err(Error::NameTooLong { name: name.to_owned(), limit });
    }
    let mut key = [0; abi::NAME_BYTES];
    key[..name.len()].copy_from_slice(name.as_bytes());
    Ok(key)
}

fn put_name(skel: &AgentsightSkel<'_>, key: &[u8], flags: u32) -> Result<(), Error> {
    skel.maps
        .wanted_names
        .update(key, &flags.to_ne_bytes(), MapFlags::ANY)
        .map_err(|source| Error::Map { map: "wanted_names", source })
}

fn attach_cookie_exists() -> bool {
    ProgramType::Kprobe
        .is_helper_supported(libbpf_rs::libbpf_sys::BPF_FUNC_get_attach_cookie)
        .unwrap_or(false)
}

fn kernel_has_function(name: &str) -> bool {
    libbpf_rs::btf::Btf::from_vmlinux()
        .is_ok_and(|btf| btf.type_by_name::<libbpf_rs::btf::types::Func<'_>>(name).is_some())
}

/// libbpf prints to stderr by itself, also where a failure is expected.
fn set_printing(debug: bool) {
    #[expect(clippy::print_stderr, reason = "asked for")]
    fn print(_: libbpf_rs::PrintLevel, message: String) {
        eprint!("{message}");
    }
    libbpf_rs::set_print(debug.then_some((libbpf_rs::PrintLevel::Debug, print)));
}

fn boot_now() -> BootNanos {
    BootNanos(read_clock(libc::CLOCK_BOOTTIME) as u64)
}

/// Reads both clocks as one instant: of a few tries, the one with the least time in between.
fn clock_anchor() -> ClockAnchor {
    let tries = (0..5).map(|_| {
        let before = boot_now().0;
        let wall = read_clock(libc::CLOCK_REALTIME);
        let after = boot_now().0;
        (after - before, before + (after - before) / 2, wall)
    });
    let (_, boot, wall) = tries.min_by_key(|(gap, _, _)| *gap).expect("five tries");
    ClockAnchor { boot: BootNanos(boot), wall: WallNanos(wall) }
}

fn read_clock(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; both clocks exist on every kernel that runs these programs.
    #[expect(unsafe_code, reason = "std does not read CLOCK_BOOTTIME")]
    unsafe {
        libc::clock_gettime(clock, &raw mut time);
    }
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn page_bytes() -> u64 {
    // SAFETY: takes and returns integers.
    #[expect(unsafe_code, reason = "std does not tell the page size")]
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}
