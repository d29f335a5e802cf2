//! One response: what the rule says, rendered, framed, cut and paced; every step noted.

use std::io::{self, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::answer::{Answer, Context, Known, Usage};
use super::connection::Service;
use super::http::{self, Framing, Request};
use super::script::{Delivery, Failure, OPENAI_PATH, Reply, Rule};
use super::truth::now;
use super::websocket::{self, Frames, Message};
use super::wire::Wire;
use super::{anthropic, openai, responses};

/// One response under way.
pub struct Response<'a, 'w> {
    /// What all connections share.
    pub service: &'a Service,
    /// Where it goes.
    pub wire: &'a mut Wire<'w>,
    /// What it responds to.
    pub request: &'a Request,
    /// What it is to be.
    pub rule: &'a Rule,
}

/// What is to become of the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It serves the next request.
    Open,
    /// It is closed in good order.
    Closed,
    /// It is dropped without a word.
    Cut,
}

impl Response<'_, '_> {
    /// Sends it; `body` is the request's, if that was JSON.
    pub fn send(&mut self, body: &Value) -> io::Result<End> {
        match &self.rule.reply {
            Reply::Answer(answer) => self.send_answer(answer, body),
            Reply::Failure(failure) => self.send_failure(failure),
            Reply::Document { status, content_type, body } => {
                self.send_document(*status, content_type, Vec::new(), body, Known::default())
            }
            Reply::WebSocket(answer) => self.serve_messages(answer),
        }
    }

    /// Changes to a WebSocket and serves it to its end.
    fn serve_messages(&mut self, answer: &Answer) -> io::Result<End> {
        let key = self.request.header("sec-websocket-key").unwrap_or_default();
        let fields = [
            ("upgrade", "websocket".to_owned()),
            ("connection", "Upgrade".to_owned()),
            ("sec-websocket-accept", websocket::accept_key(key)),
        ];
        let fields: Vec<_> = fields.map(|(name, value)| (name.to_owned(), value)).into();
        self.service.log.note(self.wire.id(), |exchange| {
            exchange.status = 101;
            exchange.first_byte_ts = Some(now());
            exchange.end_ts = Some(now());
            exchange.complete = true;
        });
        let delivery = &self.rule.delivery;
        self.wire.send(&http::response_head(101, &fields), delivery.write_bytes)?;
        let mut frames = Frames::default();
        while let Some(message) = frames.next(self.wire)? {
            let request = match message {
                Message::Text(text) => serde_json::from_slice::<Value>(&text).unwrap_or_default(),
                Message::Reply { frame, last } => {
                    self.wire.send(&frame, delivery.write_bytes)?;
                    if last {
                        break;
                    }
                    continue;
                }
            };
            let number = self.service.next_answer();
            let silent = Answer::default();
            let answer = if request["generate"] == false { &silent } else { answer };
            for event in responses::events(answer, number) {
                self.wire.send(&websocket::text(&event.to_string()), delivery.write_bytes)?;
            }
        }
        Ok(End::Closed)
    }

    fn is_openai(&self) -> bool {
        self.request.path() == OPENAI_PATH
    }

    fn send_answer(&mut self, answer: &Answer, body: &Value) -> io::Result<End> {
        let number = self.service.next_answer();
        let asked = body["model"].as_str().unwrap_or("mock-model");
        let context = Context {
            number,
            model: answer.model.clone().unwrap_or_else(|| asked.into()),
            usage: answer.usage.clone().unwrap_or_else(|| Usage::distinct(number)),
            include_usage: body["stream_options"]["include_usage"] == true,
        };
        let model = context.model.clone();
        self.service.log.note(self.wire.id(), |exchange| exchange.model = Some(model));
        let id_field = if self.is_openai() { "x-request-id" } else { "request-id" };
        let fields = vec![(id_field.into(), format!("req_mock_{number:04}"))];
        if body["stream"] == true {
            return self.send_stream(answer, &context, fields);
        }
        let (document, known) = match self.is_openai() {
            true => openai::document(answer, &context),
            false => anthropic::document(answer, &context),
        };
        let body = document.to_string();
        self.send_document(200, "application/json", fields, body.as_bytes(), known)
    }

    fn send_failure(&mut self, failure: &Failure) -> io::Result<End> {
        let Failure { status, error_type, message, retry_after_s } = failure;
        let document = match self.is_openai() {
            true => openai::error(error_type, message),
            false => anthropic::error(error_type, message),
        };
        let fields = retry_after_s.iter().map(|s| ("retry-after".into(), s.to_string()));
        let known = Known { error_type: Some(error_type.clone()), ..Known::default() };
        let body = document.to_string();
        self.send_document(*status, "application/json", fields.collect(), body.as_bytes(), known)
    }

    fn send_document(
        &mut self,
        status: u16,
        content_type: &str,
        mut fields: Vec<(String, String)>,
        document: &[u8],
        known: Known,
    ) -> io::Result<End> {
        fields.insert(0, ("content-type".into(), content_type.into()));
        let headless = self.request.method == "HEAD";
        let mut body = self.begin(status, fields, Framing::Length, document)?;
        if !headless {
            let cut = self.rule.delivery.cut_after_events.is_some();
            let sent = if cut { &document[..document.len() / 2] } else { document };
            body.write(self.wire, &self.rule.delivery, sent)?;
            if cut {
                self.sized(&body);
                return Ok(End::Cut);
            }
            body.end(self.wire)?;
        }
        self.told(known);
        Ok(self.finish(&body))
    }

