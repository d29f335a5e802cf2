//! What the calls cost, at whose prices, and what is not known of it.

use super::Report;
use super::document::{Align, Block, Section, Table};
use super::rows::Row;
use crate::human::{UNKNOWN, count, counted, printable, usd};

const HEADING: &str = "Costs";

/// Longest model name.
const MODEL_CHARS: usize = 28;

/// Longest words about a price.
const PRICE_CHARS: usize = 36;

pub(super) fn section(report: &Report) -> Section {
    if report.costs.is_empty() {
        let note = "No call to a model was seen, so there is nothing to pay for.";
        return Section::new(HEADING, vec![Block::Note(note.to_owned())]);
    }
    let mut table = Table::new([
        ("model", Align::Left),
        ("calls", Align::Right),
        ("cost", Align::Right),
        ("dearest call", Align::Right),
        ("terms", Align::Left),
        ("price", Align::Left),
    ]);
    for row in report.costs.iter() {
        let dollars = |column| row.float(column).map_or_else(|| UNKNOWN.to_owned(), usd);
        // A call that was cut cost more than what was counted of it.
        let more = if row.count("cut_calls") == Some(0) { "" } else { "+" };
        table.push([
            printable(row.text("model").unwrap_or("unknown"), MODEL_CHARS),
            row.count("calls").map_or_else(|| UNKNOWN.to_owned(), count),
            format!("{}{more}", dollars("cost_usd")),
            dollars("max_cost_usd"),
            printable(row.text("price_terms").unwrap_or(UNKNOWN), PRICE_CHARS),
            price(row),
        ]);
    }
    let mut notes = vec![Block::Table(table)];
    notes.push(Block::Note(
        "List prices at the time of each call; what was used under a subscription or a discount cost \
         something else. +: at least, because calls were cut."
            .to_owned(),
    ));
    Section::new(HEADING, notes)
}

/// Whose price it is, or why there is none.
fn price(row: Row<'_>) -> String {
    if let Some(reason) = row.text("unpriced_reason") {
        return match reason {
            "usage" => "no token counts".to_owned(),
            "provider" => "no prices of this provider".to_owned(),
            "model" => "no price of this model".to_owned(),
            "tier" => "no price of this tier".to_owned(),
            _ => "no price of such counts".to_owned(),
        };
    }
    let source = printable(row.text("price_source").unwrap_or(UNKNOWN), PRICE_CHARS);
    match row.text("price_date") {
        Some(date) => format!("{source}, {}", printable(date, PRICE_CHARS)),
        None => source,
    }
}

/// The sum of what is known, whose prices, and how much is not known, on one line.
pub(super) fn total(report: &Report) -> String {
    let sum = |column| report.costs.iter().filter_map(|row| row.count(column)).sum::<u64>();
    let known: Vec<f64> = report.costs.iter().filter_map(|row| row.float("cost_usd")).collect();
    let (calls, unpriced) = (sum("calls"), sum("unpriced_calls"));
    if known.is_empty() {
        return format!("not known: no price for {}", counted(calls, "call"));
    }
    let more = if sum("cut_calls") == 0 { "" } else { "+" };
    let mut text = format!("{}{more}", usd(known.iter().sum()));
    let mut lists: Vec<String> = Vec::new();
    for row in report.costs.iter().filter(|row| row.text("price_date").is_some()) {
        let list = price(row);
        if !lists.contains(&list) {
            lists.push(list);
        }
    }
    if !lists.is_empty() {
        text.push_str(&format!(" at list prices ({})", lists.join("; ")));
    }
    if unpriced > 0 {
        text.push_str(&format!(
            "; {} of {} without a price",
            count(unpriced),
            counted(calls, "call")
        ));
    }
    text
}
