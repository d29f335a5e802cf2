//! Tables `http` and `stream_events`: HTTP exchanges and the server-sent events in their responses.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::channel::{Channels, Peer};
use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};
use crate::reconstruct::finding::{Completeness, Exchange, Header, StreamEvent};

const NO_PROCESS: &str = "the process is not known";
const NO_HEAD: &str = "the request head was not captured";
const NO_RESPONSE: &str = "no response head was captured";
const NO_END: &str = "the end of the response was not seen";
const NOT_KEPT: &str = "the body was not captured";

/// An exchange and what is at the other end of its connection.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRow {
    /// The exchange.
    pub exchange: Exchange,
    peer: Peer,
}

impl HttpRow {
    /// Finds out what is at the other end.
    #[must_use]
    pub fn new(exchange: Exchange, channels: &Channels) -> Self {
        let peer = channels.peer(exchange.conn_id);
        Self { exchange, peer }
    }
}

/// One row per HTTP exchange.
pub const HTTP: Table<HttpRow> = Table {
    name: "http",
    description: "One row per HTTP request and its response, reconstructed from TLS plaintext and \
                  from sockets in plain text; ordered by the time the exchange ended. Between two \
                  observed processes an exchange is in two rows: the one's that asked (role \
                  client) and the one's that answered (role server).",
    columns: &[
        Column::new(
            "http_id",
            Cell::Int(|x| int(x.exchange.http_id)),
            "Number of the exchange, from 1 in the order in which requests began.",
            NEVER,
        ),
        Column::new(
            "conn_id",
            Cell::Int(|x| conn_id(x.exchange.conn_id)),
            "Connection it used.",
            NEVER,
        ),
        Column::new(
            "pid",
            Cell::Int(|x| x.exchange.process.and_then(|process| int(process.pid))),
            "Process whose connection it is.",
            NO_PROCESS,
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.exchange.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            NO_PROCESS,
        ),
        Column::new(
            "start_ts",
            Cell::Ts(|x| Some(x.exchange.start_ts)),
            "First byte of the request.",
            NEVER,
        ),
        Column::new(
            "request_end_ts",
            Cell::Ts(|x| x.exchange.request_end_ts),
            "Last byte of the request.",
            "the end of the request was not seen",
        ),
        Column::new(
            "first_byte_ts",
            Cell::Ts(|x| x.exchange.first_byte_ts),
            "First byte of the final (not 1xx) response.",
            NO_RESPONSE,
        ),
        Column::new(
            "end_ts",
            Cell::Ts(|x| x.exchange.end_ts),
            "Last byte of the response.",
            NO_END,
        ),
        Column::measured(
            "duration_ms",
            "ms",
            Cell::Float(|x| duration_ms(&x.exchange)),
            "First byte of the request to last byte of the response.",
            NO_END,
        ),
        Column::new(
            "method",
            Cell::Text(|x| opt_text(&x.exchange.method)),
            "Request method; WS for a message that the client sent over WebSocket, whose request is \
             that message and whose response are the server's messages after it.",
            NO_HEAD,
        ),
        Column::new(
            "scheme",
            Cell::Text(|x| text(&x.exchange.scheme)),
            "https for TLS, http for a socket in plain text.",
            NEVER,
        ),
        Column::new(
            "host",
            Cell::Text(|x| opt_text(&x.exchange.host)),
            "Authority: from the request target or the Host field.",
            "the request head was not captured or names none",
        ),
        Column::new(
            "path",
            Cell::Text(|x| opt_text(&x.exchange.path)),
            "Request target without scheme and authority, query included.",
            NO_HEAD,
        ),
        Column::new(
            "http_version",
            Cell::Text(|x| text(&x.exchange.http_version)),
            "1.0, 1.1 or 2.",
            NEVER,
        ),
        Column::new(
            "status",
            Cell::Int(|x| x.exchange.status.map(i64::from)),
            "Final status code; 101 where the connection became a WebSocket.",
            "no response was seen, or it is one over WebSocket, which has none",
        ),
        Column::new(
            "request_headers",
            Cell::Text(|x| headers_json(&x.exchange.request_headers)),
            "Request fields as a JSON object: names in lower case, values of a repeated field \
             joined by ', ' (RFC 9110, 5.3). request_headers->>'user-agent' takes one. A name that \
             HTTP/2 gave by a table whose entry was not seen is ?. Of a message over WebSocket, \
             those of the request that made it one.",
            NO_HEAD,
        ),
        Column::new(
            "response_headers",
            Cell::Text(|x| headers_json(&x.exchange.response_headers)),
            "Response fields, trailers included, as a JSON object like request_headers; values of \
             a repeated set-cookie are joined by a line feed.",
            NO_RESPONSE,
        ),
        Column::new(
            "request_body",
            Cell::Binary(|x| x.exchange.request_body.as_deref()),
            "Request body, content coding undone; body_text(request_body) reads it as text.",
            NOT_KEPT,
        ),
        Column::new(
            "response_body",
            Cell::Binary(|x| x.exchange.response_body.as_deref()),
            "Response body, content coding undone; body_text(response_body) reads it as text.",
            NOT_KEPT,
        ),
        Column::measured(
            "request_body_bytes",
            "bytes",
            Cell::Int(|x| int(x.exchange.request_body_bytes)),
            "Size of the request body after content decoding.",
            NEVER,
        ),
        Column::measured(
            "response_body_bytes",
            "bytes",
            Cell::Int(|x| int(x.exchange.response_body_bytes)),
            "Size of the response body after content decoding.",
            NEVER,
        ),
        Column::measured(
            "request_wire_bytes",
            "bytes",
            Cell::Int(|x| int(x.exchange.request_wire_bytes)),
            "Size of the request body before content decoding, without chunk framing.",
            NEVER,
        ),
        Column::measured(
            "response_wire_bytes",
            "bytes",
            Cell::Int(|x| int(x.exchange.response_wire_bytes)),
            "Size of the response body before content decoding, without chunk framing.",
            NEVER,
        ),
        Column::new(
            "content_encoding",
            Cell::Text(|x| opt_text(&x.exchange.content_encoding)),
            "Content codings of the response, as its Content-Encoding field says.",
            "the response has no such field",
        ),
        Column::measured(
            "max_gap_ms",
            "ms",
            Cell::Float(|x| x.exchange.max_gap_ms),
            "Longest time between two arrivals of response bytes after the first.",
            "the response arrived at once or not at all",
        ),
        Column::new(
            "complete",
            Cell::Bool(|x| Some(x.exchange.completeness == Completeness::Complete)),
            "Whether request and response were seen to their ends, or a stream to its own, without a gap.",
            NEVER,
        ),
        Column::new(
            "completeness_reason",
            Cell::Text(|x| completeness_reason(&x.exchange)),
            "Why it is not complete: still_open, closed, gap, malformed, no_response, joined_late, \
             decoding.",
            "it is complete",
        ),
        Column::measured(
            "lost_bytes",
            "bytes",
            Cell::Int(|x| int(x.exchange.lost_bytes)),
            "Bytes of it known to be missing.",
            NEVER,
        ),
        Column::new(
            "role",
            Cell::Text(|x| text(x.exchange.perspective.as_str())),
            "What that process did: client (it made the request) or server (it answered it).",
            NEVER,
        ),
        Column::new(
            "remote_addr",
            Cell::Text(|x| x.peer.remote_addr().and_then(text)),
            "Address at the other end of the socket that carries the connection.",
            "the socket is not known, or has no such address",
        ),
        Column::new(
            "confidence",
            Cell::Text(|x| x.peer.confidence().and_then(text)),
            "How sure that socket is: certain or likely; certain where it is in plain text.",
            "the socket is not known",
        ),
    ],
};

