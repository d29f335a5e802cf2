//! Calls made by hand: what a session says, without bytes, for the tests beside.

use std::collections::BTreeMap;

use super::Conversations;
use crate::event::ProcessId;
use crate::reconstruct::finding::{
    Block, BlockKind, BlockPath, BlockRef, BlockRole, CacheBreak, CallClass, Completeness, Content,
    Conversation, Exchange, Finding, LlmCall, PartialReason, Placement, ToolCall, Turn,
};
use crate::time::WallNanos;

pub(super) fn at(ms: i64) -> WallNanos {
    WallNanos(ms * 1_000_000)
}

/// A block, as a request repeats it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    role: BlockRole,
    kind: BlockKind,
    text: String,
    name: Option<String>,
    id: Option<String>,
}

fn said(role: BlockRole, kind: BlockKind, text: &str) -> Said {
    Said { role, kind, text: text.to_owned(), name: None, id: None }
}

pub(super) fn user(text: &str) -> Said {
    said(BlockRole::User, BlockKind::Text, text)
}

pub(super) fn model(text: &str) -> Said {
    said(BlockRole::Assistant, BlockKind::Text, text)
}

pub(super) fn thought(text: &str) -> Said {
    said(BlockRole::Assistant, BlockKind::Thinking, text)
}

pub(super) fn system(text: &str) -> Said {
    said(BlockRole::System, BlockKind::Text, text)
}

pub(super) fn define(text: &str) -> Said {
    said(BlockRole::System, BlockKind::ToolDefinition, text)
}

pub(super) fn ask(id: &str, name: &str, arguments: &str) -> Said {
    let block = said(BlockRole::Assistant, BlockKind::ToolUse, arguments);
    let id = (!id.is_empty()).then(|| id.to_owned());
    Said { id, name: Some(name.to_owned()), ..block }
}

pub(super) fn result(id: &str, text: &str) -> Said {
    let id = (!id.is_empty()).then(|| id.to_owned());
    Said { id, ..said(BlockRole::Tool, BlockKind::ToolResult, text) }
}

/// A session in the making. Calls are told in the order in which they ended.
#[derive(Default)]
pub(super) struct Session {
    stage: Conversations,
    known: BTreeMap<Said, u64>,
    calls: u64,
    pub(super) found: Found,
}

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) calls: Vec<LlmCall>,
    pub(super) tools: Vec<ToolCall>,
    pub(super) places: BTreeMap<u64, Placement>,
    pub(super) carried: BTreeMap<String, u64>,
    pub(super) breaks: Vec<CacheBreak>,
    pub(super) turns: Vec<Turn>,
    pub(super) conversations: Vec<Conversation>,
}

/// A call in the making: ten milliseconds of upload, some of waiting, ten of stream.
pub(super) struct Made {
    pub(super) call: LlmCall,
    request: Vec<Said>,
    response: Vec<Said>,
}

impl Made {
    /// From `from` to `until`, milliseconds.
    pub(super) fn new(call_id: u64, (from, until): (i64, i64), request: &[Said]) -> Self {
        let exchange = Exchange {
            process: Some(ProcessId { pid: 42, start_ts: WallNanos(0) }),
            request_end_ts: Some(at(from + 10)),
            first_byte_ts: Some(at(until - 10)),
            end_ts: Some(at(until)),
            method: Some("POST".into()),
            path: Some("/v1/messages?beta=true".into()),
            status: Some(200),
            ..Exchange::new(call_id, 1, at(from))
        };
        let mut call = LlmCall::new(exchange, "anthropic", "anthropic_messages", "sse");
        call.first_token_ts = Some(at(until - 10));
        call.request_model = Some("m".into());
        call.stop_reason = Some("end_turn".into());
        call.response_id = Some(format!("msg_{call_id}"));
        Self { call, request: request.to_vec(), response: Vec::new() }
    }

    pub(super) fn says(mut self, response: &[Said]) -> Self {
        self.response = response.to_vec();
        self
    }

    /// It got an error.
    pub(super) fn fails(mut self, status: u16) -> Self {
        self.call.exchange.status = Some(status);
        self.call.error_type = Some("error".into());
        self.call.stop_reason = None;
        self.call.first_token_ts = None;
        self
    }

