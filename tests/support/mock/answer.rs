//! A model's answer, apart from the API that carries it.
//!
//! [`super::anthropic`] and [`super::openai`] turn an [`Answer`] into a stream of [`Event`]s or
//! one JSON document. Token counts are normalised as the tables under test are: `input` is
//! uncached input only.

use serde_json::{Value, json};

/// What the model says.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The model said to answer; absent echoes the request's.
    pub model: Option<String>,
    /// Content in order.
    pub blocks: Vec<Block>,
    /// The provider's word for the end; absent is the usual one for the content.
    pub stop_reason: Option<String>,
    /// Token counts; absent are distinct ones made from the number of the answer.
    pub usage: Option<Usage>,
    /// Characters per delta of a stream; 0 counts as 16.
    pub delta_chars: usize,
    /// End the stream with an error event in place of what follows this many events.
    pub error_after_events: Option<usize>,
}

impl Answer {
    /// One block of text.
    pub fn text(text: &str) -> Self {
        Self { blocks: vec![Block::Text(text.into())], ..Self::default() }
    }

    /// A call of one tool, thought about and announced as agents see it.
    pub fn tool(name: &str, input: Value) -> Self {
        let blocks = vec![
            Block::Thinking("A tool call will tell.".into()),
            Block::Text("I will look.".into()),
            Block::ToolUse { name: name.into(), input },
        ];
        Self { blocks, ..Self::default() }
    }

    /// Whether it calls a tool.
    pub fn calls_tool(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, Block::ToolUse { .. }))
    }

    /// `text` in pieces of [`Self::delta_chars`] characters.
    pub fn deltas(&self, text: &str) -> Vec<String> {
        let size = if self.delta_chars == 0 { 16 } else { self.delta_chars };
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(size).map(|piece| piece.iter().collect()).collect()
    }
}

/// A part of the content.
#[derive(Clone, Debug)]
pub enum Block {
    /// Reasoning shown to the client.
    Thinking(String),
    /// Text.
    Text(String),
    /// A tool call.
    ToolUse {
        /// Name of the tool.
        name: String,
        /// Its arguments.
        input: Value,
    },
}

/// Token counts of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Neither read from nor written to a cache.
    pub input_tokens: u64,
    /// Read from a cache.
    pub cache_read_tokens: u64,
    /// Written to a cache.
    pub cache_creation_tokens: u64,
    /// All output, reasoning included.
    pub output_tokens: u64,
    /// The reasoning part of the output; absent when the client is not told.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Counts that no other field and no other answer has, so that any mix-up shows.
    pub fn distinct(answer: u64) -> Self {
        Self {
            input_tokens: 11 + 1_000 * answer,
            cache_read_tokens: 20_023 + 1_000 * answer,
            cache_creation_tokens: 837 + 1_000 * answer,
            output_tokens: 149 + 1_000 * answer,
            reasoning_tokens: Some(41 + answer),
        }
    }

    /// All input, cached or not.
    pub fn total_input_tokens(&self) -> u64 {
        self.input_tokens + self.cache_read_tokens + self.cache_creation_tokens
    }

    /// For the truth file.
    pub fn to_json(&self) -> Value {
        json!({
            "input_tokens": self.input_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_creation_tokens": self.cache_creation_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        })
    }
}

/// What the client can know once it has read so far.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Counts told so far.
    pub usage: Option<Usage>,
    /// Whether they are final.
    pub usage_final: bool,
    /// Why the answer ended, once told.
    pub stop_reason: Option<String>,
    /// Type of the error told.
    pub error_type: Option<String>,
    /// Whether generated content has been told.
    pub generated: bool,
}

/// One server-sent event.
#[derive(Clone, Debug)]
pub struct Event {
    /// `event` field, where the API sets one.
    pub name: Option<String>,
    /// `data` field: one line.
    pub data: String,
    /// What the client can know after it.
    pub known: Known,
}

impl Event {
    /// As it goes over the wire, lines ending in `line_end`.
    pub fn to_bytes(&self, line_end: &str) -> Vec<u8> {
        let name = self.name.as_ref().map(|name| format!("event: {name}{line_end}"));
        format!("{}data: {}{line_end}{line_end}", name.unwrap_or_default(), self.data).into_bytes()
    }
}

/// What a renderer has to know beside the answer.
#[derive(Clone, Debug)]
pub struct Context {
    /// Number of the answer, from 1; goes into every id.
    pub number: u64,
    /// The model that answers.
    pub model: String,
    /// The counts to tell.
    pub usage: Usage,
    /// Whether the client asked for counts in the stream (OpenAI only).
    pub include_usage: bool,
}

/// Type of the error told in the midst of a stream.
pub const STREAM_ERROR: &str = "overloaded_error";
