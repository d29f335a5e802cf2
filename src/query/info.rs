//! The rows of `trace_info`: the metadata of the file, and what a look at two of its columns
//! counts. No payload is touched.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;

use super::completeness::{completeness, unknown_columns};
use super::facts::Facts;
use super::source::Source;
use crate::tables::{InfoRow, rfc3339};
use crate::time::WallNanos;
use crate::trace::{self, ClockFacts, Completeness, Reader, schema};

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
pub(super) fn rows(source: &Source) -> Result<Vec<InfoRow>, trace::Error> {
    let mut counted = Counted::default();
    for (reader, repeated) in source.files() {
        counted.look(reader, repeated)?;
    }
    let (known, readers) = (Facts::of(source), source.readers());
    let metadata = known.keys().iter().map(|(key, value)| (key.clone(), readable(key, value)));
    let mut facts: BTreeMap<String, String> = metadata.collect();
    counted.facts(&mut facts);
    clock_facts(&known, &mut facts);
    ending(&completeness(readers), &mut facts);
    let unknown = unknown_columns(readers);
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
fn clock_facts(known: &Facts, facts: &mut BTreeMap<String, String>) {
    let anchors = known.keys().get("agentsight.clock_anchors");
    let Some(clock) = anchors.and_then(|text| ClockFacts::parse(text)) else { return };
    facts.insert("counted.suspended_ms".into(), (clock.suspended_ns / 1_000_000).to_string());
    facts.insert("counted.wall_step_ms".into(), (clock.wall_step_ns / 1_000_000).to_string());
}

/// How the recording ended, and what of it came from its log.
fn ending(completeness: &Completeness, facts: &mut BTreeMap<String, String>) {
    let is_complete = *completeness == Completeness::Complete;
    facts.insert("counted.complete".into(), is_complete.to_string());
    let state = match completeness {
        Completeness::Complete => "complete",
        Completeness::Repaired => "repaired",
        Completeness::Unfinished(recovery) if recovery.live => "recording",
        Completeness::Unfinished(_) => "unfinished",
    };
    facts.insert("counted.completeness".into(), state.into());
    if let Completeness::Unfinished(recovery) = completeness {
        facts.insert("counted.rows_from_log".into(), recovery.rows_from_log.to_string());
        facts.insert("counted.torn_bytes".into(), recovery.torn_bytes.to_string());
        if let Some(damage) = &recovery.log_damage {
            facts.insert("counted.log_damage".into(), damage.clone());
        }
    }
}

impl Counted {
    /// Counts the rows of a file, those of its first row groups left out.
    fn look(&mut self, reader: &Reader, repeated_groups: usize) -> Result<(), trace::Error> {
        let scan = reader.scan()?;
        let groups = scan.footer().row_groups().iter().take(repeated_groups);
        let mut repeated: usize =
            groups.map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum();
        for batch in reader.batches(&["ts", "kind"])? {
            let batch = batch?;
            let left_out = repeated.min(batch.num_rows());
            repeated -= left_out;
            let batch = batch.slice(left_out, batch.num_rows() - left_out);
            // The reader has checked the types; a column of another type counts nothing.
            let kinds = batch.column_by_name("kind").and_then(|c| c.as_string_opt::<i32>());
            kinds.into_iter().flatten().flatten().for_each(|kind| self.kind(kind));
            let ts = batch.column_by_name("ts");
            let ts = ts.and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>());
            ts.into_iter().flatten().flatten().for_each(|ts| self.ts(WallNanos(ts)));
        }
        Ok(())
    }

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