    /// It was cut in the midst.
    pub(super) fn cut_by(mut self, reason: PartialReason) -> Self {
        self.call.exchange.completeness = Completeness::Partial(reason);
        self.call.stop_reason = None;
        self
    }

    /// Tokens read from and written to the cache.
    pub(super) fn caches(mut self, read: u64, created: u64) -> Self {
        self.call.usage.cache_read_tokens = Some(read);
        self.call.usage.cache_creation_tokens = Some(created);
        self
    }

    pub(super) fn by(mut self, pid: u32) -> Self {
        self.call.exchange.process = Some(ProcessId { pid, start_ts: WallNanos(0) });
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut LlmCall)) -> Self {
        change(&mut self.call);
        self
    }
}

impl Session {
    /// A call ends.
    pub(super) fn call(&mut self, made: Made) {
        let Made { mut call, request, response } = made;
        self.calls += 1;
        let (first, last) = (call.first_token_ts, call.exchange.end_ts);
        let streamed = first.zip(last);
        call.content = Content {
            request: self.refs(&call, &request, None),
            is_request_whole: call.content.request_digest.is_none(),
            response: self.refs(&call, &response, streamed),
            request_digest: None,
        };
        self.push(Finding::LlmCall(Box::new(call)));
    }

    fn refs(
        &mut self,
        call: &LlmCall,
        content: &[Said],
        streamed: Option<(WallNanos, WallNanos)>,
    ) -> Vec<BlockRef> {
        let mut refs = Vec::new();
        for (at, said) in content.iter().enumerate() {
            let next = self.known.len() as u64 + 1;
            let block_id = *self.known.entry(said.clone()).or_insert(next);
            if block_id == next {
                let block = Block {
                    block_id,
                    call_id: call.call_id,
                    ts: streamed.map_or(call.exchange.start_ts, |(_, last)| last),
                    role: said.role,
                    kind: said.kind.clone(),
                    text: Some(said.text.clone()),
                    is_cut: false,
                    tool_name: said.name.clone(),
                    tool_call_id: said.id.clone(),
                    is_error: None,
                    bytes: said.text.len() as u64,
                    sha256: [0; 32],
                };
                self.push(Finding::Block(Box::new(block)));
            }
            let section = match said.kind {
                BlockKind::ToolDefinition => "tools",
                _ if said.role == BlockRole::System => "system",
                _ => "messages",
            };
            let of_section = |other: &BlockRef| other.path.section == section;
            let item = refs.iter().filter(|other| of_section(other)).count() as u32;
            let path = BlockPath { section, item: Some(item), part: None };
            let bytes = said.text.len() as u64;
            refs.push(BlockRef { block_id, role: said.role, bytes, path, streamed });
            let _ = at;
        }
        refs
    }

    fn push(&mut self, finding: Finding) {
        let Self { stage, found, .. } = self;
        stage.push(finding, &mut |finding| found.take(finding));
    }

    /// No more calls come.
    pub(super) fn end(mut self) -> Found {
        let Self { stage, found, .. } = &mut self;
        stage.finish(&mut |finding| found.take(finding));
        self.found
    }
}

impl Found {
    fn take(&mut self, finding: Finding) {
        match finding {
            Finding::LlmCall(call) => self.calls.push(*call),
            Finding::ToolCall(tool) => self.tools.push(*tool),
            Finding::CacheBreak(found) => self.breaks.push(*found),
            Finding::Turn(turn) => self.turns.push(*turn),
            Finding::Conversation(found) => self.conversations.push(*found),
            Finding::Placed(placed) => drop(self.places.insert(placed.call_id, placed.placement)),
            Finding::Carried(found) => drop(self.carried.insert(found.tool_call_id, found.calls)),
            Finding::Block(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Conversation, turn and attempt of each call, in order of their numbers.
    pub(super) fn table(&self) -> Vec<(u64, Option<u64>, Option<u32>, u32)> {
        let row = |(call_id, place): (&u64, &Placement)| {
            (*call_id, place.conversation_id, place.turn, place.attempt)
        };
        self.places.iter().map(row).collect()
    }

    pub(super) fn classes(&self) -> Vec<CallClass> {
        self.places.values().map(|place| place.class).collect()
    }
}
