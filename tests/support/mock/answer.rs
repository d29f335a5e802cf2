//! A model's answer, apart from the API that carries it.
//!
//! The modules of the APIs turn an [`Answer`] into a stream of [`Event`]s or one JSON document.
//! Token counts are normalised as the tables under test are: `input` is uncached input only.

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

    /// The end of it: what the script says, or the usual word.
    pub fn stop_reason(&self, usual: &str, after_tool: &str) -> String {
        let word = if self.calls_tool() { after_tool } else { usual };
        self.stop_reason.clone().unwrap_or_else(|| word.into())
    }

    /// All of its text, without thoughts and tools.
    pub fn whole_text(&self) -> String {
        let text = |block: &Block| match block {
            Block::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.blocks.iter().filter_map(text).collect()
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

impl Block {
    /// What the client is told while it gets this.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Thinking(_) => Phase::Thinking,
            Self::Text(_) | Self::ToolUse { .. } => Phase::Output,
        }
    }
}

/// Token counts of one answer; absent is what an API has no field for, or what was not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Neither read from nor written to a cache.
    pub input_tokens: u64,
    /// Read from a cache.
    pub cache_read_tokens: Option<u64>,
    /// Written to a cache.
    pub cache_creation_tokens: Option<u64>,
    /// The part of that which is kept for an hour.
    pub cache_creation_1h_tokens: Option<u64>,
    /// All output, reasoning included.
    pub output_tokens: u64,
    /// The part of it that was reasoning, where told.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Counts that no other field and no other answer has, so that any mix-up shows.
    pub fn distinct(answer: u64) -> Self {
        Self {
            input_tokens: 11 + 1_000 * answer,
            cache_read_tokens: Some(20_023 + 1_000 * answer),
            cache_creation_tokens: Some(837 + 1_000 * answer),
            cache_creation_1h_tokens: None,
            output_tokens: 149 + 1_000 * answer,
            reasoning_tokens: Some(41 + answer),
        }
    }

    /// All input, cached or not.
    pub fn total_input_tokens(&self) -> u64 {
        let cached = [self.cache_read_tokens, self.cache_creation_tokens];
        self.input_tokens + cached.iter().flatten().sum::<u64>()
    }

    /// What is left where caches cannot be written by name.
    pub fn without_cache_creation(&self) -> Self {
        Self { cache_creation_tokens: None, cache_creation_1h_tokens: None, ..self.clone() }
    }

    /// What is left where reasoning is not told apart.
    pub fn without_reasoning(&self) -> Self {
        Self { reasoning_tokens: None, ..self.clone() }
    }

    /// For the truth file.
    pub fn to_json(&self) -> Value {
        json!({
            "input_tokens": self.input_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_creation_tokens": self.cache_creation_tokens,
            "cache_creation_1h_tokens": self.cache_creation_1h_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        })
    }
}

/// What the client can know once it has read so far.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The model that answers, once told.
    pub model: Option<String>,
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

impl Known {
    /// All there is to know at the end of an answer.
    pub fn all(usage: Usage, stop_reason: &str) -> Self {
        Self {
            model: None,
            usage: Some(usage),
            usage_final: true,
            stop_reason: Some(stop_reason.into()),
            error_type: None,
            generated: true,
        }
    }
}

/// What an event tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing generated: the frame around it.
    #[default]
    Frame,
    /// Reasoning.
    Thinking,
    /// Text or arguments of a tool.
    Output,
}

impl Phase {
    /// For the truth file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Thinking => "thinking",
            Self::Output => "output",
        }
    }
}

/// One event of a stream, whatever the stream's format.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Type of the event, where the API has one beside the data.
    pub name: Option<String>,
    /// Data: one line.
    pub data: String,
    /// What the client can know after it.
    pub known: Known,
    /// What it tells.
    pub phase: Phase,
}

/// Events in the making, and what is known after the last of them.
#[derive(Default)]
pub struct Events {
    /// Those that are ready.
    pub list: Vec<Event>,
    /// What the client knows after the next one.
    pub known: Known,
}

impl Events {
    /// Adds an event that generates nothing.
    pub fn push(&mut self, name: Option<&str>, data: impl ToString) {
        self.add(name, data, Phase::Frame);
    }

    /// Adds an event that tells something generated.
    pub fn generate(&mut self, name: Option<&str>, data: impl ToString, phase: Phase) {
        self.known.generated = true;
        self.add(name, data, phase);
    }

    fn add(&mut self, name: Option<&str>, data: impl ToString, phase: Phase) {
        let (name, known) = (name.map(String::from), self.known.clone());
        self.list.push(Event { name, data: data.to_string(), known, phase });
    }

    /// All events; where the answer says so, an error of that type in place of the last ones.
    pub fn ended(
        mut self,
        answer: &Answer,
        error_type: &str,
        error: (Option<&str>, Value),
    ) -> Vec<Event> {
        if let Some(count) = answer.error_after_events {
            self.list.truncate(count);
            self.known = self.list.last().map(|event| event.known.clone()).unwrap_or_default();
            self.known.error_type = Some(error_type.into());
            self.push(error.0, error.1);
        }
        self.list
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
    /// Whether the client asked for counts in the stream (OpenAI Chat only).
    pub include_usage: bool,
}

/// Type of the error told in the midst of a stream.
pub const STREAM_ERROR: &str = "overloaded_error";
