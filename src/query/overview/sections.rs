//! The tables of the overview: kinds, losses, agents and probes as the metadata lists them, and the
//! processes where reading them is cheap.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use serde_json::Value;

use crate::event::Probe;
use crate::human::printable;
use crate::query::Error;
use crate::query::facts::Facts;
use crate::query::traces::Named;
use crate::tables::activity::Activity;
use crate::tables::{Cell, Column, PROCESSES, ProcessRow, Table};
use crate::trace::{self, KindTotal, Tally};

/// The kinds that say which processes there were.
const PROCESS_KINDS: [&str; 4] = ["process_seen", "process_fork", "process_exec", "process_exit"];

/// Processes are read when their kinds have at most this many events: some ten milliseconds.
const MOST_PROCESS_EVENTS: u64 = 5_000;

/// Longest error in place of the processes.
const MOST_ERROR_CHARS: usize = 300;

/// A table under a title.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) rows: RecordBatch,
    /// What is said in place of no rows.
    pub(super) none: Cow<'static, str>,
    /// The named query that shows all rows.
    pub(super) query: &'static str,
}

/// All sections, in order.
pub(super) fn all(trace: &Named, facts: &Facts) -> Result<Vec<Section>, Error> {
    let kinds: Vec<_> = facts.totals.kinds.clone().into_iter().collect();
    let losses: Vec<_> = facts.totals.losses.clone().into_iter().collect();
    let probes: Vec<Probe> = facts.totals.probes.binaries.values().cloned().collect();
    let agents = facts.list("agentsight.binaries");
    let agents: Vec<Value> = agents.into_iter().filter(|it| flag(it, "matched")).collect();
    let mut sections = vec![
        section("Kinds", &KINDS, &kinds, "none", "events_by_kind")?,
        section("Losses", &LOSSES, &losses, "none", "losses_by_cause")?,
        section("Agents", &AGENTS, &agents, "none in the metadata", "processes_list")?,
        section("Probes", &PROBES, &probes, "none in the metadata", "probes_by_state")?,
    ];
    // Damage of the rows is no reason not to say what the metadata does.
    let (processes, none) = match processes(trace, facts) {
        Ok(None) => return Ok(sections),
        Ok(Some(processes)) => (processes, "none".into()),
        Err(error) => (Vec::new(), printable(&error.to_string(), MOST_ERROR_CHARS).into()),
    };
    let columns = PROCESS_COLUMNS.map(|name| PROCESSES.index(name));
    let rows = PROCESSES.batch(&processes, &columns).map_err(DataFusionError::from)?;
    sections.push(Section { title: "Processes", rows, none, query: "processes_list" });
    Ok(sections)
}

const PROCESS_COLUMNS: [&str; 10] = [
    "pid",
    "ppid",
    "comm",
    "argv",
    "matched",
    "start_ts",
    "end_ts",
    "exit_code",
    "signal",
    "peak_rss_bytes",
];

/// The processes, if they are few.
fn processes(trace: &Named, facts: &Facts) -> Result<Option<Vec<ProcessRow>>, trace::Error> {
    let events = |kind: &str| facts.totals.kinds.get(kind).map_or(0, |total| total.events);
    let all = PROCESS_KINDS.iter().fold(0_u64, |sum, kind| sum.saturating_add(events(kind)));
    if all > MOST_PROCESS_EVENTS {
        return Ok(None);
    }
    let mut activity = Activity::default();
    for event in trace.source.events(&PROCESS_KINDS) {
        activity.push(&event?);
    }
    activity.finish();
    Ok(Some(activity.processes))
}

fn section<R>(
    title: &'static str,
    table: &Table<R>,
    rows: &[R],
    none: &'static str,
    query: &'static str,
) -> Result<Section, Error> {
    let columns: Vec<usize> = (0..table.columns.len()).collect();
    let rows = table.batch(rows, &columns).map_err(DataFusionError::from)?;
    Ok(Section { title, rows, none: none.into(), query })
}

const fn column<R>(name: &'static str, cell: Cell<R>) -> Column<R> {
    Column::plain(name, cell)
}

fn int(number: u64) -> Option<i64> {
    Some(i64::try_from(number).unwrap_or(i64::MAX))
}

const KINDS: Table<(String, KindTotal)> = Table {
    name: "kinds",
    description: "Events by kind.",
    columns: &[
        column("kind", Cell::Text(|(kind, _)| Some(kind.into()))),
        column("events", Cell::Int(|(_, total)| int(total.events))),
        column("calls", Cell::Int(|(_, total)| int(total.calls))),
        column("data_bytes", Cell::Int(|(_, total)| int(total.bytes))),
        column("lost_bytes", Cell::Int(|(_, total)| int(total.lost_bytes))),
    ],
};

const LOSSES: Table<((String, String), Tally)> = Table {
    name: "losses",
    description: "Losses by class and cause.",
    columns: &[
        column("event_class", Cell::Text(|((class, _), _)| Some(class.into()))),
        column("cause", Cell::Text(|((_, cause), _)| Some(cause.into()))),
        column("lost_events", Cell::Int(|(_, lost)| int(lost.events))),
        column("lost_bytes", Cell::Int(|(_, lost)| int(lost.bytes))),
    ],
};

const AGENTS: Table<Value> = Table {
    name: "agents",
    description: "Programs that matched the filters.",
    columns: &[
        column("path", Cell::Text(|it| text(it, "path"))),
        column("script", Cell::Text(|it| text(it, "script"))),
        column("package", Cell::Text(|it| text(it, "package"))),
        column("version", Cell::Text(|it| text(it, "version"))),
        column("size_bytes", Cell::Int(|it| it.get("size_bytes")?.as_i64())),
        column("build_id", Cell::Text(|it| text(it, "build_id"))),
    ],
};

const PROBES: Table<Probe> = Table {
    name: "probes",
    description: "Binaries that were searched for TLS functions.",
    columns: &[
        column("state", Cell::Text(|it| Some(it.state.as_str().into()))),
        column("path", Cell::Text(|it| Some((&it.path).into()))),
        column("library", Cell::Text(|it| it.library.as_ref().map(Into::into))),
        column("detail", Cell::Text(|it| Some((&it.detail).into()))),
        column("build_id", Cell::Text(|it| it.build_id.as_ref().map(Into::into))),
    ],
};

fn text<'a>(fields: &'a Value, name: &str) -> Option<Cow<'a, str>> {
    fields.get(name)?.as_str().map(Into::into)
}

fn flag(fields: &Value, name: &str) -> bool {
    fields.get(name) == Some(&Value::Bool(true))
}
