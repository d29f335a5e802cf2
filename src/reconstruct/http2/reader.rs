//! One direction of an HTTP/2 connection: pieces of a stream in, parts of messages out.
//!
//! Owns where in a frame the stream is, the header compression of the direction, and how it finds back
//! after damage. Which exchange a part belongs to is decided by [`super::session`].
//!
//! ```text
//!  Preface ─▶ Header ◀─────────────┐
//!               │  └─▶ Content ────┤   DATA: handed on as it comes
//!               │  └─▶ Block ──────┤   HEADERS, CONTINUATION, PUSH_PROMISE: collected
//!               │  └─▶ Skip ───────┘   all others
//!               └─ gap, not a frame ─▶ Lost ─ frames that follow each other ─▶ Header
//! ```
//!
//! The length of a frame is known from its header. So bytes that are missing inside of one cost the
//! stream it belongs to; only where a frame header is missing the place of everything is lost.

use std::borrow::Cow;

use super::frame::{self, Header};
use super::hpack::{Decoder, Fields};
use crate::reconstruct::finding::PartialReason;
use crate::reconstruct::resync::{Place, Probe, Resync};
use crate::reconstruct::stream::{Content, Piece};
use crate::time::WallNanos;

/// Longest header block collected. Servers refuse heads above 8 to 128 KiB.
const MAX_BLOCK_BYTES: usize = 256 << 10;

/// A part of the stream, in stream order.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// A header block is whole, or given up.
    Headers(Box<Headers>),
    /// Content of a stream, without padding.
    Data { stream_id: u32, bytes: Cow<'a, [u8]> },
    /// This many bytes of a stream's content are missing.
    DataGap { stream_id: u32, bytes: u64 },
    /// Frames of the stream break the protocol; what they carried is not told.
    Malformed { stream_id: u32 },
    /// Nothing more comes on this stream in this direction.
    EndStream { stream_id: u32 },
    /// The sender gives up the stream.
    Reset { stream_id: u32 },
    /// The sender answers no stream above this one.
    GoAway { last_stream_id: u32 },
    /// Frames are missing, of any stream.
    Broken(PartialReason),
    /// This many bytes are missing while the place is lost.
    Lost(u64),
}

/// A header block.
#[derive(Debug)]
pub(crate) struct Headers {
    pub(crate) stream_id: u32,
    /// When its first byte came.
    pub(crate) start_ts: WallNanos,
    pub(crate) fields: Fields,
    pub(crate) end_stream: bool,
    /// Bytes of it that are missing.
    pub(crate) lost_bytes: u64,
    /// The stream ended within it.
    pub(crate) is_cut: bool,
}

/// Receives parts, each with the time of the last byte that made it.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(WallNanos, Part<'_>);

/// Reads one direction.
#[derive(Debug)]
pub(crate) struct Reader {
    state: State,
    decoder: Decoder,
    /// The frame header so far, and when its first byte came.
    header: Vec<u8>,
    header_ts: WallNanos,
    /// The header block being collected, which other frames may not interrupt.
    block: Option<Block>,
    /// When the latest byte came.
    last_ts: WallNanos,
    /// A frame has been read.
    begun: bool,
    /// The highest stream a frame was of.
    max_stream_id: u32,
}

#[derive(Debug)]
enum State {
    /// This many bytes of the preface have come.
    Preface(usize),
    Header,
    /// In a DATA frame.
    Content {
        header: Header,
        /// Bytes left of the frame, padding included.
        left: u64,
        /// Bytes of padding at its end; `None` before the byte that tells, or if that is lost.
        padding: Option<u64>,
        /// The padding is not known, so nothing of the frame can be told to be content.
        spoilt: bool,
    },
    /// In a frame with a piece of a header block; holds its payload so far.
    Block {
        header: Header,
        left: u64,
        payload: Vec<u8>,
    },
    /// In a frame of which at most the first bytes matter; holds these.
    Skip {
        header: Header,
        left: u64,
        /// `None` when bytes of it are missing.
        payload: Option<Vec<u8>>,
    },
    /// Looking for a frame.
    Lost(Resync),
}

