//! JSON-RPC 2.0 messages of the Model Context Protocol: what of them matters, taken out of the text of
//! one message or of a batch.

use super::json::{elements, is_whole, member, members, small, text};
use super::line::{Line, LineState};
use crate::time::WallNanos;

/// Kept of the text of parameters and of results, each.
pub(super) const KEPT_BYTES: usize = 64 << 10;

/// Longest id, method or name that is taken.
const MAX_NAME_BYTES: usize = 1024;

/// Messages of one batch that are read.
const MAX_BATCH: usize = 1024;

/// Member of `_meta` that names the revision spoken, from revision 2026-07-28 on.
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// Member of `_meta` that describes the server, from that revision on.
const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// A message that was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// When its last byte came.
    pub(super) ts: WallNanos,
    /// Its size; of a batch, that of its own part.
    pub(super) bytes: u64,
    /// Whether bytes of it are missing.
    pub(super) has_gap: bool,
    pub(super) content: Content,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Request(Request),
    Answer(Answer),
    /// One that is damaged, so that not even this is known; with its id if that is.
    Unknown {
        id: Option<String>,
    },
}

/// A request or, without id, a notification.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Request {
    /// As JSON text.
    pub(super) id: Option<String>,
    pub(super) method: String,
    /// Tool, prompt or resource.
    pub(super) target: Option<String>,
    pub(super) params: Option<Kept>,
    /// Revision of the protocol that it says it speaks; `initialize` proposes one.
    pub(super) version: Option<String>,
    /// As JSON text: by which its progress is told, or which progress it tells.
    pub(super) progress_token: Option<String>,
    /// As JSON text: which request it cancels.
    pub(super) cancels: Option<String>,
}

/// A response.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// As JSON text.
    pub(super) id: String,
    pub(super) result: Option<Kept>,
    pub(super) is_error: Option<bool>,
    pub(super) error_code: Option<i64>,
    pub(super) error_message: Option<String>,
    /// Revision that an answer to `initialize` settles.
    pub(super) version: Option<String>,
    /// The server's name for itself.
    pub(super) server_name: Option<String>,
}

/// JSON text, cut where it is longer than what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) is_cut: bool,
}

