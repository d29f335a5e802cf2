//! Table `cache_breaks`: calls that could not use the provider's cache as the call before left it.

use super::column::{Cell, Column, NEVER, Table, int, opt_text, text};
use crate::reconstruct::finding::CacheBreak;

/// One row per broken cache.
pub const CACHE_BREAKS: Table<CacheBreak> = Table {
    name: "cache_breaks",
    description: "One row per call that read at least 1,000 tokens less from the provider's cache \
                  than the call before it in the conversation had left there, as the counts of both \
                  say, or that misses as many by the provider's own word; in order of conversation \
                  and time.",
    columns: &[
        Column::new(
            "call_id",
            Cell::Int(|x| int(x.call_id)),
            "Call that could not use the cache, in table llm_calls.",
            NEVER,
        ),
        Column::new(
            "previous_call_id",
            Cell::Int(|x| int(x.previous_call_id)),
            "Call before it in the conversation.",
            NEVER,
        ),
        Column::new(
            "conversation_id",
            Cell::Int(|x| int(x.conversation_id)),
            "Conversation, in table conversations.",
            NEVER,
        ),
        Column::new("ts", Cell::Ts(|x| Some(x.ts)), "First byte of the call's request.", NEVER),
        Column::new(
            "cause",
            Cell::Text(|x| text(x.cause)),
            "What explains it, from what was sent: model (another one was asked for), content (what \
             went before differs), ttl (it does not, but the cache was not used for longer than \
             providers keep it: 5 minutes, or an hour where that was asked for), unknown.",
            NEVER,
        ),
        Column::new(
            "first_difference",
            Cell::Text(|x| opt_text(&x.first_difference)),
            "JSON path of the first difference between the two requests, such as \
             tools[12].description; in the order tools, instructions, messages.",
            "nothing that was sent before differs, or the request before is no longer known",
        ),
        Column::new(
            "provider_reason",
            Cell::Text(|x| opt_text(&x.provider_reason)),
            "The provider's own word for the reason.",
            "the provider gives none",
        ),
        Column::measured(
            "common_bytes",
            "bytes",
            Cell::Int(|x| x.common_bytes.and_then(int)),
            "Size of the blocks before the first difference.",
            "the request before is no longer known",
        ),
        Column::measured(
            "idle_ms",
            "ms",
            Cell::Float(|x| x.idle_ms),
            "From the end of the call before to the begin of this one.",
            "it is not known",
        ),
        Column::measured(
            "lost_tokens",
            "tokens",
            Cell::Int(|x| x.lost_tokens.and_then(int)),
            "Input tokens that were in the cache and were not read from it: read and created by the \
             call before, less what this one read; as the provider says where the counts do not \
             show it.",
            "it is not known",
        ),
    ],
};