/// One row per event of a streamed response.
pub const STREAM_EVENTS: Table<StreamEvent> = Table {
    name: "stream_events",
    description: "One row per event of a streamed response, also of those that an observed server \
                  sent (http.role tells): a server-sent event (WHATWG HTML, 9.2), a message of the \
                  server over WebSocket, a line of NDJSON, an element of a JSON array that comes \
                  bit by bit, a message of an AWS event stream, of gRPC or of Connect.",
    columns: &[
        Column::new(
            "http_id",
            Cell::Int(|x| int(x.http_id)),
            "Exchange whose response it is part of; equal to call_id for calls to a model.",
            NEVER,
        ),
        Column::new("seq", Cell::Int(|x| int(x.seq)), "Position in the stream, from 0.", NEVER),
        Column::new("ts", Cell::Ts(|x| Some(x.ts)), "When its last byte arrived.", NEVER),
        Column::new(
            "event",
            Cell::Text(|x| opt_text(&x.event)),
            "Its event field; of an AWS event stream, the type of the event or exception. Over \
             WebSocket: binary (data is its size), lost (it could not be read), close (the \
             server's farewell), client (a message of the client that changes the answer on its \
             way). Of gRPC and Connect: end, trailers.",
            "it has none; the type of a server-sent event is then message",
        ),
        Column::new(
            "data",
            Cell::Text(|x| text(&x.data)),
            "Its text, of a server-sent event the data lines joined by line feeds; mostly JSON: \
             data->>'type'. Of gRPC and Connect, whether it is compressed and how many bytes it has.",
            NEVER,
        ),
    ],
};

/// First byte of the request to last byte of the response.
pub(super) fn duration_ms(exchange: &Exchange) -> Option<f64> {
    exchange.end_ts.map(|end| end.ms_since(exchange.start_ts))
}

/// The `completeness_reason` column.
pub(super) fn completeness_reason(exchange: &Exchange) -> Option<Cow<'_, str>> {
    match exchange.completeness {
        Completeness::Complete => None,
        Completeness::Partial(reason) => text(reason.as_str()),
    }
}

/// Header fields as a JSON object; `None` when the head is missing (every head has some field).
fn headers_json(headers: &[Header]) -> Option<Cow<'_, str>> {
    if headers.is_empty() {
        return None;
    }
    let mut fields: Map<String, Value> = Map::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        // RFC 9110, 5.3: Set-Cookie is the one field that must not be joined by commas.
        let separator = if name == "set-cookie" { "\n" } else { ", " };
        match fields.get_mut(&name) {
            Some(Value::String(joined)) => {
                joined.push_str(separator);
                joined.push_str(value);
            }
            _ => {
                fields.insert(name, Value::String(value.clone()));
            }
        }
    }
    Some(Cow::Owned(Value::Object(fields).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<Header> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn header_names_are_folded_and_repeated_fields_joined() {
        let headers = fields(&[("X-A", "1"), ("Set-Cookie", "a=1, b"), ("x-a", "2\"")]);
        assert_eq!(headers_json(&headers).unwrap(), r#"{"x-a":"1, 2\"","set-cookie":"a=1, b"}"#);
        let cookies = fields(&[("Set-Cookie", "a=1"), ("set-cookie", "b=2")]);
        assert_eq!(headers_json(&cookies).unwrap(), r#"{"set-cookie":"a=1\nb=2"}"#);
    }

    #[test]
    fn a_missing_head_is_unknown_not_empty() {
        assert_eq!(headers_json(&[]), None);
    }
}