impl Kept {
    fn of(text: &str) -> Self {
        let mut end = text.len().min(KEPT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self { text: text[..end].to_owned(), is_cut: end < text.len() }
    }
}

/// The messages of a line.
pub(super) fn of_line(line: &Line<'_>, out: &mut Vec<Message>) {
    let head = String::from_utf8_lossy(line.head);
    match line.state {
        LineState::Whole => of_text(line.ts, &head, out),
        LineState::AfterGap => {
            // The rest of an object does not look like a whole one: brackets would be left over.
            let before = out.len();
            of_text(line.ts, &head, out);
            if out.len() == before {
                let tail = line.head;
                of_damaged(&Line { head: b"", tail, ..*line }, "", true, out);
            }
        }
        state => of_damaged(line, &head, state == LineState::Gap, out),
    }
}

/// The messages of a text: one, or those of a batch. What is no JSON-RPC gives none.
pub(super) fn of_text(ts: WallNanos, json: &str, out: &mut Vec<Message>) {
    if !is_whole(json) {
        return;
    }
    let one = |json: &str| {
        let content = content(json)?;
        Some(Message { ts, bytes: json.trim().len() as u64, has_gap: false, content })
    };
    match json.trim_start().starts_with('[') {
        true => out.extend(elements(json).take(MAX_BATCH).filter_map(one)),
        false => out.extend(one(json)),
    }
}

fn content(json: &str) -> Option<Content> {
    let parts = Parts::of(json);
    if parts.version != Some(r#""2.0""#) {
        return None;
    }
    match (parts.method(), parts.id()) {
        (Some(method), id) => Some(Content::Request(request(method, id, parts.params))),
        (None, Some(id)) if parts.is_answer() => Some(Content::Answer(answer(id, &parts))),
        _ => None,
    }
}

/// What the begin and the end of a damaged message say. With a hole in between they may be of two
/// different ones.
fn of_damaged(line: &Line<'_>, head: &str, has_gap: bool, out: &mut Vec<Message>) {
    let tail = String::from_utf8_lossy(line.tail);
    let last_id = last_id(&tail);
    let parts = Parts::of(head);
    let id = parts.id().or_else(|| last_id.clone());
    // The value that is cut is no member: that it began is enough.
    let is_answer = parts.is_answer() || begins_answer(head);
    let content = match (parts.method(), id) {
        (Some(method), id) => Content::Request(request(method, id, parts.params)),
        (None, Some(id)) if is_answer => Content::Answer(answer(id, &parts)),
        (None, id) => Content::Unknown { id },
    };
    let message = |content| Message { ts: line.ts, bytes: line.bytes, has_gap, content };
    let other = last_id.filter(|id| has_gap && parts.id().is_some_and(|first| first != *id));
    out.push(message(content));
    out.extend(other.map(|id| message(Content::Unknown { id: Some(id) })));
}

/// Whether a cut message begins with a result or an error.
fn begins_answer(head: &str) -> bool {
    let object = head.trim_start().strip_prefix('{').unwrap_or_default().trim_start();
    // The reference implementations write the result first, or right behind version and id.
    let behind = members(head).last().map_or(object, |(_, value)| {
        let at = value.as_ptr() as usize - head.as_ptr() as usize + value.len();
        head[at..].trim_start_matches([' ', ',', '\t', '\r', '\n'])
    });
    behind.starts_with("\"result\"") || behind.starts_with("\"error\"")
}

/// The id at the very end of a message, where several implementations write it.
fn last_id(tail: &str) -> Option<String> {
    let object = tail.trim_end().strip_suffix('}')?;
    let compact = r#""jsonrpc":"2.0","id":"#;
    let at = object.rfind(compact)? + compact.len();
    id(&object[at..])
}

/// An id as JSON text: a string or a number.
fn id(text: &str) -> Option<String> {
    let text = text.trim();
    let is_id = matches!(small(text)?, serde_json::Value::String(_) | serde_json::Value::Number(_));
    (is_id && text.len() <= MAX_NAME_BYTES).then(|| text.to_owned())
}

/// Members of a message.
#[derive(Default)]
struct Parts<'a> {
    version: Option<&'a str>,
    id: Option<&'a str>,
    method: Option<&'a str>,
    params: Option<&'a str>,
    result: Option<&'a str>,
    error: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(json: &'a str) -> Self {
        let mut parts = Self::default();
        for (name, value) in members(json) {
            let part = match name {
                "jsonrpc" => &mut parts.version,
                "id" => &mut parts.id,
                "method" => &mut parts.method,
                "params" => &mut parts.params,
                "result" => &mut parts.result,
                "error" => &mut parts.error,
                _ => continue,
            };
            *part = Some(value);
        }
        parts
    }

    fn id(&self) -> Option<String> {
        id(self.id?)
    }

    fn method(&self) -> Option<String> {
        let value = small(self.method?)?;
        value.as_str().filter(|it| it.len() <= MAX_NAME_BYTES).map(str::to_owned)
    }

    fn is_answer(&self) -> bool {
        self.result.is_some() || self.error.is_some()
    }
}

fn request(method: String, id: Option<String>, params: Option<&str>) -> Request {
    let found = |name| params.and_then(|params| member(params, name));
    let meta = found("_meta");
    let token = match method.as_str() {
        "notifications/progress" => found("progressToken"),
        _ => meta.and_then(|meta| member(meta, "progressToken")),
    };
    let is_cancel = method == "notifications/cancelled";
    Request {
        target: params.and_then(|params| target(&method, params)),
        version: match method.as_str() {
            "initialize" => params.and_then(|params| text(params, "protocolVersion")),
            _ => meta.and_then(|meta| text(meta, META_VERSION)),
        },
        progress_token: token.and_then(self::id),
        cancels: found("requestId").filter(|_| is_cancel).and_then(self::id),
        params: params.map(Kept::of),
        id,
        method,
    }
}

/// What a request is about, by its method.
fn target(method: &str, params: &str) -> Option<String> {
    let name = match method {
        "tools/call" | "prompts/get" => text(params, "name"),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => text(params, "uri"),
        "completion/complete" => {
            let about = member(params, "ref")?;
            text(about, "name").or_else(|| text(about, "uri"))
        }
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" => text(params, "taskId"),
        _ => None,
    };
    name.filter(|name| name.len() <= MAX_NAME_BYTES)
}

