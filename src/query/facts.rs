//! What the metadata of a trace says, in types. Nothing of it is trusted: a value of another shape
//! than `docs/FORMAT.md` gives it counts as absent, and no row is read.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::time::WallNanos;
use crate::trace::{Reader, Tally};

const KINDS: &str = "agentsight.kinds";
const LOSSES: &str = "agentsight.losses";
const PART: &str = "agentsight.part";
const START_TS: &str = "agentsight.start_ts";

/// The metadata of a trace; of the parts of a recording, that of all together.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    keys: BTreeMap<String, String>,
}

/// What the `loss` rows of one class and cause add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) event_class: String,
    pub(super) cause: String,
    pub(super) lost: Tally,
}

impl Facts {
    /// Later parts know more than earlier ones, but for when it all began and what the earlier
    /// ones hold.
    pub(super) fn of(readers: &[Reader]) -> Self {
        let mut all: Vec<Self> =
            readers.iter().map(|reader| Self { keys: reader.metadata().clone() }).collect();
        let Some(mut facts) = all.pop() else { return Self::default() };
        if let Some(first) = all.first() {
            for part in &all {
                facts.add(part);
            }
            for key in [START_TS, PART] {
                if let Some(value) = first.keys.get(key) {
                    facts.keys.insert(key.into(), value.clone());
                }
            }
            let last = &readers[readers.len() - 1];
            if let (Some(from), Some(to)) = (first.text(PART), last.metadata().get(PART)) {
                let range = format!("{from}-{to}");
                facts.keys.insert(PART.into(), range);
            }
        }
        facts
    }

    /// Adds what the rows of another part add up to.
    fn add(&mut self, part: &Self) {
        let mut kinds = self.kinds();
        for (kind, tally) in part.kinds() {
            let sum = kinds.entry(kind).or_default();
            sum.events = sum.events.saturating_add(tally.events);
            sum.bytes = sum.bytes.saturating_add(tally.bytes);
        }
        let kinds = kinds.into_iter().map(|(kind, tally)| {
            (kind, serde_json::json!({"events": tally.events, "bytes": tally.bytes}))
        });
        self.keys.insert(KINDS.into(), Value::Object(kinds.collect()).to_string());
        let mut losses: BTreeMap<(String, String), Tally> = BTreeMap::new();
        for loss in self.losses().into_iter().chain(part.losses()) {
            let sum = losses.entry((loss.event_class, loss.cause)).or_default();
            sum.events = sum.events.saturating_add(loss.lost.events);
            sum.bytes = sum.bytes.saturating_add(loss.lost.bytes);
        }
        let losses: Value = losses
            .into_iter()
            .map(|((event_class, cause), lost)| {
                serde_json::json!({
                    "event_class": event_class,
                    "cause": cause,
                    "lost_events": lost.events,
                    "lost_bytes": lost.bytes,
                })
            })
            .collect();
        self.keys.insert(LOSSES.into(), losses.to_string());
    }

    /// All keys and their values.
    pub(super) fn keys(&self) -> &BTreeMap<String, String> {
        &self.keys
    }

    /// A value that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn ts(&self, key: &str) -> Option<WallNanos> {
        self.text(key)?.parse().ok().map(WallNanos)
    }

    pub(super) fn json(&self, key: &str) -> Option<Value> {
        serde_json::from_str(self.text(key)?).ok()
    }

    /// A list of texts, the empty one where there is none.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let Some(Value::Array(list)) = self.json(key) else { return Vec::new() };
        list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    /// Events and payload bytes by kind.
    pub(super) fn kinds(&self) -> BTreeMap<String, Tally> {
        let Some(Value::Object(kinds)) = self.json(KINDS) else { return BTreeMap::new() };
        let tally = |(kind, value): (String, Value)| {
            let tally =
                Tally { events: value["events"].as_u64()?, bytes: value["bytes"].as_u64()? };
            Some((kind, tally))
        };
        kinds.into_iter().filter_map(tally).collect()
    }

    /// What was lost by class and cause.
    pub(super) fn losses(&self) -> Vec<Loss> {
        let Some(Value::Array(losses)) = self.json(LOSSES) else { return Vec::new() };
        let loss = |value: &Value| {
            Some(Loss {
                event_class: value["event_class"].as_str()?.to_owned(),
                cause: value["cause"].as_str()?.to_owned(),
                lost: Tally {
                    events: value["lost_events"].as_u64()?,
                    bytes: value["lost_bytes"].as_u64()?,
                },
            })
        };
        losses.iter().filter_map(loss).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(keys: &[(&str, &str)]) -> Facts {
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Facts { keys: keys.collect() }
    }

    #[test]
    fn values_of_another_shape_are_absent() {
        let odd = facts(&[(KINDS, "[1]"), (LOSSES, "{\"a\":"), (START_TS, "soon"), ("k", "")]);
        assert!(odd.kinds().is_empty() && odd.losses().is_empty());
        assert_eq!((odd.ts(START_TS), odd.text("k")), (None, None));
        let half = facts(&[
            (KINDS, r#"{"a":{"events":1,"bytes":2},"b":{"events":-1,"bytes":0},"c":3}"#),
            (LOSSES, r#"[{"event_class":"a"},7]"#),
        ]);
        assert_eq!(half.kinds().keys().collect::<Vec<_>>(), ["a"]);
        assert!(half.losses().is_empty());
    }

    #[test]
    fn parts_add_up() {
        let kinds = |events: u64| format!(r#"{{"a":{{"events":{events},"bytes":2}}}}"#);
        let loss = r#"[{"event_class":"a","cause":"b","lost_events":1,"lost_bytes":9}]"#;
        let mut last = facts(&[(KINDS, &kinds(3)), (LOSSES, loss)]);
        last.add(&facts(&[(KINDS, &kinds(u64::MAX)), (LOSSES, loss)]));
        assert_eq!(last.kinds()["a"], Tally { events: u64::MAX, bytes: 4 });
        assert_eq!(last.losses()[0].lost, Tally { events: 2, bytes: 18 });
        assert_eq!(last.losses().len(), 1);
    }
}
