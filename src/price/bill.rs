//! What a call has to pay for: items of tokens of one model each, from its usage.
//!
//! Normalised counts are used wherever they say enough; the provider's own usage object only for
//! what they do not say: iterations with models of their own, web searches, audio, money.

use serde_json::Value;

use super::Unpriced;
use super::terms::Terms;
use crate::reconstruct::finding::{CallClass, LlmCall, Usage};

/// Iterations of one call that are looked at; real ones have a handful.
const MAX_ITERATIONS: usize = 1024;

/// Counts of one item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Neither read from nor written to a cache.
    pub(super) input: u64,
    pub(super) cache_read: u64,
    /// With those kept for an hour.
    pub(super) cache_write: u64,
    /// The part of `cache_write` that is kept for an hour.
    pub(super) cache_write_1h: u64,
    /// Reasoning included.
    pub(super) output: u64,
    /// The part of the input that is sound; `None` where nobody says.
    pub(super) audio_input: Option<u64>,
    /// The part of the output that is sound; `None` where nobody says.
    pub(super) audio_output: Option<u64>,
    /// Web searches by the provider, which cost by the piece.
    pub(super) web_searches: u64,
}

impl Tokens {
    /// All input; context tiers go by it.
    pub(super) fn total_input(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }
}

/// Tokens of one model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// Names to look for in a list, the best first; never empty.
    pub(super) models: Vec<String>,
    pub(super) tokens: Tokens,
}

/// What is to be paid for a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bill {
    /// Nothing, ever.
    Free,
    /// What the provider says, in US dollars.
    Reported(f64),
    /// Not known.
    Unpriced(Unpriced),
    /// These items, which are not empty.
    Items { items: Vec<Item>, terms: Terms },
}

/// Makes out the bill of a call with these counts, which may be other than its own.
pub(super) fn of(call: &LlmCall, usage: &Usage) -> Bill {
    if is_free(call, usage) {
        return Bill::Free;
    }
    let own = usage.usage_json.as_deref().and_then(|json| serde_json::from_str(json).ok());
    let own: Option<Value> = own;
    if let Some(usd) = reported(usage, own.as_ref()) {
        return Bill::Reported(usd);
    }
    let items = own.as_ref().and_then(|own| iterations(call, own));
    let items = match items {
        Some(items) => items,
        None if usage.total_input_tokens().is_none() && usage.output_tokens.is_none() => {
            return Bill::Unpriced(Unpriced::Usage);
        }
        None => vec![Item { models: models(call), tokens: tokens(usage, own.as_ref()) }],
    };
    if items.iter().any(|item| item.models.is_empty()) {
        return Bill::Unpriced(Unpriced::Model);
    }
    Bill::Items { items, terms: Terms::of(call, own.as_ref()) }
}

/// Counting tokens is free everywhere, and no provider bills a request that it refuses.
fn is_free(call: &LlmCall, usage: &Usage) -> bool {
    let path = call.exchange.path.as_deref().unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let counts_only = call.placement.class == CallClass::CountTokens
        || path.ends_with("/count_tokens")
        || path.ends_with(":countTokens");
    let is_refused = call.exchange.status.is_some_and(|status| status >= 400);
    let has_counts = usage.total_input_tokens().is_some() || usage.output_tokens.is_some();
    counts_only || (is_refused && !has_counts)
}

/// OpenRouter reports money. With a key of the user's own its fee alone stands in `cost`, and what
/// the provider behind it takes in `cost_details`.
fn reported(usage: &Usage, own: Option<&Value>) -> Option<f64> {
    let fee = usage.reported_cost_usd.filter(|usd| usd.is_finite() && *usd >= 0.0)?;
    let own_key = own.and_then(|own| field(own, "is_byok")) == Some(&Value::Bool(true));
    if !own_key {
        return Some(fee);
    }
    let behind = own.and_then(|own| own.pointer("/cost_details/upstream_inference_cost"));
    behind.and_then(Value::as_f64).filter(|usd| *usd >= 0.0).map(|usd| fee + usd)
}

