//! A content block as an API's reader makes it, before it is known whether it was told before.
//!
//! Each API writes the same thing in several ways: text as a string or as a list of one part,
//! arguments of a tool in pieces or as an object. A draft has one form for all of them, over which the
//! block is hashed, so that what a model said is known again in the next request.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::reconstruct::finding::{BlockKind, BlockRole};

/// Fields that mark where a provider's cache is to be cut: no content.
const CACHE_MARKS: [&str; 2] = ["cache_control", "cachePoint"];

/// A content block, not yet numbered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) role: BlockRole,
    pub(super) kind: BlockKind,
    pub(super) text: Option<String>,
    pub(super) is_cut: bool,
    pub(super) tool_name: Option<String>,
    pub(super) tool_call_id: Option<String>,
    pub(super) is_error: Option<bool>,
    /// What is hashed in place of the text, where it has none or is written in several ways.
    pub(super) content: Option<String>,
    /// Size of the text, else of its JSON.
    pub(super) bytes: u64,
    /// Field of the item in which it stands, and position in it.
    pub(super) part: Option<(&'static str, u32)>,
}

impl Draft {
    /// Something that is text.
    pub(super) fn new(role: BlockRole, kind: BlockKind, text: &str) -> Self {
        Self {
            role,
            kind,
            text: Some(text.to_owned()),
            is_cut: false,
            tool_name: None,
            tool_call_id: None,
            is_error: None,
            content: None,
            bytes: text.len() as u64,
            part: None,
        }
    }

    /// Plain text.
    pub(super) fn text(role: BlockRole, text: &str) -> Self {
        Self::new(role, BlockKind::Text, text)
    }

    /// Something that is no text and is known again by its JSON.
    pub(super) fn opaque(role: BlockRole, kind: BlockKind, value: &Value) -> Self {
        let json = without_marks(value).to_string();
        let bytes = json.len() as u64;
        Self { text: None, content: Some(json), bytes, ..Self::new(role, kind, "") }
    }

    /// Something of which the JSON is the text.
    pub(super) fn json(role: BlockRole, kind: BlockKind, value: &Value) -> Self {
        Self::new(role, kind, &without_marks(value).to_string())
    }

    /// Reasoning: its text; where that is withheld, what the provider sends in its place.
    pub(super) fn thinking(text: &str, sealed: &Value) -> Self {
        if text.is_empty() {
            return Self::opaque(BlockRole::Assistant, BlockKind::Thinking, sealed);
        }
        Self::new(BlockRole::Assistant, BlockKind::Thinking, text)
    }

    /// A use of a tool. Arguments are an object, or a string that should be the JSON of one; of a
    /// tool without arguments some APIs send nothing.
    pub(super) fn tool_use(id: Option<String>, name: Option<String>, arguments: &Value) -> Self {
        let none = Value::Object(serde_json::Map::new());
        let arguments = match arguments {
            Value::Null => &none,
            Value::String(text) if text.trim().is_empty() => &none,
            arguments => arguments,
        };
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        let (text, content) = match (arguments, parsed) {
            // What broke off, or is no JSON.
            (Value::String(text), None) => (text.clone(), None),
            (Value::String(text), Some(value)) => (text.clone(), Some(sorted(&value))),
            (value, _) => (value.to_string(), Some(sorted(value))),
        };
        Self {
            content,
            tool_name: name,
            tool_call_id: id,
            ..Self::new(BlockRole::Assistant, BlockKind::ToolUse, &text)
        }
    }

    /// What a tool answered: a string, or a list of parts with text and other things.
    pub(super) fn tool_result(id: Option<String>, answer: &Value) -> Self {
        let block = match Texts::of(answer) {
            Texts::All(text) => Self::new(BlockRole::Tool, BlockKind::ToolResult, &text),
            Texts::Some(text) => Self {
                content: Some(without_marks(answer).to_string()),
                ..Self::new(BlockRole::Tool, BlockKind::ToolResult, &text)
            },
            Texts::None => Self::opaque(BlockRole::Tool, BlockKind::ToolResult, answer),
        };
        Self { tool_call_id: id, ..block }
    }

    /// A tool that the model may use. The order of its fields counts: a cache depends on it.
    pub(super) fn tool_definition(name: Option<String>, definition: &Value) -> Self {
        Self {
            tool_name: name,
            ..Self::json(BlockRole::System, BlockKind::ToolDefinition, definition)
        }
    }

    /// It, as part `index` of `field`.
    pub(super) fn at(self, field: &'static str, index: usize) -> Self {
        Self { part: Some((field, index.try_into().unwrap_or(u32::MAX))), ..self }
    }

