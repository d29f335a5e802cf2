//! An exchange over WebSocket: one message of the client, and those of the server that answer it.
//!
//! There is no head, and the content comes uncompressed: what it was on the wire is counted apart.

use super::{Builder, Findings, stream_event};
use crate::reconstruct::finding::{Header, PartialReason, Perspective};
use crate::reconstruct::llm;
use crate::reconstruct::llm::websocket::Upgrade;
use crate::reconstruct::stream_framing::StreamItem;
use crate::time::WallNanos;

/// The `method` of such an exchange.
const METHOD: &str = "WS";

/// A message of the server.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    /// When its first byte came, and its last.
    pub(crate) start_ts: WallNanos,
    pub(crate) ts: WallNanos,
    pub(crate) item: StreamItem<'a>,
    /// Its payload on the wire, headers of frames left out.
    pub(crate) wire_bytes: u64,
}

impl Builder {
    /// What the request said that made the connection a WebSocket.
    pub(crate) fn upgrade(&self) -> Upgrade {
        Upgrade {
            host: self.found.host.clone(),
            path: self.found.path.clone(),
            headers: self.found.request_headers.clone(),
        }
    }

    /// What the response said to that.
    pub(crate) fn response_headers(&self) -> &[Header] {
        &self.found.response_headers
    }

    /// The request is a message.
    pub(crate) fn request_message(&mut self, upgrade: &Upgrade) {
        self.found.method = Some(METHOD.to_owned());
        self.found.host.clone_from(&upgrade.host);
        self.found.path.clone_from(&upgrade.path);
        // They hold for every message: who asks, and in which session.
        self.found.request_headers.clone_from(&upgrade.headers);
        self.observer = match self.found.perspective {
            Perspective::Client => llm::Observer::for_websocket(self.found.http_id, upgrade),
            Perspective::Server => None,
        };
    }

    /// Uncompressed content of the client's message.
    pub(crate) fn request_text(&mut self, ts: WallNanos, bytes: &[u8], findings: Findings<'_>) {
        self.found.request_end_ts = Some(ts);
        let observer = &mut self.observer;
        self.request_body.push_decoded(bytes, &mut |decoded| {
            if let Some(observer) = observer {
                observer.request_bytes(ts, decoded, findings);
            }
        });
    }

    /// The client's message has ended, and was this long on the wire.
    pub(crate) fn request_message_end(&mut self, ts: WallNanos, wire_bytes: u64) {
        self.request_body.add_wire_bytes(wire_bytes);
        self.request_end(ts, Vec::new());
    }

    /// The client's message is not whole.
    pub(crate) fn request_message_damaged(&mut self, reason: PartialReason, lost_bytes: u64) {
        self.damaged(reason);
        self.lost(lost_bytes);
        if let Some(observer) = &mut self.observer {
            observer.request_gap();
        }
    }

    /// A message of the server is part of the answer.
    pub(crate) fn response_message(&mut self, message: Message<'_>, findings: Findings<'_>) {
        if !self.response_started {
            self.response_start(message.start_ts);
        }
        self.response_arrival(message.ts);
        self.response_head_seen = true;
        // What has a name is told of here, and is not what was said.
        if message.item.event.is_none() {
            self.response_body.push_decoded(message.item.data.as_bytes(), &mut |_| {});
        }
        self.response_body.add_wire_bytes(message.wire_bytes);
        self.later_message(message, findings);
    }

    /// The model API knows that the answer has ended.
    pub(crate) fn is_answer_ended(&self) -> bool {
        self.observer.as_ref().is_some_and(llm::Observer::is_ended)
    }

    /// A message of the server comes after the answer; it is told of here, and counts for nothing.
    pub(crate) fn later_message(&mut self, message: Message<'_>, findings: Findings<'_>) {
        let next_seq = &mut self.next_message;
        let readers = (self.observer.as_mut(), None);
        stream_event(self.found.http_id, next_seq, message.ts, message.item, readers, findings);
    }

    /// A further message of the client belongs to this exchange.
    pub(crate) fn client_message(&mut self, message: Message<'_>, findings: Findings<'_>) {
        let next_seq = &mut self.next_message;
        stream_event(
            self.found.http_id,
            next_seq,
            message.ts,
            message.item,
            (None, None),
            findings,
        );
    }
}
