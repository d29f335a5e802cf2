//! The clock anchors of a trace as text of its metadata, and what they say of the recording.
//!
//! The text may come from a stranger: it is bounded, and what does not fit the format is refused.

use serde_json::{Value, json};

use crate::time::{BootNanos, ClockAnchor, MonotonicNanos, WallNanos};

/// Longest text that is read, in bytes: a hundred thousand anchors and some.
const LONGEST_JSON_BYTES: usize = 8 << 20;

/// What happened to the clocks while a trace was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockFacts {
    /// How long the machine was suspended.
    pub suspended_ns: u64,
    /// The largest step by which the wall clock was set, negative for back; 0 if it was not. Times
    /// of the trace do not follow such steps.
    pub wall_step_ns: i64,
}

impl ClockFacts {
    /// What the value of `agentsight.clock_anchors` says; `None` if it is not what this program
    /// writes. Anchors of older recordings say nothing of suspends.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let anchors = parse(text)?;
        let (first, last) = (anchors.first()?, anchors.last()?);
        let steps = anchors.windows(2).map(|pair| pair[1].wall_step_ns(&pair[0]));
        // Reading several clocks takes a moment: what is below a millisecond is no step.
        let steps = steps.filter(|step| step.unsigned_abs() >= 1_000_000);
        Some(Self {
            suspended_ns: last.suspended_ns().saturating_sub(first.suspended_ns()),
            wall_step_ns: steps.max_by_key(|step| step.unsigned_abs()).unwrap_or(0),
        })
    }
}

/// Anchors as the value of a key.
pub(super) fn json_of(anchors: &[ClockAnchor]) -> String {
    let anchor = |anchor: &ClockAnchor| {
        json!({
            "boot_ns": anchor.boot.0,
            "wall_ns": anchor.wall.0,
            "monotonic_ns": anchor.monotonic.0,
        })
    };
    anchors.iter().map(anchor).collect::<Value>().to_string()
}

/// The anchors that [`json_of`] wrote.
fn parse(text: &str) -> Option<Vec<ClockAnchor>> {
    let text = (text.len() <= LONGEST_JSON_BYTES).then_some(text)?;
    let anchors: Value = serde_json::from_str(text).ok()?;
    let anchor = |fields: &Value| {
        let boot = fields.get("boot_ns")?.as_u64()?;
        let wall = fields.get("wall_ns")?.as_i64()?;
        let monotonic = match fields.get("monotonic_ns") {
            Some(monotonic) => monotonic.as_u64()?,
            None => boot,
        };
        let (boot, wall) = (BootNanos(boot), WallNanos(wall));
        Some(ClockAnchor { boot, wall, monotonic: MonotonicNanos(monotonic) })
    };
    anchors.as_array()?.iter().map(anchor).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn anchor(boot: u64, wall: i64, monotonic: u64) -> ClockAnchor {
        ClockAnchor {
            boot: BootNanos(boot),
            wall: WallNanos(wall),
            monotonic: MonotonicNanos(monotonic),
        }
    }

    #[test]
    fn suspends_add_up_and_the_largest_step_is_told() {
        let second = 1_000_000_000;
        let anchors = [
            anchor(10 * second, 0, 7 * second),
            anchor(20 * second, 12 * second as i64, 17 * second),
            anchor(30 * second, 17 * second as i64, 20 * second),
            anchor(40 * second, 27 * second as i64 + 900_000, 29 * second),
        ];
        let facts = ClockFacts::parse(&json_of(&anchors)).unwrap();
        assert_eq!(facts.suspended_ns, 8 * second);
        assert_eq!(facts.wall_step_ns, -5 * second as i64);
        let quiet = ClockFacts::parse(&json_of(&anchors[..1])).unwrap();
        assert_eq!(quiet, ClockFacts::default());
    }

    #[test]
    fn anchors_of_older_recordings_say_nothing_of_suspends() {
        let old = r#"[{"boot_ns":5,"wall_ns":7},{"boot_ns":9,"wall_ns":11}]"#;
        assert_eq!(ClockFacts::parse(old), Some(ClockFacts::default()));
    }

    #[test]
    fn what_is_no_list_of_anchors_is_refused() {
        for text in ["", "[]", "{}", "[1]", r#"[{"boot_ns":-1,"wall_ns":0}]"#, "[{}]"] {
            assert_eq!(ClockFacts::parse(text), None, "{text}");
        }
        assert_eq!(ClockFacts::parse(&" ".repeat(LONGEST_JSON_BYTES + 1)), None);
    }

    proptest! {
        #[test]
        fn any_anchors_read_back_and_have_facts(
            values in proptest::collection::vec((any::<u64>(), any::<i64>(), any::<u64>()), 1..20)
        ) {
            let anchors: Vec<_> = values.iter().map(|(b, w, m)| anchor(*b, *w, *m)).collect();
            let text = json_of(&anchors);
            prop_assert_eq!(parse(&text), Some(anchors));
            prop_assert!(ClockFacts::parse(&text).is_some());
        }
    }
}
