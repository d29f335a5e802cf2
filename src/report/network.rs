//! Whom the processes talked to, and whether the trace has what they said.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::Row;
use crate::human::{UNKNOWN, bytes, count, counted, printable};

const HEADING: &str = "Network";

/// Hosts that are printed; JSON has all of them.
const SHOWN: usize = 10;

/// Longest name of a host.
const HOST_CHARS: usize = 60;

/// Longest name of a process.
const NAME_CHARS: usize = 15;

pub(super) fn section(report: &Report) -> Section {
    if report.hosts.is_empty() {
        let note = "No connection was recorded: none was made, or connections were not looked at.";
        return Section::new(HEADING, vec![Block::Note(note.to_owned())]);
    }
    let mut table = Table::new([
        ("connections", Align::Right),
        ("failed", Align::Right),
        ("received", Align::Right),
        ("sent", Align::Right),
        ("protocol", Align::Left),
        ("process", Align::Left),
        ("host", Align::Left),
    ]);
    for row in report.hosts.iter().take(SHOWN) {
        let size = |column| row.count(column).map_or_else(|| UNKNOWN.to_owned(), bytes);
        table.push([
            row.count("connections").map_or_else(|| UNKNOWN.to_owned(), count),
            row.count("failed_connections").map_or_else(|| UNKNOWN.to_owned(), count),
            size("read_bytes"),
            size("written_bytes"),
            row.text("protocol").unwrap_or(UNKNOWN).to_owned(),
            printable(row.text("comm").unwrap_or(UNKNOWN), NAME_CHARS),
            printable(row.text("host").unwrap_or("(not known)"), HOST_CHARS),
        ]);
    }
    table.drop_if_all("failed", "0");
    let mut blocks = vec![Block::Table(table)];
    if let Some(hidden) = report.hosts.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        blocks.push(Block::Note(format!(
            "{} more are not shown. All of them:",
            count(hidden as u64)
        )));
        blocks.push(Block::Command(report.query_command("connections_by_host")));
    }
    if !report.incomplete.is_empty() {
        blocks.push(Block::Note(incomplete(report)));
        blocks.push(Block::Command(report.query_command("connections_incomplete")));
    }
    Section::new(HEADING, blocks)
}

/// Of how many connections plaintext is missing.
fn incomplete(report: &Report) -> String {
    let of_state = |state: &str| {
        let is_such = |row: &Row<'_>| row.text("plaintext") == Some(state);
        report.incomplete.iter().filter(is_such).count() as u64
    };
    let parts = [
        ("none", "has no plaintext in the trace", "have no plaintext in the trace"),
        ("part", "lacks part of it", "lack part of it"),
        ("unknown", "cannot be told from others", "cannot be told from others"),
    ];
    let part = |(state, one, many)| {
        let number = of_state(state);
        let verb = if number == 1 { one } else { many };
        (number > 0).then(|| format!("{} {verb}", counted(number, "connection")))
    };
    let parts: Vec<String> = parts.into_iter().filter_map(part).collect();
    format!("Not all plaintext is there: {}. Which:", parts.join(", "))
}
