//! A regular expression over the plaintext of every stream, however it is cut into calls.
//!
//! The expression becomes a finite automaton, and what is kept of a stream is the automaton's state:
//! four bytes, no tail of the text. A match is found wherever the calls cut it, whatever its length,
//! in one look at every byte. The price is that expressions whose automaton would be large are
//! refused, and those that look ahead over more than ASCII.

use std::collections::HashMap;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::look::{Look, LookSet};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use crate::event::{Direction, StreamData};

/// Longest expression: text that is typed, not generated.
const MAX_PATTERN_BYTES: usize = 4096;
/// Size of the automaton; a word takes some KiB, a Unicode class some hundred.
const MAX_DFA_BYTES: usize = 8 << 20;
/// Memory for making it, which also bounds the time.
const MAX_BUILD_BYTES: usize = 32 << 20;
const MAX_NFA_BYTES: usize = 2 << 20;
/// Groups within groups.
const MAX_NEST: u32 = 100;
/// Streams followed at one time; beyond it the one that was idle for longest begins anew.
const MAX_STREAMS: usize = 4096;

/// A regular expression that can be followed over streams.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    dfa: Arc<dense::DFA<Vec<u32>>>,
    start: StateID,
    /// Whether a match is known at its last byte, whatever follows.
    is_eager: bool,
}

impl Pattern {
    /// Reads an expression (the syntax of the `regex` crate).
    ///
    /// # Errors
    /// With a sentence, when it is none, is too large, or matches the empty text.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(format!(
                "expected a regular expression of at most {MAX_PATTERN_BYTES} bytes, found {}",
                text.len()
            ));
        }
        let wrong = |what: String| {
            let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{text:?} is no regular expression that can be followed over streams: {what}")
        };
        let nfa = thompson::Compiler::new()
            .configure(thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_NFA_BYTES)))
            // Payload is bytes: an expression may match what is no UTF-8.
            .syntax(syntax::Config::new().utf8(false).nest_limit(MAX_NEST))
            .build(text)
            .map_err(|error| wrong(reason(&error)))?;
        if nfa.has_empty() {
            return Err(wrong("it matches the empty text".into()));
        }
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .match_kind(MatchKind::LeftmostFirst)
            .dfa_size_limit(Some(MAX_DFA_BYTES))
            .determinize_size_limit(Some(MAX_BUILD_BYTES));
        let dfa =
            dense::Builder::new().configure(config).build_from_nfa(&nfa).map_err(|error| {
                wrong(format!("{}; Unicode off, as in (?-u:\\b), makes it smaller", reason(&error)))
            })?;
        let from = start::Config::new().anchored(Anchored::No);
        let start = dfa.start_state(&from).map_err(|error| wrong(error.to_string()))?;
        let behind =
            [Look::Start, Look::StartLF].into_iter().fold(LookSet::empty(), LookSet::insert);
        let is_eager = nfa.look_set_any().subtract(behind).is_empty();
        Ok(Self { text: text.into(), dfa: Arc::new(dfa), start, is_eager })
    }

    /// The expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Follows `at` over `bytes`; true when matches ended in them. After a match the search begins
    /// anew.
    fn follow(&self, at: &mut Position, bytes: &[u8]) -> bool {
        let mut found = false;
        let Position { mut state, mut behind } = *at;
        for &byte in bytes {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_special_state(state) {
                if self.dfa.is_match_state(state) {
                    found = true;
                    // The automaton knows of a match one byte late: that byte may begin another.
                    state = self.dfa.next_state(self.begin(behind), byte);
                }
                if self.dfa.is_dead_state(state) || self.dfa.is_quit_state(state) {
                    state = self.begin(Some(byte));
                }
            }
            behind = Some(byte);
        }
        if self.is_eager && self.ends(state) {
            found = true;
            state = self.begin(behind);
        }
        *at = Position { state, behind };
        found
    }

    /// The state in which a search begins behind a byte, or at the start of a stream.
    fn begin(&self, behind: Option<u8>) -> StateID {
        let from = start::Config::new().anchored(Anchored::No).look_behind(behind);
        self.dfa.start_state(&from).unwrap_or(self.start)
    }

    /// Where a stream begins.
    fn at_start(&self) -> Position {
        Position { state: self.start, behind: None }
    }

    /// Where a search begins whose text before it is not known.
    fn after_hole(&self) -> Position {
        let behind = Some(0);
        Position { state: self.begin(behind), behind }
    }

    /// Whether a match ends where the stream does.
    fn ends(&self, state: StateID) -> bool {
        self.dfa.is_match_state(self.dfa.next_eoi_state(state))
    }
}

