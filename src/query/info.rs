//! The rows of `trace_info`: the metadata of the file, and what a look at two of its columns
//! counts. No payload is touched.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;

use crate::tables::{InfoRow, rfc3339};
use crate::time::WallNanos;
use crate::trace::{self, ClockFacts, Reader, schema};

/// Kinds that are counted apart; a damaged trace may hold as many as rows.
const MOST_KINDS: usize = 256;

#[derive(Default)]
struct Counted {
    events: u64,
    by_kind: BTreeMap<String, u64>,
    first_ts: Option<WallNanos>,
    last_ts: Option<WallNanos>,
}

/// All facts about the trace, ordered by key.
pub(super) fn rows(reader: &Reader) -> Result<Vec<InfoRow>, trace::Error> {
    let mut counted = Counted::default();
    for batch in reader.batches(&["ts", "kind"])? {
        let batch = batch?;
        // The reader has checked the types; a column of another type counts nothing.
        if let Some(kinds) = batch.column_by_name("kind").and_then(|c| c.as_string_opt::<i32>()) {
            kinds.iter().flatten().for_each(|kind| counted.kind(kind));
        }
        let ts = batch.column_by_name("ts");
        if let Some(ts) = ts.and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>()) {
            ts.iter().flatten().for_each(|ts| counted.ts(WallNanos(ts)));
        }
    }
    let metadata = reader.metadata().iter().map(|(key, value)| (key.clone(), readable(key, value)));
    let mut facts: BTreeMap<String, String> = metadata.collect();
    counted.facts(&mut facts);
    clock_facts(reader, &mut facts);
    facts.insert("counted.complete".into(), is_complete(reader).to_string());
    let unknown = reader.unknown_columns();
    if !unknown.is_empty() {
        facts.insert("counted.unknown_columns".into(), unknown.join(", "));
    }
    Ok(facts.into_iter().map(|(key, value)| InfoRow { key, value }).collect())
}

/// A value of the metadata; points in time, which are numbers there, become readable.
fn readable(key: &str, value: &str) -> String {
    match value.parse() {
        Ok(nanos) if key.ends_with("_ts") => rfc3339(WallNanos(nanos)),
        _ => value.to_owned(),
    }
}

/// What the clock anchors say; nothing where they cannot be read.
fn clock_facts(reader: &Reader, facts: &mut BTreeMap<String, String>) {
    let anchors = reader.metadata().get("agentsight.clock_anchors");
    let Some(clock) = anchors.and_then(|text| ClockFacts::parse(text)) else { return };
    facts.insert("counted.suspended_ms".into(), (clock.suspended_ns / 1_000_000).to_string());
    facts.insert("counted.wall_step_ms".into(), (clock.wall_step_ns / 1_000_000).to_string());
}

/// Whether the recorder finished the file: only then does it know when and why it stopped.
fn is_complete(reader: &Reader) -> bool {
    reader.metadata().contains_key("agentsight.stop_reason")
}

impl Counted {
    fn kind(&mut self, kind: &str) {
        self.events += 1;
        if let Some(count) = self.by_kind.get_mut(kind) {
            *count += 1;
        } else if self.by_kind.len() < MOST_KINDS {
            self.by_kind.insert(kind.to_owned(), 1);
        }
    }

    fn ts(&mut self, ts: WallNanos) {
        self.first_ts = Some(self.first_ts.map_or(ts, |first| first.min(ts)));
        self.last_ts = self.last_ts.max(Some(ts));
    }

    fn facts(self, facts: &mut BTreeMap<String, String>) {
        facts.insert("counted.events".into(), self.events.to_string());
        let known = |kind: &str| schema::KINDS.iter().any(|known| known.name == kind);
        let unknown = self.by_kind.iter().filter(|(kind, _)| !known(kind));
        let unknown: u64 = unknown.map(|(_, count)| count).sum();
        facts.insert("counted.unknown_kind_events".into(), unknown.to_string());
        for (kind, count) in self.by_kind {
            facts.insert(format!("counted.events.{kind}"), count.to_string());
        }
        for (name, ts) in [("first", self.first_ts), ("last", self.last_ts)] {
            if let Some(ts) = ts {
                facts.insert(format!("counted.{name}_ts"), rfc3339(ts));
            }
        }
    }
}
