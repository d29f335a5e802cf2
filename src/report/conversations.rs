//! What was asked for, turn by turn, and where the time went; and who else took part.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::Row;
use crate::human::{UNKNOWN, count, counted, duration, printable, usd};

/// Turns and conversations that are printed; JSON has all of them.
const SHOWN: usize = 20;

/// Longest begin of a prompt, and longest name of an agent.
const PROMPT_CHARS: usize = 60;
const NAME_CHARS: usize = 40;

/// The parts of a turn's time: column of the query and header.
const PARTS: [(&str, &str); 7] = [
    ("wait_ms", "wait"),
    ("thinking_ms", "thinking"),
    ("stream_ms", "stream"),
    ("stall_ms", "stall"),
    ("tool_ms", "tools"),
    ("retry_ms", "retry"),
    ("user_ms", "other"),
];

/// `None` when there was no conversation.
pub(super) fn section(report: &Report) -> Option<Section> {
    if report.conversations.is_empty() {
        return None;
    }
    let mut blocks = Vec::new();
    let is_main = |row: &Row<'_>| row.text("class") == Some("main");
    let turns: Vec<Row<'_>> = report.turns.iter().filter(is_main).collect();
    if !turns.is_empty() {
        blocks.push(Block::Table(turn_table(report, &turns)));
        blocks.push(Block::Note(legend()));
        blocks.extend(hidden(report, turns.len(), "turn", "turns_list"));
    }
    let others: Vec<Row<'_>> = report.conversations.iter().filter(|row| !is_main(row)).collect();
    if !others.is_empty() {
        blocks.push(Block::Caption("Sub-agents and side calls:"));
        blocks.push(Block::Table(other_table(report, &others)));
        blocks.extend(hidden(report, others.len(), "conversation", "conversations_list"));
    }
    Some(Section::new("Conversations", blocks))
}

fn turn_table(report: &Report, turns: &[Row<'_>]) -> Table {
    let [wait, thinking, stream, stall, tools, retry, other] =
        PARTS.map(|(_, header)| (header, Align::Right));
    let mut table = Table::new([
        ("turn", Align::Right),
        ("start", Align::Right),
        ("took", Align::Right),
        wait,
        thinking,
        stream,
        stall,
        tools,
        retry,
        other,
        ("calls", Align::Right),
        ("uses", Align::Right),
        ("cost", Align::Right),
        ("prompt", Align::Left),
    ]);
    for row in turns.iter().take(SHOWN) {
        let time = |column| row.float(column).map_or_else(|| UNKNOWN.to_owned(), duration);
        let part = |at: usize| match row.float(PARTS[at].0) {
            // Uploads are mostly next to nothing: they are waited for as well.
            Some(ms) if at == 0 => duration(ms + row.float("upload_ms").unwrap_or(0.0)),
            Some(ms) if ms > 0.0 => duration(ms),
            _ => UNKNOWN.to_owned(),
        };
        let number = |column| row.count(column).map_or_else(|| UNKNOWN.to_owned(), count);
        let conversation = row.int("conversation_id").unwrap_or(0);
        table.push([
            format!("{conversation}.{}", row.int("turn").unwrap_or(0)),
            report.recording.position(row.ts("start_ts")),
            time("duration_ms"),
            part(0),
            part(1),
            part(2),
            part(3),
            part(4),
            part(5),
            part(6),
            number("calls"),
            number("tool_calls"),
            row.float("cost_usd").map_or_else(|| UNKNOWN.to_owned(), usd),
            printable(row.text("prompt").unwrap_or("(not captured)"), PROMPT_CHARS),
        ]);
    }
    PARTS.iter().skip(1).for_each(|(_, header)| table.drop_if_all(header, UNKNOWN));
    table.drop_if_all("cost", UNKNOWN);
    table
}

fn other_table(report: &Report, others: &[Row<'_>]) -> Table {
    let mut table = Table::new([
        ("id", Align::Right),
        ("of", Align::Right),
        ("start", Align::Right),
        ("took", Align::Right),
        ("calls", Align::Right),
        ("input", Align::Right),
        ("output", Align::Right),
        ("cost", Align::Right),
        ("what", Align::Left),
        ("agent", Align::Left),
    ]);
    for row in others.iter().take(SHOWN) {
        let number = |column| row.int(column).map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
        let tokens = |column| row.count(column).map_or_else(|| UNKNOWN.to_owned(), count);
        table.push([
            number("conversation_id"),
            number("parent_conversation_id"),
            report.recording.position(row.ts("start_ts")),
            row.float("duration_ms").map_or_else(|| UNKNOWN.to_owned(), duration),
            tokens("calls"),
            tokens("total_input_tokens"),
            tokens("output_tokens"),
            row.float("cost_usd").map_or_else(|| UNKNOWN.to_owned(), usd),
            row.text("class").unwrap_or(UNKNOWN).to_owned(),
            printable(row.text("agent").unwrap_or(UNKNOWN), NAME_CHARS),
        ]);
    }
    table.drop_if_all("cost", UNKNOWN);
    table
}

fn legend() -> String {
    "turn: number of the conversation and of the turn in it. took: the sum of what follows. wait: \
     sending requests and waiting for the first content. stall: pauses in answers. tools: no call \
     running and results of tools missing. retry: attempts that came to nothing, and pauses after \
     them. uses: of tools."
        .to_owned()
}

fn hidden(report: &Report, all: usize, noun: &str, query: &str) -> Vec<Block> {
    match all.checked_sub(SHOWN).filter(|more| *more > 0) {
        None => Vec::new(),
        Some(more) => vec![
            Block::Note(format!("{} not shown. All of them:", counted(more as u64, noun))),
            Block::Command(report.query_command(query)),
        ],
    }
}
