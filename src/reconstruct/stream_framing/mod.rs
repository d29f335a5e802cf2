//! How the body of a response is divided into events: server-sent events, JSON lines, the elements of a
//! JSON array, messages of AWS event streams, gRPC and Connect envelopes.
//!
//! Decoded body bytes in, events out as soon as they are whole. Bytes that are missing cost the event
//! they are in. Fed by [`super::exchange`].

mod aws;
mod envelopes;
mod json_array;
mod json_lines;
pub(crate) mod sse;

use std::borrow::Cow;

/// Longest event kept; the rest of a longer one is dropped, and the event with it.
pub(crate) const MAX_EVENT_BYTES: usize = 64 << 20;

/// An event of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamItem<'a> {
    /// What the framing calls it, where it has a name.
    pub(crate) event: Option<&'a str>,
    /// Its text.
    pub(crate) data: Cow<'a, str>,
}

/// Receives events.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(StreamItem<'_>);

/// Divides one response body.
#[derive(Debug)]
pub(crate) enum Framing {
    Sse(sse::Parser),
    JsonLines(json_lines::Parser),
    JsonArray(json_array::Parser),
    Aws(aws::Parser),
    Envelopes(envelopes::Parser),
}

impl Framing {
    /// The framing that a content type stands for; `None` if the body is one thing.
    ///
    /// JSON is one thing unless the request was for a stream of it: Google's APIs name such a method
    /// `:streamGenerateContent` in the path, and answer with one array whose elements come as they are
    /// made.
    pub(crate) fn for_response(content_type: &str, path: Option<&str>) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let media_type = media_type.to_ascii_lowercase();
        let is_envelopes = |prefix: &str| {
            media_type
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
        };
        Some(match media_type.as_str() {
            "text/event-stream" => Self::Sse(sse::Parser::default()),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/jsonlines"
            | "application/x-jsonlines" => Self::JsonLines(json_lines::Parser::default()),
            "application/vnd.amazon.eventstream" => Self::Aws(aws::Parser::default()),
            "application/json" if path.is_some_and(asks_for_stream) => {
                Self::JsonArray(json_array::Parser::default())
            }
            _ if is_envelopes("application/grpc")
                || is_envelopes("application/grpc-web")
                || media_type.starts_with("application/connect+") =>
            {
                Self::Envelopes(envelopes::Parser::default())
            }
            _ => return None,
        })
    }

    /// Takes bytes, hands out the events they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        match self {
            Self::Sse(parser) => parser.push(bytes, sink),
            Self::JsonLines(parser) => parser.push(bytes, sink),
            Self::JsonArray(parser) => parser.push(bytes, sink),
            Self::Aws(parser) => parser.push(bytes, sink),
            Self::Envelopes(parser) => parser.push(bytes, sink),
        }
    }

    /// Bytes are missing here; how many, where that is known.
    pub(crate) fn gap(&mut self, bytes: Option<u64>) {
        match self {
            Self::Sse(parser) => parser.gap(),
            Self::JsonLines(parser) => parser.gap(),
            Self::JsonArray(parser) => parser.gap(),
            Self::Aws(parser) => parser.gap(),
            Self::Envelopes(parser) => parser.gap(bytes),
        }
    }

    /// The body has ended, and was whole: hands out the event that only its end completes.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) {
        match self {
            Self::Sse(parser) => parser.finish(sink),
            Self::JsonLines(parser) => parser.finish(sink),
            Self::JsonArray(parser) => parser.finish(sink),
            Self::Aws(_) | Self::Envelopes(_) => {}
        }
    }
}

/// Whether the method that a path names after a colon is one that streams, and not as server-sent
/// events (`alt=sse`): JSON in their place is one thing, the error.
fn asks_for_stream(path: &str) -> bool {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if query.split(['&', '#']).any(|pair| pair == "alt=sse") {
        return false;
    }
    let path = path.split('#').next().unwrap_or_default();
    path.rsplit('/').next().and_then(|last| last.split_once(':')).is_some_and(|(_, method)| {
        method.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("stream"))
    })
}

/// What the parsers have in common for their tests: events by name, with pieces and gaps between.
#[cfg(test)]
fn events(framing: &mut Framing, pieces: &[&[u8]]) -> Vec<(Option<String>, String)> {
    let mut out = Vec::new();
    let mut sink = |item: StreamItem<'_>| {
        out.push((item.event.map(str::to_owned), item.data.into_owned()));
    };
    for piece in pieces {
        framing.push(piece, &mut sink);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(content_type: &str, path: &str) -> &'static str {
        match Framing::for_response(content_type, Some(path)) {
            None => "none",
            Some(Framing::Sse(_)) => "sse",
            Some(Framing::JsonLines(_)) => "lines",
            Some(Framing::JsonArray(_)) => "array",
            Some(Framing::Aws(_)) => "aws",
            Some(Framing::Envelopes(_)) => "envelopes",
        }
    }

    #[test]
    fn the_content_type_tells_the_framing() {
        assert_eq!(name("Text/Event-Stream; charset=utf-8", "/"), "sse");
        assert_eq!(name("application/x-ndjson", "/"), "lines");
        assert_eq!(name("application/vnd.amazon.eventstream", "/"), "aws");
        for envelopes in ["application/grpc", "application/grpc+proto", "application/connect+json"]
        {
            assert_eq!(name(envelopes, "/"), "envelopes");
        }
        for one in ["application/json", "application/grpc-web-text", "application/connecting", ""] {
            assert_eq!(name(one, "/v1/a:generate"), "none", "{one}");
        }
    }

    #[test]
    fn json_is_a_stream_where_the_path_asks_for_one() {
        let of_path = |path| name("application/json; charset=UTF-8", path);
        assert_eq!(of_path("/v1beta/models/m:streamGenerateContent?key=k"), "array");
        assert_eq!(of_path("/v1internal:streamGenerateContent"), "array");
        for path in [
            "/v1/models/m:generateContent",
            "/stream",
            "/a?b=/c:stream",
            "/m:str\u{e9}amer",
            "/v1/models/m:streamGenerateContent?key=k&alt=sse",
        ] {
            assert_eq!(of_path(path), "none", "{path}");
        }
    }
}
