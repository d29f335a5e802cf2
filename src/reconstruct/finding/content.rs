//! What requests to models and their answers say: content blocks, told once each, and the order in
//! which calls refer to them.
//!
//! An agent sends its whole history again with every request. A [`Block`] is therefore handed out
//! when it is first seen, with a number; calls list the numbers.

use std::fmt;

use crate::time::WallNanos;

/// A piece of what a model is told or says (table `messages`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Numbered from 1 in the order in which different blocks are first seen in the trace.
    pub block_id: u64,
    /// The call that sent or received it first.
    pub call_id: u64,
    /// When its last byte was seen first.
    pub ts: WallNanos,
    /// Whose words it is.
    pub role: BlockRole,
    /// What it is.
    pub kind: BlockKind,
    /// Text, thinking, arguments of a tool as JSON text, result of a tool as text, definition of a
    /// tool as JSON text; `None` for what is no text (images) or was not captured.
    pub text: Option<String>,
    /// Whether `text` is not all of it: longer than what is kept, or its end was not captured.
    pub is_cut: bool,
    /// Name of the tool that is defined, used, or whose result it is where the API says so.
    pub tool_name: Option<String>,
    /// The provider's id that joins use and result of a tool.
    pub tool_call_id: Option<String>,
    /// Whether a tool's result says that it failed; `None` where the API has no word for it.
    pub is_error: Option<bool>,
    /// Size of its text as UTF-8, or of its JSON where it has no text.
    pub bytes: u64,
    /// SHA-256 over role, kind, tool and content in canonical form: equal for what a model said and
    /// what the next request repeats of it; cache markers do not count.
    pub sha256: [u8; 32],
}

/// Whose words a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockRole {
    /// Instructions of the program: system or developer messages, and definitions of tools.
    System,
    /// What the user, or the program in the user's place, says.
    User,
    /// What the model said.
    Assistant,
    /// What tools answered.
    Tool,
}

impl BlockRole {
    /// The value of the `role` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// What a block is; each API's own kinds map to these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockKind {
    /// Plain text, refusals too.
    Text,
    /// Reasoning, or a summary of it; opaque reasoning has no text.
    Thinking,
    /// The model asks for a tool.
    ToolUse,
    /// What a tool answered.
    ToolResult,
    /// A tool that the model may use.
    ToolDefinition,
    /// An image.
    Image,
    /// A document or other file.
    Document,
    /// A summary in place of the history before it.
    Compaction,
    /// Anything else, by the provider's own word.
    Other(String),
}

impl BlockKind {
    /// The value of the `block_type` column.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text => "text",
            Self::Thinking => "thinking",
            Self::ToolUse => "tool_use",
            Self::ToolResult => "tool_result",
            Self::ToolDefinition => "tool_definition",
            Self::Image => "image",
            Self::Document => "document",
            Self::Compaction => "compaction",
            Self::Other(name) => name,
        }
    }
}

/// The content of one call: which blocks it sent and received, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Blocks of the request, in its order.
    pub request: Vec<BlockRef>,
    /// Whether all of the request's blocks are listed: it was captured whole and understood.
    pub is_request_whole: bool,
    /// Blocks of the response, in its order.
    pub response: Vec<BlockRef>,
    /// xxh3 of the decoded request body, to tell a request sent once more; `None` unless whole.
    pub request_digest: Option<u64>,
}

/// A block where it stands in a request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// The [`Block::block_id`].
    pub block_id: u64,
    /// Whose words it is, as [`Block::role`].
    pub role: BlockRole,
    /// Size, as [`Block::bytes`].
    pub bytes: u64,
    /// Where it stands.
    pub path: BlockPath,
    /// In a streamed response, when its first and last bytes came.
    pub streamed: Option<(WallNanos, WallNanos)>,
}

/// Where a block stands in the JSON of a request or response: `messages[3].content[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockPath {
    /// Field of the top level, such as `system`, `tools`, `messages`, `input`, `contents`.
    pub section: &'static str,
    /// Position in the array that the section is; `None` where it is no array.
    pub item: Option<u32>,
    /// Field of the item and position in it; `None` where the item itself is the block.
    pub part: Option<(&'static str, u32)>,
}

impl fmt::Display for BlockPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.section)?;
        if let Some(item) = self.item {
            write!(f, "[{item}]")?;
        }
        if let Some((field, at)) = self.part {
            write!(f, ".{field}[{at}]")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::BlockPath;

    #[test]
    fn paths_are_written_as_json_paths() {
        let path = BlockPath { section: "messages", item: Some(3), part: Some(("content", 0)) };
        assert_eq!(path.to_string(), "messages[3].content[0]");
        let path = BlockPath { section: "system", item: None, part: None };
        assert_eq!(path.to_string(), "system");
    }
}
