//! Patterns of model names: `*` stands for any text, case does not matter.

/// A pattern, cut at its stars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Lower case; never empty. One piece is a name as it is.
    pieces: Vec<String>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self { pieces: text.to_lowercase().split('*').map(str::to_owned).collect() }
    }

    /// Whether the whole name is as the pattern says. Pieces between stars are taken where they
    /// first occur, which is right because a later place leaves less for the rest.
    pub(super) fn matches(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        let Some((first, rest)) = self.pieces.split_first() else {
            return false;
        };
        let Some((last, between)) = rest.split_last() else {
            return name == *first;
        };
        let Some(mut left) = name.strip_prefix(first.as_str()) else {
            return false;
        };
        for piece in between {
            match left.find(piece.as_str()) {
                Some(at) => left = &left[at + piece.len()..],
                None => return false,
            }
        }
        left.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn stars_stand_for_any_text_and_nothing_else_does() {
        let fits = |pattern: &str, name: &str| Pattern::new(pattern).matches(name);
        assert!(fits("gpt-5", "GPT-5"));
        assert!(!fits("gpt-5", "gpt-5-mini"));
        assert!(fits("gpt-5*", "gpt-5") && fits("gpt-5*", "gpt-5-mini"));
        assert!(fits("*sonnet*5", "claude-sonnet-4-5") && !fits("*sonnet*5", "claude-sonnet-4"));
        assert!(fits("*", "") && fits("**", "x") && fits("a*a", "aa") && !fits("a*a", "a"));
        assert!(!fits("gpt.5", "gpt-5"), "a dot is a dot");
    }
}