/// How far a stream has been followed.
#[derive(Clone, Copy, Debug)]
struct Position {
    state: StateID,
    /// The last byte; absent at the start of the stream.
    behind: Option<u8>,
}

/// The error and its causes on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Follows one pattern over all streams.
#[derive(Debug)]
pub struct TextScan {
    pattern: Pattern,
    streams: HashMap<(u64, Direction), Followed>,
    pushed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    at: Position,
    next_offset: u64,
    last_used: u64,
}

impl TextScan {
    /// Has seen nothing yet.
    #[must_use]
    pub fn new(pattern: Pattern) -> Self {
        Self { pattern, streams: HashMap::new(), pushed: 0 }
    }

    /// Whether a match ends in this payload, which comes in stream order. After a hole, and after
    /// bytes that were lost, the search begins anew.
    pub fn push(&mut self, tls: &StreamData) -> bool {
        self.pushed += 1;
        let key = (tls.conn_id, tls.direction);
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&key) {
            let idle = self.streams.iter().min_by_key(|(_, stream)| stream.last_used);
            if let Some(idle) = idle.map(|(key, _)| *key) {
                self.streams.remove(&idle);
            }
        }
        let begin = match tls.stream_offset {
            0 => self.pattern.at_start(),
            _ => self.pattern.after_hole(),
        };
        let new = Followed { at: begin, next_offset: tls.stream_offset, last_used: 0 };
        let stream = self.streams.entry(key).or_insert(new);
        if stream.next_offset != tls.stream_offset {
            stream.at = self.pattern.after_hole();
        }
        let found = self.pattern.follow(&mut stream.at, &tls.data);
        if tls.lost_bytes > 0 {
            stream.at = self.pattern.after_hole();
        }
        stream.next_offset = tls.stream_offset.saturating_add(tls.data_bytes);
        stream.last_used = self.pushed;
        found
    }

    /// The streams of a connection end; whether a match ends there.
    pub fn close(&mut self, conn_id: u64) -> bool {
        let mut found = false;
        for direction in [Direction::Read, Direction::Write] {
            if let Some(stream) = self.streams.remove(&(conn_id, direction)) {
                found |= self.pattern.ends(stream.at.state);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Source;

    fn tls(conn_id: u64, stream_offset: u64, data: &[u8], lost_bytes: u64) -> StreamData {
        StreamData {
            source: Source::Tls,
            conn_id,
            direction: Direction::Read,
            stream_offset,
            data_bytes: data.len() as u64 + lost_bytes,
            lost_bytes,
            data: data.to_vec(),
            library: "openssl".into(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        }
    }

    /// How many events report a match when the text comes in these pieces, the end included.
    fn matches(pattern: &str, pieces: &[&[u8]]) -> usize {
        let mut scan = TextScan::new(Pattern::new(pattern).unwrap());
        let mut offset = 0;
        let mut found = 0;
        for piece in pieces {
            found += usize::from(scan.push(&tls(1, offset, piece, 0)));
            offset += piece.len() as u64;
        }
        found + usize::from(scan.close(1))
    }

    fn pieces<'text>(text: &'text [u8], cuts: &[usize]) -> Vec<&'text [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }

    const PATTERNS: [&str; 8] =
        ["ab", "a.*?c", "(?i)BCA", "b{3,9}c", "^ab", "c$", r"(?-u:\b)cab(?-u:\b)", "(ab|ca)+b"];

    proptest! {
        #[test]
        fn a_match_is_found_however_the_text_is_cut(
            text in proptest::collection::vec(proptest::sample::select(b"abc \n".to_vec()), 0..60),
            cuts in proptest::collection::vec(any::<usize>(), 0..20),
            pattern in proptest::sample::select(PATTERNS.to_vec()),
        ) {
            let whole = matches(pattern, &[&text]) > 0;
            let cut = matches(pattern, &pieces(&text, &cuts)) > 0;
            prop_assert_eq!(whole, cut, "{:?}", text);
        }

        #[test]
        fn a_word_is_found_exactly_where_it_is(
            text in proptest::collection::vec(proptest::sample::select(b"ab".to_vec()), 0..60),
            word in "[ab]{1,5}", cuts in proptest::collection::vec(any::<usize>(), 0..20),
        ) {
            let is_there = text.windows(word.len()).any(|window| window == word.as_bytes());
            prop_assert_eq!(matches(&word, &pieces(&text, &cuts)) > 0, is_there);
        }

        #[test]
        fn no_expression_panics(pattern in ".{0,40}", text in any::<Vec<u8>>()) {
            if let Ok(pattern) = Pattern::new(&pattern) {
                TextScan::new(pattern).push(&tls(1, 0, &text, 0));
            }
        }
    }

    #[test]
    fn the_event_with_the_last_byte_is_the_one_that_reports() {
        let mut scan = TextScan::new(Pattern::new("over.*loaded").unwrap());
        assert!(!scan.push(&tls(1, 0, b"it is over", 0)));
        assert!(!scan.push(&tls(2, 0, b"loaded", 0)), "another connection");
        assert!(!scan.push(&tls(1, 10, &[b'.'; 100_000], 0)));
        assert!(scan.push(&tls(1, 100_010, b"loaded", 0)));
        assert!(!scan.push(&tls(1, 100_016, b"loaded", 0)), "what was found is done with");
    }

    #[test]
    fn nothing_is_found_across_a_hole() {
        let mut scan = TextScan::new(Pattern::new("ab").unwrap());
        assert!(!scan.push(&tls(1, 0, b"a", 0)));
        assert!(!scan.push(&tls(1, 2, b"b", 0)), "a jump");
        assert!(!scan.push(&tls(1, 3, b"a", 1)));
        assert!(!scan.push(&tls(1, 5, b"b", 0)), "a lost tail");
        assert!(scan.push(&tls(1, 6, b"ab", 0)));
    }

    #[test]
    fn the_start_of_a_stream_is_its_first_byte_and_no_other() {
        assert_eq!(matches("^ab", &[b"a", b"b"]), 1);
        assert_eq!(matches("^ab", &[b"ab", b"ab"]), 1);
        assert_eq!(matches("^ab", &[b"c", b"ab"]), 0);
        assert_eq!(matches("(?m)^ab", &[b"c\n", b"ab"]), 1);
        let mut scan = TextScan::new(Pattern::new("^ab").unwrap());
        assert!(!scan.push(&tls(1, 5, b"ab", 0)), "joined late");
    }

    #[test]
    fn streams_are_followed_up_to_a_bound() {
        let mut scan = TextScan::new(Pattern::new("ab").unwrap());
        for conn_id in 0..MAX_STREAMS as u64 + 10 {
            assert!(!scan.push(&tls(conn_id, 0, b"a", 0)));
        }
        assert_eq!(scan.streams.len(), MAX_STREAMS);
        assert!(!scan.push(&tls(3, 1, b"b", 0)), "forgotten");
        assert!(scan.push(&tls(MAX_STREAMS as u64, 1, b"b", 0)));
    }

    #[test]
    fn expressions_without_bound_are_refused() {
        let huge = "x".repeat(MAX_PATTERN_BYTES + 1);
        let nested = "(".repeat(500) + &")".repeat(500);
        for (pattern, word) in [
            ("(", "regular expression"),
            ("a*", "empty text"),
            ("", "empty text"),
            (huge.as_str(), "at most 4096 bytes"),
            (nested.as_str(), "regular expression"),
            (r"\w{5000}", "regular expression"),
            ("(?-u:[ab]*a[ab]{40})c", "regular expression"),
            (r"\bword\b", "(?-u:"),
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(error.contains(word), "{pattern:.40}: {error:.300}");
        }
    }
}