#[derive(Debug)]
struct Block {
    /// Of the frame it began with.
    kind: u8,
    stream_id: u32,
    start_ts: WallNanos,
    end_stream: bool,
    bytes: Vec<u8>,
    lost_bytes: u64,
    /// Not to be read: bytes are missing or wrong.
    damage: Option<PartialReason>,
}

impl Reader {
    /// The client's direction from its beginning.
    pub(crate) fn with_preface() -> Self {
        Self::starting(State::Preface(0))
    }

    /// The server's direction from its beginning.
    pub(crate) fn from_start() -> Self {
        Self::starting(State::Header)
    }

    /// A direction in its midst, perhaps inside a frame.
    pub(crate) fn joined_late() -> Self {
        let mut reader = Self::starting(State::Lost(Resync::after(None)));
        reader.decoder.lose(PartialReason::JoinedLate);
        reader
    }

    fn starting(state: State) -> Self {
        Self {
            state,
            decoder: Decoder::default(),
            header: Vec::new(),
            header_ts: WallNanos(0),
            block: None,
            last_ts: WallNanos(0),
            begun: false,
            max_stream_id: 0,
        }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: Piece<'_>, sink: Sink<'_>) {
        match piece.content {
            Content::Data(bytes) => self.bytes(piece.ts, bytes, sink),
            Content::Gap(length) => self.gap(piece.ts, length, sink),
        }
    }

