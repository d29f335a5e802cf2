//! What the agent's own machine did while a model was asked, and what between.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::Row;
use crate::human::{UNKNOWN, bytes, command_line, duration, percent, printable};
use crate::time::CLOCK_TICK_NS;

const HEADING: &str = "CPU and memory during API calls and between them";

/// Processes named for each of the two.
const SHOWN: usize = 5;

/// Longest command line.
const COMMAND_CHARS: usize = 160;

/// Processes that use less than this of the CPU time of their state are not worth a line.
const LEAST_SHARE_PERCENT: f64 = 0.5;

/// Start times of processes are floored to a clock tick.
const TICK_NS: i64 = CLOCK_TICK_NS.cast_signed();

pub(super) fn section(report: &Report) -> Section {
    if report.activity.is_empty() {
        let note = "No process was sampled, so nothing is known of CPU and memory over time.";
        return Section::new(HEADING, vec![Block::Note(note.to_owned())]);
    }
    let mut blocks = Vec::new();
    if report.calls.is_empty() {
        blocks.push(Block::Note(
            "No call to a model was seen: all time is between calls.".to_owned(),
        ));
    }
    blocks.push(Block::Table(states(report)));
    let processes = processes(report);
    if !processes.rows().is_empty() {
        blocks.push(Block::Caption("Who used it:"));
        blocks.push(Block::Table(processes));
    }
    blocks.push(Block::Note(note(report)));
    Section::new(HEADING, blocks)
}

fn states(report: &Report) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("time", Align::Right),
        ("share", Align::Right),
        ("CPU time", Align::Right),
        ("avg CPU", Align::Right),
        ("max CPU", Align::Right),
        ("peak RSS", Align::Right),
    ]);
    for row in report.activity.iter().filter(|row| row.int("pid").is_none()) {
        table.push([
            state(row).to_owned(),
            shown(row.float("wall_ms"), duration),
            shown(row.float("wall_percent"), percent),
            shown(row.float("cpu_ms"), duration),
            shown(row.float("avg_cpu_percent"), percent),
            shown(row.float("max_cpu_percent"), percent),
            shown(row.count("max_rss_bytes"), bytes),
        ]);
    }
    table
}

fn processes(report: &Report) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("CPU time", Align::Right),
        ("share", Align::Right),
        ("max CPU", Align::Right),
        ("peak RSS", Align::Right),
        ("pid", Align::Right),
        ("command", Align::Left),
    ]);
    for during_calls in [true, false] {
        let of_state = |row: &Row<'_>| {
            row.is("during_calls") == during_calls
                && row.int("pid").is_some()
                && row.float("cpu_share_percent").is_some_and(|share| share >= LEAST_SHARE_PERCENT)
        };
        let mut label = if during_calls { "during calls" } else { "between calls" };
        for row in report.activity.iter().filter(of_state).take(SHOWN) {
            table.push([
                label.to_owned(),
                shown(row.float("cpu_ms"), duration),
                shown(row.float("cpu_share_percent"), percent),
                shown(row.float("max_cpu_percent"), percent),
                shown(row.count("max_rss_bytes"), bytes),
                row.int("pid").unwrap_or(0).to_string(),
                command(row),
            ]);
            label = "";
        }
    }
    table
}

fn state(row: Row<'_>) -> &'static str {
    if row.is("during_calls") { "during calls" } else { "between calls" }
}

fn shown<T>(value: Option<T>, text: fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

/// The arguments of a process, else its name.
pub(super) fn command(row: Row<'_>) -> String {
    match row.list("argv") {
        [] => printable(row.text("comm").unwrap_or("unknown"), COMMAND_CHARS),
        argv => command_line(argv, COMMAND_CHARS),
    }
}

/// How the figures came about and what is not in them.
fn note(report: &Report) -> String {
    let interval_ms = report.activity.first().and_then(|row| row.float("interval_ms"));
    let pace = match interval_ms {
        Some(ms) => format!("Sampled every {} (median)", duration(ms)),
        None => "Sampled once".to_owned(),
    };
    let mut text = format!(
        "{pace}; all processes together, 100 % = one core. What happened since the sample before \
         counts as during calls if a call was running at the sample, so short calls may count as \
         between. RSS counts shared pages once for each process."
    );
    let unseen_ms = unsampled_cpu_ms(report);
    // Less than this is rounding.
    if unseen_ms >= 1.0 {
        let unseen = duration(unseen_ms);
        text.push_str(&format!(
            " Not in here: {unseen} of CPU time that no sample shows, of processes after their last \
             sample or without any."
        ));
    }
    text
}

/// CPU time that processes used but no sample shows. Processes older than the recording are left
/// out, since their CPU time is also that before it.
fn unsampled_cpu_ms(report: &Report) -> f64 {
    let Some(from_ns) = report.recording.first_event_ns.map(|first| first.saturating_sub(TICK_NS))
    else {
        return 0.0;
    };
    let cpu_ms = |row: Row<'_>| {
        let is_new = row.ts("start_ts").is_some_and(|start| start >= from_ns);
        row.float("cpu_ms").filter(|_| is_new).unwrap_or(0.0)
    };
    let used: f64 = report.processes.iter().map(cpu_ms).sum();
    let sampled: f64 = report.activity.iter().map(cpu_ms).sum();
    used - sampled
}
