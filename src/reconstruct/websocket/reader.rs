//! One direction of a WebSocket connection: pieces of a stream in, parts of messages out.
//!
//! Owns where in a frame the stream is, masks, fragments and compression, and how it finds back after
//! damage. What messages mean is decided by [`super::session`].
//!
//! The length of a frame is known from its header. So bytes that are missing inside of one cost the
//! message it belongs to and, where messages refer to those before them, all compressed messages of
//! the direction that follow; only where a header is missing the place of frames is lost too.

use std::borrow::Cow;

use super::frame::{self, Header, Parsed};
use super::inflate::Inflater;
use crate::reconstruct::finding::PartialReason;
use crate::reconstruct::protocol::Side;
use crate::reconstruct::resync::{Place, Probe, Resync};
use crate::reconstruct::stream::{Content, Piece};
use crate::time::WallNanos;

/// A part of the stream, in stream order.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// A message begins.
    Start { is_text: bool },
    /// Its content, unmasked and uncompressed.
    Content(Cow<'a, [u8]>),
    /// It ends.
    End(Ended),
    /// The sender says that it will send no more: code and reason, if it gives them.
    Close { code: Option<u16>, reason: String },
    /// Frames are missing.
    Broken(PartialReason),
    /// This many bytes are missing while the place is lost.
    Lost(u64),
}

/// How a message ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its payload as it is on the wire, what is missing included.
    pub(crate) wire_bytes: u64,
    /// Bytes of it that are missing.
    pub(crate) lost_bytes: u64,
    /// Why its content is not whole.
    pub(crate) damage: Option<PartialReason>,
}

/// Receives parts, each with the time of the byte that made it.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(WallNanos, Part<'_>);

/// Reads one direction.
#[derive(Debug)]
pub(crate) struct Reader {
    is_masked: bool,
    state: State,
    /// Undoes compression; `None` if it was not agreed on.
    inflater: Option<Inflater>,
    /// Why compressed messages cannot be read any more.
    context_loss: Option<PartialReason>,
    /// The message that has begun and not ended.
    message: Option<Message>,
    /// The frame header so far, and when its first byte came.
    header: Vec<u8>,
    header_ts: WallNanos,
    /// Bytes without their mask.
    unmasked: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Header,
    /// In a payload.
    Payload {
        header: Header,
        /// Bytes of it that are behind.
        at: u64,
        /// Of a control frame, what it holds; `None` if bytes of it are missing.
        control: Option<Vec<u8>>,
    },
    /// Looking for a frame.
    Lost(Resync),
}

#[derive(Debug)]
struct Message {
    is_text: bool,
    is_compressed: bool,
    ended: Ended,
    /// The beginning of a character whose end has not come, up to three bytes.
    character: Vec<u8>,
    /// It is said to be text and is not.
    is_invalid: bool,
}

impl Reader {
    /// Reads what this side sends, from the first byte after the handshake.
    pub(super) fn new(side: Side, inflater: Option<Inflater>) -> Self {
        Self {
            is_masked: side == Side::Request,
            state: State::Header,
            inflater,
            context_loss: None,
            message: None,
            header: Vec::new(),
            header_ts: WallNanos(0),
            unmasked: Vec::new(),
        }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: Piece<'_>, sink: Sink<'_>) {
        match piece.content {
            Content::Data(bytes) => self.bytes(piece.ts, bytes, sink),
            Content::Gap(length) => self.gap(piece.ts, length, sink),
        }
    }