    /// The stream ends here: gives what there is of a header block.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) {
        let ts = self.last_ts;
        if let State::Block { header, payload, .. } =
            std::mem::replace(&mut self.state, State::Header)
            && !header.has(frame::PADDED)
        {
            self.add_fragment(&header, &payload);
        }
        if let Some(block) = self.block.take() {
            self.end_block(ts, block, true, sink);
        }
    }

    fn bytes(&mut self, ts: WallNanos, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        self.last_ts = ts;
        while !rest.is_empty() {
            if let State::Lost(resync) = &mut self.state {
                let max_stream_id = self.max_stream_id;
                let probe = &mut |place: Place<'_>| probe(place, max_stream_id);
                let Some(found) = resync.push(ts, rest, probe) else { return };
                self.state = State::Header;
                for (ts, bytes) in found {
                    self.bytes(ts, &bytes, sink);
                }
                return;
            }
            self.step(ts, &mut rest, sink);
        }
    }

    /// Takes what belongs to the current state off the front of `rest`.
    fn step(&mut self, ts: WallNanos, rest: &mut &[u8], sink: Sink<'_>) {
        match &mut self.state {
            State::Preface(seen) => {
                let expected = &frame::PREFACE[*seen..];
                let equal = rest.iter().zip(expected).take_while(|(byte, of)| byte == of).count();
                *seen += equal;
                take(rest, equal as u64);
                if *seen == frame::PREFACE.len() {
                    self.state = State::Header;
                } else if !rest.is_empty() {
                    take(rest, 1);
                    self.lose(ts, PartialReason::Malformed, sink);
                }
            }
            State::Header => {
                if self.header.is_empty() {
                    self.header_ts = ts;
                }
                let missing = frame::HEADER_BYTES - self.header.len();
                self.header.extend_from_slice(take(rest, missing as u64));
                if let Some(header) = Header::parse(&self.header) {
                    self.header.clear();
                    self.begin(ts, header, sink);
                }
            }
            State::Content { header, left, padding, spoilt } => {
                let stream_id = header.stream_id;
                if padding.is_none() && !*spoilt {
                    let length = u64::from(take(rest, 1)[0]);
                    *left -= 1;
                    *padding = Some(length);
                    if length > *left {
                        *spoilt = true;
                        sink(ts, Part::Malformed { stream_id });
                    }
                } else {
                    let content_bytes = match padding {
                        Some(padding) if !*spoilt => left.saturating_sub(*padding),
                        _ => 0,
                    };
                    if content_bytes > 0 {
                        let bytes = take(rest, content_bytes);
                        *left -= bytes.len() as u64;
                        sink(ts, Part::Data { stream_id, bytes: Cow::Borrowed(bytes) });
                    } else {
                        *left -= take(rest, *left).len() as u64;
                    }
                }
                self.end_content(ts, sink);
            }
            State::Block { left, payload, .. } => {
                let taken = take(rest, *left);
                *left -= taken.len() as u64;
                let room = MAX_BLOCK_BYTES.saturating_sub(payload.len());
                payload.extend_from_slice(&taken[..taken.len().min(room)]);
                if *left == 0 {
                    self.end_fragment(ts, sink);
                }
            }
            State::Skip { left, payload, .. } => {
                let taken = take(rest, *left);
                *left -= taken.len() as u64;
                if let Some(payload) = payload {
                    let room = CONTROL_BYTES.saturating_sub(payload.len());
                    payload.extend_from_slice(&taken[..taken.len().min(room)]);
                }
                if *left == 0 {
                    self.end_control(ts, sink);
                }
            }
            State::Lost(_) => {}
        }
    }

    /// A frame begins.
    fn begin(&mut self, ts: WallNanos, header: Header, sink: Sink<'_>) {
        let left = u64::from(header.length_bytes);
        let continues = self.block.as_ref().is_some_and(|block| {
            header.kind == frame::CONTINUATION && header.stream_id == block.stream_id
        });
        let is_continuation = header.kind == frame::CONTINUATION;
        // RFC 9113 section 6.10: nothing comes between the frames of a header block.
        if !header.is_valid() || self.block.is_some() != continues || is_continuation != continues {
            let reason =
                if self.begun { PartialReason::Malformed } else { PartialReason::JoinedLate };
            self.lose(ts, reason, sink);
            return;
        }
        self.begun = true;
        self.max_stream_id = self.max_stream_id.max(header.stream_id);
        match header.kind {
            frame::DATA => {
                let padding = if header.has(frame::PADDED) { None } else { Some(0) };
                self.state = State::Content { header, left, padding, spoilt: false };
                if padding.is_none() && left == 0 {
                    sink(ts, Part::Malformed { stream_id: header.stream_id });
                }
                self.end_content(ts, sink);
            }
            frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => {
                if !continues {
                    self.block = Some(Block::new(&header, self.header_ts));
                }
                self.state = State::Block { header, left, payload: Vec::new() };
                if left == 0 {
                    self.end_fragment(ts, sink);
                }
            }
            _ => {
                self.state = State::Skip { header, left, payload: Some(Vec::new()) };
                if left == 0 {
                    self.end_control(ts, sink);
                }
            }
        }
    }

    /// Ends the current DATA frame if all of it has come.
    fn end_content(&mut self, ts: WallNanos, sink: Sink<'_>) {
        let State::Content { header, left: 0, .. } = &self.state else { return };
        let (stream_id, end_stream) = (header.stream_id, header.has(frame::END_STREAM));
        self.state = State::Header;
        if end_stream {
            sink(ts, Part::EndStream { stream_id });
        }
    }

    /// All of a frame with a piece of a header block has come.
    fn end_fragment(&mut self, ts: WallNanos, sink: Sink<'_>) {
        let State::Block { header, payload, .. } =
            std::mem::replace(&mut self.state, State::Header)
        else {
            return;
        };
        self.add_fragment(&header, &payload);
        if header.has(frame::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            self.end_block(ts, block, false, sink);
        }
    }

    fn add_fragment(&mut self, header: &Header, payload: &[u8]) {
        let Some(block) = &mut self.block else { return };
        match fragment(header, payload) {
            Some(fragment) if block.bytes.len() + fragment.len() <= MAX_BLOCK_BYTES => {
                block.bytes.extend_from_slice(fragment);
            }
            _ => {
                block.damage.get_or_insert(PartialReason::Malformed);
            }
        }
    }

    fn end_block(&mut self, ts: WallNanos, block: Block, is_cut: bool, sink: Sink<'_>) {
        let mut fields = match block.damage {
            None => self.decoder.decode(&block.bytes),
            Some(reason) => {
                self.decoder.lose(reason);
                Fields { unknown: Some(reason), ..Fields::default() }
            }
        };
        fields.is_broken &= !is_cut;
        if block.kind == frame::HEADERS {
            let headers = Headers {
                stream_id: block.stream_id,
                start_ts: block.start_ts,
                fields,
                end_stream: block.end_stream && !is_cut,
                lost_bytes: block.lost_bytes,
                is_cut,
            };
            sink(ts, Part::Headers(Box::new(headers)));
        }
    }

    /// A frame that is neither content nor headers has come.
    fn end_control(&mut self, ts: WallNanos, sink: Sink<'_>) {
        let State::Skip { header, payload, .. } = std::mem::replace(&mut self.state, State::Header)
        else {
            return;
        };
        match header.kind {
            frame::RST_STREAM => sink(ts, Part::Reset { stream_id: header.stream_id }),
            frame::GOAWAY => {
                if let Some(last) = payload.as_deref().and_then(<[u8]>::first_chunk) {
                    let last_stream_id = u32::from_be_bytes(*last) & 0x7fff_ffff;
                    sink(ts, Part::GoAway { last_stream_id });
                }
            }
            _ => {}
        }
    }

    fn gap(&mut self, ts: WallNanos, length: u64, sink: Sink<'_>) {
        let mut missing = length;
        match &mut self.state {
            State::Content { header, left, padding, spoilt } => {
                let stream_id = header.stream_id;
                let skipped = missing.min(*left);
                missing -= skipped;
                *left -= skipped;
                let bytes = match padding {
                    // What the padding is of it is not content.
                    Some(padding) => skipped - padding.saturating_sub(*left).min(skipped),
                    None => skipped,
                };
                *spoilt |= padding.is_none();
                if bytes > 0 {
                    sink(ts, Part::DataGap { stream_id, bytes });
                }
                self.end_content(ts, sink);
            }
            State::Block { left, .. } => {
                let skipped = missing.min(*left);
                missing -= skipped;
                *left -= skipped;
                let is_over = *left == 0;
                if let Some(block) = &mut self.block {
                    block.damage = Some(PartialReason::Gap);
                    block.lost_bytes += skipped;
                }
                if is_over {
                    self.end_fragment(ts, sink);
                }
            }
            State::Skip { left, payload, .. } => {
                let skipped = missing.min(*left);
                missing -= skipped;
                *left -= skipped;
                *payload = None;
                if *left == 0 {
                    self.end_control(ts, sink);
                }
            }
            State::Lost(resync) => {
                *resync = Resync::after(None);
                sink(ts, Part::Lost(std::mem::take(&mut missing)));
            }
            State::Preface(_) | State::Header => {}
        }
        if missing > 0 {
            self.lose(ts, PartialReason::Gap, sink);
            sink(ts, Part::Lost(missing));
        }
    }

    /// The place in the stream is lost, and the state of the header compression with it.
    fn lose(&mut self, ts: WallNanos, reason: PartialReason, sink: Sink<'_>) {
        self.header.clear();
        self.decoder.lose(reason);
        let last_ts = if reason == PartialReason::Gap { None } else { Some(ts) };
        self.state = State::Lost(Resync::after(last_ts));
        if let Some(mut block) = self.block.take() {
            block.damage.get_or_insert(reason);
            self.end_block(ts, block, true, sink);
        }
        sink(ts, Part::Broken(reason));
    }
}

