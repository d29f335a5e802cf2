//! What a response said so far, whatever the API: each API's reader fills it in.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::draft::Draft;
use crate::reconstruct::finding::{BlockPath, Limit};
use crate::time::WallNanos;

/// Generated content kept of one response. Models end far earlier.
const MAX_CONTENT_BYTES: usize = 16 << 20;

/// Parts of one response, and limits it tells of. Responses have some dozens.
const MAX_PARTS: usize = 4096;

/// What a response said so far.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) error_type: Option<String>,
    pub(super) model: Option<String>,
    pub(super) stop_reason: Option<String>,
    pub(super) first_token_ts: Option<WallNanos>,
    /// The provider's usage fields, later ones overwriting earlier ones.
    pub(super) usage: Map<String, Value>,
    /// The usage is known to be final.
    pub(super) usage_final: bool,
    /// The provider said that nothing more will come.
    pub(super) ended: bool,
    pub(super) response_id: Option<String>,
    pub(super) tier: Option<String>,
    pub(super) cache_miss_reason: Option<String>,
    pub(super) cache_missed_tokens: Option<u64>,
    pub(super) retry_after_ms: Option<f64>,
    pub(super) limits: Vec<Limit>,
    pub(super) parts: Parts,
}

/// A block of a response and where it stands.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) draft: Draft,
    pub(super) path: BlockPath,
    /// When its first and last bytes came.
    pub(super) came: (WallNanos, WallNanos),
}

/// Content of a response, part by part as it comes.
#[derive(Debug, Default)]
pub(super) struct Parts {
    by_key: BTreeMap<Key, Part>,
    bytes: usize,
}

/// Which part of a response: of which answer or item, and which of its parts.
pub(super) type Key = (u64, u64);

/// A part of the content of a response.
#[derive(Debug)]
pub(super) struct Part {
    /// What the API sent of it as a whole.
    pub(super) json: Value,
    /// What was sent piece by piece: names of fields and their text.
    pub(super) texts: BTreeMap<&'static str, String>,
    pub(super) came: (WallNanos, WallNanos),
    /// All of it was sent.
    pub(super) is_ended: bool,
    /// Some of it is missing.
    pub(super) is_cut: bool,
}

impl Reply {
    /// Takes over a usage object: fields that are present overwrite, nothing is added up.
    pub(super) fn merge_usage(&mut self, usage: &Value) {
        let Value::Object(fields) = usage else { return };
        for (name, value) in fields {
            if !value.is_null() || !self.usage.contains_key(name) {
                self.usage.insert(name.clone(), value.clone());
            }
        }
    }

    /// Takes over the usage of a response that has ended.
    pub(super) fn final_usage(&mut self, usage: &Value) {
        if usage.is_object() {
            self.merge_usage(usage);
            self.usage_final = true;
        }
    }

    /// Notes that the model has generated something.
    pub(super) fn generated(&mut self, ts: WallNanos) {
        self.first_token_ts.get_or_insert(ts);
    }

    /// Notes a limit, unless there are absurdly many.
    pub(super) fn limit(&mut self, limit: Limit) {
        if self.limits.len() < MAX_PARTS {
            self.limits.push(limit);
        }
    }
}

impl Parts {
    /// A part begins, or comes whole.
    pub(super) fn begin(&mut self, key: Key, json: Value, ts: WallNanos) -> Option<&mut Part> {
        let part = self.part(key, ts)?;
        part.json = json;
        Some(part)
    }

    /// More of a part's text comes.
    pub(super) fn append(&mut self, key: Key, field: &'static str, text: &str, ts: WallNanos) {
        if text.is_empty() {
            return;
        }
        let fits = self.bytes + text.len() <= MAX_CONTENT_BYTES;
        let Some(part) = self.part(key, ts) else { return };
        part.came.1 = ts;
        if !fits {
            part.is_cut = true;
            return;
        }
        part.texts.entry(field).or_default().push_str(text);
        self.bytes += text.len();
    }

    /// A part has ended.
    pub(super) fn end(&mut self, key: Key, ts: WallNanos) {
        if let Some(part) = self.by_key.get_mut(&key) {
            part.came.1 = ts;
            part.is_ended = true;
        }
    }

    /// All parts have ended.
    pub(super) fn end_all(&mut self) {
        self.by_key.values_mut().for_each(|part| part.is_ended = true);
    }

    /// Something is missing here, perhaps of the parts that have not ended.
    pub(super) fn gap(&mut self) {
        for part in self.by_key.values_mut().filter(|part| !part.is_ended) {
            part.is_cut = true;
        }
    }

    /// The part, new if there was none.
    pub(super) fn part(&mut self, key: Key, ts: WallNanos) -> Option<&mut Part> {
        if self.by_key.len() >= MAX_PARTS && !self.by_key.contains_key(&key) {
            return None;
        }
        Some(self.by_key.entry(key).or_insert_with(|| Part {
            json: Value::Null,
            texts: BTreeMap::new(),
            came: (ts, ts),
            is_ended: false,
            is_cut: false,
        }))
    }

    /// The last part of an answer or item.
    pub(super) fn last_of(&self, item: u64) -> Option<(Key, &Part)> {
        let of_item = (item, 0)..=(item, u64::MAX);
        self.by_key.range(of_item).next_back().map(|(key, part)| (*key, part))
    }

    /// All parts in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Part)> {
        self.by_key.iter().map(|(key, part)| (*key, part))
    }
}

impl Part {
    /// What was sent as a whole, with the text that was sent piece by piece behind its own.
    pub(super) fn whole(&self) -> Value {
        let mut json = self.json.clone();
        for (field, text) in &self.texts {
            let Value::Object(fields) = &mut json else { break };
            let before = fields.get(*field).and_then(Value::as_str).unwrap_or_default();
            let text = format!("{before}{text}");
            fields.insert((*field).to_owned(), Value::String(text));
        }
        json
    }

    /// What was sent piece by piece of a field.
    pub(super) fn text(&self, field: &str) -> &str {
        self.texts.get(field).map_or("", String::as_str)
    }

    /// A block that is this part, or part of it.
    pub(super) fn said(&self, draft: Draft, path: BlockPath) -> Said {
        let is_cut = self.is_cut || !self.is_ended || draft.is_cut;
        Said { draft: Draft { is_cut, ..draft }, path, came: self.came }
    }
}

/// A string field of a JSON object, unless it is empty.
pub(super) fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A position in a response, as its API counts.
pub(super) fn index(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// The same for a path.
pub(super) fn item(index: u64) -> Option<u32> {
    Some(index.try_into().unwrap_or(u32::MAX))
}

/// The elements of a list; of what is none, none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Count of tokens in a usage object.
pub(super) fn count(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    fields.get(name)?.as_u64()
}

/// The same one object further in.
pub(super) fn detail(fields: &Map<String, Value>, of: &str, name: &str) -> Option<u64> {
    fields.get(of)?.get(name)?.as_u64()
}