    fn send_stream(
        &mut self,
        answer: &Answer,
        context: &Context,
        mut fields: Vec<(String, String)>,
    ) -> io::Result<End> {
        let events = match self.is_openai() {
            true => openai::events(answer, context),
            false => anthropic::events(answer, context),
        };
        fields.insert(0, ("content-type".into(), "text/event-stream; charset=utf-8".into()));
        fields.push(("cache-control".into(), "no-cache".into()));
        self.service.log.note(self.wire.id(), |exchange| exchange.streamed = true);
        let delivery = &self.rule.delivery;
        let mut body = self.begin(200, fields, Framing::Chunked, &[])?;
        let line_end = if delivery.crlf { "\r\n" } else { "\n" };
        let mut delays = delivery.event_delays_ms.iter().cycle();
        for (index, event) in events.into_iter().enumerate() {
            if let Some(delay) = delays.next() {
                self.service.stop.wait(Duration::from_millis(*delay))?;
            }
            let bytes = event.to_bytes(line_end);
            if delivery.cut_after_events == Some(index) {
                body.write(self.wire, delivery, &bytes[..bytes.len() / 2])?;
                self.sized(&body);
                return Ok(End::Cut);
            }
            body.write(self.wire, delivery, &bytes)?;
            self.service.log.note(self.wire.id(), |exchange| exchange.event_ts.push(now()));
            self.told(event.known);
        }
        body.end(self.wire)?;
        Ok(self.finish(&body))
    }

    /// Sends the head and returns what frames the body.
    fn begin(
        &mut self,
        status: u16,
        mut fields: Vec<(String, String)>,
        usual: Framing,
        document: &[u8],
    ) -> io::Result<Body> {
        let delivery = &self.rule.delivery;
        let gzip = delivery.gzip && self.request.lists("accept-encoding", "gzip");
        let mut framing = delivery.framing.unwrap_or(usual);
        // The length of what is compressed piece by piece is not known in advance.
        if framing == Framing::Length && (gzip || usual == Framing::Chunked) {
            framing = Framing::Chunked;
        }
        if framing == Framing::Chunked && self.request.http10 {
            framing = Framing::Close;
        }
        match framing {
            Framing::Length => fields.push(("content-length".into(), document.len().to_string())),
            Framing::Chunked => fields.push(("transfer-encoding".into(), "chunked".into())),
            Framing::Close => {}
        }
        if gzip {
            fields.push(("content-encoding".into(), "gzip".into()));
        }
        let close = framing == Framing::Close || delivery.close || self.request.wants_close();
        if close {
            fields.push(("connection".into(), "close".into()));
        } else if self.request.http10 {
            fields.push(("connection".into(), "keep-alive".into()));
        }
        self.service.stop.wait(Duration::from_millis(delivery.first_byte_delay_ms))?;
        self.service.log.note(self.wire.id(), |exchange| {
            exchange.status = status;
            exchange.first_byte_ts = Some(now());
        });
        self.wire.send(&http::response_head(status, &fields), delivery.write_bytes)?;
        let gzip = gzip.then(|| GzEncoder::new(Vec::new(), Compression::default()));
        Ok(Body { framing, gzip, close, write_bytes: delivery.write_bytes, sizes: (0, 0) })
    }

    /// Notes what the client can know by now.
    fn told(&self, known: Known) {
        self.service.log.note(self.wire.id(), |exchange| {
            if known.generated && exchange.streamed && exchange.first_token_ts.is_none() {
                exchange.first_token_ts = Some(now());
            }
            exchange.usage = known.usage;
            exchange.usage_final = known.usage_final;
            exchange.stop_reason = known.stop_reason;
            exchange.error_type = known.error_type;
        });
    }

    /// Notes how much of the body has been sent.
    fn sized(&self, body: &Body) {
        self.service.log.note(self.wire.id(), |exchange| {
            (exchange.response_body_bytes, exchange.response_wire_bytes) = body.sizes;
        });
    }

    fn finish(&self, body: &Body) -> End {
        self.sized(body);
        self.service.log.note(self.wire.id(), |exchange| {
            exchange.end_ts = Some(now());
            exchange.complete = true;
        });
        if body.close { End::Closed } else { End::Open }
    }
}

/// A response body being framed.
struct Body {
    framing: Framing,
    gzip: Option<GzEncoder<Vec<u8>>>,
    close: bool,
    write_bytes: Option<usize>,
    /// Bytes before and after content coding.
    sizes: (u64, u64),
}

impl Body {
    /// Sends `data` cut as `delivery` says.
    fn write(&mut self, wire: &mut Wire<'_>, delivery: &Delivery, data: &[u8]) -> io::Result<()> {
        for piece in delivery.split.pieces(data) {
            self.sizes.0 += piece.len() as u64;
            let coded = match &mut self.gzip {
                None => piece.to_vec(),
                Some(encoder) => {
                    encoder.write_all(piece)?;
                    encoder.flush()?;
                    std::mem::take(encoder.get_mut())
                }
            };
            self.send(wire, &coded)?;
        }
        Ok(())
    }

    /// Sends what ends the body.
    fn end(&mut self, wire: &mut Wire<'_>) -> io::Result<()> {
        if let Some(encoder) = self.gzip.take() {
            let trailer = encoder.finish()?;
            self.send(wire, &trailer)?;
        }
        match self.framing {
            Framing::Chunked => wire.send(http::LAST_CHUNK, self.write_bytes),
            Framing::Length | Framing::Close => Ok(()),
        }
    }

    fn send(&mut self, wire: &mut Wire<'_>, coded: &[u8]) -> io::Result<()> {
        self.sizes.1 += coded.len() as u64;
        match self.framing {
            Framing::Chunked => wire.send(&http::chunk(coded), self.write_bytes),
            Framing::Length | Framing::Close => wire.send(coded, self.write_bytes),
        }
    }
}
