//! One line per call to a model.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::Row;
use crate::human::{UNKNOWN, count, duration, printable};

const HEADING: &str = "API calls";

/// How many calls are printed; JSON has all of them.
const SHOWN: usize = 200;

/// Longest model name; the line is full.
const MODEL_CHARS: usize = 24;

/// Longest stop reason or error type, which come from the network.
const REASON_CHARS: usize = 60;

pub(super) fn section(report: &Report) -> Section {
    if report.calls.is_empty() {
        return Section::new(HEADING, vec![Block::Note(nothing_seen(report))]);
    }
    let mut table = Table::new([
        ("id", Align::Right),
        ("start", Align::Right),
        ("TTFT", Align::Right),
        ("duration", Align::Right),
        ("HTTP", Align::Right),
        ("model", Align::Left),
        ("input", Align::Right),
        ("cached", Align::Right),
        ("to cache", Align::Right),
        ("output", Align::Right),
        ("result", Align::Left),
    ]);
    for row in report.calls.iter().take(SHOWN) {
        let number = |column| row.int(column).map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
        let tokens = |column| row.count(column).map_or_else(|| UNKNOWN.to_owned(), count);
        let time = |column| row.float(column).map_or_else(|| UNKNOWN.to_owned(), duration);
        let is_partial = row.text("usage_state") == Some("partial");
        let more = if is_partial && row.count("output_tokens").is_some() { "+" } else { "" };
        table.push([
            number("call_id"),
            report.recording.position(row.ts("start_ts")),
            time("ttft_ms"),
            time("duration_ms"),
            number("status"),
            printable(row.text("model").unwrap_or(UNKNOWN), MODEL_CHARS),
            tokens("input_tokens"),
            tokens("cache_read_tokens"),
            tokens("cache_creation_tokens"),
            format!("{}{more}", tokens("output_tokens")),
            result(row),
        ]);
    }
    let mut blocks = vec![Block::Table(table), Block::Note(legend(report))];
    if let Some(hidden) = report.calls.len().checked_sub(SHOWN).filter(|&hidden| hidden > 0) {
        let note = format!("{} more calls are not shown. All of them:", count(hidden as u64));
        blocks.push(Block::Note(note));
        blocks.push(Block::Command(report.query_command("llm_calls_list")));
    }
    Section::new(HEADING, blocks)
}

/// Why there may be no calls in the trace.
fn nothing_seen(report: &Report) -> String {
    let number = |column| report.summary.first().and_then(|row| row.count(column)).unwrap_or(0);
    let why = if !report.has_plaintext() {
        "no TLS plaintext was captured"
    } else if number("exchanges") == 0 {
        "plaintext was captured, but no HTTP/1.1 in it"
    } else {
        "HTTP was captured, but no request to a model API that is known"
    };
    format!("No call to a model was seen: {why}.")
}

/// What the words of the table mean; the conditional parts only where they are used.
fn legend(report: &Report) -> String {
    let mut text = "start: since the recording began. TTFT: end of the request to first generated \
                    content. input: neither read from nor written to the provider's cache."
        .to_owned();
    if report.calls.iter().any(|row| row.text("usage_state") == Some("partial")) {
        text.push_str(" +: counted until the stream was cut.");
    }
    text
}

/// How the call ended, as far as it was seen.
fn result(row: Row<'_>) -> String {
    let said = row.text("error_type").or(row.text("stop_reason"));
    let said = said.map(|said| printable(said, REASON_CHARS));
    let missing = match row.text("completeness_reason") {
        None if row.is("complete") => None,
        None => Some("not complete"),
        Some("still_open") => Some("still running"),
        Some("closed") => Some("cut off"),
        Some("gap") => Some("bytes missing"),
        Some("malformed") => Some("malformed"),
        Some("no_response") => Some("no response"),
        Some("joined_late") => Some("start not seen"),
        Some("decoding") => Some("not decoded"),
        Some(_) => Some("not complete"),
    };
    match (said, missing) {
        (Some(said), Some(missing)) => format!("{said}, {missing}"),
        (Some(said), None) => said,
        (None, Some(missing)) => missing.to_owned(),
        (None, None) => UNKNOWN.to_owned(),
    }
}
