//! What a trace does not hold and could: said in a line each, before or after the answer.
//!
//! All but damaged rows is known from the metadata when a trace is opened. Holes in single streams
//! are in the table `losses`; finding them takes a reading of the payload.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::discriminant;

use super::Session;
use super::facts::Facts;
use super::traces::{Named, part_of};
use crate::human::counted;
use crate::trace::{Completeness, Reader, Tally, schema};

/// Something that a trace does not hold, or that this program does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The trace, as the column `trace` names it.
    pub trace: String,
    /// What it is.
    pub kind: ShortfallKind,
}

/// The sorts of [`Shortfall`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShortfallKind {
    /// The recorder did not finish the file, or has not yet.
    Unfinished(Completeness),
    /// Of the parts of a recording, one between others was not given.
    MissingPart(u32),
    /// The recorder saw events that it could not keep.
    Lost {
        /// How many.
        events: u64,
        /// Payload lost with them or by itself, bytes.
        bytes: u64,
    },
    /// Rows of kinds that a newer recorder writes were passed over.
    UnknownKinds(BTreeMap<String, u64>),
    /// Columns that a newer recorder writes were passed over; what else their rows say was not.
    UnknownColumns(Vec<String>),
    /// Rows that contradict the format were passed over.
    Damaged {
        /// How many.
        rows: u64,
        /// What was wrong with the first.
        first: String,
    },
}

impl ShortfallKind {
    /// Whether events are missing because of it.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        !matches!(self, Self::UnknownColumns(_))
    }

    /// Whether it is to be said unasked. Losses are not: every answer about them says so.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        !matches!(self, Self::Lost { .. })
    }
}

/// The shortfalls of a session as they become known, each said once.
#[derive(Debug, Default)]
pub struct Shortfalls {
    known: Vec<Shortfall>,
}

impl Shortfalls {
    /// What to say now: what has become known since the last look, a line each; of losses only if
    /// `losses_too`.
    #[must_use]
    pub fn look(&mut self, session: &Session, losses_too: bool) -> Vec<String> {
        let is_same = |a: &Shortfall, b: &Shortfall| {
            a.trace == b.trace && discriminant(&a.kind) == discriminant(&b.kind)
        };
        let said = |it: &Shortfall| it.kind.is_warning() || losses_too;
        let is_new = |it: &&Shortfall| said(it) && !self.known.iter().any(|old| is_same(old, it));
        let new: Vec<_> = session.shortfalls().iter().filter(is_new).cloned().collect();
        let lines = new.iter().map(Shortfall::to_string).collect();
        self.known.extend(new);
        lines
    }

    /// Whether events are missing because of any of them.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.known.iter().any(|shortfall| shortfall.kind.is_incomplete())
    }
}

/// Names in a line; more are counted.
const NAMED: usize = 5;

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, kind } = self;
        let verdict = if kind.is_incomplete() { " is incomplete" } else { "" };
        write!(f, "'{trace}'{verdict}: {kind}")
    }
}

/// A sentence with a small first letter and no full stop.
impl fmt::Display for ShortfallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished(completeness) => f.write_str(&describe(completeness)),
            Self::MissingPart(part) => write!(f, "part {part} of the recording was not given"),
            Self::Lost { events, bytes } => write!(
                f,
                "{} and {} of payload were lost while it was recorded",
                counted(*events, "event"),
                counted(*bytes, "byte")
            ),
            Self::UnknownKinds(kinds) => {
                let events = kinds.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
                write!(
                    f,
                    "{} of kinds that this version does not know ({}) are passed over, a newer \
                     agentsight reads them",
                    counted(events, "event"),
                    listed(kinds.keys())
                )
            }
            Self::UnknownColumns(columns) => write!(
                f,
                "columns that this version does not know ({}) are passed over, a newer agentsight \
                 reads them",
                listed(columns)
            ),
            Self::Damaged { rows, first } => {
                write!(f, "{} passed over: {first}", counted(*rows, "damaged row"))
            }
        }
    }
}

/// How a recording ended, for a person to read; starts with a small letter and has no full stop.
pub(super) fn describe(completeness: &Completeness) -> String {
    const TORN: &str = "what came after the last complete write is missing";
    let recovery = match completeness {
        Completeness::Complete => return "the recorder finished".into(),
        Completeness::Repaired => {
            return format!("the recorder did not finish, the file was repaired; {TORN}");
        }
        Completeness::Unfinished(recovery) => recovery,
    };
    let mut text = match (recovery.live, &recovery.stop_reason) {
        (true, _) => "it is still being recorded; this is what was written so far".to_owned(),
        (false, Some(reason)) => format!("the recorder could not finish ({reason})"),
        (false, None) => format!("the recorder did not finish; {TORN}"),
    };
    if recovery.rows_from_log > 0 {
        text.push_str(&format!("; {} came from its log", counted(recovery.rows_from_log, "row")));
    }
    if recovery.torn_bytes > 0 && !recovery.live {
        let torn = counted(recovery.torn_bytes, "byte");
        text.push_str(&format!("; {torn} at the end of the log were cut off in writing"));
    }
    if let Some(damage) = &recovery.log_damage {
        text.push_str(&format!("; the log is damaged: {damage}"));
    }
    if !recovery.live {
        text.push_str("; agentsight-rec repair makes one complete file of it");
    }
    text
}

fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Whether the recorder finished the file, or has not yet: what is the least whole of the parts.
pub(super) fn completeness(readers: &[Reader]) -> Completeness {
    let all = readers.iter().map(Reader::completeness);
    let rank = |found: &&Completeness| match found {
        Completeness::Complete => 0,
        Completeness::Repaired => 1,
        Completeness::Unfinished(_) => 2,
    };
    all.max_by_key(rank).cloned().unwrap_or(Completeness::Complete)
}

/// What is known so far of one trace.
pub(super) fn shortfalls(trace: &Named) -> Vec<Shortfall> {
    let readers = trace.source.readers();
    let facts = Facts::of(&trace.source);
    let mut kinds = Vec::new();
    let completeness = completeness(readers);
    if completeness != Completeness::Complete {
        kinds.push(ShortfallKind::Unfinished(completeness));
    }
    kinds.extend(missing_parts(readers).map(ShortfallKind::MissingPart));
    let mut lost = Tally::default();
    facts.totals.losses.values().for_each(|loss| lost.add(loss.events, loss.bytes));
    let Tally { events, bytes } = lost;
    if events > 0 || bytes > 0 {
        kinds.push(ShortfallKind::Lost { events, bytes });
    }
    let unknown = unknown_kinds(&facts, readers);
    if !unknown.is_empty() {
        kinds.push(ShortfallKind::UnknownKinds(unknown));
    }
    let columns = unknown_columns(readers);
    if !columns.is_empty() {
        kinds.push(ShortfallKind::UnknownColumns(columns));
    }
    let skipped = readers.iter().map(Reader::skipped);
    let (rows, first) = skipped.fold((0_u64, None), |(rows, first), skipped| {
        (rows.saturating_add(skipped.damaged_rows), first.or(skipped.first_damage))
    });
    if rows > 0 {
        kinds.push(ShortfallKind::Damaged { rows, first: first.unwrap_or_default() });
    }
    let of_trace = |kind| Shortfall { trace: trace.name.clone(), kind };
    kinds.into_iter().map(of_trace).collect()
}

/// Parts between the first and the last that are not there.
fn missing_parts(readers: &[Reader]) -> impl Iterator<Item = u32> {
    /// A name says more than a list of thousands.
    const MOST: usize = 8;
    let parts: Vec<u32> = readers.iter().filter_map(part_of).map(|(_, part)| part).collect();
    let gaps: Vec<_> = parts.windows(2).map(|pair| pair[0].saturating_add(1)..pair[1]).collect();
    gaps.into_iter().flatten().take(MOST)
}

/// Events by kind that this program does not know: as the footers say, or as was found so far.
pub(super) fn unknown_kinds(facts: &Facts, readers: &[Reader]) -> BTreeMap<String, u64> {
    let is_known = |kind: &str| schema::KINDS.iter().any(|known| known.name == kind);
    let claimed = facts.totals.kinds.iter().map(|(kind, total)| (kind.clone(), total.events));
    let mut unknown: BTreeMap<String, u64> = claimed.filter(|(kind, _)| !is_known(kind)).collect();
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for (kind, rows) in readers.iter().flat_map(|reader| reader.skipped().unknown_kinds) {
        let sum = found.entry(kind).or_default();
        *sum = sum.saturating_add(rows);
    }
    for (kind, rows) in found {
        unknown.entry(kind).or_insert(rows);
    }
    unknown
}

/// Columns that this program does not know, each once.
pub(super) fn unknown_columns(readers: &[Reader]) -> Vec<String> {
    let mut columns: Vec<String> =
        readers.iter().flat_map(Reader::unknown_columns).map(str::to_owned).collect();
    columns.sort();
    columns.dedup();
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_few_and_counts_the_rest() {
        let names: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
        assert_eq!(listed(&names[..2]), "k0, k1");
        assert_eq!(listed(&names), "k0, k1, k2, k3, k4 and 3 more");
        let kind = ShortfallKind::UnknownKinds([("a".to_owned(), 2), ("b".to_owned(), 1)].into());
        let line = Shortfall { trace: "t".into(), kind }.to_string();
        assert!(line.starts_with("'t' is incomplete: 3 events of kinds"), "{line}");
        assert!(line.contains("(a, b)"), "{line}");
    }
}
