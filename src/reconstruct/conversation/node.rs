//! What is kept of one call until all calls are known: some hundred bytes, no text but the begin of
//! a prompt.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::diff::Difference;
use super::wall::{Phases, Span};
use crate::event::ProcessId;
use crate::reconstruct::finding::{
    CallClass, Completeness, Correlation, LlmCall, PartialReason, Usage,
};
use crate::time::WallNanos;

/// Position of a call among those that were taken in.
pub(super) type NodeId = usize;

/// One call.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) call_id: u64,
    pub(super) process: Option<ProcessId>,
    pub(super) span: Span,
    pub(super) phases: Phases,
    /// What the request or the agent says that it is.
    pub(super) class: Option<CallClass>,
    /// The conversation by the agent's own ids, where they tell it.
    pub(super) key: Option<u64>,
    /// The session by the agent's own id, else the process.
    pub(super) scope: u64,
    /// Who calls, where it may be the first call of a conversation.
    pub(super) about: Option<Box<About>>,
    /// No usable response came: an error, or it was cut.
    pub(super) is_failed: bool,
    /// It got an error, or nothing at all.
    pub(super) is_refused: bool,
    /// Whether its request defines tools.
    pub(super) has_tools: bool,
    /// Whether its request holds answers of a model.
    pub(super) has_history: bool,
    /// Why not all of its request is known.
    pub(super) cut: Option<PartialReason>,
    /// The call whose history it goes on with.
    pub(super) parent: Option<NodeId>,
    /// Whether a summary, or something else, stands in place of that history.
    pub(super) is_replaced: bool,
    /// Whether its response holds a summary that the provider made in place of the history.
    pub(super) is_compacted: bool,
    /// Whether it begins with the summary that the call before it asked for.
    pub(super) has_summary: bool,
    /// The agent's id of the prompt that it serves.
    pub(super) prompt_id: Option<u64>,
    /// Whether a call was found to go on with it.
    pub(super) is_continued: bool,
    /// What its request says, instructions and tools aside; `None` where that is not known.
    pub(super) request: Option<u64>,
    pub(super) starts_turn: bool,
    pub(super) prompt: Option<Box<str>>,
    pub(super) stop_reason: Option<Box<str>>,
    /// Uses of tools that its response asks for.
    pub(super) tool_uses: u32,
    /// From the first of these until the last has its result.
    pub(super) tools: Option<ToolSpan>,
    /// The uses of tools whose arguments hold what it begins with.
    pub(super) tasks: Vec<(NodeId, Box<str>)>,
    pub(super) cache: Cache,
}

/// When tools were to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToolSpan {
    pub(super) from: WallNanos,
    /// When the last result so far was sent.
    pub(super) until: WallNanos,
    /// Results that are missing.
    pub(super) pending: u32,
}

/// Who makes a call.
#[derive(Debug)]
pub(super) struct About {
    pub(super) agent: Option<String>,
    pub(super) correlation: Correlation,
}

/// What a call says of the provider's cache.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub(super) model: Option<u64>,
    /// Input tokens read from it.
    pub(super) read: Option<u64>,
    /// Input tokens in it after the call, as far as the provider tells.
    pub(super) left: Option<u64>,
    /// Whether some of it is kept for an hour.
    pub(super) is_long: bool,
    pub(super) reason: Option<Box<str>>,
    pub(super) missed: Option<u64>,
    /// What differs from the request before.
    pub(super) difference: Option<Box<Difference>>,
}

impl Node {
    /// What a call says by itself; its place among the others is filled in later.
    pub(super) fn new(call: &LlmCall) -> Self {
        let exchange = &call.exchange;
        let is_cut = match exchange.completeness {
            Completeness::Complete => false,
            Completeness::Partial(_) => call.stop_reason.is_none(),
        };
        let is_refused = exchange.status.is_none_or(|status| status >= 400)
            && exchange.completeness != Completeness::Partial(PartialReason::StillOpen);
        let class = class(call);
        Self {
            call_id: call.call_id,
            process: exchange.process,
            span: Span::of(call),
            phases: Phases::default(),
            class,
            key: key(&call.correlation, class),
            scope: scope(call),
            about: None,
            is_failed: is_refused || is_cut || call.error_type.is_some(),
            is_refused,
            has_tools: false,
            has_history: false,
            cut: None,
            parent: None,
            is_replaced: false,
            is_compacted: false,
            has_summary: false,
            prompt_id: call.correlation.prompt_id.as_ref().map(hash),
            is_continued: false,
            request: None,
            starts_turn: true,
            prompt: None,
            stop_reason: call.stop_reason.as_deref().map(Box::from),
            tool_uses: 0,
            tools: None,
            tasks: Vec::new(),
            cache: Cache::new(call),
        }
    }

    /// The order in which calls are placed: by begin, and the number where these are equal.
    pub(super) fn order(&self) -> (WallNanos, u64) {
        (self.span.start, self.call_id)
    }

    /// Whether it only counts: nothing goes on with it, and it sends nothing on.
    pub(super) fn is_count(&self) -> bool {
        self.class == Some(CallClass::CountTokens)
    }
}

impl Cache {
    fn new(call: &LlmCall) -> Self {
        let Usage { cache_read_tokens: read, cache_creation_tokens: created, .. } = call.usage;
        // Where writes are not told, what was read is all that is known to be in there.
        let left = match (read, created) {
            (None, None) => None,
            (read, created) => Some(read.unwrap_or(0).saturating_add(created.unwrap_or(0))),
        };
        Self {
            model: call.request_model.as_deref().map(hash),
            read,
            left,
            is_long: call.usage.cache_creation_1h_tokens.is_some_and(|tokens| tokens > 0),
            reason: call.cache_miss_reason.as_deref().map(Box::from),
            missed: call.cache_missed_tokens,
            difference: None,
        }
    }
}

/// A hash that is the same in every run of a build; never printed.
pub(super) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What the request, or the agent itself, says of the kind of call.
fn class(call: &LlmCall) -> Option<CallClass> {
    if call.placement.class != CallClass::Main {
        return Some(call.placement.class);
    }
    Some(match call.correlation.request_class.as_deref()? {
        "main" => CallClass::Main,
        "subagent" | "workflow" | "review" | "collab_spawn" => CallClass::Subagent,
        "compaction" | "compact" => CallClass::Compaction,
        "auxiliary" | "side_reply" | "side" | "memory_consolidation" => CallClass::Side,
        "warmup" | "prewarm" => CallClass::Warmup,
        "count_tokens" => CallClass::CountTokens,
        _ => return None,
    })
}

/// Session, thread and agent name a conversation only where the agent also says that the call is
/// part of one: titles and the like have the same session.
fn key(ids: &Correlation, class: Option<CallClass>) -> Option<u64> {
    use CallClass::{Compaction, Main, Subagent};
    let is_part = matches!(class, Some(Main | Subagent | Compaction))
        || (class.is_none() && ids.thread_id.is_some());
    let session = ids.session_id.as_ref().filter(|_| is_part)?;
    Some(hash((session, &ids.thread_id, &ids.agent_id)))
}

fn scope(call: &LlmCall) -> u64 {
    match &call.correlation.session_id {
        Some(session) => hash((session, &call.correlation.agent_id)),
        None => hash(call.exchange.process.map(|id| (id.pid, id.start_ts))),
    }
}
