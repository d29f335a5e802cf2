//! Members of JSON objects, found without building a tree: messages may be megabytes long, and only
//! a few small members of them matter.
//!
//! No validator: what is malformed inside a value stays in the value's text. Nothing recurses, and
//! every byte is looked at once per level that is asked for.

use memchr::memchr2;
use serde_json::Value;

/// Longest text of a value that is parsed when a small value (name, id, number) is expected.
const MAX_SMALL_BYTES: usize = 4096;

/// The members of an object in their order, as texts: name without quotes and escapes left in, value
/// as it stands. Ends where the text does, or where it stops being an object.
pub(super) fn members(object: &str) -> Members<'_> {
    Members { rest: object.trim_start().strip_prefix('{').unwrap_or_default() }
}

/// See [`members`].
pub(super) struct Members<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        self.rest = "";
        let name_bytes = string_bytes(text)?;
        let name = &text[1..name_bytes - 1];
        let text = text[name_bytes..].trim_start().strip_prefix(':')?.trim_start();
        let value_bytes = value_bytes(text)?;
        self.rest = &text[value_bytes..];
        Some((name, text[..value_bytes].trim_end()))
    }
}

/// The elements of an array in their order, as texts.
pub(super) fn elements(array: &str) -> Elements<'_> {
    Elements { rest: array.trim_start().strip_prefix('[').unwrap_or_default() }
}

/// See [`elements`].
pub(super) struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        self.rest = "";
        let value_bytes = value_bytes(text).filter(|bytes| *bytes > 0)?;
        self.rest = &text[value_bytes..];
        Some(text[..value_bytes].trim_end())
    }
}

/// The member of an object, the last of that name as most parsers have it.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    members(object).filter(|(found, _)| *found == name).map(|(_, value)| value).last()
}

/// A member that is a small string.
pub(super) fn text(object: &str, name: &str) -> Option<String> {
    match small(member(object, name)?)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A small value.
pub(super) fn small(value: &str) -> Option<Value> {
    (value.len() <= MAX_SMALL_BYTES).then(|| serde_json::from_str(value).ok())?
}

/// Whether the text is one object or array from its first byte to its last.
pub(super) fn is_whole(text: &str) -> bool {
    let text = text.trim();
    text.starts_with(['{', '[']) && value_bytes(text) == Some(text.len())
}

/// Length of the string at the begin of a text, quotes included.
fn string_bytes(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Length of the value at the begin of a text; `None` if it does not end there.
fn value_bytes(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    match bytes.first()? {
        b'"' => string_bytes(text),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0, 0_usize);
            loop {
                match bytes.get(at)? {
                    b'"' => at += string_bytes(text.get(at..)?)?,
                    bracket => {
                        match bracket {
                            b'{' | b'[' => depth += 1,
                            b'}' | b']' => depth -= 1,
                            _ => {}
                        }
                        at += 1;
                        if depth == 0 {
                            return Some(at);
                        }
                    }
                }
            }
        }
        b'}' | b']' => None,
        _ => Some(bytes.iter().position(|byte| b",]}".contains(byte)).unwrap_or(bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_are_found_at_the_top_only_and_with_any_values() {
        let object = r#" {"a": 1, "b" : {"a": [2, "}"]}, "c":"x\"y", "a":null } "#;
        let found: Vec<_> = members(object).collect();
        let b = r#"{"a": [2, "}"]}"#;
        assert_eq!(found, [("a", "1"), ("b", b), ("c", r#""x\"y""#), ("a", "null")]);
        assert_eq!(member(object, "a"), Some("null"));
        assert_eq!(text(object, "c").as_deref(), Some("x\"y"));
        assert_eq!(member(object, "z"), None);
        assert_eq!(elements("[1, [2,3] ,{\"a\":4}, \"5\"]").count(), 4);
    }

    #[test]
    fn what_is_cut_gives_what_was_whole() {
        let object = r#"{"a": 1, "b": {"c": 2}, "d": [3"#;
        let found: Vec<_> = members(object).map(|(name, _)| name).collect();
        assert_eq!(found, ["a", "b"]);
        assert!(!is_whole(object) && is_whole(r#" {"a": "}"} "#) && !is_whole("{}x"));
        assert!(!is_whole("3") && !is_whole(""));
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[\\[\\]{}\",:\\\\ a-c1-3é]{0,60}") {
            let _ = (members(&text).count(), elements(&text).count(), is_whole(&text));
            let _ = (member(&text, "a"), super::text(&text, "b"));
        }

        #[test]
        fn members_are_those_that_a_parser_finds(
            values in prop::collection::btree_map("[a-z]{1,4}", "[ -~é]{0,8}", 0..6),
        ) {
            let json = serde_json::to_string(&values).unwrap();
            prop_assert!(is_whole(&json));
            let found: std::collections::BTreeMap<String, String> = members(&json)
                .map(|(name, value)| (name.to_owned(), serde_json::from_str(value).unwrap()))
                .collect();
            prop_assert_eq!(found, values);
        }
    }
}
