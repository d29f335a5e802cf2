//! Message content: counted, content-decoded as it comes, and kept where that was asked for.
//!
//! Decoding is incremental, so that what a flushed compressor sent is seen when it arrived. It is
//! total: content that cannot be decoded is handed on as it is on the wire, decoding that breaks
//! later stops there; both are reported at the end. Fed by [`super::exchange`].

mod brotli;
mod deflate;
mod zstandard;

/// Most codings applied to one body; real ones have one.
const MAX_CODINGS: usize = 4;

/// Wire bytes kept until the first output, in case there is never any. A Zstandard block, the
/// largest unit any coding here may need for its first output, is up to 128 KiB.
const MAX_UNDECODED_BYTES: usize = 256 << 10;

/// Receives decoded bytes.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// Why decoding stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The bytes are not of this coding.
    Corrupt,
    /// The output grew beyond what is allowed.
    TooLong,
}

/// The content of one message.
#[derive(Debug)]
pub(crate) struct Body {
    wire_bytes: u64,
    decoded_bytes: u64,
    /// Decoded content, at most `max_bytes` of it; `None` when it is not to be kept.
    kept: Option<Vec<u8>>,
    max_bytes: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Content is handed on as it comes, being without coding.
    Plain,
    Decoding(Decoding),
    /// The coding is unknown or was wrong from the beginning: handed on as on the wire.
    Undecodable,
    /// Decoding broke after some output, or bytes are missing: only the wire bytes are counted.
    Stopped {
        failed: bool,
    },
}

#[derive(Debug)]
struct Decoding {
    /// Innermost last: the first takes the wire bytes.
    stages: Vec<Stage>,
    /// Wire bytes so far, while there was no output; `None` from the first output on.
    undecoded: Option<Vec<u8>>,
}

/// One content coding being undone.
#[derive(Debug)]
struct Stage {
    decoder: Decoder,
    /// Output still allowed. Also inner stages have a limit: each can multiply what it is given
    /// by a thousand and more.
    room_bytes: u64,
}

#[derive(Debug)]
enum Decoder {
    Deflate(Box<deflate::Decoder>),
    Brotli(Box<brotli::Decoder>),
    Zstandard(zstandard::Decoder),
}

impl Body {
    /// A body with these codings, in the order in which they were applied (RFC 9110 section 8.4).
    pub(crate) fn new(codings: &[String], keep: bool, max_bytes: u64) -> Self {
        let codings: Vec<_> = codings.iter().filter(|coding| *coding != "identity").collect();
        let stage = |coding: &&String| {
            Decoder::for_coding(coding).map(|decoder| Stage { decoder, room_bytes: max_bytes })
        };
        let stages = match codings.len() {
            0..=MAX_CODINGS => codings.iter().rev().map(stage).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let state = match stages {
            Some(stages) if stages.is_empty() => State::Plain,
            Some(stages) => State::Decoding(Decoding { stages, undecoded: Some(Vec::new()) }),
            None => State::Undecodable,
        };
        Self { wire_bytes: 0, decoded_bytes: 0, kept: keep.then(Vec::new), max_bytes, state }
    }

    /// Size before content decoding.
    pub(crate) fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }

