//! What carries a response to the client: HTTP/1.1 on a connection of its own, or one stream among
//! others of HTTP/2.

use std::io;

use super::coding::{Coding, Encoder};
use super::http::{self, Framing, Request};
use super::script::Delivery;
use super::truth::{Exchange, ExchangeId, now};
use super::wire::Wire;

/// Takes a response apart into what its protocol sends.
pub trait Carrier {
    /// The exchange it carries the response of.
    fn id(&self) -> ExchangeId;
    /// Sends the head. `length` is that of the body as sent, if it is known.
    fn head(
        &mut self,
        status: u16,
        fields: Vec<(String, String)>,
        length: Option<usize>,
        usual: Framing,
        delivery: &Delivery,
    ) -> io::Result<()>;
    /// Sends a piece of the body.
    fn data(&mut self, piece: &[u8]) -> io::Result<()>;
    /// Sends what ends the response.
    fn end(&mut self) -> io::Result<()>;
    /// Breaks it off where it stands.
    fn cut(&mut self) -> io::Result<()>;
    /// The connection itself, where it is this response's alone.
    fn wire(&mut self) -> Option<&mut dyn Raw>;
}

/// A connection without HTTP, after an upgrade.
pub trait Raw: http::Incoming {
    /// Sends bytes as they stand.
    fn send_raw(&mut self, data: &[u8], write_bytes: Option<usize>) -> io::Result<()>;
}

impl Raw for Wire<'_> {
    fn send_raw(&mut self, data: &[u8], write_bytes: Option<usize>) -> io::Result<()> {
        self.send(data, write_bytes)
    }
}

/// A response over HTTP/1.1.
pub struct Http1<'a, 'w> {
    /// Where it goes.
    pub wire: &'a mut Wire<'w>,
    /// What it responds to.
    pub request: &'a Request,
    /// The exchange.
    pub id: ExchangeId,
    framing: Framing,
    write_bytes: Option<usize>,
    /// Whether the connection ends with the response.
    pub closes: bool,
    /// Whether it was broken off.
    pub is_cut: bool,
}

impl<'a, 'w> Http1<'a, 'w> {
    /// A response that has not begun.
    pub fn new(wire: &'a mut Wire<'w>, request: &'a Request, id: ExchangeId) -> Self {
        let framing = Framing::Length;
        Self { wire, request, id, framing, write_bytes: None, closes: false, is_cut: false }
    }
}

impl Carrier for Http1<'_, '_> {
    fn id(&self) -> ExchangeId {
        self.id
    }

    fn head(
        &mut self,
        status: u16,
        mut fields: Vec<(String, String)>,
        length: Option<usize>,
        usual: Framing,
        delivery: &Delivery,
    ) -> io::Result<()> {
        let mut framing = delivery.framing.unwrap_or(usual);
        // The length of what is made piece by piece is not known in advance.
        if framing == Framing::Length && length.is_none() {
            framing = Framing::Chunked;
        }
        if framing == Framing::Chunked && self.request.http10 {
            framing = Framing::Close;
        }
        match (framing, length) {
            (Framing::Length, Some(length)) => {
                fields.push(("content-length".into(), length.to_string()));
            }
            (Framing::Chunked, _) => fields.push(("transfer-encoding".into(), "chunked".into())),
            _ => {}
        }
        let upgrades = status == 101;
        self.closes =
            upgrades || framing == Framing::Close || delivery.close || self.request.wants_close();
        if self.closes && !upgrades {
            fields.push(("connection".into(), "close".into()));
        } else if self.request.http10 {
            fields.push(("connection".into(), "keep-alive".into()));
        }
        self.framing = framing;
        self.write_bytes = delivery.write_bytes;
        if upgrades {
            fields.retain(|(name, _)| name != "content-length");
        }
        self.wire.send(&http::response_head(status, &fields), self.write_bytes)
    }

    fn data(&mut self, piece: &[u8]) -> io::Result<()> {
        match self.framing {
            Framing::Chunked => self.wire.send(&http::chunk(piece), self.write_bytes),
            Framing::Length | Framing::Close => self.wire.send(piece, self.write_bytes),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self.framing {
            Framing::Chunked => self.wire.send(http::LAST_CHUNK, self.write_bytes),
            Framing::Length | Framing::Close => Ok(()),
        }
    }

    fn cut(&mut self) -> io::Result<()> {
        self.is_cut = true;
        Ok(())
    }

    fn wire(&mut self) -> Option<&mut dyn Raw> {
        Some(self.wire)
    }
}

/// A response body on its way: packed, cut into pieces and counted.
pub struct Body {
    encoder: Encoder,
    /// Bytes before and after content coding.
    pub sizes: (u64, u64),
}

impl Body {
    /// A body that has not begun.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(Self { encoder: Encoder::new(coding)?, sizes: (0, 0) })
    }

    /// Sends `data` cut as `delivery` says.
    pub fn write(
        &mut self,
        carrier: &mut dyn Carrier,
        delivery: &Delivery,
        data: &[u8],
    ) -> io::Result<()> {
        for piece in delivery.split.pieces(data) {
            self.sizes.0 += piece.len() as u64;
            let coded = self.encoder.pack(piece)?;
            self.sizes.1 += coded.len() as u64;
            carrier.data(&coded)?;
        }
        Ok(())
    }

    /// Sends what ends the body, and gives its sizes.
    pub fn end(mut self, carrier: &mut dyn Carrier) -> io::Result<(u64, u64)> {
        let trailer = self.encoder.finish()?;
        if !trailer.is_empty() {
            self.sizes.1 += trailer.len() as u64;
            carrier.data(&trailer)?;
        }
        carrier.end()?;
        Ok(self.sizes)
    }
}

/// Notes the sizes of a body in an exchange that ends, or breaks off, here.
pub fn sized(exchange: &mut Exchange, sizes: (u64, u64), complete: bool) {
    (exchange.response_body_bytes, exchange.response_wire_bytes) = sizes;
    if complete {
        exchange.end_ts = Some(now());
        exchange.complete = true;
    }
}