impl Part<'_> {
    /// The same, kept.
    pub(crate) fn into_owned(self) -> Part<'static> {
        match self {
            Self::Data { stream_id, bytes } => {
                Part::Data { stream_id, bytes: Cow::Owned(bytes.into_owned()) }
            }
            Self::Headers(headers) => Part::Headers(headers),
            Self::DataGap { stream_id, bytes } => Part::DataGap { stream_id, bytes },
            Self::Malformed { stream_id } => Part::Malformed { stream_id },
            Self::EndStream { stream_id } => Part::EndStream { stream_id },
            Self::Reset { stream_id } => Part::Reset { stream_id },
            Self::GoAway { last_stream_id } => Part::GoAway { last_stream_id },
            Self::Broken(reason) => Part::Broken(reason),
            Self::Lost(bytes) => Part::Lost(bytes),
        }
    }

    /// The stream it is of; `None` if it is of the connection.
    pub(crate) fn stream_id(&self) -> Option<u32> {
        match self {
            Self::Headers(headers) => Some(headers.stream_id),
            Self::Data { stream_id, .. }
            | Self::DataGap { stream_id, .. }
            | Self::Malformed { stream_id }
            | Self::EndStream { stream_id }
            | Self::Reset { stream_id } => Some(*stream_id),
            Self::GoAway { .. } | Self::Broken(_) | Self::Lost(_) => None,
        }
    }
}

