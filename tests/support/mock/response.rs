//! One response: what the rule says, rendered, coded, cut and paced; every step noted.

use std::io;
use std::time::Duration;

use super::answer::{Answer, Context, Event, Known, Phase, Usage};
use super::api::{Asked, Format};
use super::carrier::{Body, Carrier, sized};
use super::coding::Coding;
use super::connection::Service;
use super::http::{Framing, Request};
use super::script::{Delivery, Failure, Reply, Rule};
use super::session::{self, Session};
use super::truth::{Exchange, ExchangeId, now};

/// One response under way.
pub struct Response<'a> {
    /// What all connections share.
    pub service: &'a Service,
    /// Where it goes.
    pub carrier: &'a mut dyn Carrier,
    /// What it responds to.
    pub request: &'a Request,
    /// What that asks for, if it asks a model.
    pub asked: Option<&'a Asked>,
    /// What it is to be.
    pub rule: &'a Rule,
}

impl Response<'_> {
    /// Sends it.
    pub fn send(&mut self) -> io::Result<()> {
        match (&self.rule.reply, self.asked) {
            (Reply::Answer(answer), Some(asked)) => self.send_answer(answer, asked),
            (Reply::Failure(failure), Some(asked)) => self.send_failure(failure, asked),
            (Reply::Document { status, content_type, body }, _) => {
                self.send_document(*status, content_type, Vec::new(), body, Known::default())
            }
            (Reply::WebSocket(answer), _) => {
                let (service, rule) = (self.service, self.rule);
                let request = self.request;
                let Some(fields) = session::agreed(request, &rule.delivery) else {
                    return self.send_document(
                        400,
                        "text/plain",
                        Vec::new(),
                        b"",
                        Known::default(),
                    );
                };
                self.note(|exchange| {
                    exchange.status = 101;
                    (exchange.first_byte_ts, exchange.end_ts) = (Some(now()), Some(now()));
                    exchange.complete = true;
                });
                let delivery = &rule.delivery;
                self.carrier.head(101, fields, Some(0), Framing::Length, delivery)?;
                Session { service, carrier: self.carrier, request, rule, answer }.serve()
            }
            // A script that answers as a model where none was asked is a mistake of the script.
            (Reply::Answer(_) | Reply::Failure(_), None) => self.send_document(
                404,
                "text/plain",
                Vec::new(),
                b"no model here",
                Known::default(),
            ),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Exchange)) {
        self.service.log.note(self.carrier.id(), change);
    }

    fn send_answer(&mut self, answer: &Answer, asked: &Asked) -> io::Result<()> {
        let context = context(self.service, answer, asked);
        let id = format!("req_mock_{:04}", context.number);
        let fields = vec![(asked.api.id_field().to_owned(), id)];
        if let Some(format) = asked.stream {
            let events = asked.api.events(answer, &context);
            return self.send_stream(&events, format, fields);
        }
        let (document, known) = asked.api.document(answer, &context);
        let body = document.to_string();
        self.send_document(200, "application/json", fields, body.as_bytes(), known)
    }

    fn send_failure(&mut self, failure: &Failure, asked: &Asked) -> io::Result<()> {
        let (document, fields) = asked.api.failure(failure);
        self.note(|exchange| exchange.retry_after_s = failure.retry_after_s);
        let error_type = Some(asked.api.error_type(failure));
        let known = Known { error_type, ..Known::default() };
        let body = document.to_string();
        self.send_document(failure.status, "application/json", fields, body.as_bytes(), known)
    }

    fn send_document(
        &mut self,
        status: u16,
        content_type: &str,
        mut fields: Vec<(String, String)>,
        document: &[u8],
        known: Known,
    ) -> io::Result<()> {
        fields.insert(0, ("content-type".into(), content_type.into()));
        let mut body = self.begin(status, fields, Framing::Length, document)?;
        if self.request.method == "HEAD" {
            self.told(known);
            self.note(|exchange| sized(exchange, (0, 0), true));
            return Ok(());
        }
        let delivery = &self.rule.delivery;
        let cut = delivery.cut_after_events.is_some();
        // So little that it tells nothing.
        let sent = if cut { &document[..document.len().min(10)] } else { document };
        body.write(self.carrier, delivery, sent)?;
        if cut {
            self.note(|exchange| sized(exchange, body.sizes, false));
            return self.carrier.cut();
        }
        let sizes = body.end(self.carrier)?;
        self.told(known);
        self.note(|exchange| sized(exchange, sizes, true));
        Ok(())
    }

    fn send_stream(
        &mut self,
        events: &[Event],
        format: Format,
        mut fields: Vec<(String, String)>,
    ) -> io::Result<()> {
        fields.insert(0, ("content-type".into(), format.content_type().into()));
        fields.push(("cache-control".into(), "no-cache".into()));
        self.note(|exchange| exchange.streamed = true);
        let mut body = self.begin(200, fields, Framing::Chunked, &[])?;
        let (id, delivery) = (self.carrier.id(), &self.rule.delivery);
        let line_end = if delivery.crlf { "\r\n" } else { "\n" };
        let mut pace = Pace::new(delivery);
        for (index, event) in events.iter().enumerate() {
            self.service.stop.wait(pace.before(event.phase))?;
            let bytes = format.bytes(event, index, events.len(), line_end);
            if delivery.cut_after_events == Some(index) {
                body.write(self.carrier, delivery, &bytes[..bytes.len() / 2])?;
                self.note(|exchange| sized(exchange, body.sizes, false));
                return self.carrier.cut();
            }
            body.write(self.carrier, delivery, &bytes)?;
            told_event(self.service, id, event);
        }
        let sizes = body.end(self.carrier)?;
        self.note(|exchange| sized(exchange, sizes, true));
        Ok(())
    }

    /// Sends the head and returns what packs the body.
    fn begin(
        &mut self,
        status: u16,
        mut fields: Vec<(String, String)>,
        usual: Framing,
        document: &[u8],
    ) -> io::Result<Body> {
        let delivery = &self.rule.delivery;
        fields.extend(delivery.fields.iter().cloned());
        let coding = delivery.coding.filter(|coding| self.accepts(*coding));
        let coding = coding.unwrap_or_default();
        if coding != Coding::Identity {
            fields.push(("content-encoding".into(), coding.name().into()));
        }
        let is_document = usual == Framing::Length && coding == Coding::Identity;
        let length = is_document.then_some(document.len());
        self.service.stop.wait(Duration::from_millis(delivery.first_byte_delay_ms))?;
        self.note(|exchange| {
            exchange.status = status;
            exchange.first_byte_ts = Some(now());
            let packed = coding != Coding::Identity;
            exchange.content_encoding = packed.then_some(coding.name());
        });
        self.carrier.head(status, fields, length, usual, delivery)?;
        Body::new(coding)
    }

    fn accepts(&self, coding: Coding) -> bool {
        self.rule.delivery.unasked || self.request.lists("accept-encoding", coding.name())
    }

    /// Notes what the client can know by now.
    fn told(&self, known: Known) {
        self.note(|exchange| learn(exchange, known));
    }
}

