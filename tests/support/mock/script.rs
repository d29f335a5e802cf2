//! What the server answers to which request, and how it delivers the answer.
//!
//! A [`Script`] is a list of rules; the first one that fits a request and has uses left answers
//! it. Rules look at the conversation in the request, not at how many requests came before, so an
//! agent's retries and side requests do not derail a script.

use serde_json::{Value, json};

use super::answer::Answer;
use super::coding::Coding;
use super::http::{Framing, Request};
use super::split::Split;

/// Rules in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The rules.
    pub rules: Vec<Rule>,
}

/// One answer and the requests it is for.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Requests it answers.
    pub when: When,
    /// How often it answers; absent is without end.
    pub times: Option<u32>,
    /// What it answers.
    pub reply: Reply,
    /// How the answer travels.
    pub delivery: Delivery,
}

impl Rule {
    /// A rule without limit, delivered without quirks.
    pub fn new(when: When, reply: Reply) -> Self {
        Self { when, times: None, reply, delivery: Delivery::default() }
    }

    /// The same rule, for so many requests only.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The same rule, delivered that way.
    pub fn delivered(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }
}

/// Conditions on a request; all that are set must hold.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// Method is this one.
    pub method: Option<String>,
    /// Path, without its query, is this one.
    pub path: Option<String>,
    /// The request offers tools (or, if false, offers none).
    pub has_tools: Option<bool>,
    /// The conversation holds so many tool results.
    pub tool_results: Option<u64>,
    /// The request allows at most so many output tokens.
    pub max_tokens_at_most: Option<u64>,
}

impl When {
    /// Any request to a path.
    pub fn path(path: &str) -> Self {
        Self { path: Some(path.into()), ..Self::default() }
    }

    /// Whether `request`, whose body is `body` if that is JSON, meets the conditions.
    pub fn fits(&self, request: &Request, body: &Value) -> bool {
        let tools = inner(body)["tools"].as_array().is_some_and(|tools| !tools.is_empty());
        let limit = body["max_tokens"].as_u64().or(body["max_completion_tokens"].as_u64());
        let met = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
        met(&self.method, &request.method)
            && met(&self.path, request.path())
            && self.has_tools.is_none_or(|wanted| wanted == tools)
            && self.tool_results.is_none_or(|wanted| wanted == tool_results(body))
            && self.max_tokens_at_most.is_none_or(|most| limit.is_some_and(|l| l <= most))
    }
}

/// Tool results in a conversation of any API.
fn tool_results(body: &Value) -> u64 {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let ends = |value: &Value, end: &str| value["type"].as_str().is_some_and(|t| t.ends_with(end));
    let results_in = |message: &Value| -> usize {
        let content = list(message, "content");
        let is_result =
            |block: &&Value| block["type"] == "tool_result" || block.get("toolResult").is_some();
        let parts = list(message, "parts");
        content.iter().filter(is_result).count()
            + parts.iter().filter(|part| part.get("functionResponse").is_some()).count()
            + usize::from(message["role"] == "tool" || ends(message, "_call_output"))
    };
    messages(body).iter().map(results_in).sum::<usize>() as u64
}

/// How many messages and tools a request of any API has.
pub fn shape(body: &Value) -> (usize, usize) {
    let tools = inner(body)["tools"].as_array().map_or(0, Vec::len);
    (messages(body).len(), tools)
}

/// The messages of a request of any API.
fn messages(body: &Value) -> Vec<Value> {
    let list = |name: &&str| inner(body)[*name].as_array().cloned().unwrap_or_default();
    ["messages", "input", "contents"].iter().flat_map(list).collect()
}

/// The request in what Code Assist is asked, otherwise the body itself.
fn inner(body: &Value) -> &Value {
    if body["request"].is_object() { &body["request"] } else { body }
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A model's answer, in the API of the path, streamed if the request asks for it.
    Answer(Answer),
    /// An error of the API of the path.
    Failure(Failure),
    /// A document as it stands.
    Document {
        /// Response status.
        status: u16,
        /// `Content-Type` field.
        content_type: String,
        /// Body.
        body: Vec<u8>,
    },
    /// A WebSocket: every request message of the Responses API gets the events of an answer, one
    /// message each: of the rule that fits it as a POST to the path of the upgrade, else of this
    /// one. A message that asks for nothing to be generated gets those of an empty answer.
    WebSocket(Answer),
}

impl Reply {
    /// The model's answer, if it is one.
    pub fn as_answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) => Some(answer),
            _ => None,
        }
    }
}