impl Block {
    fn new(header: &Header, start_ts: WallNanos) -> Self {
        Self {
            kind: header.kind,
            stream_id: header.stream_id,
            start_ts,
            end_stream: header.kind == frame::HEADERS && header.has(frame::END_STREAM),
            bytes: Vec::new(),
            lost_bytes: 0,
            damage: None,
        }
    }
}

/// By how much the number of a stream may grow while frames are missing.
const MAX_STEP: u32 = 1 << 12;

/// What is kept of frames that are neither content nor headers: the last stream id of GOAWAY.
const CONTROL_BYTES: usize = 4;

/// The piece of a header block in a frame: without padding, priority and promised stream.
fn fragment<'a>(header: &Header, payload: &'a [u8]) -> Option<&'a [u8]> {
    if header.kind == frame::CONTINUATION {
        return Some(payload);
    }
    let (padding_bytes, rest) = if header.has(frame::PADDED) {
        let (length, rest) = payload.split_first()?;
        (usize::from(*length), rest)
    } else {
        (0, payload)
    };
    let before = match header.kind {
        frame::PUSH_PROMISE => 4,
        _ if header.has(frame::WITH_PRIORITY) => 5,
        _ => 0,
    };
    rest.get(before..rest.len().checked_sub(padding_bytes)?)
}

/// Whether a frame begins here: it looks like one, and so does what comes right after it. At the
/// beginning of a call the first of these is enough, since frames rarely begin anywhere else.
/// `max_stream_id` is the highest stream seen so far, 0 if there is none.
fn probe(place: Place<'_>, max_stream_id: u32) -> Probe {
    // Frames of 64 KiB and more do not count as plausible.
    if place.bytes[0] != 0 {
        return Probe::Other;
    }
    let is_near = |id: u32| max_stream_id == 0 || id <= max_stream_id.saturating_add(MAX_STEP);
    let is_plausible = |header: &Header| header.is_plausible() && is_near(header.stream_id);
    let Some(header) = Header::parse(place.bytes) else { return Probe::Undecided };
    if !is_plausible(&header) {
        return Probe::Other;
    }
    if place.at_call {
        return Probe::Frame;
    }
    let next_at = frame::HEADER_BYTES + header.length_bytes as usize;
    match place.bytes.get(next_at..).map(Header::parse) {
        None | Some(None) => Probe::Undecided,
        Some(Some(next)) if is_plausible(&next) => Probe::Frame,
        Some(Some(_)) => Probe::Other,
    }
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> &'a [u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}
