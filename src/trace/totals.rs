//! What the rows of a trace add up to: counted by the writer as they pass, kept in the metadata.
//!
//! A recording that goes on from its log begins with the totals in that log, so they can be read
//! back from the text they were written as. That text may come from a stranger: it is bounded, and
//! what does not fit the format is refused whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::metadata::Entry;
use crate::event::{Body, Event, Probe, ProbeState};

pub(crate) const KINDS_KEY: &str = "agentsight.kinds";
pub(crate) const LOSSES_KEY: &str = "agentsight.losses";
pub(crate) const PROBES_KEY: &str = "agentsight.probes";

/// Kinds that are counted apart when read back; this program knows a dozen.
const MOST_KINDS: usize = 256;
/// Pairs of event class and cause that are counted apart; further ones are counted as [`OTHER`].
const MOST_LOSSES: usize = 1024;
const OTHER: &str = "other";
/// Binaries that the summary of probes lists; all are rows, and all are counted.
const MOST_PROBES: usize = 256;
/// Longest text of one field of a listed probe, in bytes.
const LONGEST_FIELD_BYTES: usize = 512;
/// Longest event class or cause, in bytes: both are words of this program.
const LONGEST_WORD_BYTES: usize = 64;
/// Longest text of all totals together, in bytes: what the bounds above allow, and some.
const LONGEST_JSON_BYTES: usize = 4 << 20;

/// Events and payload bytes of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of events.
    pub events: u64,
    /// Payload bytes.
    pub bytes: u64,
}

impl Tally {
    /// Adds to both; what does not fit stays at the largest number.
    pub fn add(&mut self, events: u64, bytes: u64) {
        self.events = self.events.saturating_add(events);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindTotal {
    /// Rows.
    pub events: u64,
    /// Observations in these rows: a row of joined calls holds several.
    pub calls: u64,
    /// Payload that the calls moved (`data_bytes`).
    pub bytes: u64,
    /// The part of `bytes` that was not captured (`lost_bytes`).
    pub lost_bytes: u64,
}

impl KindTotal {
    /// What of this kind the file holds: observations and captured payload bytes.
    #[must_use]
    pub fn written(&self) -> Tally {
        Tally { events: self.calls, bytes: self.bytes.saturating_sub(self.lost_bytes) }
    }

    fn add(&mut self, event: &Event) {
        self.events = self.events.saturating_add(1);
        let mut calls = 1;
        if let Body::Data(tls) = &event.body {
            calls = tls.call_ts.len().max(1) as u64;
            self.bytes = self.bytes.saturating_add(tls.data_bytes);
            self.lost_bytes = self.lost_bytes.saturating_add(tls.lost_bytes);
        }
        self.calls = self.calls.saturating_add(calls);
    }

    fn subtract(&mut self, other: &Self) {
        self.events = self.events.saturating_sub(other.events);
        self.calls = self.calls.saturating_sub(other.calls);
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.lost_bytes = self.lost_bytes.saturating_sub(other.lost_bytes);
    }

    fn merge(&mut self, other: &Self) {
        self.events = self.events.saturating_add(other.events);
        self.calls = self.calls.saturating_add(other.calls);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.lost_bytes = self.lost_bytes.saturating_add(other.lost_bytes);
    }
}

/// What came of the probes, by binary and library: the last outcome counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeSummary {
    /// `probe` rows by `probe_state`.
    pub rows: BTreeMap<&'static str, u64>,
    /// By path and library, at most 256; binaries without any TLS library give way to others.
    pub binaries: BTreeMap<(String, Option<String>), Probe>,
}

impl ProbeSummary {
    fn add(&mut self, probe: &Probe) {
        let rows = self.rows.entry(probe.state.as_str()).or_default();
        *rows = rows.saturating_add(1);
        self.list(&shortened(probe));
    }

    fn list(&mut self, probe: &Probe) {
        let key = (probe.path.clone(), probe.library.clone());
        if probe.library.is_some() {
            // It was thought to hold none.
            self.binaries.remove(&(probe.path.clone(), None));
        }
        if !self.binaries.contains_key(&key) && self.binaries.len() >= MOST_PROBES {
            if probe.state == ProbeState::Absent {
                return;
            }
            let dull = self.binaries.iter().find(|(_, known)| known.state == ProbeState::Absent);
            let Some(dull) = dull.map(|(key, _)| key.clone()) else { return };
            self.binaries.remove(&dull);
        }
        self.binaries.insert(key, probe.clone());
    }
}

/// What the rows of a file add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By kind.
    pub kinds: BTreeMap<String, KindTotal>,
    /// By event class and cause, summed over the `loss` rows.
    pub losses: BTreeMap<(String, String), Tally>,
    /// The `probe` rows.
    pub probes: ProbeSummary,
}

/// Totals that are not what this program writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata key '{key}': expected {expected}")]
pub struct MalformedTotals {
    /// The key of the metadata.
    pub key: &'static str,
    /// What it was to hold.
    pub expected: &'static str,
}

