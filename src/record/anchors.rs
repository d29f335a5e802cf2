//! Which readings of the clocks a recording keeps: those that say something new.
//!
//! A reading is new when the wall clock was set since the last kept one, when the machine was
//! suspended in between, or when ten minutes have passed. A recording of any length keeps a bounded
//! number: beyond it those that only mark time go first. Reads no clock.

use crate::time::ClockAnchor;

/// A change of the wall clock against the boot-time clock that is worth a reading. Slewing changes
/// both alike, so only setting the clock makes one; reading them is a thousand times more exact.
const STEP_NS: u64 = 1_000_000;
/// A difference between the boot-time and the monotonic clock that is no error of reading.
const SUSPEND_NS: u64 = 1_000_000;
/// Without anything new, a reading is kept this often.
const INTERVAL_NS: u64 = 600 * 1_000_000_000;
/// Most readings kept: a week of ten-minute marks.
const MOST: usize = 1000;

/// The readings of one recording.
#[derive(Clone, Debug)]
pub struct Anchors {
    kept: Vec<ClockAnchor>,
}

impl Anchors {
    /// Begins with the reading that converts all times of the recording; it is never dropped.
    #[must_use]
    pub fn new(first: ClockAnchor) -> Self {
        Self { kept: vec![first] }
    }

    /// Takes a reading; whether it was kept because it says something new.
    pub fn take(&mut self, anchor: ClockAnchor) -> bool {
        let last = self.kept.last().expect("begins with one");
        let passed = anchor.boot.0.saturating_sub(last.boot.0);
        if !is_change(last, &anchor) && passed < INTERVAL_NS {
            return false;
        }
        self.keep(anchor);
        true
    }

    /// Takes the last reading of the recording, which is always kept.
    pub fn close(&mut self, anchor: ClockAnchor) {
        self.keep(anchor);
    }

    /// Those kept so far, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[ClockAnchor] {
        &self.kept
    }

    fn keep(&mut self, anchor: ClockAnchor) {
        if self.kept.len() >= MOST {
            self.thin();
        }
        self.kept.push(anchor);
    }

    /// Makes room: drops every other reading that only marks time, or, when all are changes, every
    /// other one but the first.
    fn thin(&mut self) {
        let changes: Vec<bool> =
            self.kept.windows(2).map(|pair| is_change(&pair[0], &pair[1])).collect();
        // A change is seen between two readings: both stay.
        let marks_time = |at: usize| {
            at > 0
                && !changes[at - 1]
                && changes.get(at).is_none_or(|next_is_change| !next_is_change)
        };
        let before = self.kept.len();
        let mut at = 0;
        self.kept.retain(|_| {
            at += 1;
            !(marks_time(at - 1) && at % 2 == 0)
        });
        if self.kept.len() == before {
            let mut at = 0;
            self.kept.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
    }
}

fn is_change(earlier: &ClockAnchor, later: &ClockAnchor) -> bool {
    let suspended = later.suspended_ns().abs_diff(earlier.suspended_ns());
    later.wall_step_ns(earlier).unsigned_abs() > STEP_NS || suspended > SUSPEND_NS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::{BootNanos, MonotonicNanos, WallNanos};

    const MINUTE: u64 = 60 * 1_000_000_000;

    /// A reading so long after the boot, with the wall clock set and the machine suspended so far.
    fn at(boot: u64, stepped: i64, suspended: u64) -> ClockAnchor {
        ClockAnchor {
            boot: BootNanos(boot),
            wall: WallNanos(1_800_000_000_000_000_000 + boot as i64 + stepped),
            monotonic: MonotonicNanos(boot - suspended),
        }
    }

    #[test]
    fn only_what_is_new_is_kept() {
        let mut anchors = Anchors::new(at(MINUTE, 0, 0));
        assert!(!anchors.take(at(2 * MINUTE, 400, 900)));
        assert!(anchors.take(at(3 * MINUTE, -2_000_000, 0)), "the wall clock was set back");
        assert!(!anchors.take(at(4 * MINUTE, -2_000_000, 0)));
        assert!(anchors.take(at(6 * MINUTE, -2_000_000, MINUTE)), "the machine slept");
        assert!(!anchors.take(at(15 * MINUTE, -2_000_000, MINUTE)));
        assert!(anchors.take(at(16 * MINUTE, -2_000_000, MINUTE)), "ten minutes are over");
        anchors.close(at(17 * MINUTE, -2_000_000, MINUTE));
        assert_eq!(anchors.as_slice().len(), 5);
    }

    #[test]
    fn a_slow_drift_is_kept_once_it_adds_up() {
        let mut anchors = Anchors::new(at(0, 0, 0));
        let kept = (1..=10).filter(|n| anchors.take(at(n * MINUTE / 60, *n as i64 * 300_000, 0)));
        assert_eq!(kept.collect::<Vec<_>>(), [4, 8]);
    }

    #[test]
    fn ten_hours_without_events_stay_small() {
        let mut anchors = Anchors::new(at(0, 0, 0));
        (1..=600).for_each(|minute| {
            anchors.take(at(minute * MINUTE, 0, 0));
        });
        assert_eq!(anchors.as_slice().len(), 61);
    }

    #[test]
    fn changes_outlive_readings_that_only_mark_time() {
        let mut anchors = Anchors::new(at(0, 0, 0));
        let step = |tens: u64| if tens >= 777 { 5_000_000_000 } else { 0 };
        (1..=5000).for_each(|tens| {
            anchors.take(at(tens * 10 * MINUTE, step(tens), 0));
        });
        let kept = anchors.as_slice();
        assert!(kept.len() <= MOST);
        assert!(kept.windows(2).any(|pair| pair[1].wall_step_ns(&pair[0]) == 5_000_000_000));
        let around = kept.windows(2).find(|pair| is_change(&pair[0], &pair[1])).unwrap();
        assert_eq!([around[0].boot.0, around[1].boot.0].map(|b| b / (10 * MINUTE)), [776, 777]);
    }

    proptest! {
        #[test]
        fn the_number_is_bounded_and_the_first_stays(
            steps in proptest::collection::vec((0..20 * MINUTE, -3_000_000..3_000_000_i64), 0..3000)
        ) {
            let (mut boot, mut stepped) = (0, 0);
            let mut anchors = Anchors::new(at(0, 0, 0));
            for (passed, step) in steps {
                (boot, stepped) = (boot + passed, stepped + step);
                anchors.take(at(boot, stepped, 0));
            }
            prop_assert!(anchors.as_slice().len() <= MOST);
            prop_assert_eq!(anchors.as_slice()[0], at(0, 0, 0));
            prop_assert!(anchors.as_slice().is_sorted_by_key(|anchor| anchor.boot));
        }
    }
}
