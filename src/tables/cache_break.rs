//! Table `cache_breaks`: calls that could not use the provider's cache as the call before left it.

use super::column::{Cell, Column, NEVER, Table, int, opt_text, text};
use crate::price::Prices;
use crate::reconstruct::finding::{CacheBreak, LlmCall, Usage};

/// A broken cache and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheBreakRow {
    /// The break as reconstructed.
    pub found: CacheBreak,
    /// What the call cost more than if it had read the lost tokens from the cache, US dollars.
    pub lost_cost_usd: Option<f64>,
}

impl CacheBreakRow {
    /// Finds out what a break cost, where `prices` are given. `calls`: in order of their numbers.
    #[must_use]
    pub fn new(found: CacheBreak, calls: &[LlmCall], prices: Option<&Prices>) -> Self {
        let call = calls.binary_search_by_key(&found.call_id, |call| call.call_id);
        let lost_cost_usd = call.ok().and_then(|at| {
            let (call, prices) = (&calls[at], prices?);
            let read = had_read(&call.usage, found.lost_tokens?);
            Some(prices.cost(call).usd? - prices.cost_of(call, &read).usd?)
        });
        Self { found, lost_cost_usd }
    }
}

/// The counts as they would be had so many tokens more been read from the cache, instead of written
/// to it or sent past it; at most what was.
fn had_read(usage: &Usage, lost: u64) -> Usage {
    let mut read = usage.clone();
    let created = usage.cache_creation_tokens.unwrap_or(0).min(lost);
    let sent = usage.input_tokens.unwrap_or(0).min(lost - created);
    read.cache_creation_tokens = usage.cache_creation_tokens.map(|tokens| tokens - created);
    read.cache_creation_1h_tokens =
        usage.cache_creation_1h_tokens.map(|tokens| tokens.saturating_sub(created));
    read.input_tokens = usage.input_tokens.map(|tokens| tokens - sent);
    read.cache_read_tokens =
        Some(usage.cache_read_tokens.unwrap_or(0).saturating_add(created + sent));
    read
}

/// One row per broken cache.
pub const CACHE_BREAKS: Table<CacheBreakRow> = Table {
    name: "cache_breaks",
    description: "One row per call that read at least 1,000 tokens less from the provider's cache \
                  than the call before it in the conversation had left there, as the counts of both \
                  say, or that misses as many by the provider's own word; in order of conversation \
                  and time.",
    columns: &[
        Column::new(
            "call_id",
            Cell::Int(|x| int(x.found.call_id)),
            "Call that could not use the cache, in table llm_calls.",
            NEVER,
        ),
        Column::new(
            "previous_call_id",
            Cell::Int(|x| int(x.found.previous_call_id)),
            "Call before it in the conversation.",
            NEVER,
        ),
        Column::new(
            "conversation_id",
            Cell::Int(|x| int(x.found.conversation_id)),
            "Conversation, in table conversations.",
            NEVER,
        ),
        Column::new(
            "ts",
            Cell::Ts(|x| Some(x.found.ts)),
            "First byte of the call's request.",
            NEVER,
        ),
        Column::new(
            "cause",
            Cell::Text(|x| text(x.found.cause)),
            "What explains it, from what was sent: model (another one was asked for), content (what \
             went before differs), ttl (it does not, but the cache was not used for longer than \
             providers keep it: 5 minutes, or an hour where that was asked for), unknown.",
            NEVER,
        ),
        Column::new(
            "first_difference",
            Cell::Text(|x| opt_text(&x.found.first_difference)),
            "JSON path of the first difference between the two requests, such as \
             tools[12].description; in the order tools, instructions, messages.",
            "nothing that was sent before differs, or the request before is no longer known",
        ),
        Column::new(
            "provider_reason",
            Cell::Text(|x| opt_text(&x.found.provider_reason)),
            "The provider's own word for the reason.",
            "the provider gives none",
        ),
        Column::measured(
            "common_bytes",
            "bytes",
            Cell::Int(|x| x.found.common_bytes.and_then(int)),
            "Size of the blocks before the first difference.",
            "the request before is no longer known",
        ),
        Column::measured(
            "idle_ms",
            "ms",
            Cell::Float(|x| x.found.idle_ms),
            "From the end of the call before to the begin of this one.",
            "it is not known",
        ),
        Column::measured(
            "lost_tokens",
            "tokens",
            Cell::Int(|x| x.found.lost_tokens.and_then(int)),
            "Input tokens that were in the cache and were not read from it: read and created by the \
             call before, less what this one read; as the provider says where the counts do not \
             show it.",
            "it is not known",
        ),
        Column::measured(
            "lost_cost_usd",
            "USD",
            Cell::Float(|x| x.lost_cost_usd),
            "What the call cost more than if it had read as many of the lost tokens from the cache as \
             it sent again, at the prices of table llm_calls.",
            "there is no price for the call",
        ),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_tokens_are_taken_from_what_was_written_and_then_from_what_was_sent() {
        let usage = Usage {
            input_tokens: Some(500),
            cache_read_tokens: Some(10),
            cache_creation_tokens: Some(3_000),
            ..Usage::default()
        };
        let counts = |lost| {
            let read = had_read(&usage, lost);
            (read.input_tokens, read.cache_creation_tokens, read.cache_read_tokens)
        };
        assert_eq!(counts(2_000), (Some(500), Some(1_000), Some(2_010)));
        assert_eq!(counts(3_200), (Some(300), Some(0), Some(3_210)));
        assert_eq!(counts(u64::MAX), (Some(0), Some(0), Some(3_510)));
    }
}