impl Totals {
    /// Counts one event in.
    pub(crate) fn count(&mut self, event: &Event) {
        let kind = event.body.kind();
        if let Some(total) = self.kinds.get_mut(kind) {
            total.add(event);
        } else {
            self.kinds.entry(kind.to_owned()).or_default().add(event);
        }
        match &event.body {
            Body::Loss(loss) => {
                let lost = Tally { events: loss.lost_events, bytes: loss.lost_bytes };
                self.count_loss(&loss.event_class, &loss.cause, lost);
            }
            Body::Probe(probe) => self.probes.add(probe),
            _ => {}
        }
    }

    fn count_loss(&mut self, class: &str, cause: &str, lost: Tally) {
        let mut key = (clipped(class, LONGEST_WORD_BYTES), clipped(cause, LONGEST_WORD_BYTES));
        if self.losses.len() >= MOST_LOSSES && !self.losses.contains_key(&key) {
            key = (OTHER.to_owned(), OTHER.to_owned());
        }
        self.losses.entry(key).or_default().add(lost.events, lost.bytes);
    }

    /// Adds the totals of other rows of the same or another recording.
    pub fn merge(&mut self, other: &Self) {
        for (kind, total) in &other.kinds {
            self.kinds.entry(kind.clone()).or_default().merge(total);
        }
        for ((class, cause), lost) in &other.losses {
            self.count_loss(class, cause, *lost);
        }
        for (state, count) in &other.probes.rows {
            let rows = self.probes.rows.entry(state).or_default();
            *rows = rows.saturating_add(*count);
        }
        other.probes.binaries.values().for_each(|probe| self.probes.list(probe));
    }

    /// Takes rows out that were counted in; which binaries were looked into stays known.
    pub fn subtract(&mut self, other: &Self) {
        for (kind, gone) in &other.kinds {
            if let Some(total) = self.kinds.get_mut(kind) {
                total.subtract(gone);
            }
        }
        for (key, gone) in &other.losses {
            if let Some(lost) = self.losses.get_mut(key) {
                lost.events = lost.events.saturating_sub(gone.events);
                lost.bytes = lost.bytes.saturating_sub(gone.bytes);
            }
        }
        for (state, gone) in &other.probes.rows {
            if let Some(rows) = self.probes.rows.get_mut(state) {
                *rows = rows.saturating_sub(*gone);
            }
        }
        self.kinds.retain(|_, total| total.events > 0);
        self.losses.retain(|_, lost| *lost != Tally::default());
        self.probes.rows.retain(|_, rows| *rows > 0);
    }

    /// What was lost of one event class, for all causes together.
    #[must_use]
    pub fn lost(&self, event_class: &str) -> Tally {
        let mut sum = Tally::default();
        for ((class, _), lost) in &self.losses {
            if class == event_class {
                sum.add(lost.events, lost.bytes);
            }
        }
        sum
    }

