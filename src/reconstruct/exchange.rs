//! One HTTP exchange in the making: parts of its request and response in, findings out.
//!
//! Owns times, sizes, completeness and the way of content through content coding, event stream
//! and model API. Which exchange a part belongs to is decided by the session that reads the connection.

mod messages;

pub(crate) use self::messages::Message;
use super::body::Body;
use super::finding::{
    Completeness, Exchange, Finding, Header, LlmCall, PartialReason, Perspective, StreamEvent,
};
use super::http1::framing;
use super::http1::head::{RequestHead, ResponseHead, list, values};
use super::stream_framing::{Framing, StreamItem};
use super::{Options, llm, mcp};
use crate::event::ProcessId;
use crate::time::WallNanos;

/// Receives findings, and knows what was told before.
pub(crate) trait Outlet {
    /// Hands a finding out.
    fn find(&mut self, finding: Finding);

    /// The content blocks of the trace so far.
    fn blocks(&mut self) -> &mut llm::Blocks;
}

/// Where findings go.
pub(crate) type Findings<'a> = &'a mut (dyn Outlet + 'a);

/// The caller of reconstruction, and what it was told before.
pub(crate) struct Caller<'a> {
    pub(crate) blocks: &'a mut llm::Blocks,
    pub(crate) sink: &'a mut dyn FnMut(Finding),
}

impl Outlet for Caller<'_> {
    fn find(&mut self, finding: Finding) {
        (self.sink)(finding);
    }

    fn blocks(&mut self) -> &mut llm::Blocks {
        self.blocks
    }
}

/// An exchange not yet reported.
#[derive(Debug)]
pub(crate) struct Builder {
    found: Exchange,
    options: Options,
    damage: Option<PartialReason>,
    request_body: Body,
    request_done: bool,
    /// It was seen to its end without damage.
    request_whole: bool,
    response_body: Body,
    response_done: bool,
    response_started: bool,
    response_head_seen: bool,
    last_response_ts: Option<WallNanos>,
    longest_pause_ms: Option<f64>,
    events: Option<EventStream>,
    /// Position of the next message, over WebSocket.
    next_message: u64,
    observer: Option<llm::Observer>,
    tap: Option<mcp::Tap>,
}

#[derive(Debug)]
struct EventStream {
    framing: Framing,
    next_seq: u64,
}

/// What an exchange has of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) conn_id: u64,
    pub(crate) process: Option<ProcessId>,
    /// `https` or `http`.
    pub(crate) scheme: &'static str,
    /// Whether the process asks or answers.
    pub(crate) perspective: Perspective,
}

/// Why no more parts will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The request and the response have ended.
    Done,
    /// The connection or its process ended.
    Closed,
    /// The recording ended.
    StillOpen,
}

impl Builder {
    /// An exchange whose first byte came at `start_ts`, over this version of HTTP.
    pub(crate) fn new(
        http_id: u64,
        about: About,
        version: &str,
        start_ts: WallNanos,
        options: &Options,
    ) -> Self {
        let body = || Body::new(&[], options.keep_bodies, options.max_body_bytes);
        Self {
            found: Exchange {
                process: about.process,
                perspective: about.perspective,
                scheme: about.scheme.to_owned(),
                http_version: version.to_owned(),
                ..Exchange::new(http_id, about.conn_id, start_ts)
            },
            options: options.clone(),
            damage: None,
            request_body: body(),
            request_done: false,
            request_whole: false,
            response_body: body(),
            response_done: false,
            response_started: false,
            response_head_seen: false,
            last_response_ts: None,
            longest_pause_ms: None,
            events: None,
            next_message: 0,
            observer: None,
            tap: None,
        }
    }

    pub(crate) fn start_ts(&self) -> WallNanos {
        self.found.start_ts
    }

    pub(crate) fn method(&self) -> Option<&str> {
        self.found.method.as_deref()
    }

    /// When the latest byte of the response came.
    pub(crate) fn last_response_ts(&self) -> Option<WallNanos> {
        self.last_response_ts
    }

    /// No more of the request will come.
    pub(crate) fn is_request_done(&self) -> bool {
        self.request_done
    }

    /// No more of the response will come.
    pub(crate) fn is_response_done(&self) -> bool {
        self.response_done
    }

    /// The final response, or one not yet known to be interim, has begun.
    pub(crate) fn is_response_started(&self) -> bool {
        self.response_started
    }

    /// The head of the final response was read.
    pub(crate) fn is_response_head_seen(&self) -> bool {
        self.response_head_seen
    }

