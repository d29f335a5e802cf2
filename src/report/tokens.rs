//! Tokens per model.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::Row;
use crate::human::{UNKNOWN, count, percent, printable};

/// Longest model name.
const MODEL_CHARS: usize = 28;

pub(super) fn section(report: &Report) -> Section {
    if report.models.is_empty() {
        let note = "No call to a model was seen, so there are no tokens to count.";
        return Section::new("Tokens per model", vec![Block::Note(note.to_owned())]);
    }
    let mut table = Table::new([
        ("model", Align::Left),
        ("calls", Align::Right),
        ("input", Align::Right),
        ("cache read", Align::Right),
        ("cache write", Align::Right),
        ("all input", Align::Right),
        ("cache hit", Align::Right),
        ("output", Align::Right),
        ("reasoning", Align::Right),
        ("counts", Align::Left),
    ]);
    for row in report.models.iter() {
        let tokens = |column| row.count(column).map_or_else(|| UNKNOWN.to_owned(), count);
        // Output counted before a stream was cut is not all of its output.
        let more = if row.count("partial_calls") == Some(0) { "" } else { "+" };
        let output = row.count("output_tokens").map(|n| format!("{}{more}", count(n)));
        table.push([
            printable(row.text("model").unwrap_or("unknown"), MODEL_CHARS),
            tokens("calls"),
            tokens("input_tokens"),
            tokens("cache_read_tokens"),
            tokens("cache_creation_tokens"),
            tokens("total_input_tokens"),
            row.float("cache_hit_percent").map_or_else(|| UNKNOWN.to_owned(), percent),
            output.unwrap_or_else(|| UNKNOWN.to_owned()),
            tokens("reasoning_tokens"),
            usage(row),
        ]);
    }
    table.drop_if_all("reasoning", UNKNOWN);
    let mut blocks = vec![Block::Table(table)];
    let is_partial = |row: Row<'_>| row.count("reported_calls") != row.count("calls");
    if report.models.iter().any(is_partial) {
        blocks.push(Block::Note(
            "partial: calls whose stream ended before the final counts; those seen so far are in \
             the sums, and + marks such output. none: calls without counts, not in the sums."
                .to_owned(),
        ));
    }
    Section::new("Tokens per model", blocks)
}

/// Of how many calls the counts are not final: `1 partial, 1 none`.
fn usage(row: Row<'_>) -> String {
    let state = |(column, name)| {
        let calls = row.count(column).filter(|&calls| calls > 0)?;
        Some(format!("{} {name}", count(calls)))
    };
    let states = [("partial_calls", "partial"), ("unreported_calls", "none")];
    let states: Vec<String> = states.into_iter().filter_map(state).collect();
    if states.is_empty() { "all final".to_owned() } else { states.join(", ") }
}
