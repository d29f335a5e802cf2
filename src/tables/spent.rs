//! What calls used in all: the sums of the tables `turns` and `conversations`. Whatever else is to be
//! summed over a turn or a conversation belongs here.

use std::collections::BTreeMap;

use crate::price::Prices;
use crate::reconstruct::finding::{CallClass, LlmCall, UsageState};

/// Sums over some calls. `None`: of no call was it known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Uncached input tokens.
    pub input_tokens: Option<u64>,
    /// Input tokens read from the provider's cache.
    pub cache_read_tokens: Option<u64>,
    /// Input tokens written to it.
    pub cache_creation_tokens: Option<u64>,
    /// All billed output tokens.
    pub output_tokens: Option<u64>,
    /// The part of them that was reasoning.
    pub reasoning_tokens: Option<u64>,
    /// Calls without final counts of the provider.
    pub uncounted_calls: u64,
    /// What they cost, US dollars, as far as it is known.
    pub cost_usd: Option<f64>,
    /// Calls without a cost; `None` when costs were not asked for.
    pub unpriced_calls: Option<u64>,
}

impl Spent {
    fn add(&mut self, call: &LlmCall, prices: Option<&Prices>) {
        let usage = &call.usage;
        for (sum, part) in [
            (&mut self.input_tokens, usage.input_tokens),
            (&mut self.cache_read_tokens, usage.cache_read_tokens),
            (&mut self.cache_creation_tokens, usage.cache_creation_tokens),
            (&mut self.output_tokens, usage.output_tokens),
            (&mut self.reasoning_tokens, usage.reasoning_tokens),
        ] {
            if let Some(part) = part {
                *sum = Some(sum.unwrap_or(0).saturating_add(part));
            }
        }
        self.uncounted_calls += u64::from(call.usage_state != UsageState::Reported);
        let Some(prices) = prices else { return };
        let cost = prices.cost(call).usd;
        if let Some(usd) = cost {
            self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + usd);
        }
        let unpriced = self.unpriced_calls.get_or_insert(0);
        *unpriced += u64::from(cost.is_none());
    }
}

/// The sums of all turns and conversations.
#[derive(Clone, Debug, Default)]
pub struct SpentBy {
    turns: BTreeMap<(u64, u32), Spent>,
    conversations: BTreeMap<u64, Spent>,
}

impl SpentBy {
    /// Sums up calls that are in their places, and what they cost where `prices` are given. Those
    /// that only count tokens use none.
    #[must_use]
    pub fn new(calls: &[LlmCall], prices: Option<&Prices>) -> Self {
        let mut turns: BTreeMap<(u64, u32), Spent> = BTreeMap::new();
        let mut conversations: BTreeMap<u64, Spent> = BTreeMap::new();
        for call in calls.iter().filter(|call| call.placement.class != CallClass::CountTokens) {
            let Some(conversation_id) = call.placement.conversation_id else { continue };
            conversations.entry(conversation_id).or_default().add(call, prices);
            if let Some(turn) = call.placement.turn {
                turns.entry((conversation_id, turn)).or_default().add(call, prices);
            }
        }
        Self { turns, conversations }
    }

    /// The sums of a turn.
    #[must_use]
    pub fn turn(&self, conversation_id: u64, turn: u32) -> Spent {
        self.turns.get(&(conversation_id, turn)).copied().unwrap_or_default()
    }

    /// The sums of a conversation, those of other conversations that it started not included.
    #[must_use]
    pub fn conversation(&self, conversation_id: u64) -> Spent {
        self.conversations.get(&conversation_id).copied().unwrap_or_default()
    }
}
