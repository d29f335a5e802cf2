//! The first screen: who was recorded, what it cost in all, and how far the trace can be trusted.

use super::document::{Block, Section};
use super::rows::Row;
use super::{Report, costs};
use crate::human::{UNKNOWN, bytes, count, counted, date_time, duration, percent, printable};

/// How many agents and models are named before the rest is only counted.
const NAMED: usize = 4;

/// Longest clause about what is missing.
const CLAUSE_CHARS: usize = 120;

/// Longest name of an agent or model.
const NAME_CHARS: usize = 40;

pub(super) fn section(report: &Report) -> Section {
    let mut facts = vec![("Recorded", recorded(report))];
    facts.push(("Trace", trace(report)));
    facts.push(("Agents", agents(report)));
    if let Some(summary) = report.summary.first() {
        if report.call_count() > 0 {
            facts.push(("Models", models(report)));
            facts.push(("API calls", calls(summary)));
            facts.push(("Tokens", tokens(summary)));
            facts.push(("Token counts", usage(summary)));
            facts.push(("Cost", costs::total(report)));
        }
        facts.push(("Processes", processes(summary)));
    }
    Section { heading: None, blocks: vec![Block::Facts(facts)] }
}

fn recorded(report: &Report) -> String {
    let recording = &report.recording;
    let start = recording.start_ns.map_or_else(|| UNKNOWN.to_owned(), date_time);
    let length = match (recording.start_ns, recording.end_ns) {
        (Some(start), Some(end)) => duration(end.saturating_sub(start) as f64 / 1e6),
        _ => UNKNOWN.to_owned(),
    };
    let mut text = format!("{start}, {length}");
    if let Some(version) = &recording.recorder_version {
        text.push_str(&format!(", by agentsight-rec {}", printable(version, NAME_CHARS)));
    }
    if let Some(kernel) = &recording.kernel {
        text.push_str(&format!(" on Linux {}", printable(kernel, NAME_CHARS)));
    }
    if let Some(reason) = &recording.stop_reason {
        let reason = printable(reason, NAME_CHARS).replace('_', " ");
        text.push_str(&format!("; ended: {reason}"));
    }
    text
}

/// Whether anything that the recorder should hold is missing from the trace.
fn trace(report: &Report) -> String {
    let mut missing = Vec::new();
    for shortfall in &report.recording.shortfalls {
        // Its first clause; the rest is said there.
        let shortfall = shortfall.to_string();
        let clause = shortfall.split([';', ',']).next().unwrap_or_default();
        missing.push(printable(clause, CLAUSE_CHARS));
    }
    if let Some(summary) = report.summary.first() {
        let number = |column| summary.count(column).unwrap_or(0);
        if number("lost_events") > 0 || number("lost_bytes") > 0 {
            let events = counted(number("lost_events"), "event");
            missing.push(format!("{events} and {} lost", bytes(number("lost_bytes"))));
        }
        if number("gaps") > 0 {
            let gaps = counted(number("gaps"), "gap");
            missing.push(format!("{gaps} in the plaintext ({})", bytes(number("gap_bytes"))));
        }
        let (closed, failed) = (number("unresolved_binaries"), number("failed_binaries"));
        if closed + failed > 0 {
            let binaries = match closed + failed {
                1 => "1 binary".to_owned(),
                more => format!("{} binaries", count(more)),
            };
            missing.push(format!("no plaintext from {binaries}"));
        }
    }
    if missing.is_empty() {
        "complete: nothing was lost".to_owned()
    } else {
        format!("not complete: {} (see Losses and gaps)", missing.join(", "))
    }
}

fn agents(report: &Report) -> String {
    if report.agents.is_empty() {
        let matched = report.processes.iter().filter(|row| row.is("is_agent"));
        let name = |row: Row<'_>| {
            let name = printable(row.text("comm").unwrap_or("unknown"), NAME_CHARS);
            format!("{name} (pid {})", row.int("pid").unwrap_or(0))
        };
        let names: Vec<String> = matched.map(name).collect();
        return if names.is_empty() {
            "no process was recorded".to_owned()
        } else {
            format!("{}; no call to a model was seen", listed(&names))
        };
    }
    let name = |row: Row<'_>| {
        let name = printable(row.text("agent").unwrap_or("unknown"), NAME_CHARS);
        format!("{name} ({})", counted(row.count("calls").unwrap_or(0), "call"))
    };
    listed(&report.agents.iter().map(name).collect::<Vec<_>>())
}

fn models(report: &Report) -> String {
    let name = |row: Row<'_>| {
        let name = printable(row.text("model").unwrap_or("unknown"), NAME_CHARS);
        format!("{name} ({})", counted(row.count("calls").unwrap_or(0), "call"))
    };
    listed(&report.models.iter().map(name).collect::<Vec<_>>())
}

fn listed(names: &[String]) -> String {
    let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {} more", count(more as u64)),
    }
}

fn calls(summary: Row<'_>) -> String {
    let number = |column| summary.count(column).unwrap_or(0);
    let (all, complete) = (number("calls"), number("complete_calls"));
    let partial = match all.saturating_sub(complete) {
        0 => "all seen whole".to_owned(),
        partial => format!("{} seen whole, {} in part", count(complete), count(partial)),
    };
    let failed = match number("failed_calls") {
        0 => "none failed".to_owned(),
        failed => format!("{} failed", count(failed)),
    };
    format!("{}: {partial}; {failed}", count(all))
}

fn tokens(summary: Row<'_>) -> String {
    let Some(input) = summary.count("total_input_tokens") else {
        return "no provider reported any".to_owned();
    };
    let output = summary.count("output_tokens").map_or_else(|| UNKNOWN.to_owned(), count);
    let mut text = format!("{} in", count(input));
    if let Some(cached) = summary.count("cache_read_tokens").filter(|_| input > 0) {
        let hit = percent(100.0 * cached as f64 / input as f64);
        text.push_str(&format!(" ({hit} read from cache)"));
    }
    text.push_str(&format!(", {output} out"));
    let uncounted = ["partial_calls", "unreported_calls"];
    if uncounted.iter().any(|column| summary.count(column) != Some(0)) {
        text.push_str("; at least, as not all counts were seen");
    }
    text
}

fn usage(summary: Row<'_>) -> String {
    let number = |column| summary.count(column).unwrap_or(0);
    let share = 100.0 * number("reported_calls") as f64 / number("calls").max(1) as f64;
    format!(
        "reported for {} of {} calls ({}), partial for {}, none for {}",
        count(number("reported_calls")),
        count(number("calls")),
        percent(share),
        count(number("partial_calls")),
        count(number("unreported_calls")),
    )
}

fn processes(summary: Row<'_>) -> String {
    let number = |column| summary.count(column).unwrap_or(0);
    let mut text = count(number("processes"));
    if number("running_processes") > 0 {
        text.push_str(&format!(", {} still running", count(number("running_processes"))));
    }
    if let Some(cpu_ms) = summary.float("cpu_ms") {
        text.push_str(&format!("; {} of CPU time", duration(cpu_ms)));
    }
    if let Some(peak) = summary.count("peak_rss_bytes") {
        text.push_str(&format!("; the largest held {} of memory", bytes(peak)));
    }
    text
}
