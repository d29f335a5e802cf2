//! When the open part of a recording ends, and which old parts go: policy without IO.
//!
//! Time is what has passed since the recording began, on a clock that does not jump; sizes are bytes
//! on disk, the open part's log included. The caller opens, closes and removes files as told.
//!
//! ```text
//!   ┌──── kept ────┐  open
//!   │ 3 │ 4 │ 5 │ 6 │ 7 ···      oldest is surplus when the rest is enough
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::retention::{MIN_PART_AGE, RING_PARTS, Retention, RingSpan};

/// What to do with the open part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write on.
    GoOn,
    /// End it and begin the next.
    Next,
    /// End the recording: the trace has the size that was asked for.
    Stop,
}

/// The parts of one recording.
#[derive(Debug)]
pub struct Parts {
    retention: Retention,
    /// Ended parts that are kept, oldest first.
    kept: VecDeque<Ended>,
    /// Number of the open part, from 1.
    open: u32,
    /// When the open part began.
    open_since: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    number: u32,
    since: Duration,
    bytes: u64,
}

impl Parts {
    /// Part 1 is open and began with the recording.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self { retention, kept: VecDeque::new(), open: 1, open_since: Duration::ZERO }
    }

    /// The number of the open part.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open
    }

    /// The numbers of the ended parts that are kept, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = u32> {
        self.kept.iter().map(|part| part.number)
    }

    /// What to do with the open part, which has `bytes`.
    #[must_use]
    pub fn verdict(&self, bytes: u64, now: Duration) -> Verdict {
        let (end_bytes, end_age) = match self.retention {
            Retention::Whole => return Verdict::GoOn,
            Retention::UpTo { bytes: most } if bytes >= most => return Verdict::Stop,
            Retention::UpTo { .. } => return Verdict::GoOn,
            Retention::Rotate(rotation) => (rotation.bytes, rotation.age),
            Retention::Ring(RingSpan::Bytes(ring)) => (Some(ring / u64::from(RING_PARTS)), None),
            Retention::Ring(RingSpan::Time(ring)) => {
                (None, Some((ring / RING_PARTS).max(MIN_PART_AGE / 2)))
            }
        };
        let age = now.saturating_sub(self.open_since);
        let is_over =
            end_bytes.is_some_and(|most| bytes >= most) || end_age.is_some_and(|most| age >= most);
        if is_over { Verdict::Next } else { Verdict::GoOn }
    }

    /// The open part has ended with `bytes`; the next one is open from `now` on.
    pub fn next(&mut self, bytes: u64, now: Duration) {
        self.kept.push_back(Ended { number: self.open, since: self.open_since, bytes });
        self.open += 1;
        self.open_since = now;
    }

    /// Forgets the oldest part if the rest, with `open_bytes` in the open part, is all that has to
    /// be kept; to be asked until nothing more is surplus.
    pub fn surplus(&mut self, open_bytes: u64, now: Duration) -> Option<u32> {
        self.kept.front()?;
        let is_surplus = match self.retention {
            Retention::Whole | Retention::UpTo { .. } => false,
            // The open file is one of those kept.
            Retention::Rotate(rotation) => {
                rotation.keep.is_some_and(|keep| self.kept.len() >= keep as usize)
            }
            Retention::Ring(RingSpan::Bytes(ring)) => self.total_bytes(open_bytes) > ring,
            Retention::Ring(RingSpan::Time(ring)) => {
                let rest_since = self.kept.get(1).map_or(self.open_since, |part| part.since);
                now.saturating_sub(rest_since) >= ring
            }
        };
        if !is_surplus {
            return None;
        }
        self.kept.pop_front().map(|part| part.number)
    }

    /// Bytes of all kept parts and the open one.
    fn total_bytes(&self, open_bytes: u64) -> u64 {
        self.kept.iter().fold(open_bytes, |sum, part| sum.saturating_add(part.bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::retention::Rotation;

    const SECOND: Duration = Duration::from_secs(1);

    /// Grows a recording by steps of time and bytes; returns the policy, the time, and the size of
    /// the open part, after checking `holds` at every step.
    fn grow(
        retention: Retention,
        steps: &[(u64, u64)],
        mut holds: impl FnMut(&Parts, &[(u32, Duration, u64)], Duration, u64),
    ) {
        let mut parts = Parts::new(retention);
        let (mut now, mut open_bytes, mut since) = (Duration::ZERO, 0, Duration::ZERO);
        // What is on disk, as the caller would see it.
        let mut disk: Vec<(u32, Duration, u64)> = Vec::new();
        for &(ms, bytes) in steps {
            now += Duration::from_millis(ms);
            open_bytes += bytes;
            if parts.verdict(open_bytes, now) == Verdict::Next {
                disk.push((parts.open(), since, open_bytes));
                parts.next(open_bytes, now);
                (open_bytes, since) = (0, now);
            }
            while let Some(gone) = parts.surplus(open_bytes, now) {
                assert_eq!(disk.remove(0).0, gone, "only the oldest goes");
            }
            let kept: Vec<u32> = parts.kept().collect();
            assert_eq!(kept, disk.iter().map(|part| part.0).collect::<Vec<_>>());
            assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "without holes: {kept:?}");
            assert!(kept.last().is_none_or(|last| last + 1 == parts.open()));
            holds(&parts, &disk, now, open_bytes);
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
        proptest::collection::vec((0..3_000_u64, 0..200_000_u64), 1..300)
    }

    proptest! {
        #[test]
        fn a_ring_of_time_never_has_less_than_asked_nor_much_more(steps in steps(), s in 4..60_u64) {
            let ring = Duration::from_secs(s);
            grow(Retention::Ring(RingSpan::Time(ring)), &steps, |_, disk, now, _| {
                let Some((_, oldest, _)) = disk.first() else { return };
                let span = now - *oldest;
                assert!(span >= ring || oldest.is_zero(), "{span:?} of {ring:?}");
                // A part of an eighth may be there that is needed only in part, and a step is late.
                let most = ring + ring / RING_PARTS + 4 * SECOND;
                assert!(span <= most, "{span:?} is more than {most:?}");
            });
        }

        #[test]
        fn a_ring_of_bytes_never_takes_more_than_asked(steps in steps(), kb in 2_000..9_000_u64) {
            let ring = kb * 1024;
            grow(Retention::Ring(RingSpan::Bytes(ring)), &steps, |parts, disk, _, open| {
                let total: u64 = disk.iter().map(|part| part.2).sum::<u64>() + open;
                assert!(total <= ring, "{total} of {ring}");
                // It is not emptied either: what was dropped would not have fitted.
                let step = 200_000;
                let dropped = parts.open() as usize > disk.len() + 1;
                assert!(!dropped || total + ring / u64::from(RING_PARTS) + 2 * step > ring);
            });
        }

        #[test]
        fn a_rotation_keeps_that_many_files(steps in steps(), keep in 1..5_u32) {
            let rotation = Rotation { bytes: Some(300_000), age: Some(5 * SECOND), keep: Some(keep) };
            grow(Retention::Rotate(rotation), &steps, |parts, disk, _, open| {
                assert!(disk.len() < keep as usize && open < 300_000);
                assert_eq!(disk.len() + 1, parts.open().min(keep) as usize);
            });
        }
    }

    #[test]
    fn a_whole_recording_never_ends_by_itself_and_a_bounded_one_stops() {
        let whole = Parts::new(Retention::Whole);
        assert_eq!(whole.verdict(u64::MAX, Duration::MAX), Verdict::GoOn);
        let bounded = Parts::new(Retention::UpTo { bytes: 100 });
        assert_eq!(bounded.verdict(99, Duration::MAX), Verdict::GoOn);
        assert_eq!(bounded.verdict(100, Duration::ZERO), Verdict::Stop);
    }
}
