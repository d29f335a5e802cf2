//! Finding a summary again: a program asks for one, strips it of what it does not want, and begins
//! the next request with the rest. What is looked for are the longest lines of the answer.

/// Lines kept of an answer.
const MAX_PROBES: usize = 8;

/// Bytes kept of a line, and the shortest that tells something.
const MAX_PROBE_BYTES: usize = 120;
const MIN_PROBE_BYTES: usize = 24;

/// An answer shorter than this is no summary of anything.
const MIN_SUMMARY_BYTES: usize = 160;

/// Lines looked at of an answer.
const MAX_LINES: usize = 4_096;

/// The lines by which an answer is known again; none where it is too short.
pub(super) fn probes(answer: &str) -> Vec<Box<str>> {
    if answer.len() < MIN_SUMMARY_BYTES {
        return Vec::new();
    }
    let mut lines: Vec<&str> = answer
        .lines()
        .take(MAX_LINES)
        .map(|line| cut(line.trim(), MAX_PROBE_BYTES))
        .filter(|line| line.len() >= MIN_PROBE_BYTES)
        .collect();
    // Stable: of lines of one length the first are kept.
    lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
    lines.truncate(MAX_PROBES);
    lines.into_iter().map(Box::from).collect()
}

/// Whether most of the lines stand in `text`. What was taken out of a summary takes few of its
/// longest lines along, or the summary is hardly what the next request begins with.
pub(super) fn is_in(probes: &[Box<str>], text: &str) -> bool {
    let is_missing =
        |probe: &&str| memchr::memmem::find(text.as_bytes(), probe.as_bytes()).is_none();
    // Mostly it is another text: no more is looked for than is needed to know.
    let most = probes.len() / 2;
    !probes.is_empty()
        && probes.iter().map(AsRef::as_ref).filter(is_missing).take(most + 1).count() <= most
}

/// At most so many bytes of a text.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<analysis>\nshort\n</analysis>\n<summary>\n\
        1. The user asked for the parser to be fixed and the tests to be run.\n\
        2. The file src/parser.c was read and a loop bound changed in it.\n\
        3. The tests were run once more and all of them passed.\n</summary>";

    #[test]
    fn a_summary_is_found_within_other_words() {
        let next = ANSWER.replace("<summary>", "Summary:").replace("short", "");
        assert!(is_in(&probes(ANSWER), &format!("This goes on from before.\n{next}\nGo on.")));
        assert!(!is_in(&probes(ANSWER), "This is another conversation. The tests pass."));
        assert!(!is_in(&[], "anything"));
    }

    #[test]
    fn short_answers_are_no_summaries() {
        assert!(probes("Done.").is_empty());
        assert!(probes(&"ok\n".repeat(100)).is_empty());
    }
}
