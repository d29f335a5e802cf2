//! The kernel's map of the processes under observation, as user space writes it.

use std::mem::offset_of;

use libbpf_rs::{MapCore, MapFlags};

use super::{Capture, Error};
use crate::capture::abi::{self, EventHeader, Wire};
use crate::capture::clock;
use crate::event::Event;
use crate::time::{BootNanos, CLOCK_TICK_NS};

impl Capture {
    /// Observes a running process and what it will start from now on. `matched`: it is itself what
    /// the user asked for; later exec events of it say so. Its existing descendants are the
    /// caller's to find. Harmless if it is observed already.
    pub fn track(&mut self, pid: u32, matched: bool) -> Result<(), Error> {
        let failed = |source| Error::Map { map: "tracked", source };
        let tracked = &self.skel.maps.tracked;
        let key = pid.to_ne_bytes();
        let known = tracked.lookup(&key, MapFlags::ANY).map_err(failed)?;
        let flags = if matched { abi::TRACKED_MATCHED } else { 0 };
        let value = match known {
            Some(_) if !matched => None,
            // Its connections stay what they are.
            Some(mut value) => {
                let at = offset_of!(abi::TrackedProcess, flags);
                value[at..at + 4].copy_from_slice(&flags.to_ne_bytes());
                Some(value)
            }
            None => Some(fresh_process(flags)),
        };
        if let Some(value) = value {
            tracked.update(&key, &value, MapFlags::ANY).map_err(failed)?;
        }
        // If it ended before it was in the map, no exit will take it out.
        if !is_alive(pid) {
            let _ = tracked.delete(&key);
            return Err(Error::NoProcess { pid });
        }
        Ok(())
    }

    /// Makes the observation of a process final. What the kernel's map says of a later program of it
    /// stays: a record about that is on its way.
    pub(super) fn adopt(&mut self, header: &EventHeader, event: &Event, matched: bool) {
        let tracked = &self.skel.maps.tracked;
        let key = header.pid.to_ne_bytes();
        match tracked.lookup(&key, MapFlags::ANY) {
            Ok(Some(mut value)) if image_boot_ns(&value) <= header.boot_ns => {
                let flags = if matched { abi::TRACKED_MATCHED } else { 0 };
                let at = offset_of!(abi::TrackedProcess, flags);
                value[at..at + 4].copy_from_slice(&flags.to_ne_bytes());
                let _ = tracked.update(&key, &value, MapFlags::EXIST);
            }
            Ok(Some(_)) | Err(_) => {}
            // Ended, or released by the decision about an earlier program in the moment in which
            // this one began.
            Ok(None) => {
                let start = process_start(header.pid).map(|start| self.anchor.process_start(start));
                if start.is_some() && start == event.process.map(|id| id.start_ts) {
                    let _ = self.track(header.pid, matched);
                }
            }
        }
    }

    /// Ends the observation of a process, unless it has begun another program since.
    pub(super) fn release(&self, header: &EventHeader) {
        let tracked = &self.skel.maps.tracked;
        let key = header.pid.to_ne_bytes();
        let known = tracked.lookup(&key, MapFlags::ANY);
        if known.is_ok_and(|value| value.is_some_and(|v| image_boot_ns(&v) <= header.boot_ns)) {
            let _ = tracked.delete(&key);
        }
    }

    pub(super) fn is_tracked(&self, pid: u32) -> bool {
        let found = self.skel.maps.tracked.lookup(&pid.to_ne_bytes(), MapFlags::ANY);
        // What cannot be read is left alone.
        found.map_or(true, |value| value.is_some())
    }
}

/// Value of the tracked map (abi::TrackedProcess) for a process found by user space. Connections
/// that a former process of its pid left behind are older than now, so they are not taken for its
/// own.
fn fresh_process(flags: u32) -> Vec<u8> {
    let mut value = Vec::with_capacity(abi::TrackedProcess::BYTES);
    value.extend_from_slice(&clock::boot_now().0.to_ne_bytes());
    value.extend_from_slice(&0_u64.to_ne_bytes());
    value.extend_from_slice(&0_u64.to_ne_bytes());
    value.extend_from_slice(&flags.to_ne_bytes());
    value.extend_from_slice(&0_u32.to_ne_bytes());
    value
}

/// When the program image began, of a value of the tracked map.
fn image_boot_ns(value: &[u8]) -> u64 {
    let mut at = &value[offset_of!(abi::TrackedProcess, image_boot_ns)..];
    u64::take(&mut at).unwrap_or(u64::MAX)
}

/// Whether a process will still pass through exit.
fn is_alive(pid: u32) -> bool {
    process_start(pid).is_some()
}

/// When a process was created, if it will still pass through exit. A zombie will not, unless it is
/// the first thread of a process whose others live on.
fn process_start(pid: u32) -> Option<BootNanos> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // proc_pid_stat(5): the name may hold anything, so count from its closing parenthesis.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    // Fields 20 and 22; the state was field 3.
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let start_ticks: u64 = fields.nth(1)?.parse().ok()?;
    let lives = !matches!(state, "Z" | "X") || threads > 1;
    lives.then(|| BootNanos(start_ticks.saturating_mul(CLOCK_TICK_NS)))
}
