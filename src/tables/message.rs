//! Table `messages`: what models were told and said, each piece once.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::column::{Cell, Column, NEVER, Table, int, opt_text, text};
use crate::reconstruct::finding::{Block, Placement};

/// A content block and the place of the call that has it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// The block as reconstructed.
    pub block: Block,
    /// Where its call stands among the others; `None` when that is no call after all.
    pub placement: Option<Placement>,
}

impl MessageRow {
    /// Size in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.block.text.as_ref().map_or(0, String::len)
    }
}

/// One row per content block.
pub const MESSAGES: Table<MessageRow> = Table {
    name: "messages",
    description: "One row per content block that was sent to a model or received from it, in the \
                  order in which they were first seen. An agent sends its history again with every \
                  request: a block is here once, with the call that had it first.",
    columns: &[
        Column::new(
            "message_id",
            Cell::Int(|x| int(x.block.block_id)),
            "Number of the block, from 1 in the order in which different blocks were first seen.",
            NEVER,
        ),
        Column::new(
            "call_id",
            Cell::Int(|x| int(x.block.call_id)),
            "Call that sent or received it first, in table llm_calls.",
            NEVER,
        ),
        Column::new(
            "conversation_id",
            Cell::Int(|x| x.placement.as_ref()?.conversation_id.and_then(int)),
            "Conversation of that call, in table conversations.",
            "the call is part of none",
        ),
        Column::new(
            "turn",
            Cell::Int(|x| x.placement.as_ref()?.turn.and_then(int)),
            "Turn of that call, in table turns.",
            "the call is none of a turn",
        ),
        Column::new(
            "ts",
            Cell::Ts(|x| Some(x.block.ts)),
            "When its last byte was first seen.",
            NEVER,
        ),
        Column::new(
            "role",
            Cell::Text(|x| text(x.block.role.as_str())),
            "Whose words: system (instructions, definitions of tools), user, assistant, tool.",
            NEVER,
        ),
        Column::new(
            "block_type",
            Cell::Text(|x| text(x.block.kind.as_str())),
            "What it is: text, thinking, tool_use, tool_result, tool_definition, image, document, \
             compaction, or the provider's own word.",
            NEVER,
        ),
        Column::new(
            "text",
            Cell::Text(|x| opt_text(&x.block.text)),
            "Its text; of a tool_use the arguments and of a tool_definition the definition, as JSON.",
            "it is no text, or was not captured",
        ),
        Column::new(
            "is_cut",
            Cell::Bool(|x| Some(x.block.is_cut)),
            "Whether the text breaks off because it is longer than what is kept.",
            NEVER,
        ),
        Column::new(
            "tool_name",
            Cell::Text(|x| opt_text(&x.block.tool_name)),
            "Tool that is defined or used, or whose result it is.",
            "it is of no tool, or a result whose API does not name the tool",
        ),
        Column::new(
            "tool_call_id",
            Cell::Text(|x| opt_text(&x.block.tool_call_id)),
            "The provider's id that joins use and result of a tool.",
            "it is neither, or the API has no such id",
        ),
        Column::new(
            "is_error",
            Cell::Bool(|x| x.block.is_error),
            "Whether a tool's result says that it failed.",
            "it is no result, or does not say",
        ),
        Column::measured(
            "bytes",
            "bytes",
            Cell::Int(|x| int(x.block.bytes)),
            "Size of its text as UTF-8, or of its JSON where it has no text.",
            NEVER,
        ),
        Column::new(
            "sha256",
            Cell::Text(|x| Some(Cow::Owned(hex(&x.block.sha256)))),
            "SHA-256 over role, type, tool and content, in hexadecimal: the same content has the \
             same in every trace.",
            NEVER,
        ),
    ],
};

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _writing_to_memory = write!(text, "{byte:02x}");
    }
    text
}
