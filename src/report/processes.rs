//! The process tree: who used the CPU and memory, and how each process ended.

use std::collections::HashMap;

use super::Report;
use super::activity::command;
use super::document::{Align, Block, Section, Table};
use super::rows::Row;
use crate::human::{UNKNOWN, bytes, count, duration, percent};
use crate::time::CLOCK_TICK_NS;

const HEADING: &str = "Processes";

/// How many processes are chosen, by CPU time; their ancestors are shown too. One shell command of
/// an agent easily runs dozens that live for milliseconds.
const SHOWN: usize = 20;

/// Start times are floored to a clock tick.
const TICK_NS: i64 = CLOCK_TICK_NS.cast_signed();

/// Deeper levels are not indented further.
const DEEPEST_INDENT: usize = 8;

pub(super) fn section(report: &Report) -> Section {
    if report.processes.is_empty() {
        let note = "No process was recorded: none matched the recording's filters, or none ran.";
        return Section::new(HEADING, vec![Block::Note(note.to_owned())]);
    }
    let rows: Vec<Row<'_>> = report.processes.iter().collect();
    let tree = Tree::new(&rows);
    let mut table = Table::new([
        ("CPU time", Align::Right),
        ("avg CPU", Align::Right),
        ("peak RSS", Align::Right),
        ("started", Align::Right),
        ("lifetime", Align::Right),
        ("end", Align::Left),
        ("pid", Align::Right),
        ("command", Align::Left),
    ]);
    let shown = tree.shown();
    for (index, depth) in &shown {
        let row = rows[*index];
        let indent = "  ".repeat((*depth).min(DEEPEST_INDENT));
        table.push([
            row.float("cpu_ms").map_or_else(|| UNKNOWN.to_owned(), duration),
            row.float("avg_cpu_percent").map_or_else(|| UNKNOWN.to_owned(), percent),
            row.count("peak_rss_bytes").map_or_else(|| UNKNOWN.to_owned(), bytes),
            started(report, row),
            row.float("lifetime_ms").map_or_else(|| UNKNOWN.to_owned(), duration),
            end(row),
            row.int("pid").unwrap_or(0).to_string(),
            format!("{indent}{}", command(row)),
        ]);
    }
    let mut blocks = vec![Block::Table(table)];
    let is_running = |row: &Row<'_>| row.ts("end_ts").is_none();
    if rows.iter().any(is_running) {
        let note = "running: had not ended when the recording did; its CPU and memory are those of \
                    its last sample.";
        blocks.push(Block::Note(note.to_owned()));
    }
    if let Some(hidden) = rows.len().checked_sub(shown.len()).filter(|&hidden| hidden > 0) {
        let note = format!(
            "{} more that used less CPU time are not shown. All of them:",
            count(hidden as u64)
        );
        blocks.push(Block::Note(note));
        blocks.push(Block::Command(report.query_command("processes_by_cpu")));
    }
    Section::new(HEADING, blocks)
}

/// When the process began, or that it did so before the recording.
fn started(report: &Report, row: Row<'_>) -> String {
    let start = row.ts("start_ts");
    match (start, report.recording.start_ns) {
        (Some(start), Some(from)) if start < from.saturating_sub(TICK_NS) => "before".to_owned(),
        _ => report.recording.position(start),
    }
}

/// How the process ended: exit code, signal, or not at all.
fn end(row: Row<'_>) -> String {
    if row.ts("end_ts").is_none() {
        return "running".to_owned();
    }
    match (row.int("signal"), row.int("exit_code")) {
        (Some(signal), _) => signal_name(signal),
        (None, Some(code)) => format!("exit {code}"),
        (None, None) => UNKNOWN.to_owned(),
    }
}

/// The name of a signal as `signal(7)` gives it for x86 and ARM.
fn signal_name(number: i64) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
    match index.and_then(|index| NAMES.get(index)) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

/// Which process descends from which.
struct Tree {
    /// Position of the parent, where it is in the trace.
    parents: Vec<Option<usize>>,
    /// Positions of the children; those with the busiest descendants first.
    children: Vec<Vec<usize>>,
    /// Roots in the same order.
    roots: Vec<usize>,
    /// Processes of which there are rows.
    len: usize,
}

impl Tree {
    /// Links `rows`, which are in order of CPU time.
    fn new(rows: &[Row<'_>]) -> Self {
        let parents = parents(rows);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let busiest = busiest(&parents);
        order.sort_by_key(|&index| (busiest[index], index));
        let mut children = vec![Vec::new(); rows.len()];
        let mut roots = Vec::new();
        for index in order {
            match parents[index] {
                Some(parent) => children[parent].push(index),
                None => roots.push(index),
            }
        }
        Self { parents, children, roots, len: rows.len() }
    }

    /// The busiest processes and their ancestors, depth first: position and depth of each.
    fn shown(&self) -> Vec<(usize, usize)> {
        let mut is_shown = vec![false; self.len];
        for busy in 0..self.len.min(SHOWN) {
            let mut next = Some(busy);
            // Ancestors of a process that is shown are shown already.
            while let Some(index) = next.filter(|&index| !is_shown[index]) {
                is_shown[index] = true;
                next = self.parents[index];
            }
        }
        let mut shown = Vec::new();
        let mut open: Vec<(usize, usize)> =
            self.roots.iter().rev().map(|&root| (root, 0)).collect();
        while let Some((index, depth)) = open.pop() {
            if is_shown[index] {
                shown.push((index, depth));
                open.extend(self.children[index].iter().rev().map(|&child| (child, depth + 1)));
            }
        }
        shown
    }
}

/// The position of each process's parent: of those that had its pid, the last that was created
/// before the child. Creation times only fall towards the root, and of equal ones the position, so
/// that a damaged trace makes no loop.
fn parents(rows: &[Row<'_>]) -> Vec<Option<usize>> {
    let created = |index: usize| (rows[index].ts("start_ts"), rows[index].int("pid"));
    let mut by_pid: HashMap<i64, Vec<usize>> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        by_pid.entry(row.int("pid").unwrap_or(0)).or_default().push(index);
    }
    for same_pid in by_pid.values_mut() {
        same_pid.sort_by_key(|&index| created(index));
    }
    let parent = |index: usize| {
        let same_pid = by_pid.get(&rows[index].int("ppid")?)?;
        // Start times are floored to 10 ms, so parent and child may have the same; pids then tell,
        // but for the rare wrap-around, which costs one level of the drawing.
        let older = same_pid.partition_point(|&other| created(other) < created(index));
        same_pid[..older].last().copied()
    };
    (0..rows.len()).map(parent).collect()
}

/// For each process the lowest position, which is the most CPU time, among it and its descendants.
fn busiest(parents: &[Option<usize>]) -> Vec<usize> {
    let mut busiest: Vec<usize> = vec![usize::MAX; parents.len()];
    for index in 0..parents.len() {
        let mut next = Some(index);
        // Whoever has a value has a lower one than any later index, and so have its ancestors.
        while let Some(ancestor) = next.filter(|&ancestor| busiest[ancestor] == usize::MAX) {
            busiest[ancestor] = index;
            next = parents[ancestor];
        }
    }
    busiest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_as_busy_as_its_busiest_process() {
        // 3 is the root; 2 and 1 are its children; 0, the busiest, is a child of 2.
        assert_eq!(busiest(&[Some(2), Some(3), Some(3), None]), [0, 1, 0, 0]);
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(34), "signal 34");
        assert_eq!(signal_name(0), "signal 0");
        assert_eq!(signal_name(i64::MIN), "signal -9223372036854775808");
    }
}
