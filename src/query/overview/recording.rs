//! The lines of the overview: the recording as a whole, from its metadata and the footer.

use serde_json::Value;

use crate::human::{bytes, command_line, count, counted, duration, printable};
use crate::query::completeness::{completeness, describe, unknown_columns, unknown_kinds};
use crate::query::facts::{Facts, PART, START_TS};
use crate::query::traces::Named;
use crate::tables::rfc3339;
use crate::trace::{Completeness, Error, Reader, Scan, Tally};

/// Longest text of one fact.
const MOST_CHARS: usize = 300;

/// Name and text of each line; what is not known has no line.
pub(super) fn lines(
    trace: &Named,
    facts: &Facts,
) -> Result<Vec<(&'static str, String)>, crate::query::Error> {
    let readers = trace.source.readers();
    let scans = readers.iter().map(Reader::scan).collect::<Result<Vec<_>, Error>>()?;
    let lines = [
        ("Trace", Some(name(trace, facts))),
        ("Format", format(facts)),
        ("Recorder", recorder(facts)),
        ("Recorded", Some(time_range(facts, readers))),
        ("Completeness", Some(ending(readers, facts))),
        ("Host", host(facts)),
        ("Clocks", clocks(facts)),
        ("Command", arguments(facts, "agentsight.command_line")),
        ("Filters", listed(facts, "agentsight.filters")),
        ("Redaction", text(facts, "agentsight.redaction")),
        ("Events", Some(events(trace, &scans, facts))),
        ("Processes", processes(facts)),
        ("Lost", Some(lost(facts))),
        ("Ledger", ledger(facts)),
        ("Passed over", passed_over(readers, facts)),
    ];
    Ok(lines.into_iter().filter_map(|(name, text)| Some((name, text?))).collect())
}

fn text(facts: &Facts, key: &str) -> Option<String> {
    facts.text(key).map(|text| printable(text, MOST_CHARS))
}

fn name(trace: &Named, facts: &Facts) -> String {
    let name = printable(&trace.name, MOST_CHARS);
    match text(facts, PART) {
        Some(parts) if trace.source.readers().len() > 1 => {
            format!("{name} and others: parts {parts} of a recording")
        }
        Some(part) => format!("{name}: part {part} of a recording"),
        None => name,
    }
}

fn format(facts: &Facts) -> Option<String> {
    let version = text(facts, "agentsight.format_version")?;
    let reader = text(facts, "agentsight.min_reader_version")?;
    Some(format!("version {version}, for readers of version {reader} and later"))
}

fn recorder(facts: &Facts) -> Option<String> {
    let version = text(facts, "agentsight.recorder_version")?;
    let recording = text(facts, "agentsight.recording_id");
    let recording = recording.map_or_else(String::new, |id| format!(", recording {id}"));
    Some(format!("agentsight-rec {version}{recording}"))
}

/// From the start to the end, or to the last event where the end is not known.
fn time_range(facts: &Facts, readers: &[Reader]) -> String {
    let ranges: Vec<_> = readers.iter().filter_map(Reader::time_range).collect();
    let first = ranges.iter().map(|range| *range.start()).min();
    let last = ranges.iter().map(|range| *range.end()).max();
    let from = facts.ts(START_TS).or(first);
    let stop = facts.ts("agentsight.stop_ts");
    match (from, stop.or(last)) {
        (Some(from), Some(until)) => {
            let lasted = duration(until.ms_since(from));
            let last = if stop.is_some() { "" } else { ", its last event" };
            format!("{} to {}{last} ({lasted})", rfc3339(from), rfc3339(until))
        }
        (Some(from), None) => format!("from {}, without any event", rfc3339(from)),
        (None, _) => "at a time that is not known".to_owned(),
    }
}

fn ending(readers: &[Reader], facts: &Facts) -> String {
    match completeness(readers) {
        Completeness::Complete => {
            let reason = text(facts, "agentsight.stop_reason").unwrap_or_default();
            format!("complete: the recorder finished ({})", reason.replace('_', " "))
        }
        other => format!("incomplete: {}", printable(&describe(&other), MOST_CHARS)),
    }
}