    fn bytes(&mut self, ts: WallNanos, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.state {
                State::Lost(resync) => {
                    let probe =
                        Prober { is_masked: self.is_masked, may_compress: self.inflater.is_some() };
                    let found = resync.push(ts, rest, &mut |place| probe.probe(place));
                    let Some(found) = found else { return };
                    self.state = State::Header;
                    for (ts, bytes) in found {
                        self.bytes(ts, &bytes, sink);
                    }
                    return;
                }
                State::Header => self.header(ts, &mut rest, sink),
                State::Payload { header, at, control } => {
                    let left = header.length_bytes - *at;
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let (payload, after) = rest.split_at(taken);
                    rest = after;
                    let (header, from) = (*header, *at);
                    *at += taken as u64;
                    if let (true, Some(control)) = (header.is_control(), control) {
                        let start = control.len();
                        control.extend_from_slice(payload);
                        if let Some(mask) = header.mask {
                            frame::unmask(&mut control[start..], mask, from);
                        }
                    } else if !header.is_control() {
                        self.content(ts, header, from, payload, sink);
                    }
                    self.end_frame(ts, sink);
                }
            }
        }
    }

    /// Takes bytes of a frame header, one at a time: how long it is turns out on the way.
    fn header(&mut self, ts: WallNanos, rest: &mut &[u8], sink: Sink<'_>) {
        let Some((&byte, after)) = rest.split_first() else { return };
        *rest = after;
        if self.header.is_empty() {
            self.header_ts = ts;
        }
        self.header.push(byte);
        let header = match frame::parse(&self.header, self.is_masked, self.inflater.is_some()) {
            Parsed::Short => return,
            Parsed::Header(header) => header,
            Parsed::Invalid => return self.lose(ts, PartialReason::Malformed, sink),
        };
        self.header.clear();
        let continues = header.opcode == frame::CONTINUATION;
        if !header.is_control() && continues != self.message.is_some() {
            return self.lose(ts, PartialReason::Malformed, sink);
        }
        if !header.is_control() && !continues {
            self.begin_message(header, sink);
        }
        let control = header.is_control().then(Vec::new);
        self.state = State::Payload { header, at: 0, control };
        self.end_frame(ts, sink);
    }

    fn begin_message(&mut self, header: Header, sink: Sink<'_>) {
        let is_text = header.opcode == frame::TEXT;
        let damage = self.context_loss.filter(|_| header.is_compressed);
        self.message = Some(Message {
            is_text,
            is_compressed: header.is_compressed,
            ended: Ended { damage, ..Ended::default() },
            character: Vec::new(),
            is_invalid: false,
        });
        sink(self.header_ts, Part::Start { is_text });
    }

    /// Takes content of the current message that lies at this place of a frame.
    fn content(&mut self, ts: WallNanos, header: Header, at: u64, wire: &[u8], sink: Sink<'_>) {
        let Some(message) = &mut self.message else { return };
        message.ended.wire_bytes += wire.len() as u64;
        if message.ended.damage.is_some() {
            return;
        }
        let payload = match header.mask {
            None => wire,
            Some(mask) => {
                self.unmasked.clear();
                self.unmasked.extend_from_slice(wire);
                frame::unmask(&mut self.unmasked, mask, at);
                &self.unmasked
            }
        };
        match &mut self.inflater {
            Some(inflater) if message.is_compressed => {
                let outcome = inflater.push(payload, &mut |bytes| {
                    message.check(bytes);
                    sink(ts, Part::Content(Cow::Borrowed(bytes)));
                });
                if outcome.is_err() {
                    self.spoil(PartialReason::Decoding);
                }
            }
            _ => {
                message.check(payload);
                sink(ts, Part::Content(Cow::Borrowed(payload)));
            }
        }
    }

    /// Ends the current frame if all of it has come.
    fn end_frame(&mut self, ts: WallNanos, sink: Sink<'_>) {
        let State::Payload { header, at, control } = &mut self.state else { return };
        if *at < header.length_bytes {
            return;
        }
        let (header, control) = (*header, control.take());
        self.state = State::Header;
        if !header.is_control() {
            if header.is_final {
                self.end_message(ts, sink);
            }
        } else if header.opcode == frame::CLOSE
            && let Some(payload) = control
        {
            let (code, reason) = match payload.split_first_chunk() {
                Some((code, reason)) => (Some(u16::from_be_bytes(*code)), reason),
                None => (None, &[][..]),
            };
            let reason = String::from_utf8_lossy(reason).into_owned();
            sink(ts, Part::Close { code, reason });
        }
    }

    fn end_message(&mut self, ts: WallNanos, sink: Sink<'_>) {
        if let (Some(inflater), Some(message)) = (&mut self.inflater, &mut self.message)
            && message.is_compressed
            && message.ended.damage.is_none()
        {
            let outcome = inflater.end(&mut |bytes| {
                message.check(bytes);
                sink(ts, Part::Content(Cow::Borrowed(bytes)));
            });
            if outcome.is_err() {
                self.spoil(PartialReason::Decoding);
            }
        }
        let Some(mut message) = self.message.take() else { return };
        if message.is_invalid || !message.character.is_empty() {
            message.ended.damage.get_or_insert(PartialReason::Malformed);
        }
        sink(ts, Part::End(message.ended));
    }

    /// The content of the current message is not whole, and if it is compressed that of later ones
    /// may not be.
    fn spoil(&mut self, reason: PartialReason) {
        let Some(message) = &mut self.message else { return };
        message.ended.damage.get_or_insert(reason);
        if message.is_compressed {
            self.lose_context(reason);
        }
    }

    fn lose_context(&mut self, reason: PartialReason) {
        let goes_on = self.inflater.as_mut().is_none_or(Inflater::give_up);
        if !goes_on {
            self.context_loss.get_or_insert(reason);
        }
    }

    fn gap(&mut self, ts: WallNanos, length: u64, sink: Sink<'_>) {
        let mut missing = length;
        match &mut self.state {
            State::Payload { header, at, control } => {
                let skipped = missing.min(header.length_bytes - *at);
                missing -= skipped;
                *at += skipped;
                *control = None;
                let is_control = header.is_control();
                if let (false, Some(message)) = (is_control, &mut self.message) {
                    message.ended.wire_bytes += skipped;
                    message.ended.lost_bytes += skipped;
                    self.spoil(PartialReason::Gap);
                }
                self.end_frame(ts, sink);
            }
            State::Lost(resync) => {
                *resync = Resync::after(None);
                sink(ts, Part::Lost(std::mem::take(&mut missing)));
            }
            State::Header => {}
        }
        if missing > 0 {
            self.lose(ts, PartialReason::Gap, sink);
            sink(ts, Part::Lost(missing));
        }
    }

    /// The place in the stream is lost: messages may be missing.
    fn lose(&mut self, ts: WallNanos, reason: PartialReason, sink: Sink<'_>) {
        self.header.clear();
        let last_ts = if reason == PartialReason::Gap { None } else { Some(ts) };
        self.state = State::Lost(Resync::after(last_ts));
        if let Some(mut message) = self.message.take() {
            message.ended.damage.get_or_insert(reason);
            sink(ts, Part::End(message.ended));
        }
        self.lose_context(reason);
        sink(ts, Part::Broken(reason));
    }
}

