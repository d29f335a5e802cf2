//! Facts about this host and recording for the metadata, and the only reads of its clocks.

use std::ffi::OsString;
use std::io;

use crate::time::{BootNanos, ClockAnchor, WallNanos};
use crate::trace;

/// Reads both clocks as close together as possible.
///
/// Of a few readings the one with the shortest time between two reads of the boot-time clock is
/// taken: what happened in between (an interrupt, another task) is then at most that long.
#[must_use]
pub fn clock_anchor() -> ClockAnchor {
    let reading = || {
        let before = clock(libc::CLOCK_BOOTTIME);
        let wall = clock(libc::CLOCK_REALTIME);
        let after = clock(libc::CLOCK_BOOTTIME);
        let boot = BootNanos(u64::try_from((before + after) / 2).unwrap_or(0));
        (after - before, ClockAnchor { boot, wall: WallNanos(wall) })
    };
    let best = (0..8).map(|_| reading()).min_by_key(|(uncertainty, _)| *uncertainty);
    best.expect("the range is not empty").1
}

fn clock(id: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live local; both clocks exist since Linux 2.6.39.
    #[expect(unsafe_code, reason = "libc call")]
    let _ = unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// What is known about a recording when it starts.
///
/// # Errors
/// When the kernel gives no random recording id.
pub fn metadata(
    anchor: ClockAnchor,
    command_line: &[OsString],
    filters: Vec<String>,
) -> io::Result<trace::Metadata> {
    let recording_id = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    Ok(trace::Metadata {
        recorder_version: env!("CARGO_PKG_VERSION").into(),
        recording_id,
        command_line: command_line.iter().map(|a| a.to_string_lossy().into_owned()).collect(),
        start_ts: anchor.wall,
        host: host(),
        clock_anchors: vec![anchor],
        filters,
    })
}

fn host() -> trace::Host {
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    // The machine id is 128 random bits, so its hash tells nothing about the host, yet stays the
    // same for all its recordings (machine-id(5) asks to publish it only hashed).
    let identity = [line("/etc/machine-id"), line("/proc/sys/kernel/hostname")].concat();
    let pseudonym = xxhash_rust::xxh3::xxh3_64(identity.as_bytes());
    trace::Host {
        kernel: line("/proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.into(),
        cpus: std::thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(0)),
        hostname: format!("host-{pseudonym:016x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_agree_with_each_other() {
        let (first, second) = (clock_anchor(), clock_anchor());
        assert!(second.boot >= first.boot);
        let apart = first.wall(second.boot).0 - second.wall.0;
        // A second is far beyond reading error and far below any confusion of clocks or units.
        assert!(apart.abs() < 1_000_000_000, "{apart} ns");
    }

    #[test]
    fn the_hostname_is_a_pseudonym() {
        let metadata = metadata(clock_anchor(), &["rec".into()], vec![]).unwrap();
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(metadata.host.hostname.starts_with("host-"));
        assert!(!metadata.host.hostname.contains(hostname.trim()));
        assert_eq!(metadata.recording_id.len(), 36);
        assert!(!metadata.host.kernel.is_empty() && metadata.host.cpus > 0);
    }
}
