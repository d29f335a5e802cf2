//! Top-level fields of a JSON object that comes in pieces and may be cut anywhere.
//!
//! An agent's request carries the whole conversation; reading it into a tree to learn the model's
//! name would cost its size several times over. This scanner keeps only the fields asked for and
//! never more than a set number of bytes of each. It is no validator: what is not an object gives
//! no fields, what is malformed inside gives fields that do not parse.

use memchr::memchr2;
use serde_json::Value;

/// Longest field name compared.
const MAX_NAME_BYTES: usize = 64;

/// Collects chosen top-level fields.
#[derive(Debug)]
pub(super) struct JsonFields {
    wanted: &'static [&'static str],
    max_value_bytes: usize,
    /// Found fields: which of `wanted`, and the value's text as far as it was seen.
    found: Vec<(usize, Vec<u8>)>,
    state: State,
    /// Open brackets of the value being read.
    depth: u32,
    /// In a string of the value being read.
    in_string: bool,
    /// After a backslash in a string.
    escaped: bool,
    name: Vec<u8>,
    /// The value being read goes to the last of `found`.
    keeping: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the opening brace.
    Start,
    /// Before a field name, or after the last field.
    BeforeName,
    InName,
    BeforeColon,
    BeforeValue,
    InValue,
    /// After the object, or lost.
    Done,
}

