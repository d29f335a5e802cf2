//! What messages over a WebSocket mean to model APIs: which of them begins a call, which lane it is in,
//! where an answer ends.
//!
//! The API known to do so is OpenAI Responses: a client's `response.create` is the body of a request,
//! the server's messages are the events that would come over SSE, and `stream_id` keeps several answers
//! apart. Fed by [`super::super::websocket`], which makes an exchange of every message that begins a
//! call.

use super::endpoint::Endpoint;
use super::{Api, Observer};
use crate::reconstruct::finding::Header;

/// Bytes of a client's message that are looked at to tell what it is; all of it if it is shorter.
pub(crate) const PREFIX_BYTES: usize = 4096;

/// What the request said that made the connection a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upgrade {
    pub(crate) host: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) headers: Vec<Header>,
}

impl Upgrade {
    /// Messages over it are those of OpenAI Responses.
    fn is_responses(&self) -> bool {
        let path = self.path.as_deref().unwrap_or_default();
        path.split(['?', '#']).next().is_some_and(|path| path.ends_with("/responses"))
    }
}

impl Observer {
    /// Begins to watch a message of the client that may be a call.
    pub(crate) fn for_websocket(call_id: u64, upgrade: &Upgrade) -> Option<Self> {
        let path = upgrade.path.as_deref()?;
        let endpoint = Endpoint::of(upgrade.host.as_deref(), path);
        (endpoint.api == Api::OpenaiResponses).then(|| Self {
            transport: Some("websocket"),
            upgrade_headers: upgrade.headers.clone(),
            ..Self::new(call_id, endpoint)
        })
    }
}

/// Whether a message of the client that begins like this opens an exchange of its own. If not, it
/// belongs to the one that is open: it changes or cancels the answer on its way.
pub(crate) fn opens_exchange(upgrade: &Upgrade, prefix: &[u8]) -> bool {
    !upgrade.is_responses() || field(prefix, "type").is_none_or(|kind| kind == "response.create")
}

/// Which of several answers at a time a message is of; `None` if it does not say, or there is one.
pub(crate) fn lane<'a>(upgrade: &Upgrade, message: &'a [u8]) -> Option<&'a str> {
    field(message, "stream_id").filter(|_| upgrade.is_responses())
}

/// Whether a message says that the answer has ended; `None` where messages never do.
pub(crate) fn ends_answer(upgrade: &Upgrade, message: &str) -> Option<bool> {
    upgrade.is_responses().then(|| {
        matches!(
            field(message.as_bytes(), "type"),
            Some("response.completed" | "response.failed" | "response.incomplete" | "error")
        )
    })
}

/// The string value of a field of a JSON object that stands in the outermost object of a text, as far as
/// the text goes; without escapes, which the values looked for never have.
fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    let text = &text[..text.len().min(PREFIX_BYTES)];
    let (mut depth, mut at) = (0_usize, 0);
    // The name of the field being read, while its value is due.
    let mut key: Option<&[u8]> = None;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = at;
                let mut escaped = false;
                while escaped || *text.get(at)? != b'"' {
                    escaped = !escaped && *text.get(at)? == b'\\';
                    at += 1;
                }
                let string = &text[start..at];
                at += 1;
                let after = &text[at..];
                let is_key = after.trim_ascii_start().first() == Some(&b':');
                if depth == 1 && is_key {
                    key = Some(string);
                    continue;
                }
                if depth == 1 && key == Some(name.as_bytes()) {
                    return std::str::from_utf8(string).ok();
                }
            }
            b',' => key = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responses() -> Upgrade {
        Upgrade { path: Some("/v1/responses?a=b".to_owned()), ..Upgrade::default() }
    }

    #[test]
    fn fields_of_the_outermost_object_are_found() {
        let text = br#"{"a":{"type":"no"},"b":["type","no"],"c\"type":"no", "type" : "yes","d":1}"#;
        assert_eq!(field(text, "type"), Some("yes"));
        assert_eq!(field(br#"{"a":"type","b":"no"}"#, "type"), None);
        assert_eq!(field(br#"{"type":1,"b":"no"}"#, "type"), None);
        assert_eq!(field(br#"{"type":"cut"#, "type"), None);
        assert_eq!(field(br#""type":"outside""#, "type"), None);
    }

    #[test]
    fn a_create_opens_an_exchange_and_other_types_do_not() {
        let opens = |text: &str| opens_exchange(&responses(), text.as_bytes());
        assert!(opens(r#"{"type":"response.create","input":[]}"#));
        assert!(!opens(r#"{"type":"response.cancel"}"#));
        assert!(opens(r#"{"model":"m"}"#));
        assert!(opens_exchange(&Upgrade::default(), br#"{"type":"response.cancel"}"#));
    }

    #[test]
    fn terminal_events_end_the_answer() {
        let ends = |text: &str| ends_answer(&responses(), text);
        assert_eq!(ends(r#"{"type":"response.completed","response":{}}"#), Some(true));
        assert_eq!(ends(r#"{"type":"response.output_text.delta"}"#), Some(false));
        assert_eq!(ends_answer(&Upgrade::default(), r#"{"type":"error"}"#), None);
        let text = br#"{"type":"response.created","stream_id":"s2"}"#;
        assert_eq!(lane(&responses(), text), Some("s2"));
        assert_eq!(lane(&Upgrade::default(), text), None);
    }
}
