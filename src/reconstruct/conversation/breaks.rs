//! Where a provider's cache could not be used again.

use super::Findings;
use super::node::Node;
use super::settle::conversation_id;
use super::tree::Tree;
use crate::reconstruct::finding::{CacheBreak, Finding};

/// Tokens that may be read anew without it being worth a word: caches work in blocks.
const MAX_UNTOLD_TOKENS: u64 = 1_000;

/// How long providers keep a cache that is not used, and one that is asked to be kept for long.
const SHORT_MS: f64 = 300_000.0;
const LONG_MS: f64 = 3_600_000.0;

/// Reports the breaks of one conversation, in order.
pub(super) fn report(nodes: &[Node], tree: &Tree, conversation: usize, findings: Findings<'_>) {
    let mut before: Option<&Node> = None;
    let mut is_long = false;
    for step in &tree.lines[conversation].steps {
        let mut attempts = tree.steps[*step].attempts.iter().rev().map(|id| &nodes[*id]);
        let Some(node) = attempts.find(|node| node.cache.read.is_some()) else { continue };
        let difference = tree.first(nodes, *step).cache.difference.as_deref();
        if let Some(before) = before
            && let Some(lost_tokens) = lost(before, node)
        {
            let idle_ms = node.span.start.ms_since(before.span.end);
            let kept_ms = if is_long { LONG_MS } else { SHORT_MS };
            let path = difference.and_then(|it| it.path.as_deref());
            let cause = if before.cache.model != node.cache.model {
                "model"
            } else if path.is_some() {
                "content"
            } else if idle_ms > kept_ms {
                "ttl"
            } else {
                "unknown"
            };
            findings(Finding::CacheBreak(Box::new(CacheBreak {
                call_id: node.call_id,
                previous_call_id: before.call_id,
                conversation_id: conversation_id(conversation),
                ts: node.span.start,
                cause,
                first_difference: path.map(str::to_owned),
                provider_reason: node.cache.reason.as_deref().map(str::to_owned),
                common_bytes: difference.map(|it| it.common_bytes),
                idle_ms: Some(idle_ms),
                lost_tokens: Some(lost_tokens),
            })));
        }
        is_long |= node.cache.is_long;
        before = Some(node);
    }
}

/// Tokens that the cache held and that were not read from it, where they are many; by what the
/// provider says itself where the counts do not show it.
fn lost(before: &Node, node: &Node) -> Option<u64> {
    let left = before.cache.left.unwrap_or(0);
    let counted = left.saturating_sub(node.cache.read.unwrap_or(left));
    let said = node.cache.reason.as_ref().and(node.cache.missed).unwrap_or(0);
    let lost = if counted > MAX_UNTOLD_TOKENS { counted } else { said };
    (lost > MAX_UNTOLD_TOKENS).then_some(lost)
}
