//! A WebSocket session of the Responses API: request messages in, the events of answers out.
//!
//! A message is compressed if both sides agreed on `permessage-deflate` (RFC 7692). Each request
//! message is an exchange of the method `WS` in the truth.

use std::io;

use serde_json::Value;

use super::answer::{Answer, Event};
use super::api::{Api, Asked};
use super::carrier::{Carrier, sized};
use super::connection::Service;
use super::http::Request;
use super::response::{Pace, context, told_event};
use super::script::{Delivery, Rule, shape};
use super::truth::{Exchange, ExchangeId, now};
use super::websocket::{self, Frames, Message, Packer};

/// A session after its upgrade.
pub struct Session<'a> {
    /// What all connections share.
    pub service: &'a Service,
    /// The connection.
    pub carrier: &'a mut dyn Carrier,
    /// What opened it.
    pub request: &'a Request,
    /// What is to be.
    pub rule: &'a Rule,
    /// The answer to every message, where the script has no rule for it.
    pub answer: &'a Answer,
}

/// The fields that agree to the upgrade that a request asks for; `None` if it asks for none.
pub fn agreed(request: &Request, delivery: &Delivery) -> Option<Vec<(String, String)>> {
    let key = request.header("sec-websocket-key")?;
    let mut fields = vec![
        ("upgrade".to_owned(), "websocket".to_owned()),
        ("connection".to_owned(), "Upgrade".to_owned()),
        ("sec-websocket-accept".to_owned(), websocket::accept_key(key)),
    ];
    if let Some(extension) = extension(request, delivery) {
        fields.push(("sec-websocket-extensions".to_owned(), extension.to_owned()));
    }
    Some(fields)
}

/// What is agreed on of the extensions that the client offers.
fn extension(request: &Request, delivery: &Delivery) -> Option<&'static str> {
    let offered = request.lists("sec-websocket-extensions", "permessage-deflate");
    match (offered, delivery.message_deflate) {
        (true, Some(true)) => Some("permessage-deflate"),
        (true, Some(false)) => {
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
        }
        _ => None,
    }
}

impl Session<'_> {
    /// Serves it to its end.
    pub fn serve(&mut self) -> io::Result<()> {
        let delivery = &self.rule.delivery;
        let deflates = extension(self.request, delivery).is_some();
        let keeps = delivery.message_deflate == Some(true);
        let mut frames = Frames::new(deflates, keeps);
        let mut packer = deflates.then(|| Packer::new(keeps));
        loop {
            let wire = self.carrier.wire().ok_or_else(|| io::Error::other("no upgrade here"))?;
            let Some(message) = frames.next(wire)? else { return Ok(()) };
            match message {
                Message::Text { text, wire_bytes } => {
                    if !self.answer_message(&text, wire_bytes, packer.as_mut())? {
                        return self.carrier.cut();
                    }
                }
                Message::Reply { frame, last } => {
                    wire.send_raw(&frame, delivery.write_bytes)?;
                    if last {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Answers one request message; false when the connection is to break off.
    fn answer_message(
        &mut self,
        text: &[u8],
        wire_bytes: u64,
        mut packer: Option<&mut Packer>,
    ) -> io::Result<bool> {
        let body: Value = serde_json::from_slice(text).unwrap_or_default();
        let model = body["model"].as_str().map(String::from);
        let asked = Asked { api: Api::OpenaiResponses, stream: None, model, include_usage: true };
        let silent = Answer::default();
        // The rules for the path by POST are the rules for its messages.
        let as_post = Request { method: "POST".into(), ..self.request.clone() };
        let rule = self.service.rule_for(&as_post, &body);
        let scripted = rule.and_then(|rule| rule.reply.as_answer().map(|answer| (answer, rule)));
        let (answer, rule) = match scripted {
            _ if body["generate"] == false => (&silent, self.rule),
            Some((answer, rule)) => (answer, rule),
            None => (self.answer, self.rule),
        };
        let context = context(self.service, answer, &asked);
        let id = self.begin(&body, text.len(), wire_bytes, &asked);
        let events = asked.api.events(answer, &context);
        let mut pace = Pace::new(&rule.delivery);
        let mut sizes = (0, 0);
        for (index, event) in events.iter().enumerate() {
            self.service.stop.wait(pace.before(event.phase))?;
            let is_cut = rule.delivery.cut_after_events == Some(index);
            let frames = self.frames(event, packer.as_deref_mut(), &mut sizes)?;
            let sent = if is_cut { &frames[..frames.len() / 2] } else { &frames[..] };
            if index == 0 {
                self.service.log.note(id, |exchange| exchange.first_byte_ts = Some(now()));
            }
            let wire = self.carrier.wire().ok_or_else(|| io::Error::other("no upgrade here"))?;
            wire.send_raw(sent, rule.delivery.write_bytes)?;
            if is_cut {
                self.service.log.note(id, |exchange| sized(exchange, sizes, false));
                self.service.log.end(id);
                return Ok(false);
            }
            told_event(self.service, id, event);
        }
        self.service.log.note(id, |exchange| sized(exchange, sizes, true));
        self.service.log.end(id);
        Ok(true)
    }

    /// An event as frames, cut as the delivery says.
    fn frames(
        &self,
        event: &Event,
        packer: Option<&mut Packer>,
        sizes: &mut (u64, u64),
    ) -> io::Result<Vec<u8>> {
        let data = event.data.as_bytes();
        let payload = match packer {
            Some(packer) => packer.pack(data)?,
            None => data.to_vec(),
        };
        sizes.0 += data.len() as u64;
        sizes.1 += payload.len() as u64;
        let is_packed = extension(self.request, &self.rule.delivery).is_some();
        let pieces = self.rule.delivery.split.pieces(&payload);
        Ok(websocket::message(&pieces, is_packed))
    }

    fn begin(&self, body: &Value, text_bytes: usize, wire_bytes: u64, asked: &Asked) -> ExchangeId {
        self.service.log.begin(
            self.carrier.id().connection,
            Exchange {
                method: "WS".into(),
                target: self.request.target.clone(),
                request_wire_bytes: wire_bytes,
                request_body_bytes: text_bytes as u64,
                shape: shape(body),
                request_end_ts: now(),
                api: Some(asked.api.name()),
                http_version: "1.1",
                streamed: true,
                request_model: asked.model.clone(),
                scripted: true,
                ..Exchange::default()
            },
        )
    }
}
