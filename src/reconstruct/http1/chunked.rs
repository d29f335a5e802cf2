//! The chunked transfer coding (RFC 9112 section 7.1), bytes in, content out.
//!
//! Chunk extensions are ignored; bare line feeds are taken. Fed by [`super::reader`].

use super::head::{Collected, HeadBuffer};
use crate::reconstruct::finding::Header;

/// Longest chunk-size line, extensions included.
const MAX_LINE_BYTES: usize = 4096;

/// Reads one chunked body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
}

#[derive(Debug)]
enum State {
    /// In `chunk-size [ chunk-ext ] CRLF`; holds the line so far.
    Size(Vec<u8>),
    /// In chunk-data, this many bytes left, never 0.
    Data(u64),
    /// In the CRLF after chunk-data.
    DataEnd,
    /// In the trailer section.
    Trailers(HeadBuffer),
}

/// What the front of the input was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Content.
    Data(&'a [u8]),
    /// The end of the body, with its trailer fields.
    End(Vec<Header>),
    /// Not the chunked coding.
    Malformed,
    /// All input was taken and more is needed.
    NeedMore,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: State::Size(Vec::new()) }
    }

    /// Takes one step's bytes off the front of `input`.
    pub(super) fn step<'a>(&mut self, input: &mut &'a [u8]) -> Step<'a> {
        while let Some((&byte, rest)) = input.split_first() {
            match &mut self.state {
                State::Size(line) => {
                    *input = rest;
                    if byte != b'\n' {
                        line.push(byte);
                        if line.len() > MAX_LINE_BYTES {
                            return Step::Malformed;
                        }
                        continue;
                    }
                    self.state = match size(line) {
                        Some(0) => State::Trailers(HeadBuffer::default()),
                        Some(length) => State::Data(length),
                        None => return Step::Malformed,
                    };
                }
                State::Data(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at(taken);
                    *input = rest;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                    return Step::Data(data);
                }
                State::DataEnd => {
                    *input = rest;
                    match byte {
                        b'\r' => {}
                        b'\n' => self.state = State::Size(Vec::new()),
                        _ => return Step::Malformed,
                    }
                }
                State::Trailers(buffer) => match buffer.collect(input) {
                    Collected::Whole => return Step::End(buffer.trailers()),
                    Collected::NeedMore => {}
                    Collected::TooLong => return Step::Malformed,
                },
            }
        }
        Step::NeedMore
    }

    /// Skips missing bytes. Gives how many of them were surely content; when that is not all of
    /// them, the position in the coding is lost.
    pub(super) fn skip(&mut self, length: u64) -> u64 {
        let State::Data(left) = &mut self.state else { return 0 };
        let skipped = length.min(*left);
        *left -= skipped;
        if *left == 0 {
            self.state = State::DataEnd;
        }
        skipped
    }
}

/// The value of a chunk-size line: hexadecimal digits, then nothing, space or an extension.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let follows = line.get(digits).copied();
    if digits == 0 || !matches!(follows, None | Some(b'\r' | b';' | b' ' | b'\t')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

/// Whether bytes after lost ones look like the beginning of a chunk: `None` when too few to tell.
///
/// Stricter than [`size`]: no extension, at most eight digits, so that text is hardly mistaken.
pub(super) fn looks_like_chunk(bytes: &[u8]) -> Option<bool> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > 8 {
        return Some(false);
    }
    match &bytes[digits..] {
        [] | [b'\r'] => (digits == 0 && !bytes.is_empty()).then_some(false),
        [b'\r', b'\n', ..] => Some(digits > 0),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Content, then how it ended.
    fn read(pieces: &[&[u8]]) -> (Vec<u8>, String) {
        let mut chunked = Chunked::new();
        let mut content = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            loop {
                match chunked.step(&mut input) {
                    Step::Data(data) => content.extend_from_slice(data),
                    Step::NeedMore => break,
                    Step::End(trailers) => return (content, format!("end {trailers:?}")),
                    Step::Malformed => return (content, "malformed".into()),
                }
            }
        }
        (content, "need more".into())
    }

    const BODY: &[u8] =
        b"4;a=b\r\nWiki\r\n6 \r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nT: v\r\n\r\n";

    #[test]
    fn extensions_and_trailers_are_understood() {
        let (content, end) = read(&[BODY]);
        assert_eq!(content, b"Wikipedia in \r\n\r\nchunks.");
        assert_eq!(end, r#"end [("T", "v")]"#);
    }

    #[test]
    fn wrong_sizes_are_malformed() {
        for wrong in ["x\r\n", "\r\n", "4g\r\n", "11111111111111111\r\n", "1\r\nab"] {
            assert_eq!(read(&[wrong.as_bytes()]).1, "malformed", "{wrong:?}");
        }
        assert_eq!(read(&[&vec![b'1'; MAX_LINE_BYTES + 1]]).1, "malformed");
    }

    #[test]
    fn gaps_inside_a_chunk_are_skipped_by_their_length() {
        let mut chunked = Chunked::new();
        let mut input = &b"8\r\nab"[..];
        assert_eq!(chunked.step(&mut input), Step::Data(b"ab"));
        assert_eq!(chunked.skip(4), 4);
        assert_eq!(chunked.skip(5), 2);
        assert_eq!(chunked.skip(5), 0);
    }

    #[test]
    fn a_chunk_start_is_told_from_text() {
        assert_eq!(looks_like_chunk(b"1f4\r\ndata"), Some(true));
        assert_eq!(looks_like_chunk(b"0\r\n"), Some(true));
        for text in ["data: 1\r\n", "\r\n", "\n", "add me\r\n", "123456789\r\n", "\rx"] {
            assert_eq!(looks_like_chunk(text.as_bytes()), Some(false), "{text:?}");
        }
        assert_eq!(looks_like_chunk(b"1f"), None);
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(cuts in prop::collection::vec(0..BODY.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, BODY.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &BODY[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[BODY]));
        }

        #[test]
        fn any_bytes_have_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&[&bytes]);
            looks_like_chunk(&bytes);
        }
    }
}
