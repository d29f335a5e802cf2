//! What the metadata of a trace says, in types. Nothing of it is trusted: a value of another shape
//! than `docs/FORMAT.md` gives it counts as absent, and no row is read.

use std::collections::BTreeMap;

use serde_json::Value;

use super::source::Source;
use crate::time::WallNanos;
use crate::trace::{KindTotal, Totals};

pub(super) const PART: &str = "agentsight.part";
pub(super) const START_TS: &str = "agentsight.start_ts";
const CARRIED: &str = "agentsight.carried";

/// The metadata of a trace; of the parts of a recording, that of all together.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    keys: BTreeMap<String, String>,
    /// What the rows add up to; empty where the metadata does not say it in our words.
    pub(super) totals: Totals,
}

impl Facts {
    pub(super) fn of(source: &Source) -> Self {
        let parts: Vec<(&BTreeMap<String, String>, bool)> =
            source.files().map(|(reader, repeated)| (reader.metadata(), repeated > 0)).collect();
        Self::of_parts(&parts)
    }

    /// Later parts know more than earlier ones, but for when it all began and what their own rows
    /// add up to. With each part comes whether its carried rows are of no account, because the
    /// part before it is there.
    fn of_parts(parts: &[(&BTreeMap<String, String>, bool)]) -> Self {
        let (Some((first, _)), Some((last, _))) = (parts.first(), parts.last()) else {
            return Self::default();
        };
        let mut keys = (*last).clone();
        let mut totals = Totals::default();
        for (part, repeats) in parts {
            let pairs = part.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let mut own = Totals::parse(pairs).unwrap_or_default();
            if *repeats {
                own.subtract(&carried(part));
            }
            totals.merge(&own);
        }
        if parts.len() > 1 {
            if let Some(start) = first.get(START_TS) {
                keys.insert(START_TS.into(), start.clone());
            }
            let numbers: Vec<&str> =
                parts.iter().filter_map(|(part, _)| part.get(PART).map(String::as_str)).collect();
            keys.insert(PART.into(), numbers.join(", "));
            for entry in totals.entries() {
                keys.insert(entry.key.into(), entry.value);
            }
        }
        Self { keys, totals }
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

    /// The elements of a list, none where there is no list.
    pub(super) fn list(&self, key: &str) -> Vec<Value> {
        match self.json(key) {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        }
    }

    /// The texts of a list.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.list(key).iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }
}

/// The rows at the begin of a part that repeat what was known.
fn carried(part: &BTreeMap<String, String>) -> Totals {
    let mut totals = Totals::default();
    let kinds = part.get(CARRIED).and_then(|text| serde_json::from_str(text).ok());
    let Some(Value::Object(kinds)) = kinds else { return totals };
    for (kind, events) in kinds {
        let events = events.as_u64().unwrap_or(0);
        totals.kinds.insert(kind, KindTotal { events, calls: events, ..KindTotal::default() });
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_of_another_shape_are_absent() {
        let odd = keys(&[("agentsight.kinds", "[1]"), (START_TS, "soon"), ("k", ""), ("l", "[1]")]);
        let odd = Facts::of_parts(&[(&odd, false)]);
        assert_eq!(odd.totals, Totals::default());
        assert_eq!((odd.ts(START_TS), odd.text("k")), (None, None));
        assert_eq!((odd.texts("l"), odd.texts("k")), (vec![], vec![]));
        assert!(Facts::of_parts(&[]).keys().is_empty());
    }

    #[test]
    fn parts_add_up() {
        let part = |part: &str, start: &str, events: u64| {
            let kinds = format!(r#"{{"sample":{{"events":{events},"bytes":0}}}}"#);
            let carried = (CARRIED, r#"{"sample":1}"#);
            let own = [("agentsight.kinds", kinds.as_str()), (START_TS, start), (PART, part)];
            keys(&[own[0], own[1], own[2], ("k", part), carried])
        };
        let whole = Facts::of_parts(&[(&part("1", "7", 3), false), (&part("2", "8", 5), true)]);
        assert_eq!(whole.totals.kinds["sample"].events, 7);
        assert_eq!(whole.text("agentsight.kinds"), Some(r#"{"sample":{"events":7,"bytes":0}}"#));
        assert_eq!((whole.ts(START_TS), whole.text("k")), (Some(WallNanos(7)), Some("2")));
        assert_eq!(whole.text(PART), Some("1, 2"));
    }
}
