//! Ids by which agents tie their calls together, from heads and bodies of requests.
//!
//! Each agent has its own names; the first that is there counts. Names were found in the agents'
//! programs and, where it is open, their source.

use serde_json::Value;

use super::request::Request;
use crate::reconstruct::finding::{Correlation, Header};
use crate::reconstruct::http1::head::values;

const SESSION: &[&str] = &[
    "x-claude-code-session-id",
    "session_id",
    "session-id",
    "x-opencode-session",
    "x-client-session-id",
];
const THREAD: &[&str] = &["thread-id", "thread_id", "conversation_id", "x-session-affinity"];
const PROMPT: &[&str] = &["x-claude-code-prompt-id", "x-opencode-request", "x-interaction-id"];
const AGENT: &[&str] = &["x-claude-code-agent-id", "x-agent-task-id"];
const PARENT: &[&str] = &[
    "x-claude-code-parent-agent-id",
    "x-parent-agent-id",
    "x-codex-parent-thread-id",
    "x-parent-session-id",
];
const CLASS: &[&str] = &["x-claude-code-request-class", "x-openai-subagent", "x-interaction-type"];
const CLIENT_REQUEST: &[&str] = &["x-client-request-id", "x-codex-inference-call-id"];

/// What Codex says of the turn, as JSON.
const TURN_METADATA: &str = "x-codex-turn-metadata";

/// The ids in a request's head.
pub(super) fn of_head(headers: &[Header]) -> Correlation {
    of_fields(&|name| {
        values(headers, name).map(str::trim).find(|value| !value.is_empty()).map(str::to_owned)
    })
}

fn of_fields(field: &dyn Fn(&str) -> Option<String>) -> Correlation {
    let first = |names: &[&str]| names.iter().find_map(|name| field(name));
    let turn = field(TURN_METADATA).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let of_turn = |name: &str| turn.as_ref()?.get(name)?.as_str().map(str::to_owned);
    Correlation {
        session_id: first(SESSION).or_else(|| of_turn("session_id")),
        thread_id: first(THREAD).or_else(|| of_turn("thread_id")),
        prompt_id: first(PROMPT).or_else(|| of_turn("turn_id")),
        agent_id: first(AGENT),
        parent_agent_id: first(PARENT),
        request_class: first(CLASS),
        previous_response_id: None,
        client_request_id: first(CLIENT_REQUEST),
    }
}

/// Adds what the body says; the head counts first, but for a WebSocket's, which is older than what
/// goes through it.
pub(super) fn with_body(head: Correlation, body: &Request) -> Correlation {
    let metadata = body.value("client_metadata").unwrap_or_default();
    let said = of_fields(&|name| {
        let fields = metadata.as_object()?;
        let (_, value) = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        value.as_str().filter(|value| !value.is_empty()).map(str::to_owned)
    });
    let conversation = || match body.value("conversation")? {
        Value::String(id) => Some(id),
        conversation => conversation.get("id")?.as_str().map(str::to_owned),
    };
    let thread = || body.value("thread")?.get("id")?.as_str().map(str::to_owned);
    Correlation {
        session_id: said
            .session_id
            .or(head.session_id)
            .or_else(|| body.text("session_id"))
            .or_else(|| session_of_user(body)),
        thread_id: said
            .thread_id
            .or_else(|| body.text("prompt_cache_key"))
            .or_else(conversation)
            .or_else(thread)
            .or(head.thread_id),
        prompt_id: said.prompt_id.or(head.prompt_id).or_else(|| body.text("user_prompt_id")),
        agent_id: said.agent_id.or(head.agent_id),
        parent_agent_id: said.parent_agent_id.or(head.parent_agent_id),
        request_class: said.request_class.or(head.request_class),
        previous_response_id: body.text("previous_response_id"),
        client_request_id: said.client_request_id.or(head.client_request_id),
    }
}

/// Claude Code names its session in the id of the user: at its end, or as a field of it.
fn session_of_user(body: &Request) -> Option<String> {
    let metadata = body.value("metadata")?;
    let user = metadata.get("user_id")?.as_str()?;
    if let Some((_, session)) = user.rsplit_once("_session_") {
        return Some(session.to_owned());
    }
    let fields: Value = serde_json::from_str(user).ok()?;
    fields.get("session_id")?.as_str().map(str::to_owned)
}