    /// Equal for blocks that say the same; not over what marks a cache or signs.
    pub(super) fn sha256(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let content = self.content.as_ref().or(self.text.as_ref());
        let fields = [
            Some(self.role.as_str()),
            Some(self.kind.as_str()),
            self.tool_name.as_deref(),
            self.tool_call_id.as_deref(),
            (self.is_error == Some(true)).then_some("error"),
            content.map(String::as_str),
        ];
        for field in fields {
            // The length in front keeps neighbours apart; none differs from empty.
            let length = field.map_or(u64::MAX, |field| field.len() as u64);
            hash.update(length.to_le_bytes());
            hash.update(field.unwrap_or_default());
        }
        hash.finalize().into()
    }
}

/// How much of something that may be a list of parts is text.
enum Texts {
    All(String),
    Some(String),
    None,
}

impl Texts {
    fn of(value: &Value) -> Self {
        let parts = match value {
            Value::String(text) => return Self::All(text.clone()),
            Value::Null => return Self::All(String::new()),
            Value::Array(parts) => parts,
            _ => return Self::None,
        };
        let text = |part: &Value| part.get("text")?.as_str().map(str::to_owned);
        let texts: Vec<String> = parts.iter().filter_map(text).collect();
        match texts.len() {
            found if found == parts.len() => Self::All(texts.join("\n")),
            0 => Self::None,
            _ => Self::Some(texts.join("\n")),
        }
    }
}

/// An object without what marks a cache, and so its parts where it is a list.
fn without_marks(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let is_content = |(name, _): &(&String, &Value)| !CACHE_MARKS.contains(&name.as_str());
            let own = |(name, value): (&String, &Value)| (name.clone(), value.clone());
            Value::Object(fields.iter().filter(is_content).map(own).collect())
        }
        Value::Array(parts) => parts.iter().map(without_marks).collect(),
        other => other.clone(),
    }
}

/// JSON with names in order and whole numbers as such, as any program would write it.
fn sorted(value: &Value) -> String {
    fn of(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_unstable_by_key(|(name, _)| *name);
                Value::Object(fields.into_iter().map(|(name, it)| (name.clone(), of(it))).collect())
            }
            Value::Array(parts) => parts.iter().map(of).collect(),
            Value::Number(number) => match number.as_f64() {
                // Beyond 2^53 a double does not tell whole numbers apart.
                Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                    Value::from(float as i64)
                }
                _ => value.clone(),
            },
            other => other.clone(),
        }
    }
    of(value).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(answer: &Value) -> Draft {
        Draft::tool_result(Some("t1".to_owned()), answer)
    }

    #[test]
    fn arguments_are_equal_however_they_are_written() {
        let written = [
            json!({ "b": 1.0, "a": { "y": [1, 2.5], "x": null } }),
            json!({ "a": { "x": null, "y": [1, 2.5] }, "b": 1 }),
            json!(r#" {"a":{"y":[1,2.5],"x":null},"b":1}"#),
        ];
        let hashes = written.map(|arguments| Draft::tool_use(None, None, &arguments).sha256());
        assert_eq!(hashes[0], hashes[1]);
        assert_eq!(hashes[0], hashes[2]);
    }

    #[test]
    fn arguments_that_broke_off_are_kept_as_they_are() {
        let draft = Draft::tool_use(None, None, &json!(r#"{"a":"#));
        assert_eq!(draft.text.as_deref(), Some(r#"{"a":"#));
    }

    #[test]
    fn results_are_equal_as_string_and_as_list() {
        let (string, list) =
            (result(&json!("ok")), result(&json!([{ "type": "text", "text": "ok" }])));
        assert_eq!(string.sha256(), list.sha256());
        let marked =
            json!([{ "type": "text", "text": "ok", "cache_control": { "type": "ephemeral" } }]);
        assert_eq!(string.sha256(), result(&marked).sha256());
    }

    #[test]
    fn results_with_pictures_differ_by_them() {
        let with = |data: &str| json!([{ "text": "see" }, { "type": "image", "data": data }]);
        let (one, other) = (result(&with("AA")), result(&with("BB")));
        assert_eq!(one.text.as_deref(), Some("see"));
        assert_ne!(one.sha256(), other.sha256());
        assert_eq!(result(&json!([{ "type": "image" }])).text, None);
    }

    #[test]
    fn whatever_identifies_a_block_changes_its_hash() {
        let block = result(&json!("ok"));
        let others = [
            Draft { role: BlockRole::User, ..block.clone() },
            Draft { kind: BlockKind::Text, ..block.clone() },
            Draft { tool_call_id: None, ..block.clone() },
            Draft { tool_name: Some("t1".to_owned()), tool_call_id: None, ..block.clone() },
            Draft { is_error: Some(true), ..block.clone() },
            Draft { text: Some("ok ".to_owned()), ..block.clone() },
        ];
        for (number, other) in others.iter().enumerate() {
            assert_ne!(other.sha256(), block.sha256(), "{number}");
        }
        let unmoved = Draft { is_error: Some(false), ..block.clone() }.at("content", 3);
        assert_eq!(unmoved.sha256(), block.sha256());
    }
}
