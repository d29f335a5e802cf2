//! What the trace does not hold: losses, gaps, and binaries whose plaintext could not be had.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::{Row, Rows};
use crate::human::{UNKNOWN, bytes, count, counted, printable};

const HEADING: &str = "Losses and gaps";

/// How many gaps and binaries are printed; JSON has all of them.
const SHOWN: usize = 20;

/// Longest path or reason.
const TEXT_CHARS: usize = 120;

/// Longest sentence made of what a trace says.
const NOTE_CHARS: usize = 400;

pub(super) fn section(report: &Report) -> Section {
    let mut blocks = Vec::new();
    for shortfall in &report.recording.shortfalls {
        let note = printable(&sentence(&shortfall.to_string()), NOTE_CHARS);
        blocks.push(Block::Note(note));
    }
    if report.losses.is_empty() && report.gaps.is_empty() {
        blocks.push(Block::Note(
            "Nothing was lost: the recorder counted no loss, and no stream has a gap.".to_owned(),
        ));
    }
    if !report.losses.is_empty() {
        blocks.push(Block::Caption("Seen by the recorder and not kept:"));
        blocks.push(Block::Table(losses(report)));
    }
    if !report.gaps.is_empty() {
        blocks.push(Block::Caption("Missing in captured streams:"));
        blocks.push(Block::Table(gaps(report)));
        blocks.extend(hidden(report, &report.gaps, "gap", "losses_gaps"));
    }
    blocks.extend(probes(report));
    Section::new(HEADING, blocks)
}

/// A clause as a sentence.
fn sentence(clause: &str) -> String {
    let mut chars = clause.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn losses(report: &Report) -> Table {
    let mut table = Table::new([
        ("events", Align::Right),
        ("bytes", Align::Right),
        ("kind", Align::Left),
        ("from", Align::Right),
        ("to", Align::Right),
        ("cause", Align::Left),
    ]);
    for row in report.losses.iter() {
        table.push([
            row.count("lost_events").map_or_else(|| UNKNOWN.to_owned(), count),
            row.count("lost_bytes").map_or_else(|| UNKNOWN.to_owned(), bytes),
            printable(row.text("event_class").unwrap_or(UNKNOWN), TEXT_CHARS),
            report.recording.position(row.ts("first_ts")),
            report.recording.position(row.ts("last_ts")),
            cause(row.text("cause").unwrap_or(UNKNOWN)),
        ]);
    }
    table
}

/// The cause with what it means.
fn cause(cause: &str) -> String {
    let meaning = match cause {
        "ring_full" => "events came faster than they were taken in",
        "copy_fault" => "the memory could not be read",
        "truncated" => "larger than one record may be",
        "map_full" => "more at once than the kernel table holds",
        "bypassed" => "moved without passing through memory of the process",
        "decode_error" => "a record that the recorder does not understand",
        "unusable" => "what it refers to or continues was lost",
        "disk_full" => "there was no room to write it",
        "write_failed" => "it could not be written",
        unknown => return printable(unknown, TEXT_CHARS),
    };
    format!("{cause}: {meaning}")
}

fn gaps(report: &Report) -> Table {
    let mut table = Table::new([
        ("at", Align::Right),
        ("bytes", Align::Right),
        ("direction", Align::Left),
        ("offset", Align::Right),
        ("pid", Align::Right),
        ("process", Align::Left),
    ]);
    for row in report.gaps.iter().take(SHOWN) {
        let number = |column| row.int(column).map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
        table.push([
            report.recording.position(row.ts("last_ts")),
            row.count("lost_bytes").map_or_else(|| UNKNOWN.to_owned(), bytes),
            match row.text("direction") {
                Some("read") => "received".to_owned(),
                Some("write") => "sent".to_owned(),
                _ => UNKNOWN.to_owned(),
            },
            row.count("stream_offset").map_or_else(|| UNKNOWN.to_owned(), count),
            number("pid"),
            printable(row.text("comm").unwrap_or(UNKNOWN), TEXT_CHARS),
        ]);
    }
    table
}

/// Says how many of `rows` are not shown, and how to see them.
fn hidden(report: &Report, rows: &Rows, noun: &str, query: &str) -> Vec<Block> {
    match rows.len().saturating_sub(SHOWN) {
        0 => Vec::new(),
        hidden => vec![
            Block::Note(format!("{} not shown. All of them:", counted(hidden as u64, noun))),
            Block::Command(report.query_command(query)),
        ],
    }
}

fn probes(report: &Report) -> Vec<Block> {
    if report.probes.is_empty() {
        let note = if report.has_plaintext() {
            "It is not recorded which binaries the plaintext is from."
        } else {
            "No binary was searched for TLS functions, so there is no plaintext."
        };
        return vec![Block::Note(note.to_owned())];
    }
    let is_closed = |row: &Row<'_>| matches!(row.text("state"), Some("unresolved" | "failed"));
    let mut table =
        Table::new([("state", Align::Left), ("binary", Align::Left), ("reason", Align::Left)]);
    for row in report.probes.iter().filter(is_closed).take(SHOWN) {
        table.push([
            row.text("state").unwrap_or(UNKNOWN).to_owned(),
            printable(row.text("path").unwrap_or(UNKNOWN), TEXT_CHARS),
            printable(row.text("detail").unwrap_or(UNKNOWN), TEXT_CHARS),
        ]);
    }
    let mut blocks = Vec::new();
    if !table.rows().is_empty() {
        blocks.push(Block::Caption("No plaintext from:"));
        blocks.push(Block::Table(table));
        let closed = report.probes.iter().filter(is_closed).count();
        if closed > SHOWN {
            blocks.push(Block::Note(format!("{} are not shown. All of them:", closed - SHOWN)));
            blocks.push(Block::Command(report.query_command("probes_by_state")));
        }
    }
    blocks.push(Block::Note(attached(report)));
    blocks
}

/// Where plaintext was had from.
fn attached(report: &Report) -> String {
    let binary = |row: Row<'_>| {
        let path = printable(row.text("path").unwrap_or(UNKNOWN), TEXT_CHARS);
        match row.text("library") {
            Some(library) => format!("{path} ({})", printable(library, TEXT_CHARS)),
            None => path,
        }
    };
    let is_attached = |row: &Row<'_>| row.text("state") == Some("attached");
    let names: Vec<String> = report.probes.iter().filter(is_attached).map(binary).collect();
    match names.len() {
        0 => "No binary's plaintext was recorded.".to_owned(),
        all if all > SHOWN => {
            let shown = names[..SHOWN].join(", ");
            format!("Plaintext was recorded from {shown} and {} more.", all - SHOWN)
        }
        _ => format!("Plaintext was recorded from {}.", names.join(", ")),
    }
}