    /// The request asks for another protocol, and there is neither an answer nor damage yet.
    pub(crate) fn waits_for_upgrade(&self) -> bool {
        self.request_done
            && !self.response_head_seen
            && self.damage.is_none()
            && list(&self.found.request_headers, "upgrade").next().is_some()
    }

    /// Notes damage; the first kind counts.
    pub(crate) fn damaged(&mut self, reason: PartialReason) {
        self.damage.get_or_insert(reason);
    }

    /// Notes bytes that are missing.
    pub(crate) fn lost(&mut self, bytes: u64) {
        self.found.lost_bytes = self.found.lost_bytes.saturating_add(bytes);
    }

    pub(crate) fn request_head(&mut self, ts: WallNanos, head: RequestHead) {
        let (authority, path) = split_target(&head.method, &head.target);
        let (authority, path) = (authority.map(str::to_owned), path.map(str::to_owned));
        self.request_head_for(ts, authority, path, head);
    }

    /// A request head of which authority and path stand apart from the target (RFC 9113 section 8.3.1).
    pub(crate) fn request_head_for(
        &mut self,
        ts: WallNanos,
        authority: Option<String>,
        path: Option<String>,
        head: RequestHead,
    ) {
        self.found.host =
            authority.or_else(|| values(&head.headers, "host").next().map(str::to_owned));
        self.found.path = path;
        self.found.http_version = head.version.to_owned();
        // A call is counted where it is made: what a model server answers was asked by someone, who
        // may be observed too.
        self.observer = match self.found.perspective {
            Perspective::Client => llm::Observer::for_request(
                self.found.http_id,
                &head,
                self.found.host.as_deref(),
                self.found.path.as_deref(),
            ),
            Perspective::Server => None,
        };
        self.tap = match (self.found.perspective, &self.observer) {
            (Perspective::Client, None) => mcp::Tap::for_request(&self.found, &head),
            _ => None,
        };
        self.request_body = self.body(&head.headers);
        self.found.method = Some(head.method);
        self.found.request_headers = head.headers;
        self.found.request_end_ts = Some(ts);
    }

    /// A request head without its method, which was not seen.
    pub(crate) fn request_fields(
        &mut self,
        ts: WallNanos,
        authority: Option<String>,
        path: Option<String>,
        headers: Vec<Header>,
    ) {
        self.request_body = self.body(&headers);
        self.found.host = authority.or_else(|| values(&headers, "host").next().map(str::to_owned));
        self.found.path = path;
        self.found.request_headers = headers;
        self.found.request_end_ts = Some(ts);
    }

    pub(crate) fn request_content(&mut self, ts: WallNanos, bytes: &[u8], findings: Findings<'_>) {
        self.found.request_end_ts = Some(ts);
        let (observer, tap) = (&mut self.observer, &mut self.tap);
        self.request_body.push(bytes, &mut |decoded| {
            if let Some(observer) = observer {
                observer.request_bytes(ts, decoded, findings);
            }
            if let Some(tap) = tap {
                tap.request_bytes(ts, decoded);
            }
        });
    }

    pub(crate) fn request_content_gap(&mut self, bytes: u64) {
        self.damaged(PartialReason::Gap);
        self.lost(bytes);
        self.request_body.gap();
        if let Some(observer) = &mut self.observer {
            observer.request_gap();
        }
        if let Some(tap) = &mut self.tap {
            tap.request_gap();
        }
    }

    pub(crate) fn request_end(&mut self, ts: WallNanos, trailers: Vec<Header>) {
        self.found.request_end_ts = Some(ts);
        self.found.request_headers.extend(trailers);
        self.request_done = true;
        if self.damage.is_none() && !self.request_body.is_decoded() {
            self.damaged(PartialReason::Decoding);
        }
        self.request_whole = self.damage.is_none();
    }

    /// A new request began where this one should have gone on.
    pub(crate) fn request_cut(&mut self) {
        self.request_done = true;
        // RFC 9110 section 10.1.1: a client that waited for 100 (Continue) and got a final
        // response may leave its body out.
        let waited = list(&self.found.request_headers, "expect")
            .any(|what| what.eq_ignore_ascii_case(CONTINUE));
        if !(waited && self.request_body.wire_bytes() == 0) {
            self.damaged(PartialReason::Malformed);
        }
    }

    /// The request is damaged so that its end will not be seen.
    pub(crate) fn request_broken(&mut self, reason: PartialReason) {
        self.damaged(reason);
        self.request_body.gap();
        if let Some(observer) = &mut self.observer {
            observer.request_gap();
        }
        if let Some(tap) = &mut self.tap {
            tap.request_gap();
        }
        self.request_done = true;
    }

    pub(crate) fn response_start(&mut self, ts: WallNanos) {
        self.response_started = true;
        self.found.first_byte_ts.get_or_insert(ts);
        self.response_arrival(ts);
    }

