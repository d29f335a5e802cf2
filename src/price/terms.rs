//! At which terms a call was served: its service tier, and what comes on top of list prices.

use serde_json::Value;

use super::bill::field;
use crate::reconstruct::finding::LlmCall;

/// What inference in one region costs more than anywhere, at Anthropic and for Claude models on
/// Vertex AI (their price pages; `genai-prices` names it in comments only).
const REGIONAL_FACTOR: f64 = 1.1;

/// How urgently, or how cheaply, a request is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// At standard prices.
    Standard,
    /// Slower and cheaper.
    Flex,
    /// Sooner, at a premium.
    Priority,
    /// Faster output, at a premium.
    Fast,
    /// With many others, some time later.
    Batch,
    /// A word that is none of these.
    Other(String),
}

impl Tier {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Standard => "standard",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Fast => "fast",
            Self::Batch => "batch",
            Self::Other(word) => word,
        }
    }

    pub(super) fn named(word: &str) -> Self {
        match word.to_ascii_lowercase().trim_start_matches("service_tier_") {
            // `on_demand` is Groq's word, `unspecified` Google's.
            "" | "standard" | "standard_only" | "default" | "on_demand" | "unspecified" => {
                Self::Standard
            }
            "flex" => Self::Flex,
            "priority" => Self::Priority,
            "fast" => Self::Fast,
            "batch" => Self::Batch,
            _ => Self::Other(word.to_owned()),
        }
    }

    /// The tier that was served, else the one asked for. `auto` leaves the choice to the provider:
    /// where the answer does not say what was chosen, it is the standard.
    fn of(call: &LlmCall, usage: Option<&Value>) -> Self {
        let speed = usage.and_then(|usage| usage.get("speed")).and_then(Value::as_str);
        if speed == Some("fast") {
            return Self::Fast;
        }
        if let Some(served) = &call.tier {
            return Self::named(served);
        }
        match call.request_tier.as_deref() {
            None | Some("auto") => Self::Standard,
            Some(asked) => Self::named(asked),
        }
    }
}

/// At which terms a call was served.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Terms {
    pub(super) tier: Tier,
    /// By what token prices are multiplied, and why.
    pub(super) surcharge: Option<(f64, &'static str)>,
}

impl Terms {
    /// The terms of a call; `usage` is the provider's usage object.
    pub(super) fn of(call: &LlmCall, usage: Option<&Value>) -> Self {
        Self { tier: Tier::of(call, usage), surcharge: surcharge(call, usage) }
    }

    pub(super) fn factor(&self) -> f64 {
        self.surcharge.map_or(1.0, |(factor, _)| factor)
    }
}

fn surcharge(call: &LlmCall, usage: Option<&Value>) -> Option<(f64, &'static str)> {
    let geo = usage.and_then(|usage| field(usage, "inference_geo")).and_then(Value::as_str);
    if call.provider == "anthropic" && geo.is_some_and(|geo| geo.eq_ignore_ascii_case("us")) {
        return Some((REGIONAL_FACTOR, "inference in the US x1.1"));
    }
    let host = call.exchange.host.as_deref().unwrap_or_default();
    let region = host.split(':').next()?.strip_suffix("-aiplatform.googleapis.com")?;
    let model = call.request_model.as_deref().or(call.model.as_deref())?;
    (region != "global" && has_regional_price(model))
        .then_some((REGIONAL_FACTOR, "regional endpoint x1.1"))
}

/// Whether a Claude model is of the generations for which a region costs more: from 4.5 on.
fn has_regional_price(model: &str) -> bool {
    const BEFORE: &[&str] = &["claude-3", "claude-4-", "opus-4-0", "opus-4-1", "sonnet-4-0"];
    // `claude-opus-4@20250514` and `claude-opus-4-20250514`: no minor version at all.
    const FIRST_4: &[&str] = &["opus-4@", "sonnet-4@", "opus-4-20", "sonnet-4-20"];
    model.contains("claude") && !BEFORE.iter().chain(FIRST_4).any(|old| model.contains(old))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_standard_are_the_standard_and_unknown_words_are_not() {
        for word in ["default", "standard", "DEFAULT", "on_demand", "SERVICE_TIER_UNSPECIFIED"] {
            assert_eq!(Tier::named(&word.to_ascii_lowercase()), Tier::Standard, "{word}");
        }
        assert_eq!(Tier::named("Priority"), Tier::Priority);
        assert_eq!(Tier::named("scale"), Tier::Other("scale".into()));
    }

    #[test]
    fn only_models_with_a_regional_price_cost_more_in_a_region() {
        for new in ["claude-sonnet-4-5@20250929", "claude-opus-5", "claude-haiku-4-5@20251001"] {
            assert!(has_regional_price(new), "{new}");
        }
        for old in ["claude-opus-4@20250514", "claude-opus-4-1@20250805", "gemini-2.5-pro"] {
            assert!(!has_regional_price(old), "{old}");
        }
    }
}
