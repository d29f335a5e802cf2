//! The reading end of the three rings: waiting, bounded reading, decoding on the way out.
//!
//! Only the start of a program wakes the reader, or a ring that fills fast (`bpf/emit.h`);
//! everything else is read on a timer. Waiting is edge-triggered: level-triggered, a ring that is
//! never quite empty would keep the reader from ever sleeping. In a storm of short programs the
//! reader rests between two passes, so that it takes many of them at a time.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, RingBuffer, RingBufferBuilder};

use super::ledger::Undecodable;
use crate::capture::abi::CLASS_COUNT;
use crate::capture::decode::{self, DecodeError, Record};
use crate::time::BootNanos;

/// What one pass read from one ring.
#[derive(Debug, Default)]
struct Stage {
    records: Vec<(BootNanos, Record)>,
    bytes: usize,
    budget_bytes: usize,
    undecodable: Damage,
    last_error: Option<DecodeError>,
}

/// Records that were no records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Damage {
    /// By class.
    pub(super) classes: [Undecodable; CLASS_COUNT],
    /// Those of which not even the class is known.
    pub(super) unknown: u64,
}

impl Damage {
    fn count(&mut self, record: &[u8]) {
        let (class, events, bytes) = decode::accounted(record);
        match class {
            Some(class) => {
                self.classes[class].events += events;
                self.classes[class].bytes += bytes;
            }
            None => self.unknown += 1,
        }
    }

    /// Adds what another pass found.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, new) in self.classes.iter_mut().zip(&other.classes) {
            sum.events += new.events;
            sum.bytes += new.bytes;
        }
        self.unknown += other.unknown;
    }
}

/// Stops a pass. Any negative number will do; the record it is returned for has been consumed.
const STOP: i32 = -libc::EAGAIN;

/// One ring and where its callback puts what it reads.
struct Ring {
    ring: RingBuffer<'static>,
    stage: Arc<Mutex<Stage>>,
}

impl Ring {
    fn new(map: &dyn MapCore, budget_bytes: usize) -> Result<Self, libbpf_rs::Error> {
        let stage = Arc::new(Mutex::new(Stage { budget_bytes, ..Stage::default() }));
        let staged = Arc::clone(&stage);
        let mut builder = RingBufferBuilder::new();
        builder.add(map, move |bytes| {
            staged.lock().unwrap_or_else(PoisonError::into_inner).take(bytes)
        })?;
        Ok(Self { ring: builder.build()?, stage })
    }

    /// Reads until the ring is empty or the budget is used up.
    fn read(&self) -> Pass {
        // The result says how many, or STOP: the stage knows both.
        let _ = self.ring.consume_raw();
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let budget_bytes = stage.budget_bytes;
        let stage = std::mem::replace(&mut *stage, Stage { budget_bytes, ..Stage::default() });
        Pass {
            more: stage.bytes >= stage.budget_bytes,
            records: stage.records,
            undecodable: stage.undecodable,
            last_error: stage.last_error,
        }
    }
}

impl Stage {
    fn take(&mut self, bytes: &[u8]) -> i32 {
        match decode::parse(bytes) {
            Ok(record) => self.records.push((record.boot(), record)),
            Err(error) => {
                self.undecodable.count(bytes);
                self.last_error = Some(error);
            }
        }
        self.bytes += bytes.len();
        if self.bytes >= self.budget_bytes { STOP } else { 0 }
    }
}

/// What a pass over one ring found.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) records: Vec<(BootNanos, Record)>,
    pub(super) undecodable: Damage,
    pub(super) last_error: Option<DecodeError>,
    /// The budget ended the pass: there may be more.
    pub(super) more: bool,
}

/// Least time from one pass to the next. A program needs longer than this until it has loaded a TLS
/// library; a pass costs some tens of microseconds.
const REST: Duration = Duration::from_millis(1);

/// All rings.
pub(super) struct Rings {
    control: Ring,
    payload: Ring,
    io: Ring,
    epoll: OwnedFd,
    /// When the last wait ended.
    woken: Option<Instant>,
}

impl Rings {
    /// A pass reads at most as much of each ring as fits into it, so that a fast writer cannot keep
    /// the reader in one pass for ever.
    pub(super) fn new(
        control: &dyn MapCore,
        payload: &dyn MapCore,
        io: &dyn MapCore,
    ) -> Result<Self, libbpf_rs::Error> {
        let epoll = new_epoll().map_err(libbpf_rs::Error::from)?;
        for ring in [control, payload, io] {
            add_to_epoll(&epoll, ring, libc::EPOLLIN | libc::EPOLLET)
                .map_err(libbpf_rs::Error::from)?;
        }
        Ok(Self {
            control: Ring::new(control, control.max_entries() as usize)?,
            payload: Ring::new(payload, payload.max_entries() as usize)?,
            io: Ring::new(io, io.max_entries() as usize)?,
            epoll,
            woken: None,
        })
    }

    /// Sleeps until a program has started, a ring fills fast, or the time is over.
    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if let Some(woken) = self.woken {
            std::thread::sleep(REST.saturating_sub(woken.elapsed()).min(timeout));
        }
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 3];
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `events` is writable and has the length that is passed.
        #[expect(unsafe_code, reason = "epoll has no safe binding among the dependencies")]
        let ready = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                timeout_ms,
            )
        };
        let error = io::Error::last_os_error();
        self.woken = Some(Instant::now());
        // A signal ends the wait early; the caller looks at its flags then.
        if ready < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn read_control(&self) -> Pass {
        self.control.read()
    }

    pub(super) fn read_payload(&self) -> Pass {
        self.payload.read()
    }

    pub(super) fn read_io(&self) -> Pass {
        self.io.read()
    }
}

fn new_epoll() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; the descriptor it returns is owned by nobody else.
    #[expect(unsafe_code, reason = "epoll has no safe binding among the dependencies")]
    unsafe {
        let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

fn add_to_epoll(epoll: &OwnedFd, map: &dyn MapCore, events: i32) -> io::Result<()> {
    let fd = map.as_fd().as_raw_fd();
    let mut event = libc::epoll_event { events: events as u32, u64: 0 };
    // SAFETY: both descriptors are open and `event` is valid for the duration of the call.
    #[expect(unsafe_code, reason = "epoll has no safe binding among the dependencies")]
    let result =
        unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
