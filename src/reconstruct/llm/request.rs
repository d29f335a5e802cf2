//! The body of a request: the fields that matter, and its content blocks as they come.
//!
//! Elements that were seen before, byte by byte, are looked up by their hash; only new ones are
//! parsed. Until it is proven that the request is one to a model, nothing is handed out: its elements
//! wait.

use std::fmt;

use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use super::Api;
use super::blocks::PieceKey;
use super::draft::Draft;
use super::json_reader::{Found, Reader};
use crate::reconstruct::exchange::Findings;
use crate::reconstruct::finding::{BlockKind, BlockRef, BlockRole, Finding};
use crate::time::WallNanos;

/// Elements that wait for proof, and their size: clients name the model among the first fields.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 4 << 20;

/// Blocks listed of one request; sessions have some thousands.
const MAX_BLOCKS: usize = 1 << 16;

/// Blocks of one element; messages have some dozens.
const MAX_BLOCKS_OF_ELEMENT: usize = 4096;

/// Shown of an element that cannot be read.
const MAX_UNREAD_BYTES: usize = 64 << 10;

/// Sections that hold what a model is to answer.
const CONVERSATION: [&str; 4] = ["messages", "input", "contents", "prompt"];

/// The body of one request.
#[derive(Debug)]
pub(super) struct Request {
    api: Api,
    reader: Reader,
    /// Fields that were wanted as values, as JSON.
    values: Vec<(&'static str, Vec<u8>)>,
    /// The model is named elsewhere.
    has_model: bool,
    is_proven: bool,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    refs: Vec<BlockRef>,
    /// No block had to be left out.
    has_all: bool,
    digest: Digest,
}

/// An element that waits for proof.
#[derive(Debug)]
struct Waiting {
    ts: WallNanos,
    name: &'static str,
    item: Option<u32>,
    json: Vec<u8>,
    is_cut: bool,
    bytes: u64,
    digest: [u8; 32],
}

/// A hash over the whole body.
#[derive(Default)]
struct Digest(Box<Xxh3>);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0.digest())
    }
}

impl Request {
    pub(super) fn new(api: Api, has_model: bool, is_proven: bool) -> Self {
        Self {
            api,
            reader: Reader::new(api.request_fields()),
            values: Vec::new(),
            has_model,
            is_proven,
            waiting: Vec::new(),
            waiting_bytes: 0,
            refs: Vec::new(),
            has_all: true,
            digest: Digest::default(),
        }
    }

    /// Reads on; hands out blocks that are new.
    pub(super) fn push(
        &mut self,
        call_id: u64,
        ts: WallNanos,
        bytes: &[u8],
        findings: Findings<'_>,
    ) {
        self.digest.0.update(bytes);
        // The reader is apart while it hands out what the rest of the request takes.
        let mut reader = std::mem::replace(&mut self.reader, Reader::new(&[]));
        reader.push(bytes, &mut |found| {
            if !found.is_element {
                self.value_found(call_id, &found, findings);
            } else if self.is_proven || self.is_proven_by(found.name) {
                self.prove(call_id, findings);
                self.take(call_id, ts, &found, findings);
            } else {
                self.wait(ts, &found);
            }
        });
        self.reader = reader;
    }

    /// Bytes are missing here.
    pub(super) fn stop(&mut self) {
        self.reader.stop();
    }

    /// Whether the body was read to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.reader.is_whole()
    }

    /// Whether it is known to be a request to a model.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Whether a field was read to its end.
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

    /// The blocks in order, whether these are all, and a hash of the body if it was seen whole.
    pub(super) fn into_content(self) -> (Vec<BlockRef>, bool, Option<u64>) {
        let is_whole = self.is_whole();
        let digest = is_whole.then(|| self.digest.0.digest());
        (self.refs, is_whole && self.has_all && self.api != Api::Other, digest)
    }

    fn raw(&self, name: &str) -> Option<&[u8]> {
        self.values.iter().find(|(found, _)| *found == name).map(|(_, value)| &**value)
    }

    /// The last of fields with equal names counts, as in JSON parsers.
    fn value_found(&mut self, call_id: u64, found: &Found<'_>, findings: Findings<'_>) {
        self.values.retain(|(name, _)| *name != found.name);
        self.values.push((found.name, found.json.to_vec()));
        if found.name == "model" && self.waiting.iter().any(|it| CONVERSATION.contains(&it.name)) {
            self.prove(call_id, findings);
        }
    }

    /// A model's name and something for it to answer.
    fn is_proven_by(&self, section: &str) -> bool {
        (self.has_model || self.has("model")) && CONVERSATION.contains(&section)
    }

    fn prove(&mut self, call_id: u64, findings: Findings<'_>) {
        self.is_proven = true;
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { ts, name, item, json, is_cut, bytes, digest } = waiting;
            let found = Found { name, is_element: true, item, json: &json, is_cut, bytes, digest };
            self.take(call_id, ts, &found, findings);
        }
    }

    fn wait(&mut self, ts: WallNanos, found: &Found<'_>) {
        self.waiting_bytes += found.json.len();
        if self.waiting.len() >= MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            self.has_all = false;
            return;
        }
        let Found { name, item, json, is_cut, bytes, digest, .. } = *found;
        self.waiting.push(Waiting { ts, name, item, json: json.to_vec(), is_cut, bytes, digest });
    }

    /// Lists the blocks of an element.
    fn take(&mut self, call_id: u64, ts: WallNanos, found: &Found<'_>, findings: Findings<'_>) {
        let key = PieceKey { digest: found.digest, place: (self.api as u8, found.name) };
        let known = match findings.blocks().of_piece(&key) {
            Some(known) => known,
            None => {
                let mut drafts = self.drafts(found);
                drafts.truncate(MAX_BLOCKS_OF_ELEMENT);
                let mut known = Vec::with_capacity(drafts.len());
                for draft in drafts {
                    let (block, told) = findings.blocks().number(draft, call_id, ts);
                    known.push(block);
                    if let Some(block) = told {
                        findings.find(Finding::Block(Box::new(block)));
                    }
                }
                findings.blocks().remember(key, known)
            }
        };
        let room = MAX_BLOCKS - self.refs.len();
        self.has_all &= known.len() < MAX_BLOCKS_OF_ELEMENT && known.len() <= room;
        self.refs.extend(known.iter().take(room).map(|block| block.at(found.name, found.item)));
    }

    fn drafts(&self, found: &Found<'_>) -> Vec<Draft> {
        let parsed = if found.is_cut { None } else { serde_json::from_slice(found.json).ok() };
        match parsed {
            Some(element) => self.api.drafts(found.name, &element),
            None => vec![unread(found)],
        }
    }
}

/// An element that is longer than what is held, or no JSON.
fn unread(found: &Found<'_>) -> Draft {
    let role = match found.name {
        "system" | "tools" | "functions" | "instructions" => BlockRole::System,
        "systemInstruction" | "system_instruction" => BlockRole::System,
        _ => BlockRole::User,
    };
    let kind = if found.is_cut { "oversize" } else { "malformed" };
    let shown = &found.json[..found.json.len().min(MAX_UNREAD_BYTES)];
    Draft {
        is_cut: shown.len() as u64 != found.bytes,
        content: Some(blake3::Hash::from_bytes(found.digest).to_hex().to_string()),
        bytes: found.bytes,
        ..Draft::new(role, BlockKind::Other(kind.to_owned()), &String::from_utf8_lossy(shown))
    }
}