/// What a renderer has to know for the next answer.
pub fn context(service: &Service, answer: &Answer, asked: &Asked) -> Context {
    let number = service.next_answer();
    let asked_model = asked.model.as_deref().unwrap_or("mock-model");
    Context {
        number,
        model: answer.model.clone().unwrap_or_else(|| asked_model.into()),
        usage: answer.usage.clone().unwrap_or_else(|| Usage::distinct(number)),
        include_usage: asked.include_usage,
    }
}

/// Notes that an event has been written.
pub fn told_event(service: &Service, id: ExchangeId, event: &Event) {
    let (known, phase) = (event.known.clone(), event.phase);
    service.log.note(id, |exchange| {
        exchange.event_ts.push(now());
        exchange.event_phases.push(phase);
        learn(exchange, known);
    });
}

fn learn(exchange: &mut Exchange, known: Known) {
    if known.generated && exchange.streamed && exchange.first_token_ts.is_none() {
        exchange.first_token_ts = Some(now());
    }
    exchange.model = known.model;
    exchange.usage = known.usage;
    exchange.usage_final = known.usage_final;
    exchange.stop_reason = known.stop_reason;
    exchange.error_type = known.error_type;
}

/// The pauses of a stream.
pub struct Pace<'a> {
    delivery: &'a Delivery,
    events: usize,
    generated: usize,
}

impl<'a> Pace<'a> {
    /// The pauses of a stream that begins.
    pub fn new(delivery: &'a Delivery) -> Self {
        Self { delivery, events: 0, generated: 0 }
    }

    /// How long to wait before the next event, which tells this.
    pub fn before(&mut self, phase: Phase) -> Duration {
        let Delivery { event_delays_ms, first_token_ms, thinking_ms, delta_ms, stall, .. } =
            self.delivery;
        let mut wait_ms = match event_delays_ms.len() {
            0 => 0,
            count => event_delays_ms[self.events % count],
        };
        self.events += 1;
        if phase != Phase::Frame {
            wait_ms += match (self.generated, phase) {
                (0, _) => *first_token_ms,
                (_, Phase::Thinking) => *thinking_ms,
                _ => *delta_ms,
            };
            wait_ms += stall.filter(|(after, _)| *after == self.generated).map_or(0, |(_, ms)| ms);
            self.generated += 1;
        }
        Duration::from_millis(wait_ms)
    }
}