impl JsonFields {
    pub(super) fn new(wanted: &'static [&'static str], max_value_bytes: usize) -> Self {
        Self {
            wanted,
            max_value_bytes,
            found: Vec::new(),
            state: State::Start,
            depth: 0,
            in_string: false,
            escaped: false,
            name: Vec::new(),
            keeping: false,
        }
    }

    /// Reads on.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            match self.state {
                State::Done => return,
                State::InValue => {
                    rest = self.value_bytes(rest);
                    continue;
                }
                State::InName => self.name_byte(*byte),
                _ if byte.is_ascii_whitespace() => {}
                // A byte order mark may come first.
                State::Start if matches!(byte, 0xef | 0xbb | 0xbf) => {}
                State::Start if *byte == b'{' => self.state = State::BeforeName,
                State::BeforeName if *byte == b',' => {}
                State::BeforeName if *byte == b'"' => {
                    self.name.clear();
                    self.escaped = false;
                    self.state = State::InName;
                }
                State::BeforeColon if *byte == b':' => self.state = State::BeforeValue,
                State::BeforeValue => {
                    self.begin_value();
                    continue;
                }
                State::Start | State::BeforeName | State::BeforeColon => self.state = State::Done,
            }
            rest = after;
        }
    }

    /// Bytes are missing here: where in the text what follows lies cannot be known.
    pub(super) fn stop(&mut self) {
        self.state = State::Done;
    }

    /// Whether a field was begun.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The value of a field, when all of it was seen and kept.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(self.raw(name)?).ok()
    }

    /// The value of a field that is a string, unless it is empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The last of fields with equal names counts, as in JSON parsers.
    fn raw(&self, name: &str) -> Option<&[u8]> {
        let is_named = |(index, _): &&(usize, Vec<u8>)| self.wanted[*index] == name;
        self.found.iter().rev().find(is_named).map(|(_, value)| &**value)
    }

    fn name_byte(&mut self, byte: u8) {
        match byte {
            b'"' if !self.escaped => self.state = State::BeforeColon,
            _ => {
                self.escaped = byte == b'\\' && !self.escaped;
                if self.name.len() <= MAX_NAME_BYTES {
                    self.name.push(byte);
                }
            }
        }
    }

    fn begin_value(&mut self) {
        let index = self.wanted.iter().position(|wanted| wanted.as_bytes() == self.name);
        self.keeping = index.is_some();
        if let Some(index) = index {
            // Hostile bodies repeat names; only the last counts.
            self.found.retain(|(found, _)| *found != index);
            self.found.push((index, Vec::new()));
        }
        (self.depth, self.in_string, self.escaped) = (0, false, false);
        self.state = State::InValue;
    }

    /// Reads value bytes up to what ends the value, which is left.
    fn value_bytes<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                at += self.string_bytes(&bytes[at..]);
                continue;
            }
            match bytes[at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' | b',' if self.depth == 0 => {
                    self.keep(&bytes[..at]);
                    self.state = if bytes[at] == b',' { State::BeforeName } else { State::Done };
                    return &bytes[at..];
                }
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            at += 1;
        }
        self.keep(bytes);
        &[]
    }

    /// Reads bytes of a string up to and including its closing quote; gives how many.
    fn string_bytes(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        if self.escaped {
            self.escaped = false;
            at = 1;
        }
        while let Some(found) = memchr2(b'"', b'\\', &bytes[at..]) {
            at += found + 1;
            if bytes[at - 1] == b'"' {
                self.in_string = false;
                return at;
            }
            if at == bytes.len() {
                self.escaped = true;
                return at;
            }
            at += 1;
        }
        bytes.len()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Some((_, value)) = self.found.last_mut().filter(|_| self.keeping) else { return };
        let room = self.max_value_bytes - value.len();
        value.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn scan(pieces: &[&[u8]]) -> JsonFields {
        let mut fields = JsonFields::new(&["model", "stream", "messages"], 100);
        pieces.iter().for_each(|piece| fields.push(piece));
        fields
    }

    const TEXT: &str = r#" {"a":{"model":"no","x":[1,{"y":"}\"],"}]},"model" : "m\u00e9\"\\",
        "stream":true,"messages":[{"role":"user","content":"\"model\": {"}]} "#;

    #[test]
    fn only_top_level_fields_count() {
        let fields = scan(&[TEXT.as_bytes()]);
        assert_eq!(fields.text("model").as_deref(), Some("m\u{e9}\"\\"));
        assert_eq!(fields.value("stream"), Some(json!(true)));
        assert_eq!(fields.value("messages").unwrap()[0]["role"], "user");
    }

    #[test]
    fn a_cut_text_gives_what_came_before() {
        let fields = scan(&[br#"{"model":"m","messages":[{"#]);
        assert_eq!(fields.text("model").as_deref(), Some("m"));
        assert!(fields.has("messages"));
        assert_eq!(fields.value("messages"), None);
    }

    #[test]
    fn long_values_are_not_kept_whole() {
        let text = format!(r#"{{"messages":"{}","model":"m"}}"#, "x".repeat(1000));
        let fields = scan(&[text.as_bytes()]);
        assert_eq!(fields.value("messages"), None);
        assert_eq!(fields.text("model").as_deref(), Some("m"));
        assert!(fields.found.iter().all(|(_, value)| value.len() <= 100));
    }

    #[test]
    fn other_texts_give_nothing() {
        for text in ["", "[]", "\"model\"", "model=1", "{model:1}", "{\"model\" 1}"] {
            assert!(!scan(&[text.as_bytes()]).has("model"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(first in 0..TEXT.len(), second in 0..TEXT.len()) {
            let (first, second) = (first.min(second), first.max(second));
            let bytes = TEXT.as_bytes();
            let cut = scan(&[&bytes[..first], &bytes[first..second], &bytes[second..]]);
            prop_assert_eq!(&cut.found, &scan(&[bytes]).found);
        }

        #[test]
        fn it_agrees_with_a_json_parser(
            model in "[ -~\u{e9}]{0,20}", other in "[ -~]{0,20}", number in any::<i32>(),
        ) {
            let text = json!({ "x": [other, { "model": 1 }], "model": model, "stream": number });
            let text = serde_json::to_string_pretty(&text).unwrap();
            let fields = scan(&[text.as_bytes()]);
            prop_assert_eq!(fields.value("model"), Some(json!(model)));
            prop_assert_eq!(fields.value("stream"), Some(json!(number)));
        }

        #[test]
        fn any_bytes_are_scanned(text in r#"[{}\[\]",:\\a-c \n]{0,60}"#) {
            let fields = scan(&[b"{\"model\":", text.as_bytes()]);
            let _ = (fields.value("model"), fields.text("stream"));
        }
    }
}
