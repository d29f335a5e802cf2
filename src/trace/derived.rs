//! The metadata of a trace that was made of other traces: what stays true of it, and the keys that
//! say where it came from (`docs/FORMAT.md`, "Parts of a recording").

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::metadata::{FORMAT_VERSION_KEY, Keys, MIN_READER_VERSION_KEY};
use super::schema::{FORMAT_VERSION, MIN_READER_VERSION, columns_json};
use super::totals::Tally;
use crate::time::WallNanos;

/// Present, with the value `true`, when the file begins in the middle of a recording: a stream may
/// begin at an offset above 0 without anything being lost.
pub(crate) const MIDWAY_KEY: &str = "agentsight.midway";
/// How many rows of each kind at the begin of the file, its first row group, repeat what was known
/// at that time.
pub(crate) const CARRIED_KEY: &str = "agentsight.carried";
/// The number of this part of the recording, from 1.
pub(crate) const PART_KEY: &str = "agentsight.part";
/// The first and the last part that this file holds.
pub(crate) const PARTS_KEY: &str = "agentsight.parts";
/// Why and when a snapshot was taken.
pub(crate) const SNAPSHOT_KEY: &str = "agentsight.snapshot";
/// What was cut out of what.
pub(crate) const CUT_KEY: &str = "agentsight.cut";
/// What was merged.
pub(crate) const MERGED_KEY: &str = "agentsight.merged";

pub(crate) const RECORDING_ID_KEY: &str = "agentsight.recording_id";
pub(crate) const START_TS_KEY: &str = "agentsight.start_ts";
pub(crate) const STOP_TS_KEY: &str = "agentsight.stop_ts";

/// Keys that describe the rows or the layout of one file and are wrong in any other.
const OF_ONE_FILE: [&str; 10] = [
    FORMAT_VERSION_KEY,
    MIN_READER_VERSION_KEY,
    "agentsight.columns",
    "agentsight.kinds",
    "agentsight.losses",
    "agentsight.probes",
    "agentsight.ledger",
    CARRIED_KEY,
    SNAPSHOT_KEY,
    PARTS_KEY,
];

/// Most bytes of one value that are taken over from another file.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// What is known of a file from its metadata alone, as far as it is well-formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The recording; empty when the file does not say.
    pub recording_id: String,
    /// Number of this part of the recording.
    pub part: Option<u32>,
    /// Whether the file begins in the middle of its recording.
    pub is_midway: bool,
    /// Rows at its begin that repeat what was known then.
    pub carried_rows: u64,
    /// When the recording started.
    pub start_ts: Option<WallNanos>,
    /// When it ended.
    pub stop_ts: Option<WallNanos>,
}

impl Origin {
    /// Reads it from the keys of a file.
    #[must_use]
    pub fn of(keys: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| keys.get(key).map(String::as_str);
        let ts = |key: &str| text(key).and_then(|ts| ts.parse().ok()).map(WallNanos);
        Self {
            recording_id: text(RECORDING_ID_KEY).unwrap_or_default().to_owned(),
            part: text(PART_KEY).and_then(|part| part.parse().ok()),
            is_midway: text(MIDWAY_KEY) == Some("true"),
            carried_rows: carried(keys)
                .values()
                .fold(0, |sum, tally| tally.events.saturating_add(sum)),
            start_ts: ts(START_TS_KEY),
            stop_ts: ts(STOP_TS_KEY),
        }
    }
}

/// The carried rows of a file by kind.
pub(crate) fn carried(keys: &BTreeMap<String, String>) -> BTreeMap<String, Tally> {
    let parsed = keys.get(CARRIED_KEY).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(Value::Object(kinds)) = parsed else { return BTreeMap::new() };
    let tally = |(kind, events): (String, Value)| {
        Some((kind, Tally { events: events.as_u64()?, bytes: 0 }))
    };
    kinds.into_iter().filter_map(tally).collect()
}

/// The value of [`CARRIED_KEY`].
pub(crate) fn carried_json<'kind>(kinds: impl Iterator<Item = &'kind str>) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    kinds.for_each(|kind| *counts.entry(kind).or_default() += 1);
    json!(counts).to_string()
}

/// The keys of a file that stay true of a file made of it, those of unknown meaning included, with
/// the format that this program writes.
pub(crate) fn inherited(keys: &BTreeMap<String, String>) -> Keys {
    let mut derived = Keys::default();
    derived.set_text(FORMAT_VERSION_KEY, FORMAT_VERSION.to_string());
    derived.set_text(MIN_READER_VERSION_KEY, MIN_READER_VERSION.to_string());
    for (key, value) in keys {
        if !OF_ONE_FILE.contains(&key.as_str()) && value.len() <= MAX_VALUE_BYTES {
            derived.set_text(key, value.clone());
        }
    }
    derived.set_text("agentsight.columns", columns_json().to_string());
    derived
}

/// Both lists, without what is in them twice; `None` when either is no list.
pub(crate) fn union(a: &str, b: &str) -> Option<String> {
    let list = |text: &str| match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(items)) => Some(items),
        _ => None,
    };
    let mut items = list(a)?;
    for item in list(b)? {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Some(Value::Array(items).to_string())
}

/// What [`MERGED_KEY`] says of one source.
pub(crate) fn source_json(
    keys: &BTreeMap<String, String>,
    clock_offset_ns: i64,
    rows: u64,
) -> Value {
    let mut source = Map::new();
    for name in [
        "recording_id",
        "part",
        "start_ts",
        "stop_ts",
        "stop_reason",
        "host",
        "redaction",
        "redacted",
        "cut",
        "recovered",
    ] {
        let value = keys.get(&format!("agentsight.{name}"));
        if let Some(value) = value.filter(|value| value.len() <= MAX_VALUE_BYTES) {
            // Numbers of 64 bits stay text: JSON readers round them.
            let parsed = serde_json::from_str(value).ok().filter(Value::is_object);
            source.insert(name.to_owned(), parsed.unwrap_or_else(|| value.clone().into()));
        }
    }
    source.insert("clock_offset_ns".to_owned(), clock_offset_ns.into());
    source.insert("rows".to_owned(), rows.into());
    Value::Object(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_describes_one_file_is_not_inherited_and_the_unknown_is() {
        let keys = keys(&[
            ("agentsight.format_version", "99"),
            ("agentsight.ledger", "[]"),
            ("agentsight.recording_id", "r"),
            ("agentsight.of_the_future", "1"),
        ]);
        let derived = inherited(&keys);
        assert_eq!(derived.get("agentsight.format_version"), Some(&*FORMAT_VERSION.to_string()));
        assert_eq!(derived.get("agentsight.ledger"), None);
        assert_eq!(derived.get("agentsight.recording_id"), Some("r"));
        assert_eq!(derived.get("agentsight.of_the_future"), Some("1"));
        assert!(derived.get("agentsight.columns").is_some());
    }

    #[test]
    fn hostile_values_are_no_values() {
        let origin = Origin::of(&keys(&[
            (PART_KEY, "-1"),
            (MIDWAY_KEY, "yes"),
            (
                CARRIED_KEY,
                r#"{"process_seen": -3, "probe": "x", "sample": 18446744073709551615, "loss": 1}"#,
            ),
            (START_TS_KEY, "99999999999999999999"),
        ]));
        assert_eq!(origin, Origin { carried_rows: u64::MAX, ..Origin::default() });
        assert_eq!(union("{}", "[]"), None);
        assert_eq!(union("[1,2]", "[2,3]").as_deref(), Some("[1,2,3]"));
    }
}