    /// What began was an interim response (RFC 9110 section 15.2): it is forgotten.
    pub(crate) fn response_interim(&mut self) {
        self.response_started = false;
        self.found.first_byte_ts = None;
        self.last_response_ts = None;
        self.longest_pause_ms = None;
    }

    pub(crate) fn response_head(&mut self, ts: WallNanos, head: ResponseHead) {
        self.response_arrival(ts);
        self.found.status = Some(head.status);
        if self.found.method.is_none() {
            self.found.http_version = head.version.to_owned();
        }
        self.response_framing(&head.headers);
        if let Some(observer) = &mut self.observer {
            observer.response_head(ts, &head, self.events.is_some());
        }
        if let Some(tap) = &mut self.tap {
            tap.response_head(&head.headers, self.events.is_some());
        }
        self.found.response_headers = head.headers;
    }

    /// Response fields whose status was not seen.
    pub(crate) fn response_fields(&mut self, ts: WallNanos, headers: Vec<Header>) {
        self.response_arrival(ts);
        self.response_framing(&headers);
        self.found.response_headers = headers;
    }

    /// Learns from the head how the content is to be read.
    fn response_framing(&mut self, headers: &[Header]) {
        self.response_head_seen = true;
        self.response_body = self.body(headers);
        let codings: Vec<_> = list(headers, "content-encoding").collect();
        self.found.content_encoding = (!codings.is_empty()).then(|| codings.join(", "));
        let content_type = values(headers, "content-type").next().unwrap_or_default();
        let path = self.found.path.as_deref();
        self.events = Framing::for_response(content_type, path)
            .map(|framing| EventStream { framing, next_seq: 0 });
    }

    pub(crate) fn response_content(&mut self, ts: WallNanos, bytes: &[u8], findings: Findings<'_>) {
        self.response_arrival(ts);
        let (events, observer, tap) = (&mut self.events, &mut self.observer, &mut self.tap);
        let http_id = self.found.http_id;
        self.response_body.push(bytes, &mut |decoded| match &mut *events {
            Some(EventStream { framing, next_seq }) => {
                framing.push(decoded, &mut |event| {
                    let watchers = (observer.as_mut(), tap.as_mut());
                    stream_event(http_id, next_seq, ts, event, watchers, findings);
                });
            }
            None => {
                if let Some(observer) = observer {
                    observer.response_bytes(ts, decoded);
                }
                if let Some(tap) = tap {
                    tap.response_bytes(ts, decoded);
                }
            }
        });
    }

    /// The stream's last event, where the end of the content is what ends it.
    fn last_event(&mut self, findings: Findings<'_>) {
        let ts = self.last_response_ts.unwrap_or(self.found.start_ts);
        let (observer, tap) = (&mut self.observer, &mut self.tap);
        let http_id = self.found.http_id;
        if let Some(EventStream { framing, next_seq }) = &mut self.events {
            framing.finish(&mut |event| {
                let watchers = (observer.as_mut(), tap.as_mut());
                stream_event(http_id, next_seq, ts, event, watchers, findings);
            });
        }
    }

    pub(crate) fn response_content_gap(&mut self, bytes: u64) {
        self.lost(bytes);
        self.response_missing(PartialReason::Gap, Some(bytes));
    }

    /// Content is missing or cannot be told apart from here on.
    pub(crate) fn response_broken(&mut self, reason: PartialReason) {
        self.response_missing(reason, None);
    }

    fn response_missing(&mut self, reason: PartialReason, bytes: Option<u64>) {
        // Whatever is broken was the response, or part of it.
        self.response_started = true;
        self.damaged(reason);
        self.response_body.gap();
        if let Some(events) = &mut self.events {
            events.framing.gap(bytes);
        }
        if let Some(observer) = &mut self.observer {
            observer.response_gap();
        }
        if let Some(tap) = &mut self.tap {
            tap.response_gap();
        }
    }

    pub(crate) fn response_end(&mut self, ts: WallNanos, trailers: Vec<Header>) {
        self.response_arrival(ts);
        self.found.response_headers.extend(trailers);
        self.response_closed();
    }

    /// This many bytes of the response's end were seen, and nothing before.
    pub(crate) fn response_tail(&mut self, bytes: u64) {
        self.found.response_wire_bytes = bytes;
        self.response_done = true;
    }

    /// A body that lasts until the connection closes has ended by that.
    pub(crate) fn response_closed(&mut self) {
        self.response_done = true;
        if self.damage.is_none() && !self.response_body.is_decoded() {
            self.damaged(PartialReason::Decoding);
        }
    }