/// The model that answered, else the one asked for. At Bedrock the name asked for comes first: it
/// says where the model runs, which the answer does not, and the price depends on it.
fn models(call: &LlmCall) -> Vec<String> {
    match (&call.model, &call.request_model) {
        (Some(answered), Some(asked)) if call.provider == "aws.bedrock" => {
            vec![asked.clone(), answered.clone()]
        }
        (Some(model), _) | (None, Some(model)) => vec![model.clone()],
        (None, None) => Vec::new(),
    }
}

fn tokens(usage: &Usage, own: Option<&Value>) -> Tokens {
    let cache_write = usage.cache_creation_tokens.unwrap_or(0);
    Tokens {
        input: usage.input_tokens.unwrap_or(0),
        cache_read: usage.cache_read_tokens.unwrap_or(0),
        cache_write,
        cache_write_1h: usage.cache_creation_1h_tokens.unwrap_or(0).min(cache_write),
        output: usage.output_tokens.unwrap_or(0),
        audio_input: own.and_then(audio_input),
        audio_output: own.and_then(audio_output),
        web_searches: own.map_or(0, web_searches),
    }
}

/// Anthropic's `usage.iterations`, each with its own counts and, where another model did it, its
/// own model. The counts beside them leave out some iterations (compaction).
fn iterations(call: &LlmCall, own: &Value) -> Option<Vec<Item>> {
    let list = field(own, "iterations")?.as_array().filter(|list| !list.is_empty())?;
    let item = |iteration: &Value| {
        let count = |name| field(iteration, name).and_then(Value::as_u64);
        let split =
            |name| iteration.pointer("/cache_creation").and_then(|it| field(it, name)?.as_u64());
        let cache_write_1h = split("ephemeral_1h_input_tokens").unwrap_or(0);
        let parts = split("ephemeral_5m_input_tokens").unwrap_or(0).saturating_add(cache_write_1h);
        let cache_write = count("cache_creation_input_tokens").unwrap_or(parts);
        let model = field(iteration, "model").and_then(Value::as_str);
        Item {
            models: model.map_or_else(|| models(call), |model| vec![model.to_owned()]),
            tokens: Tokens {
                input: count("input_tokens").unwrap_or(0),
                cache_read: count("cache_read_input_tokens").unwrap_or(0),
                cache_write,
                cache_write_1h: cache_write_1h.min(cache_write),
                output: count("output_tokens").unwrap_or(0),
                ..Tokens::default()
            },
        }
    };
    let mut items: Vec<Item> = list.iter().take(MAX_ITERATIONS).map(item).collect();
    // Searches are counted for the whole call only.
    items[0].tokens.web_searches = web_searches(own);
    Some(items)
}

fn web_searches(own: &Value) -> u64 {
    own.pointer("/server_tool_use/web_search_requests").and_then(Value::as_u64).unwrap_or(0)
}

/// OpenAI's `prompt_tokens_details.audio_tokens`, or Google's `promptTokensDetails` by modality.
fn audio_input(own: &Value) -> Option<u64> {
    let openai = ["/prompt_tokens_details/audio_tokens", "/input_tokens_details/audio_tokens"];
    audio(own, &openai, "promptTokensDetails")
}

fn audio_output(own: &Value) -> Option<u64> {
    let openai = ["/completion_tokens_details/audio_tokens", "/output_tokens_details/audio_tokens"];
    audio(own, &openai, "candidatesTokensDetails")
}

fn audio(own: &Value, openai: &[&str], google: &str) -> Option<u64> {
    let of_modality = |details: &Value| {
        let is_audio =
            |part: &&Value| field(part, "modality").and_then(Value::as_str) == Some("AUDIO");
        details.as_array()?.iter().find(is_audio)?.get("tokenCount")?.as_u64()
    };
    let openai = openai.iter().find_map(|path| own.pointer(path)?.as_u64());
    openai.or_else(|| field(own, google).and_then(of_modality)).filter(|tokens| *tokens > 0)
}

/// A field of a JSON object that is not null.
pub(super) fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}