fn host(facts: &Facts) -> Option<String> {
    let host = facts.json("agentsight.host")?;
    let field = |name: &str| {
        let text = host.get(name)?.as_str().filter(|text| !text.is_empty())?;
        Some(printable(text, MOST_CHARS))
    };
    let cpus = host.get("cpus").and_then(Value::as_u64).map(|cpus| counted(cpus, "CPU"));
    let parts = [
        field("kernel").map(|kernel| format!("Linux {kernel}")),
        field("arch"),
        cpus,
        field("hostname").map(|name| format!("pseudonym {name}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What the anchors say of how the clocks moved against each other.
fn clocks(facts: &Facts) -> Option<String> {
    let anchors = facts.list("agentsight.clock_anchors");
    let (first, last) = (anchors.first()?, anchors.last()?);
    let moved = |clock: &str| -> Option<i128> {
        let at = |anchor: &Value| anchor.get(clock)?.as_i64().map(i128::from);
        Some(at(last)? - at(first)?)
    };
    let mut text = counted(anchors.len() as u64, "anchor");
    if let (Some(boot), Some(wall)) = (moved("boot_ns"), moved("wall_ns"))
        && anchors.len() > 1
    {
        let step_ms = (wall - boot) as f64 / 1e6;
        let sign = if step_ms < 0.0 { "-" } else { "+" };
        text.push_str(&match step_ms.abs() {
            // What reading three clocks one after the other takes, and slow adjustment.
            small if small < 1.0 => "; the wall clock was not set".to_owned(),
            large => format!("; the wall clock moved by {sign}{}", duration(large)),
        });
    }
    if let (Some(boot), Some(monotonic)) = (moved("boot_ns"), moved("monotonic_ns")) {
        let suspended_ms = (boot - monotonic) as f64 / 1e6;
        text.push_str(&match suspended_ms {
            small if small < 1.0 => "; no suspend".to_owned(),
            large => format!("; suspended for {}", duration(large)),
        });
    }
    Some(text)
}

fn arguments(facts: &Facts, key: &str) -> Option<String> {
    let arguments = facts.texts(key);
    (!arguments.is_empty()).then(|| command_line(&arguments, MOST_CHARS))
}

fn listed(facts: &Facts, key: &str) -> Option<String> {
    let list = facts.texts(key);
    (!list.is_empty()).then(|| printable(&list.join(", "), MOST_CHARS))
}

fn events(trace: &Named, scans: &[Scan], facts: &Facts) -> String {
    let rows = trace.source.files().fold(0_u64, |sum, (reader, repeated)| {
        let carried = if repeated > 0 { reader.origin().carried_rows } else { 0 };
        sum.saturating_add(reader.row_count().saturating_sub(carried))
    });
    let groups: u64 = scans.iter().map(|scan| scan.footer().num_row_groups() as u64).sum();
    let file_bytes = scans.iter().fold(0_u64, |sum, scan| sum.saturating_add(scan.len_bytes()));
    let kinds = facts.totals.kinds.values();
    let payload = kinds.fold(0_u64, |sum, kind| sum.saturating_add(kind.bytes));
    format!(
        "{} in {}; {} of payload in {} of file",
        count(rows),
        counted(groups, "row group"),
        bytes(payload),
        bytes(file_bytes)
    )
}

/// How many there are, as their events say: each is seen or created once, and may end.
fn processes(facts: &Facts) -> Option<String> {
    let events = |kind: &str| facts.totals.kinds.get(kind).map_or(0, |total| total.events);
    let (seen, created) = (events("process_seen"), events("process_fork"));
    (seen > 0 || created > 0).then(|| {
        format!(
            "{} that ran before, {} created, {} ended; {} started",
            count(seen),
            count(created),
            count(events("process_exit")),
            counted(events("process_exec"), "program")
        )
    })
}

fn lost(facts: &Facts) -> String {
    let mut lost = Tally::default();
    facts.totals.losses.values().for_each(|loss| lost.add(loss.events, loss.bytes));
    match (lost.events, lost.bytes) {
        (0, 0) => "nothing that the recorder counted".to_owned(),
        (events, payload) => {
            format!("{} and {} of payload", counted(events, "event"), bytes(payload))
        }
    }
}

/// Whether every event the recorder observed is in the file or counted as lost.
fn ledger(facts: &Facts) -> Option<String> {
    let accounts = facts.list("agentsight.ledger");
    let is_open = |account: &&Value| account.get("balanced") != Some(&Value::Bool(true));
    let class = |account: &Value| {
        let class = account.get("event_class").and_then(Value::as_str).unwrap_or("unnamed");
        printable(class, MOST_CHARS)
    };
    let open: Vec<String> = accounts.iter().filter(is_open).map(class).collect();
    match (accounts.len(), open.len()) {
        (0, _) => None,
        (all, 0) => {
            let classes = counted(all as u64, "event class").replace("classs", "classes");
            Some(format!("attempted = written + lost in {classes}"))
        }
        _ => Some(format!(
            "does not balance for {}: a bug of the recorder, figures of these kinds are not to be \
             trusted",
            printable(&open.join(", "), MOST_CHARS)
        )),
    }
}

/// What a newer recorder wrote and this program does not read.
fn passed_over(readers: &[Reader], facts: &Facts) -> Option<String> {
    let (kinds, columns) = (unknown_kinds(facts, readers), unknown_columns(readers));
    let mut parts = Vec::new();
    if !kinds.is_empty() {
        let rows = kinds.values().fold(0_u64, |sum, rows| sum.saturating_add(*rows));
        let names: Vec<&str> = kinds.keys().map(String::as_str).collect();
        let names = printable(&names.join(", "), MOST_CHARS);
        parts.push(format!("{} of unknown kinds ({names})", counted(rows, "event")));
    }
    if !columns.is_empty() {
        let names = printable(&columns.join(", "), MOST_CHARS);
        parts.push(format!("{} ({names})", counted(columns.len() as u64, "unknown column")));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
