//! Many words looked for at once, in one pass whatever their number.

use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::{Builder, DFA};
use aho_corasick::{Anchored, MatchKind, StartKind};

/// A set of words, as an automaton.
pub(super) struct Patterns {
    automaton: DFA,
}

impl Patterns {
    /// Prepares to look for `words`, of which none may be empty. `None` where there are more than
    /// any automaton has room for.
    pub(super) fn new<W: AsRef<[u8]>>(
        words: impl IntoIterator<Item = W>,
        ignore_case: bool,
    ) -> Option<Self> {
        let mut builder = Builder::new();
        builder
            .match_kind(MatchKind::Standard)
            .start_kind(StartKind::Unanchored)
            .ascii_case_insensitive(ignore_case)
            .prefilter(false);
        Some(Self { automaton: builder.build(words).ok()? })
    }

    /// Calls `found` with the index of a word, and where it begins and ends, for every place where
    /// one stands, also within another; in the order of their ends.
    pub(super) fn each(&self, text: &[u8], mut found: impl FnMut(usize, usize, usize)) {
        let automaton = &self.automaton;
        let Ok(mut state) = automaton.start_state(Anchored::No) else { return };
        for (at, &byte) in text.iter().enumerate() {
            state = automaton.next_state(Anchored::No, state, byte);
            if automaton.is_special(state) && automaton.is_match(state) {
                for index in 0..automaton.match_len(state) {
                    let word = automaton.match_pattern(state, index);
                    let start = at + 1 - automaton.pattern_len(word);
                    found(word.as_usize(), start, at + 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_every_word_is_found() {
        let patterns = Patterns::new(["key", "api_key", "api"], true).unwrap();
        let mut found = Vec::new();
        patterns.each(b"an API_KEY, keys", |word, start, end| found.push((word, start, end)));
        found.sort_unstable();
        assert_eq!(found, [(0, 7, 10), (0, 12, 15), (1, 3, 10), (2, 3, 6)]);
    }
}