/// An API's error response.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Response status.
    pub status: u16,
    /// The provider's type of the error.
    pub error_type: String,
    /// Words for a person.
    pub message: String,
    /// `Retry-After` field, in seconds.
    pub retry_after_s: Option<u64>,
}

/// How an answer travels.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// How the end of the body is told; absent is chunked for streams, a length otherwise.
    pub framing: Option<Framing>,
    /// Compress so if the client accepts it, flushed after every piece.
    pub coding: Option<Coding>,
    /// Compress whether the client accepts it or not.
    pub unasked: bool,
    /// Agree to compressed WebSocket messages if the client offers it: with the memory of earlier
    /// messages (true) or without (false).
    pub message_deflate: Option<bool>,
    /// More fields of the response head.
    pub fields: Vec<(String, String)>,
    /// Where the body of a document or event is cut into pieces, one HTTP chunk each.
    pub split: Split,
    /// Most bytes per TLS write, framing included; absent is one write per piece.
    pub write_bytes: Option<usize>,
    /// End lines of the event stream by CR LF in place of LF.
    pub crlf: bool,
    /// Wait before the first byte of the response.
    pub first_byte_delay_ms: u64,
    /// Wait before each event, in turn and over again.
    pub event_delays_ms: Vec<u64>,
    /// Wait before the first event that tells something generated.
    pub first_token_ms: u64,
    /// Wait before each other event that tells of reasoning.
    pub thinking_ms: u64,
    /// Wait before each other event that tells of output.
    pub delta_ms: u64,
    /// After so many events that tell something generated, wait so many ms more.
    pub stall: Option<(usize, u64)>,
    /// After so many events send half of the next one, or the first bytes of a document, and drop
    /// the connection without a TLS or HTTP end; over HTTP/2 reset the stream.
    pub cut_after_events: Option<usize>,
    /// Close the connection in good order after the response.
    pub close: bool,
}

/// The path of the Anthropic Messages API.
pub const ANTHROPIC_PATH: &str = "/v1/messages";
/// The path of the OpenAI Chat Completions API.
pub const OPENAI_PATH: &str = "/v1/chat/completions";

impl Script {
    /// A script of these rules.
    pub fn of(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Answers every request of both APIs with a short text.
    pub fn chat() -> Self {
        let reply = Reply::Answer(Answer::text("Grüße aus der Attrappe: 你好, 🌍!"));
        Self::of(vec![
            Rule::new(When::path(ANTHROPIC_PATH), reply.clone()),
            Rule::new(When::path(OPENAI_PATH), reply),
        ])
    }

    /// Plays a coding agent's model: has `commands` run one after the other by the tool `Bash`,
    /// then ends the turn. Side requests (no tools, or a quota check) get a short text.
    pub fn agent(commands: &[&str], delivery: Delivery) -> Self {
        let side = |when: When| Rule::new(when, Reply::Answer(Answer::text("Mock session")));
        let messages = When::path(ANTHROPIC_PATH);
        let mut rules = vec![
            side(When { max_tokens_at_most: Some(1), ..messages.clone() }),
            side(When { has_tools: Some(false), ..messages.clone() }),
        ];
        for (turn, command) in commands.iter().enumerate() {
            let input = json!({"command": command, "description": "Scripted step"});
            let when = When { tool_results: Some(turn as u64), ..messages.clone() };
            let reply = Reply::Answer(Answer::tool("Bash", input));
            rules.push(Rule::new(when, reply).delivered(delivery.clone()));
        }
        let last = Reply::Answer(Answer::text("Done: the command ran. ✓"));
        rules.push(Rule::new(messages, last).delivered(delivery));
        Self::of(rules)
    }

    /// What `make demo` plays: a model that takes its time, asks for one command and sums up.
    pub fn demo() -> Self {
        let delivery = Delivery {
            first_byte_delay_ms: 350,
            event_delays_ms: vec![40, 40, 40, 120],
            ..Delivery::default()
        };
        Self::agent(&[DEMO_WORK], delivery)
    }

    /// A built-in script by name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "chat" => Some(Self::chat()),
            "demo" => Some(Self::demo()),
            _ => None,
        }
    }
}

/// Two seconds of CPU and 150 MiB of memory, to be seen in a recording.
const DEMO_WORK: &str = r#"python3 -c '
import resource, time
data = b"x" * (150 << 20)
while time.process_time() < 2:
    sum(data[:65536])
print("used", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB")
'"#;

/// Names that [`Script::named`] knows.
pub const NAMES: [&str; 2] = ["chat", "demo"];
