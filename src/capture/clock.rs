//! The clocks and the page size of the host, read through libc.

use crate::time::{BootNanos, ClockAnchor, MonotonicNanos, WallNanos};

/// Now, on the clock the kernel stamps records with.
#[must_use]
pub fn boot_now() -> BootNanos {
    BootNanos(read_clock(libc::CLOCK_BOOTTIME) as u64)
}

/// Reads all clocks as one instant: of a few tries, the one with the least time in between.
#[must_use]
pub fn anchor() -> ClockAnchor {
    let tries = (0..5).map(|_| {
        let before = boot_now().0;
        let wall = WallNanos(read_clock(libc::CLOCK_REALTIME));
        let monotonic = MonotonicNanos(read_clock(libc::CLOCK_MONOTONIC) as u64);
        let gap = boot_now().0.saturating_sub(before);
        (gap, ClockAnchor { boot: BootNanos(before + gap / 2), wall, monotonic })
    });
    let (_, anchor) = tries.min_by_key(|(gap, _)| *gap).expect("five tries");
    anchor
}

fn read_clock(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; these clocks exist on every kernel that runs these programs.
    #[expect(unsafe_code, reason = "std does not read CLOCK_BOOTTIME")]
    unsafe {
        libc::clock_gettime(clock, &raw mut time);
    }
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The unit of the kernel's resident set sizes, in bytes.
#[must_use]
pub fn page_bytes() -> u64 {
    // SAFETY: takes and returns integers.
    #[expect(unsafe_code, reason = "std does not tell the page size")]
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_agree_with_each_other() {
        let (first, second) = (anchor(), anchor());
        assert!(second.boot >= first.boot);
        let apart = first.wall(second.boot).0 - second.wall.0;
        // A second is far beyond reading error and far below any confusion of clocks or units.
        assert!(apart.abs() < 1_000_000_000, "{apart} ns");
        let suspended = second.suspended_ns().abs_diff(first.suspended_ns());
        assert!(suspended < 1_000_000_000, "{suspended} ns");
    }
}