    /// Size after content decoding; what could not be decoded counts as on the wire.
    pub(crate) fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes
    }

    /// Takes wire bytes and hands on what they decode to.
    pub(crate) fn push(&mut self, wire: &[u8], sink: Sink<'_>) {
        if wire.is_empty() {
            return;
        }
        self.wire_bytes += wire.len() as u64;
        let State::Decoding(decoding) = &mut self.state else {
            if matches!(self.state, State::Plain | State::Undecodable) {
                self.hand_on(wire, sink);
            }
            return;
        };
        let (decoded, kept) = (&mut self.decoded_bytes, &mut self.kept);
        let outcome = decoding.decode(wire, &mut |bytes| {
            *decoded += bytes.len() as u64;
            if let Some(kept) = kept {
                kept.extend_from_slice(bytes);
            }
            sink(bytes);
        });
        match (outcome, decoding.undecoded.take()) {
            (Ok(()), undecoded) => decoding.undecoded = undecoded,
            (Err(Stop::Corrupt), Some(undecoded)) => {
                self.state = State::Undecodable;
                self.hand_on(&undecoded, sink);
            }
            (Err(_), _) => self.state = State::Stopped { failed: true },
        }
    }

    /// Takes content that was decoded elsewhere; what it was on the wire is told by
    /// [`Body::add_wire_bytes`].
    pub(crate) fn push_decoded(&mut self, decoded: &[u8], sink: Sink<'_>) {
        if !decoded.is_empty() {
            self.hand_on(decoded, sink);
        }
    }

    /// Counts wire bytes of such content.
    pub(crate) fn add_wire_bytes(&mut self, wire_bytes: u64) {
        self.wire_bytes = self.wire_bytes.saturating_add(wire_bytes);
    }

    /// Bytes are missing here: what has a coding cannot be decoded any further.
    pub(crate) fn gap(&mut self) {
        if let State::Decoding(_) = self.state {
            self.state = State::Stopped { failed: false };
        }
    }

    /// The message has ended; whether its content was wholly decoded. Content cut off by damage
    /// of the message is not to blame on the coding: ask only when the message is whole.
    pub(crate) fn is_decoded(&self) -> bool {
        match &self.state {
            State::Plain => true,
            State::Decoding(decoding) => {
                self.wire_bytes == 0 || decoding.stages.iter().all(|stage| stage.decoder.at_end())
            }
            State::Undecodable => self.wire_bytes == 0,
            State::Stopped { failed } => !failed,
        }
    }

    /// The decoded content, where it was kept.
    pub(crate) fn take_kept(&mut self) -> Option<Vec<u8>> {
        self.kept.take()
    }

    fn hand_on(&mut self, bytes: &[u8], sink: Sink<'_>) {
        self.decoded_bytes += bytes.len() as u64;
        if let Some(kept) = &mut self.kept {
            let room = usize::try_from(self.max_bytes).unwrap_or(usize::MAX) - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        sink(bytes);
    }
}

impl Decoding {
    /// Decodes `wire` through all codings.
    fn decode(&mut self, wire: &[u8], sink: Sink<'_>) -> Result<(), Stop> {
        if let Some(undecoded) = &mut self.undecoded {
            undecoded.extend_from_slice(wire);
            if undecoded.len() > MAX_UNDECODED_BYTES {
                self.undecoded = None;
            }
        }
        let undecoded = &mut self.undecoded;
        decode_chain(&mut self.stages, wire, &mut |bytes| {
            *undecoded = None;
            sink(bytes);
            Ok(())
        })
    }
}

/// Receives decoded bytes, never none, and may refuse more.
type Output<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Stop>;

fn decode_chain(stages: &mut [Stage], input: &[u8], output: Output<'_>) -> Result<(), Stop> {
    let Some((first, rest)) = stages.split_first_mut() else { return output(input) };
    let room_bytes = &mut first.room_bytes;
    first.decoder.decode(input, &mut |bytes| {
        let fitting = usize::try_from(*room_bytes).unwrap_or(usize::MAX).min(bytes.len());
        *room_bytes -= fitting as u64;
        if fitting > 0 {
            decode_chain(rest, &bytes[..fitting], output)?;
        }
        if fitting < bytes.len() { Err(Stop::TooLong) } else { Ok(()) }
    })
}

impl Decoder {
    /// Names as registered (RFC 9110 section 8.4.1, RFC 7932, RFC 8878), lower case.
    fn for_coding(coding: &str) -> Option<Self> {
        match coding {
            "gzip" | "x-gzip" => Some(Self::Deflate(Box::new(deflate::Decoder::gzip()))),
            "deflate" => Some(Self::Deflate(Box::new(deflate::Decoder::zlib_or_raw()))),
            "br" => Some(Self::Brotli(Box::default())),
            "zstd" => zstandard::Decoder::new().map(Self::Zstandard),
            _ => None,
        }
    }

    fn decode(&mut self, input: &[u8], output: Output<'_>) -> Result<(), Stop> {
        match self {
            Self::Deflate(decoder) => decoder.decode(input, output),
            Self::Brotli(decoder) => decoder.decode(input, output),
            Self::Zstandard(decoder) => decoder.decode(input, output),
        }
    }

    /// Whether the input may end here.
    fn at_end(&self) -> bool {
        match self {
            Self::Deflate(decoder) => decoder.at_end(),
            Self::Brotli(decoder) => decoder.at_end(),
            Self::Zstandard(decoder) => decoder.at_end(),
        }
    }
}

#[cfg(test)]
mod tests;