impl Message {
    /// Looks whether text is UTF-8 (RFC 6455 section 8.1), also where a character is cut.
    fn check(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.is_text && !self.is_invalid && !rest.is_empty() {
            if self.character.is_empty() {
                match std::str::from_utf8(rest) {
                    Ok(_) => return,
                    Err(error) if error.error_len().is_none() => {
                        self.character.extend_from_slice(&rest[error.valid_up_to()..]);
                        return;
                    }
                    Err(_) => self.is_invalid = true,
                }
            } else {
                self.character.push(rest[0]);
                rest = &rest[1..];
                match std::str::from_utf8(&self.character) {
                    Ok(_) => self.character.clear(),
                    Err(error) => self.is_invalid = error.error_len().is_some(),
                }
            }
        }
    }
}

/// Tells where a message begins after a loss. Only at the beginning of a call: a frame header is two
/// bytes and looks like much else.
#[derive(Clone, Copy)]
struct Prober {
    is_masked: bool,
    may_compress: bool,
}

/// Text that is looked at to see that it is text.
const BELIEVED_TEXT_BYTES: u64 = 16;

/// Frames that must follow each other to be believed, where their content cannot be looked at.
const BELIEVED_FRAMES: usize = 3;

impl Prober {
    fn probe(self, place: Place<'_>) -> Probe {
        if !place.at_call {
            return Probe::Other;
        }
        let header = match frame::parse(place.bytes, self.is_masked, self.may_compress) {
            Parsed::Short => return Probe::Undecided,
            Parsed::Invalid => return Probe::Other,
            Parsed::Header(header) => header,
        };
        if header.is_control() || header.opcode == frame::CONTINUATION {
            return Probe::Other;
        }
        if header.opcode != frame::TEXT || header.is_compressed {
            return self.probe_frames(place.bytes);
        }
        let wanted = header.length_bytes.min(BELIEVED_TEXT_BYTES) as usize;
        let Some(text) = place.bytes[header.header_bytes..].get(..wanted) else {
            return Probe::Undecided;
        };
        let mut text = text.to_vec();
        if let Some(mask) = header.mask {
            frame::unmask(&mut text, mask, 0);
        }
        let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
        let is_text = match std::str::from_utf8(&text) {
            Ok(_) => true,
            Err(error) => error.error_len().is_none(),
        };
        if wanted > 1 && is_text && !text.iter().any(is_control) {
            Probe::Frame
        } else {
            Probe::Other
        }
    }

    /// Whether these bytes are frames that follow each other.
    fn probe_frames(self, bytes: &[u8]) -> Probe {
        let mut at = 0_u64;
        for _ in 0..BELIEVED_FRAMES {
            let Some(rest) = usize::try_from(at).ok().and_then(|at| bytes.get(at..)) else {
                return Probe::Undecided;
            };
            match frame::parse(rest, self.is_masked, self.may_compress) {
                Parsed::Short => return Probe::Undecided,
                Parsed::Invalid => return Probe::Other,
                Parsed::Header(header) => {
                    at = at.saturating_add(header.header_bytes as u64);
                    at = at.saturating_add(header.length_bytes);
                }
            }
        }
        Probe::Frame
    }
}
