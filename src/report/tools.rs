//! The tools that models used: time, failures, and what their results take of the context.

use super::Report;
use super::document::{Align, Block, Section, Table};
use crate::human::{UNKNOWN, bytes, count, counted, duration, percent, printable};

/// Tools that are printed; JSON has all of them.
const SHOWN: usize = 15;

/// Longest name of a tool.
const NAME_CHARS: usize = 40;

/// `None` when no tool was used.
pub(super) fn section(report: &Report) -> Option<Section> {
    if report.tools.is_empty() {
        return None;
    }
    let mut table = Table::new([
        ("uses", Align::Right),
        ("failed", Align::Right),
        ("no result", Align::Right),
        ("time", Align::Right),
        ("longest", Align::Right),
        ("results", Align::Right),
        ("largest", Align::Right),
        ("carried", Align::Right),
        ("share", Align::Right),
        ("tool", Align::Left),
    ]);
    for row in report.tools.iter().take(SHOWN) {
        let number = |column| row.count(column).map_or_else(|| UNKNOWN.to_owned(), count);
        let time = |column| row.float(column).map_or_else(|| UNKNOWN.to_owned(), duration);
        let size = |column| row.count(column).map_or_else(|| UNKNOWN.to_owned(), bytes);
        table.push([
            number("tool_calls"),
            number("failed"),
            number("unanswered"),
            time("total_ms"),
            time("max_ms"),
            size("result_bytes"),
            size("max_result_bytes"),
            size("carried_bytes"),
            row.float("carried_percent").map_or_else(|| UNKNOWN.to_owned(), percent),
            printable(row.text("name").unwrap_or("(not captured)"), NAME_CHARS),
        ]);
    }
    table.drop_if_all("failed", "0");
    table.drop_if_all("no result", "0");
    let legend = "time: from the arguments to the request with the result. carried: size of each \
                  result times the calls that sent it, which is what it takes of all contexts.";
    let mut blocks = vec![Block::Table(table), Block::Note(legend.to_owned())];
    if let Some(hidden) = report.tools.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let note = format!("{} not shown. All of them:", counted(hidden as u64, "tool"));
        blocks.push(Block::Note(note));
        blocks.push(Block::Command(report.query_command("tool_calls_by_name")));
    }
    if !report.repeated.is_empty() {
        let uses = counted(report.repeated.len() as u64, "use");
        let note = format!("{uses} repeated with the same arguments. Which:");
        blocks.push(Block::Note(note));
        blocks.push(Block::Command(report.query_command("tool_calls_repeated")));
    }
    Some(Section::new("Tools", blocks))
}