    /// The totals as entries of the metadata.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        vec![
            Entry { key: KINDS_KEY, value: self.kinds_json().to_string() },
            Entry { key: LOSSES_KEY, value: self.losses_json().to_string() },
            Entry { key: PROBES_KEY, value: self.probes_json().to_string() },
        ]
    }

    /// The totals that [`Totals::entries`] were made of; other keys are passed over, and without
    /// any the totals are empty.
    ///
    /// # Errors
    /// When one of the values is not what [`Totals::entries`] writes, or far too large.
    pub fn parse<'a>(
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, MalformedTotals> {
        let mut totals = Self::default();
        for (key, value) in entries {
            match key {
                KINDS_KEY => totals.parse_kinds(&json_of(KINDS_KEY, value)?)?,
                LOSSES_KEY => totals.parse_losses(&json_of(LOSSES_KEY, value)?)?,
                PROBES_KEY => totals.parse_probes(&json_of(PROBES_KEY, value)?)?,
                _ => {}
            }
        }
        Ok(totals)
    }

    fn kinds_json(&self) -> Value {
        let entry = |(kind, total): (&String, &KindTotal)| {
            let mut fields = Map::new();
            fields.insert("events".into(), total.events.into());
            fields.insert("bytes".into(), total.bytes.into());
            // Where they say nothing new they would only be in the way of a reader.
            if total.calls != total.events {
                fields.insert("calls".into(), total.calls.into());
            }
            if total.lost_bytes != 0 {
                fields.insert("lost_bytes".into(), total.lost_bytes.into());
            }
            (kind.clone(), Value::Object(fields))
        };
        Value::Object(self.kinds.iter().map(entry).collect())
    }

    fn parse_kinds(&mut self, json: &Value) -> Result<(), MalformedTotals> {
        let expected = "an object of events and bytes by kind";
        let malformed = MalformedTotals { key: KINDS_KEY, expected };
        let kinds = json.as_object().filter(|kinds| kinds.len() <= MOST_KINDS);
        for (kind, fields) in kinds.ok_or(malformed.clone())? {
            let number = |name: &str| number(fields, name);
            let or = |name: &str, default: u64| match fields.get(name) {
                Some(value) => value.as_u64(),
                None => Some(default),
            };
            let total = || {
                let (events, bytes) = (number("events")?, number("bytes")?);
                let (calls, lost_bytes) = (or("calls", events)?, or("lost_bytes", 0)?);
                (lost_bytes <= bytes).then_some(KindTotal { events, calls, bytes, lost_bytes })
            };
            self.kinds.insert(kind.clone(), total().ok_or(malformed.clone())?);
        }
        Ok(())
    }

    fn losses_json(&self) -> Value {
        let entry = |((class, cause), tally): (&(String, String), &Tally)| {
            json!({
                "event_class": class,
                "cause": cause,
                "lost_events": tally.events,
                "lost_bytes": tally.bytes,
            })
        };
        self.losses.iter().map(entry).collect()
    }

    fn parse_losses(&mut self, json: &Value) -> Result<(), MalformedTotals> {
        let expected = "a list of event_class, cause, lost_events and lost_bytes";
        let malformed = MalformedTotals { key: LOSSES_KEY, expected };
        // One more than fit apart: the one that counts what did not.
        let losses = json.as_array().filter(|losses| losses.len() <= MOST_LOSSES + 1);
        for fields in losses.ok_or(malformed.clone())? {
            let loss = || {
                let key = (text(fields, "event_class")?, text(fields, "cause")?);
                let (events, bytes) =
                    (number(fields, "lost_events")?, number(fields, "lost_bytes")?);
                Some((key, Tally { events, bytes }))
            };
            let ((class, cause), lost) = loss().ok_or(malformed.clone())?;
            let key = (clipped(&class, LONGEST_WORD_BYTES), clipped(&cause, LONGEST_WORD_BYTES));
            self.losses.entry(key).or_default().add(lost.events, lost.bytes);
        }
        Ok(())
    }

    fn probes_json(&self) -> Value {
        let binary = |probe: &Probe| {
            json!({
                "path": probe.path,
                "state": probe.state.as_str(),
                "library": probe.library,
                "build_id": probe.build_id,
                "detail": probe.detail,
            })
        };
        let binaries: Vec<Value> = self.probes.binaries.values().map(binary).collect();
        json!({"rows": self.probes.rows, "binaries": binaries})
    }

    fn parse_probes(&mut self, json: &Value) -> Result<(), MalformedTotals> {
        let expected = "an object of rows by state and a list of binaries";
        let malformed = || MalformedTotals { key: PROBES_KEY, expected };
        let rows = json.get("rows").and_then(Value::as_object).ok_or_else(malformed)?;
        for (state, count) in rows {
            let state = ProbeState::from_name(state).ok_or_else(malformed)?;
            self.probes.rows.insert(state.as_str(), count.as_u64().ok_or_else(malformed)?);
        }
        let binaries = json.get("binaries").and_then(Value::as_array);
        let binaries = binaries.filter(|list| list.len() <= MOST_PROBES).ok_or_else(malformed)?;
        for fields in binaries {
            let probe = || {
                Some(Probe {
                    path: text(fields, "path")?,
                    library: optional_text(fields, "library")?,
                    state: ProbeState::from_name(fields.get("state")?.as_str()?)?,
                    detail: text(fields, "detail")?,
                    build_id: optional_text(fields, "build_id")?,
                })
            };
            self.probes.list(&shortened(&probe().ok_or_else(malformed)?));
        }
        Ok(())
    }
}

fn json_of(key: &'static str, text: &str) -> Result<Value, MalformedTotals> {
    // serde_json bounds the depth; this bounds what a tree of values may need.
    let text = (text.len() <= LONGEST_JSON_BYTES).then_some(text);
    let json = text.and_then(|text| serde_json::from_str(text).ok());
    json.ok_or(MalformedTotals { key, expected: "JSON of bounded size" })
}

fn number(fields: &Value, name: &str) -> Option<u64> {
    fields.get(name)?.as_u64()
}

fn text(fields: &Value, name: &str) -> Option<String> {
    fields.get(name)?.as_str().map(str::to_owned)
}

/// `Some(None)` where it is null; `None` where it is not text.
fn optional_text(fields: &Value, name: &str) -> Option<Option<String>> {
    match fields.get(name)? {
        Value::Null => Some(None),
        value => value.as_str().map(|text| Some(text.to_owned())),
    }
}

/// A probe as the summary keeps it, with fields of bounded length.
fn shortened(probe: &Probe) -> Probe {
    let short = |text: &String| clipped(text, LONGEST_FIELD_BYTES);
    Probe {
        path: short(&probe.path),
        library: probe.library.as_ref().map(short),
        state: probe.state,
        detail: short(&probe.detail),
        build_id: probe.build_id.as_ref().map(short),
    }
}

/// At most `bytes` of a text, which then says that there was more.
fn clipped(text: &str, bytes: usize) -> String {
    const MORE: &str = "...";
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}{MORE}", &text[..text.floor_char_boundary(bytes - MORE.len())])
}

#[cfg(test)]
mod tests;
