//! What was read from disk and what was changed on it.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::{Row, Rows};
use crate::human::{UNKNOWN, bytes, count, counted, printable};

const HEADING: &str = "Files";

/// Changed files that are printed; JSON has all of them.
const SHOWN: usize = 10;

/// Longest path.
const PATH_CHARS: usize = 120;

/// Longest name of a process.
const NAME_CHARS: usize = 15;

pub(super) fn section(report: &Report) -> Section {
    if report.files_by_process.is_empty() {
        let note = "No use of a file was recorded: none was used, or files were not looked at.";
        return Section::new(HEADING, vec![Block::Note(note.to_owned())]);
    }
    let mut blocks = vec![Block::Note(used(report))];
    if report.files_changed.is_empty() {
        blocks.push(Block::Note("None was written, made, renamed or removed.".to_owned()));
        return Section::new(HEADING, blocks);
    }
    let mut table = Table::new([
        ("written", Align::Right),
        ("what", Align::Left),
        ("last", Align::Right),
        ("process", Align::Left),
        ("file", Align::Left),
    ]);
    for row in report.files_changed.iter().take(SHOWN) {
        let written = row.count("written_bytes").filter(|written| *written > 0);
        table.push([
            written.map_or_else(|| UNKNOWN.to_owned(), bytes),
            what(row),
            report.recording.position(row.ts("last_ts")),
            printable(row.text("comm").unwrap_or(UNKNOWN), NAME_CHARS),
            printable(row.text("path").unwrap_or("(path not known)"), PATH_CHARS),
        ]);
    }
    blocks.push(Block::Caption("Changed:"));
    blocks.push(Block::Table(table));
    if let Some(hidden) = report.files_changed.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        blocks.push(Block::Note(format!(
            "{} more are not shown. All of them:",
            count(hidden as u64)
        )));
        blocks.push(Block::Command(report.query_command("files_changed")));
    }
    Section::new(HEADING, blocks)
}

/// How much was read and written, and what could not be opened.
fn used(report: &Report) -> String {
    let sum = |rows: &Rows, column| {
        rows.iter().filter_map(|row| row.count(column)).fold(0_u64, u64::saturating_add)
    };
    let by_process = &report.files_by_process;
    let mut text = format!(
        "{} used files: {} read, {} written",
        counted(by_process.len() as u64, "process"),
        bytes(sum(by_process, "read_bytes")),
        bytes(sum(by_process, "written_bytes")),
    );
    let failed = sum(&report.files_failed, "failed_opens");
    if failed > 0 {
        let paths = counted(report.files_failed.len() as u64, "path");
        text.push_str(&format!("; {paths} could not be opened, {}", counted(failed, "attempt")));
    }
    text.push('.');
    text
}

/// What was done to a file, in a few words.
fn what(row: Row<'_>) -> String {
    let is_written = row.count("written_bytes").is_some_and(|written| written > 0);
    let has = |column| row.text(column).is_some();
    let all = [
        (row.is("created"), "made"),
        (row.is("truncated") && !row.is("created"), "truncated"),
        (is_written && !row.is("created"), "written"),
        (has("renamed_from"), "renamed to this"),
        (has("renamed_to"), "renamed"),
        (row.ts("deleted_ts").is_some(), "removed"),
    ];
    let done: Vec<&str> = all.into_iter().filter(|(done, _)| *done).map(|(_, word)| word).collect();
    done.join(", ")
}
