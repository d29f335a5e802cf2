//! By how much the times of several traces have to be moved to be on one clock.
//!
//! Times of a trace were converted from the boot-time clock by its first anchor. Two recordings of
//! one boot share that clock, so their anchors tell exactly how far apart their conversions are,
//! whatever was done to the wall clock in between. Other traces are taken at their wall clock, unless
//! the user knows better.

use serde_json::Value;

use super::reader::Reader;

/// How far the times of a trace are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// Added to every time of the trace.
    pub ns: i64,
    /// Why so much.
    pub reason: Reason,
}

/// Where a [`ClockOffset`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is the first trace, or of the same recording as an earlier one.
    Reference,
    /// Both recordings were made in the same boot of the same host.
    SameBoot,
    /// Its wall clock is trusted.
    WallClock,
    /// The user said so.
    Asked,
}

/// The offsets of traces, those that the user asked for included.
#[must_use]
pub fn clock_offsets(traces: &[&Reader], asked_ns: &[Option<i64>]) -> Vec<ClockOffset> {
    let clocks: Vec<Clock> = traces.iter().map(|trace| Clock::of(trace)).collect();
    let mut offsets: Vec<ClockOffset> = Vec::new();
    for (index, clock) in clocks.iter().enumerate() {
        if let Some(ns) = asked_ns.get(index).copied().flatten() {
            offsets.push(ClockOffset { ns, reason: Reason::Asked });
            continue;
        }
        let earlier = clocks[..index].iter().zip(&offsets);
        let found = earlier.clone().find_map(|(other, offset)| {
            let is_same =
                !clock.recording_id.is_empty() && clock.recording_id == other.recording_id;
            is_same.then_some(ClockOffset { ns: offset.ns, reason: Reason::Reference })
        });
        let found = found.or_else(|| {
            earlier.clone().find_map(|(other, offset)| {
                let ns = clock.behind(other)?.checked_add(offset.ns)?;
                Some(ClockOffset { ns, reason: Reason::SameBoot })
            })
        });
        let reason = if index == 0 { Reason::Reference } else { Reason::WallClock };
        offsets.push(found.unwrap_or(ClockOffset { ns: 0, reason }));
    }
    offsets
}

/// What a trace says of its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Clock {
    recording_id: String,
    /// A pseudonym of the boot.
    boot_id: Option<String>,
    /// Wall minus boot-time clock, as the trace converted with.
    conversion_ns: Option<i64>,
}

impl Clock {
    fn of(trace: &Reader) -> Self {
        let key = |name: &str| trace.metadata().get(&format!("agentsight.{name}"));
        let json = |name: &str| serde_json::from_str::<Value>(key(name)?).ok();
        Self {
            recording_id: key("recording_id").cloned().unwrap_or_default(),
            boot_id: json("host").and_then(|host| Some(host.get("boot_id")?.as_str()?.to_owned())),
            conversion_ns: json("clock_anchors").and_then(|anchors| {
                let first = anchors.get(0)?;
                first.get("wall_ns")?.as_i64()?.checked_sub(first.get("boot_ns")?.as_i64()?)
            }),
        }
    }

    /// What has to be added to times of this clock to be those of `other`; absent where that is not
    /// known.
    fn behind(&self, other: &Self) -> Option<i64> {
        let same_boot = self.boot_id.is_some() && self.boot_id == other.boot_id;
        same_boot.then_some(other.conversion_ns?.checked_sub(self.conversion_ns?)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_one_boot_are_compared_by_their_conversion() {
        let clock = |boot_id: Option<&str>, conversion_ns| Clock {
            recording_id: String::new(),
            boot_id: boot_id.map(str::to_owned),
            conversion_ns,
        };
        let a = clock(Some("b"), Some(1_000));
        assert_eq!(clock(Some("b"), Some(1_500)).behind(&a), Some(-500));
        assert_eq!(clock(Some("c"), Some(1_500)).behind(&a), None);
        assert_eq!(clock(None, Some(1_500)).behind(&clock(None, Some(1))), None);
        assert_eq!(clock(Some("b"), None).behind(&a), None);
        assert_eq!(
            clock(Some("b"), Some(i64::MAX)).behind(&clock(Some("b"), Some(i64::MIN))),
            None
        );
    }
}
