//! The clocks of a recording and the only conversion between them.
//!
//! The kernel stamps events with the boot-time clock ([`BootNanos`]); the trace stores UTC
//! ([`WallNanos`]). One [`ClockAnchor`], taken when the recording starts, converts all of them, so
//! that differences between events are exactly what the kernel measured, even when NTP steps the
//! wall clock during the run. Later anchors are stored beside it to make such steps visible, and
//! those times in which the machine was suspended: the monotonic clock stands still then.
//! Nothing here reads a clock.

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`, `bpf_ktime_get_boot_ns`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootNanos(pub u64);

/// Nanoseconds since boot, suspend not included (`CLOCK_MONOTONIC`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonotonicNanos(pub u64);

/// Nanoseconds since 1970-01-01 00:00:00 UTC, leap seconds not counted (`CLOCK_REALTIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallNanos(pub i64);

impl WallNanos {
    /// Milliseconds from `earlier` to `self`; negative if `self` is the earlier one.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> f64 {
        // Subtract as integers: an f64 cannot hold nanoseconds since 1970 exactly.
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }
}

/// The same instant read on all clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnchor {
    /// The instant on the boot-time clock.
    pub boot: BootNanos,
    /// The instant on the wall clock.
    pub wall: WallNanos,
    /// The instant on the monotonic clock.
    pub monotonic: MonotonicNanos,
}

/// Length of one kernel clock tick as `/proc` shows it (`USER_HZ` is 100 on every architecture
/// this program runs on; `proc_pid_stat(5)`, field 22).
pub const CLOCK_TICK_NS: u64 = 10_000_000;

impl ClockAnchor {
    /// An anchor on a machine that was never suspended.
    #[must_use]
    pub const fn new(boot: BootNanos, wall: WallNanos) -> Self {
        Self { boot, wall, monotonic: MonotonicNanos(boot.0) }
    }

    /// How long the machine had been suspended since it was booted.
    #[must_use]
    pub fn suspended_ns(&self) -> u64 {
        self.boot.0.saturating_sub(self.monotonic.0)
    }

    /// How far the wall clock was set forward since `earlier`, negative for back: what it moved by
    /// beyond the time that passed.
    #[must_use]
    pub fn wall_step_ns(&self, earlier: &Self) -> i64 {
        self.wall.0.saturating_sub(earlier.wall(self.boot).0)
    }

    /// The wall-clock time of a boot-time instant, before or after the anchor.
    #[must_use]
    pub fn wall(&self, at: BootNanos) -> WallNanos {
        let offset = i128::from(at.0) - i128::from(self.boot.0);
        let wall = i128::from(self.wall.0) + offset;
        WallNanos(wall.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    /// The start time that identifies a process: floored to a clock tick, because `/proc/PID/stat`
    /// shows no finer value and both sources must give the same identity.
    #[must_use]
    pub fn process_start(&self, started: BootNanos) -> WallNanos {
        self.wall(BootNanos(started.0 / CLOCK_TICK_NS * CLOCK_TICK_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANCHOR: ClockAnchor =
        ClockAnchor::new(BootNanos(5_000_000_000), WallNanos(1_800_000_000_000_000_123));

    #[test]
    fn differences_between_boot_times_survive_conversion_exactly() {
        let (a, b) = (ANCHOR.wall(BootNanos(4_999_999_999)), ANCHOR.wall(BootNanos(5_000_000_001)));
        assert_eq!(b.0 - a.0, 2);
        assert_eq!(ANCHOR.wall(ANCHOR.boot), ANCHOR.wall);
    }

    #[test]
    fn hostile_boot_times_saturate_instead_of_wrapping() {
        assert_eq!(ANCHOR.wall(BootNanos(u64::MAX)), WallNanos(i64::MAX));
    }

    #[test]
    fn a_process_start_from_proc_ticks_equals_the_kernels_nanoseconds() {
        let kernel = BootNanos(1_234_567_891);
        let proc_ticks = kernel.0 / CLOCK_TICK_NS;
        let from_proc = ANCHOR.process_start(BootNanos(proc_ticks * CLOCK_TICK_NS));
        assert_eq!(ANCHOR.process_start(kernel), from_proc);
    }

    #[test]
    fn a_step_of_the_wall_clock_and_a_suspend_are_told_apart() {
        let suspended = ClockAnchor {
            boot: BootNanos(9_000_000_000),
            wall: WallNanos(ANCHOR.wall.0 + 4_000_000_000),
            monotonic: MonotonicNanos(6_000_000_000),
        };
        assert_eq!(suspended.suspended_ns() - ANCHOR.suspended_ns(), 3_000_000_000);
        assert_eq!(suspended.wall_step_ns(&ANCHOR), 0);
        let stepped = ClockAnchor { wall: WallNanos(suspended.wall.0 - 7), ..suspended };
        assert_eq!(stepped.wall_step_ns(&ANCHOR), -7);
    }

    #[test]
    fn milliseconds_are_signed() {
        assert_eq!(WallNanos(1).ms_since(WallNanos(1_500_001)), -1.5);
    }
}