fn answer(id: String, parts: &Parts<'_>) -> Answer {
    let result = |name| parts.result.and_then(|result| member(result, name));
    let server =
        result("serverInfo").or_else(|| result("_meta").and_then(|meta| member(meta, META_SERVER)));
    let error = |name| small(member(parts.error?, name)?);
    Answer {
        id,
        is_error: result("isError").and_then(|value| small(value)?.as_bool()),
        error_code: error("code").and_then(|code| code.as_i64()),
        error_message: error("message").and_then(|message| Some(message.as_str()?.to_owned())),
        version: parts.result.and_then(|result| text(result, "protocolVersion")),
        server_name: server.and_then(|server| text(server, "name")),
        result: parts.result.map(Kept::of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(json: &str) -> Vec<Content> {
        let mut out = Vec::new();
        of_text(WallNanos(1), json, &mut out);
        out.into_iter().map(|message| message.content).collect()
    }

    fn damaged(head: &str, tail: &str, state: LineState) -> Vec<Message> {
        let (head, tail) = (head.as_bytes(), tail.as_bytes());
        let mut out = Vec::new();
        of_line(&Line { ts: WallNanos(1), head, tail, bytes: 99, state }, &mut out);
        out
    }

    #[test]
    fn requests_say_what_they_are_about() {
        let call = r#"{"method":"tools/call","params":{"name":"grep","arguments":{"q":"x"},
            "_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}},
            "jsonrpc":"2.0","id":"a-1"}"#;
        let Content::Request(call) = &messages(call)[0] else { panic!() };
        assert_eq!((call.id.as_deref(), call.target.as_deref()), (Some("\"a-1\""), Some("grep")));
        assert_eq!(call.version.as_deref(), Some("2026-07-28"));
        assert_eq!(call.progress_token.as_deref(), Some("7"));
        let cancel =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#;
        let Content::Request(cancel) = &messages(cancel)[0] else { panic!() };
        assert_eq!((cancel.id.as_deref(), cancel.cancels.as_deref()), (None, Some("3")));
    }

    #[test]
    fn answers_carry_errors_and_names() {
        let result = r#"{"result":{"protocolVersion":"2025-11-25","serverInfo":{"name":"files"},
            "isError":true},"jsonrpc":"2.0","id":0}"#;
        let Content::Answer(result) = &messages(result)[0] else { panic!() };
        assert_eq!((result.is_error, result.server_name.as_deref()), (Some(true), Some("files")));
        let error =
            r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no such method"}}"#;
        let Content::Answer(error) = &messages(error)[0] else { panic!() };
        assert_eq!(error.error_code, Some(-32601));
        assert_eq!(error.error_message.as_deref(), Some("no such method"));
    }

    #[test]
    fn batches_are_taken_apart_and_other_json_is_nothing() {
        let batch =
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"result":{}},3]"#;
        assert_eq!(messages(batch).len(), 2);
        for other in [
            r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
            r#"{"a":1}"#,
            "{",
            "[]",
            "7",
            r#"{"jsonrpc":"2.0","id":null,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
        ] {
            assert_eq!(messages(other), [], "{other}");
        }
    }

    #[test]
    fn both_ends_of_a_damaged_message_say_which_it_is() {
        let tail = r#"more"}]},"jsonrpc":"2.0","id":12}"#;
        let long = damaged(r#"{"result":{"content":[{"text":"much"#, tail, LineState::TooLong);
        let Content::Answer(answer) = &long[0].content else { panic!("{long:?}") };
        assert_eq!((answer.id.as_str(), long[0].has_gap, long.len()), ("12", false, 1));
        let two = damaged(r#"{"jsonrpc":"2.0","id":11,"result":{"te"#, tail, LineState::Gap);
        assert!(matches!(&two[0].content, Content::Answer(answer) if answer.id == "11"));
        assert_eq!(two[1].content, Content::Unknown { id: Some("12".into()) });
        let none = damaged("", "\"}", LineState::Gap);
        assert_eq!(none[0].content, Content::Unknown { id: None });
        let head = r#"{"method":"tools/call","params":{"name":"#;
        let request = damaged(head, tail, LineState::Gap);
        assert!(matches!(&request[0].content,
            Content::Request(it) if it.method == "tools/call" && it.id.as_deref() == Some("12")));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let kept = Kept::of(&"é".repeat(KEPT_BYTES));
        assert!(kept.is_cut && kept.text.len() == KEPT_BYTES);
        let kept = Kept::of(&format!("x{}", "é".repeat(KEPT_BYTES)));
        assert_eq!(kept.text.len(), KEPT_BYTES - 1);
    }
}
