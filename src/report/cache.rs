//! Where the provider's cache was lost, and why.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::Row;
use crate::human::{UNKNOWN, count, counted, duration, printable, usd};

/// Breaks that are printed, those that cost most; JSON has all of them.
const SHOWN: usize = 10;

/// Longest JSON path or word of the provider.
const PATH_CHARS: usize = 60;

/// `None` when no cache was lost.
pub(super) fn section(report: &Report) -> Option<Section> {
    if report.cache_breaks.is_empty() {
        return None;
    }
    let lost = |row: &Row<'_>| row.count("lost_tokens").unwrap_or(0);
    let mut rows: Vec<Row<'_>> = report.cache_breaks.iter().collect();
    let all = rows.iter().map(lost).fold(0_u64, u64::saturating_add);
    // Stable: of equal losses the earlier comes first.
    rows.sort_by_key(|row| std::cmp::Reverse(lost(row)));
    let mut table = Table::new([
        ("call", Align::Right),
        ("start", Align::Right),
        ("lost tokens", Align::Right),
        ("cost", Align::Right),
        ("idle", Align::Right),
        ("cause", Align::Left),
        ("provider says", Align::Left),
        ("first difference", Align::Left),
    ]);
    for row in rows.iter().take(SHOWN) {
        table.push([
            row.int("call_id").map_or_else(|| UNKNOWN.to_owned(), |id| id.to_string()),
            report.recording.position(row.ts("ts")),
            row.count("lost_tokens").map_or_else(|| UNKNOWN.to_owned(), count),
            row.float("lost_cost_usd").map_or_else(|| UNKNOWN.to_owned(), usd),
            row.float("idle_ms").map_or_else(|| UNKNOWN.to_owned(), duration),
            row.text("cause").unwrap_or(UNKNOWN).to_owned(),
            printable(row.text("provider_reason").unwrap_or(UNKNOWN), PATH_CHARS),
            printable(row.text("first_difference").unwrap_or(UNKNOWN), PATH_CHARS),
        ]);
    }
    table.drop_if_all("cost", UNKNOWN);
    table.drop_if_all("provider says", UNKNOWN);
    table.drop_if_all("first difference", UNKNOWN);
    let times = counted(rows.len() as u64, "time");
    let note = format!(
        "{times}, {} input tokens that were in the provider's cache were not read from it. content: \
         what was sent before differs. ttl: the cache was not used for longer than it is kept. \
         model: another one was asked for. cost: what the call cost more than with the cache.",
        count(all)
    );
    let mut blocks = vec![Block::Table(table), Block::Note(note)];
    if let Some(hidden) = rows.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let note = format!("{} more are not shown. All of them:", count(hidden as u64));
        blocks.push(Block::Note(note));
        blocks.push(Block::Command(report.query_command("cache_breaks_list")));
    }
    Some(Section::new("Lost caches", blocks))
}
