//! An HTTP/2 connection: reads both directions and makes an exchange of every stream of the client.
//!
//! A response may come out of the trace before the request it answers, because the recorder joins calls;
//! it waits then, and what follows it in its direction with it. Streams that the server begins (pushed
//! responses) are left alone.
//!
//! Policy for damage lives here: a part that is missing costs its stream; where frames of any stream may
//! be missing, all that are open in that direction say so, and go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::head;
use super::reader::{Headers, Part, Reader};
use crate::reconstruct::connection::Context;
use crate::reconstruct::exchange::{About, Builder, Ending};
use crate::reconstruct::finding::PartialReason;
use crate::reconstruct::http1::{MAX_OPEN_EXCHANGES, MAX_WAITING_BYTES, MAX_WAITING_PIECES};
use crate::reconstruct::protocol::Side;
use crate::reconstruct::stream::Piece;
use crate::time::WallNanos;

/// Ranges of streams that may have begun unseen, and such streams of which is known that they are
/// over. What is beyond is forgotten: then a late frame of a stream gives a row of its own.
const MAX_UNSEEN: usize = 256;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    about: About,
    requests: Reader,
    responses: Reader,
    /// Open streams.
    streams: BTreeMap<u32, Stream>,
    /// The latest stream that the client was seen to begin.
    last_stream_id: u32,
    /// Why streams after that one may have begun unseen.
    request_loss: Option<PartialReason>,
    /// Streams that may have begun unseen: from, to, why.
    unseen: VecDeque<(u32, u32, PartialReason)>,
    /// Those of them that are over.
    settled: BTreeSet<u32>,
    /// What the server sent and waits for a request.
    waiting: VecDeque<(WallNanos, Part<'static>)>,
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Stream {
    exchange: Builder,
    /// Frames of its request may be missing, the last one too.
    is_request_lost: bool,
}

impl Session {
    /// A connection whose first bytes are to come.
    pub(crate) fn from_start(about: About) -> Self {
        Self::new(about, Reader::with_preface(), Reader::from_start())
    }

    /// A connection in its midst.
    pub(crate) fn joined_late(about: About) -> Self {
        let mut session = Self::new(about, Reader::joined_late(), Reader::joined_late());
        session.request_loss = Some(PartialReason::JoinedLate);
        session
    }

    /// A connection that began as HTTP/1; its first stream is this exchange.
    pub(crate) fn upgraded(about: About, request: Builder) -> Self {
        let mut session = Self::from_start(about);
        session.last_stream_id = 1;
        session.streams.insert(1, Stream { exchange: request, is_request_lost: false });
        session
    }

    fn new(about: About, requests: Reader, responses: Reader) -> Self {
        Self {
            about,
            requests,
            responses,
            streams: BTreeMap::new(),
            last_stream_id: 0,
            request_loss: None,
            unseen: VecDeque::new(),
            settled: BTreeSet::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// How much it holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> crate::reconstruct::http1::Held {
        crate::reconstruct::http1::Held {
            bytes: self.waiting_bytes,
            pieces: self.waiting.len() + self.unseen.len() + self.settled.len(),
            exchanges: self.streams.len(),
        }
    }

    /// Takes the next piece of what the client or the server sent.
    pub(crate) fn piece(&mut self, side: Side, piece: Piece<'_>, context: &mut Context<'_>) {
        self.read(side, context, |reader, sink| reader.push(piece, sink));
    }

    /// Reports all exchanges; no more will come.
    pub(crate) fn finish(mut self, ending: Ending, context: &mut Context<'_>) {
        for side in [Side::Request, Side::Response] {
            self.read(side, context, Reader::finish);
        }
        self.release(true, context);
        for (_, stream) in std::mem::take(&mut self.streams) {
            stream.exchange.finish(ending, context.findings);
        }
    }

    /// Does something with the reader of a side and takes the parts it hands out.
    fn read(
        &mut self,
        side: Side,
        context: &mut Context<'_>,
        act: impl FnOnce(&mut Reader, &mut dyn FnMut(WallNanos, Part<'_>)),
    ) {
        // The reader is put aside so that its parts can be taken by the rest of the session.
        let place = match side {
            Side::Request => &mut self.requests,
            Side::Response => &mut self.responses,
        };
        let mut reader = std::mem::replace(place, Reader::from_start());
        act(&mut reader, &mut |ts, part| match side {
            Side::Request => {
                self.request_part(ts, part, context);
                self.release(false, context);
            }
            Side::Response if self.waiting.is_empty() && !self.must_wait(&part) => {
                self.response_part(ts, part, context);
            }
            Side::Response => self.wait(ts, part.into_owned(), context),
        });
        match side {
            Side::Request => self.requests = reader,
            Side::Response => self.responses = reader,
        }
    }

    /// It is the beginning of an answer to a request that was not seen yet.
    fn must_wait(&self, part: &Part<'_>) -> bool {
        let Part::Headers(headers) = part else { return false };
        is_of_client(headers.stream_id)
            && headers.stream_id > self.last_stream_id
            && !self.streams.contains_key(&headers.stream_id)
            && !self.settled.contains(&headers.stream_id)
    }

    fn wait(&mut self, ts: WallNanos, part: Part<'static>, context: &mut Context<'_>) {
        self.waiting_bytes += held_bytes(&part);
        self.waiting.push_back((ts, part));
        let is_full =
            self.waiting_bytes > MAX_WAITING_BYTES || self.waiting.len() > MAX_WAITING_PIECES;
        self.release(is_full, context);
    }

    fn release(&mut self, force: bool, context: &mut Context<'_>) {
        while let Some((_, part)) = self.waiting.front()
            && (force || !self.must_wait(part))
            && let Some((ts, part)) = self.waiting.pop_front()
        {
            self.waiting_bytes -= held_bytes(&part);
            self.response_part(ts, part, context);
        }
    }

    fn request_part(&mut self, ts: WallNanos, part: Part<'_>, context: &mut Context<'_>) {
        let stream_id = match (part.stream_id(), part) {
            (Some(stream_id), Part::Headers(headers)) => {
                self.request_headers(ts, *headers, context);
                stream_id
            }
            (Some(stream_id), part) => {
                self.request_stream_part(ts, stream_id, part, context);
                stream_id
            }
            (None, Part::Broken(reason)) => {
                self.request_loss.get_or_insert(reason);
                for stream in self.streams.values_mut().filter(|it| !it.exchange.is_request_done())
                {
                    stream.exchange.damaged(reason);
                    stream.exchange.request_content_gap(0);
                    stream.is_request_lost = true;
                }
                return;
            }
            (None, Part::Lost(bytes)) => {
                let mut open =
                    self.streams.values_mut().filter(|it| !it.exchange.is_request_done());
                if let (Some(only), None) = (open.next(), open.next()) {
                    only.exchange.lost(bytes);
                }
                return;
            }
            // A client that says it goes away answers nothing of what the server pushes.
            (None, _) => return,
        };
        self.report_done(stream_id, context);
    }

    fn request_headers(&mut self, ts: WallNanos, headers: Headers, context: &mut Context<'_>) {
        let Headers { stream_id, start_ts, fields, end_stream, lost_bytes, is_cut: _ } = headers;
        let is_new = is_of_client(stream_id)
            && stream_id > self.last_stream_id
            && !self.streams.contains_key(&stream_id);
        if is_new {
            self.begin_stream(stream_id, start_ts, context);
        } else if self.open_unseen(stream_id, ts, context).is_none() {
            return;
        }
        let Some(stream) = self.streams.get_mut(&stream_id) else { return };
        let exchange = &mut stream.exchange;
        exchange.lost(lost_bytes);
        if fields.is_broken {
            exchange.damaged(PartialReason::Malformed);
        } else if let Some(reason) = fields.unknown {
            exchange.damaged(reason);
        }
        match is_new {
            true => head::request(fields.headers, ts, exchange),
            false if end_stream => {
                exchange.request_end(ts, fields.headers);
                return;
            }
            false => {}
        }
        if end_stream {
            exchange.request_end(ts, Vec::new());
        }
    }

    fn begin_stream(&mut self, stream_id: u32, start_ts: WallNanos, context: &mut Context<'_>) {
        if let Some(reason) = self.request_loss.take()
            && stream_id > self.last_stream_id + 2
        {
            self.unseen.push_back((self.last_stream_id + 1, stream_id - 1, reason));
            if self.unseen.len() > MAX_UNSEEN {
                self.unseen.pop_front();
            }
        }
        self.last_stream_id = stream_id;
        let exchange = context.open(self.about, "2", start_ts);
        self.insert(stream_id, exchange, context);
    }

    fn insert(&mut self, stream_id: u32, exchange: Builder, context: &mut Context<'_>) {
        if self.streams.len() >= MAX_OPEN_EXCHANGES
            && let Some((_, oldest)) = self.streams.pop_first()
        {
            oldest.exchange.finish(Ending::Closed, context.findings);
        }
        self.streams.insert(stream_id, Stream { exchange, is_request_lost: false });
    }

    /// The open stream of this number. One that began unseen is opened if it may be; `None` if it is
    /// over.
    fn open_unseen(
        &mut self,
        stream_id: u32,
        ts: WallNanos,
        context: &mut Context<'_>,
    ) -> Option<&mut Stream> {
        if !self.streams.contains_key(&stream_id) {
            let reason = self.unseen_reason(stream_id)?;
            let mut exchange = context.open(self.about, "2", ts);
            exchange.damaged(reason);
            self.insert(stream_id, exchange, context);
            self.settled.insert(stream_id);
            if self.settled.len() > MAX_UNSEEN {
                self.settled.pop_first();
            }
        }
        self.streams.get_mut(&stream_id)
    }

    /// Why a stream that is not open may have begun unseen; `None` if it has not.
    fn unseen_reason(&self, stream_id: u32) -> Option<PartialReason> {
        if !is_of_client(stream_id) || self.settled.contains(&stream_id) {
            return None;
        }
        if stream_id > self.last_stream_id {
            return self.request_loss;
        }
        let is_in = |&&(from, to, _): &&(u32, u32, PartialReason)| (from..=to).contains(&stream_id);
        self.unseen.iter().find(is_in).map(|(_, _, reason)| *reason)
    }

    fn request_stream_part(
        &mut self,
        ts: WallNanos,
        stream_id: u32,
        part: Part<'_>,
        context: &mut Context<'_>,
    ) {
        let stream = match part {
            Part::Data { .. } | Part::DataGap { .. } => self.open_unseen(stream_id, ts, context),
            _ => self.streams.get_mut(&stream_id),
        };
        let Some(Stream { exchange, .. }) = stream else { return };
        match part {
            Part::Data { bytes, .. } => exchange.request_content(ts, &bytes, context.findings),
            Part::DataGap { bytes, .. } => exchange.request_content_gap(bytes),
            Part::Malformed { .. } => exchange.damaged(PartialReason::Malformed),
            Part::EndStream { .. } => exchange.request_end(ts, Vec::new()),
            Part::Reset { .. } => self.end(stream_id, context),
            _ => {}
        }
    }

    fn response_part(&mut self, ts: WallNanos, part: Part<'_>, context: &mut Context<'_>) {
        let stream_id = match (part.stream_id(), part) {
            (Some(stream_id), Part::Headers(headers)) => {
                self.response_headers(ts, *headers, context);
                stream_id
            }
            (Some(stream_id), part) => {
                self.response_stream_part(ts, stream_id, part, context);
                stream_id
            }
            (None, Part::GoAway { last_stream_id }) => {
                // RFC 9113 section 6.8: these were not acted on.
                for (_, stream) in self.streams.split_off(&last_stream_id.saturating_add(1)) {
                    stream.exchange.finish(Ending::Closed, context.findings);
                }
                return;
            }
            (None, Part::Broken(reason)) => {
                for Stream { exchange, .. } in self.streams.values_mut() {
                    if exchange.is_response_started() && !exchange.is_response_done() {
                        exchange.response_broken(reason);
                    } else if !exchange.is_response_done() {
                        exchange.damaged(reason);
                    }
                }
                return;
            }
            (None, Part::Lost(bytes)) => {
                let mut open =
                    self.streams.values_mut().filter(|it| !it.exchange.is_response_done());
                if let (Some(only), None) = (open.next(), open.next()) {
                    only.exchange.lost(bytes);
                }
                return;
            }
            (None, _) => return,
        };
        self.report_done(stream_id, context);
    }

    fn response_headers(&mut self, ts: WallNanos, headers: Headers, context: &mut Context<'_>) {
        let Headers { stream_id, start_ts, fields, end_stream, lost_bytes, is_cut } = headers;
        let Some(exchange) = self.answered(stream_id, start_ts, true, context) else { return };
        exchange.lost(lost_bytes);
        if fields.is_broken {
            exchange.damaged(PartialReason::Malformed);
        } else if let Some(reason) = fields.unknown {
            exchange.damaged(reason);
        }
        if exchange.is_response_head_seen() {
            if end_stream {
                exchange.response_end(ts, fields.headers);
            }
            return;
        }
        let status = head::status(&fields.headers);
        if status.is_some_and(|status| status < 200) && !end_stream {
            return;
        }
        exchange.response_start(start_ts);
        // A head that is cut and does not even say its status says nothing.
        if !(is_cut && fields.headers.is_empty()) {
            head::response(fields.headers, status, ts, exchange);
        }
        if end_stream {
            exchange.response_end(ts, Vec::new());
        }
    }

    fn response_stream_part(
        &mut self,
        ts: WallNanos,
        stream_id: u32,
        part: Part<'_>,
        context: &mut Context<'_>,
    ) {
        let begins = matches!(part, Part::Data { .. } | Part::DataGap { .. });
        let Some(exchange) = self.answered(stream_id, ts, begins, context) else { return };
        if begins && !exchange.is_response_started() {
            exchange.response_start(ts);
        }
        match part {
            Part::Data { bytes, .. } => exchange.response_content(ts, &bytes, context.findings),
            Part::DataGap { bytes, .. } => exchange.response_content_gap(bytes),
            Part::Malformed { .. } => exchange.response_broken(PartialReason::Malformed),
            Part::EndStream { .. } => exchange.response_end(ts, Vec::new()),
            Part::Reset { .. } => self.end(stream_id, context),
            _ => {}
        }
    }

    /// The exchange that the server answers on this stream. Where the request was not seen, it is
    /// begun if it `may_begin`.
    fn answered(
        &mut self,
        stream_id: u32,
        ts: WallNanos,
        may_begin: bool,
        context: &mut Context<'_>,
    ) -> Option<&mut Builder> {
        if may_begin && !self.streams.contains_key(&stream_id) {
            // An answer that waited for its request in vain: nobody asked.
            if stream_id > self.last_stream_id && is_of_client(stream_id) {
                self.request_loss.get_or_insert(PartialReason::Malformed);
            }
            let stream = self.open_unseen(stream_id, ts, context)?;
            let reason = PartialReason::Malformed;
            stream.exchange.request_broken(reason);
        }
        self.streams.get_mut(&stream_id).map(|stream| &mut stream.exchange)
    }

    fn end(&mut self, stream_id: u32, context: &mut Context<'_>) {
        if let Some(stream) = self.streams.remove(&stream_id) {
            stream.exchange.finish(Ending::Closed, context.findings);
        }
    }

    /// Reports an exchange once it is whole, or as whole as it can be.
    fn report_done(&mut self, stream_id: u32, context: &mut Context<'_>) {
        let is_done = |stream: &Stream| {
            stream.exchange.is_response_done()
                && (stream.exchange.is_request_done() || stream.is_request_lost)
        };
        if self.streams.get(&stream_id).is_some_and(is_done)
            && let Some(stream) = self.streams.remove(&stream_id)
        {
            stream.exchange.finish(Ending::Done, context.findings);
        }
    }
}

/// RFC 9113 section 5.1.1: streams that the client begins are odd.
fn is_of_client(stream_id: u32) -> bool {
    stream_id % 2 == 1
}

/// What a part costs while it waits.
fn held_bytes(part: &Part<'_>) -> usize {
    match part {
        Part::Data { bytes, .. } => bytes.len(),
        Part::Headers(headers) => {
            headers.fields.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
        }
        _ => 0,
    }
}