    /// Another message began where this response should have gone on.
    pub(crate) fn response_cut(&mut self) {
        self.damaged(PartialReason::Malformed);
        self.response_done = true;
    }

    /// Reports the exchange, and the model call it may be.
    pub(crate) fn finish(mut self, ending: Ending, findings: Findings<'_>) {
        if self.response_done {
            self.last_event(findings);
        }
        // A client that has read the last event leaves without reading the last chunk.
        let is_answered =
            ending == Ending::Closed && self.observer.as_ref().is_some_and(llm::Observer::is_ended);
        let whole = self.request_done && (self.response_done || is_answered);
        if !whole {
            self.damaged(match ending {
                Ending::StillOpen => PartialReason::StillOpen,
                _ if !self.response_started => PartialReason::NoResponse,
                Ending::Closed | Ending::Done => PartialReason::Closed,
            });
        }
        let request_whole = self.request_whole;
        let found = &mut self.found;
        found.completeness = self.damage.map_or(Completeness::Complete, Completeness::Partial);
        let response_over = self.response_done || ending == Ending::Closed;
        found.end_ts = self.last_response_ts.filter(|_| response_over);
        if !self.request_done {
            found.request_end_ts = None;
        }
        found.max_gap_ms = self.longest_pause_ms;
        found.request_body_bytes = self.request_body.decoded_bytes();
        found.request_wire_bytes = self.request_body.wire_bytes();
        found.response_body_bytes = self.response_body.decoded_bytes();
        found.response_wire_bytes += self.response_body.wire_bytes();
        if let Some(tap) = self.tap.take() {
            tap.finish(&self.found, self.damage, &mut |finding| findings.find(finding));
        }
        // Bodies are added after the call has taken its copy of the rest.
        let call: Option<LlmCall> = self
            .observer
            .and_then(|observer| observer.finish(self.found.clone(), request_whole, findings));
        self.found.request_body = self.request_body.take_kept();
        self.found.response_body = self.response_body.take_kept();
        findings.find(Finding::Exchange(Box::new(self.found)));
        if let Some(call) = call {
            findings.find(Finding::LlmCall(Box::new(call)));
        }
    }

    fn body(&self, headers: &[Header]) -> Body {
        let codings = framing::codings(headers);
        Body::new(&codings, self.options.keep_bodies, self.options.max_body_bytes)
    }

    fn response_arrival(&mut self, ts: WallNanos) {
        if let Some(last) = self.last_response_ts.replace(ts)
            && last != ts
        {
            let pause_ms = ts.ms_since(last).max(0.0);
            if let Some(observer) = &mut self.observer {
                observer.response_pause(last, ts);
            }
            self.longest_pause_ms =
                Some(self.longest_pause_ms.map_or(pause_ms, |longest| longest.max(pause_ms)));
        }
    }
}

/// Hands out an event of a response stream, to those who watch the exchange as well.
fn stream_event(
    http_id: u64,
    next_seq: &mut u64,
    ts: WallNanos,
    event: StreamItem<'_>,
    (observer, tap): (Option<&mut llm::Observer>, Option<&mut mcp::Tap>),
    findings: Findings<'_>,
) {
    if let Some(observer) = observer {
        observer.event(ts, event.event, &event.data);
    }
    if let Some(tap) = tap {
        tap.event(ts, &event.data, &mut |finding| findings.find(finding));
    }
    findings.find(Finding::StreamEvent(StreamEvent {
        http_id,
        seq: *next_seq,
        ts,
        event: event.event.map(str::to_owned),
        data: event.data.into_owned(),
    }));
    *next_seq += 1;
}

const CONTINUE: &str = "100-continue";

/// Authority and path of a request target (RFC 9112 section 3.2).
fn split_target<'a>(method: &str, target: &'a str) -> (Option<&'a str>, Option<&'a str>) {
    if method == "CONNECT" {
        return (Some(target), None);
    }
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(path_at);
            (Some(authority), Some(if path.is_empty() { "/" } else { path }))
        }
        _ => (None, Some(target)),
    }
}

#[cfg(test)]
mod tests {
    use super::split_target;

    #[test]
    fn targets_are_split_by_their_form() {
        assert_eq!(split_target("GET", "/a?b=c://d"), (None, Some("/a?b=c://d")));
        assert_eq!(split_target("GET", "http://h:1/a?b"), (Some("h:1"), Some("/a?b")));
        assert_eq!(split_target("GET", "https://h"), (Some("h"), Some("/")));
        assert_eq!(split_target("OPTIONS", "*"), (None, Some("*")));
        assert_eq!(split_target("CONNECT", "h:443"), (Some("h:443"), None));
    }
}
