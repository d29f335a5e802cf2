//! The built-in price list: the crate `genai-prices`, with what it lacks put right.
//!
//! What is handled here because the crate does not (see also `docs/PRICES.md`):
//!
//! - An unknown service tier, or one without a price at the time, silently gets the standard price
//!   there. Here a small request is priced with and without the tier; no difference means that the
//!   tier has no price.
//! - Models without any price cost nothing there. Here they have no price, unless they say `:free`.
//! - Cache writes for an hour cost as much as those for five minutes where only these have a price.
//!   Here they cost twice the input price, as Anthropic's list has it for every model.
//! - Anthropic's fast mode is missing; the list of OpenRouter, which passes Anthropic's prices on,
//!   has it as models of their own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use genai_prices::{Calculator, ErrorKind, PriceCalculation, PriceRequest, Usage, UsageKey};

use super::bill::{Item, Tokens};
use super::terms::{Terms, Tier};
use super::{Price, Unpriced};
use crate::reconstruct::finding::LlmCall;
use crate::time::WallNanos;

/// The `price_source` of costs at the prices of this list.
pub const LIST_NAME: &str = "genai-prices 0.2.1";

/// When that version was published, `YYYY-MM-DD`; the `price_date` of costs at its prices.
pub const LIST_DATE: &str = "2026-10-30";

/// Our names of providers (OpenTelemetry's) and the list's.
const PROVIDERS: &[(&str, &str)] = &[
    ("anthropic", "anthropic"),
    ("aws.bedrock", "aws"),
    ("azure.ai.inference", "azure"),
    ("azure.ai.openai", "azure"),
    ("cohere", "cohere"),
    ("deepseek", "deepseek"),
    ("gcp.gemini", "google"),
    ("gcp.gen_ai", "google"),
    ("gcp.vertex_ai", "google"),
    ("github.copilot", "github-copilot"),
    ("groq", "groq"),
    ("mistral_ai", "mistral"),
    ("moonshot_ai", "moonshotai"),
    ("openai", "openai"),
    ("openrouter", "openrouter"),
    ("perplexity", "perplexity"),
    ("x_ai", "x-ai"),
];

/// Counts of the request with which prices are compared: below every context tier.
const PROBE: Tokens = Tokens {
    input: 1000,
    output: 1000,
    cache_read: 0,
    cache_write: 0,
    cache_write_1h: 0,
    audio_input: None,
    audio_output: None,
    web_searches: 0,
};

/// Longest name of a model that is looked for, bytes: each of the list's rules reads it.
const MAX_MODEL_BYTES: usize = 256;

/// What an item costs at the time of the call.
pub(super) fn price(
    call: &LlmCall,
    item: &Item,
    terms: &Terms,
    ts: WallNanos,
) -> Result<Price, Unpriced> {
    let provider = provider(call).ok_or(Unpriced::Provider)?;
    let mut reason = Unpriced::Model;
    for model in item.models.iter().filter(|model| model.len() <= MAX_MODEL_BYTES) {
        let quote = Quote { provider, model, ts: system_time(ts) };
        match quote.price(&item.tokens, terms) {
            Ok(price) => return Ok(price),
            Err(other) => reason = reason.max(other),
        }
    }
    Err(reason)
}

/// The list's name of the provider: by host, since a server that speaks another provider's API has
/// its own prices; else by the name we gave it.
fn provider(call: &LlmCall) -> Option<&'static str> {
    let list = Calculator::bundled();
    let host = call.exchange.host.as_deref().unwrap_or_default();
    // Copilot has hosts for each plan; the list knows one.
    if host.split(':').next().is_some_and(|host| host.ends_with(".githubcopilot.com")) {
        return Some("github-copilot");
    }
    let url = format!("https://{host}{}", call.exchange.path.as_deref().unwrap_or_default());
    let by_host = list.find_provider(None, Some(&url)).ok().flatten();
    if let Some(provider) = by_host.filter(|_| !host.is_empty()) {
        return Some(provider.id());
    }
    let known = PROVIDERS.iter().find(|(ours, _)| *ours == call.provider);
    known.map(|(_, theirs)| *theirs)
}

/// A model at a time.
#[derive(Clone, Copy)]
struct Quote<'a> {
    provider: &'a str,
    model: &'a str,
    ts: SystemTime,
}

impl Quote<'_> {
    fn price(self, tokens: &Tokens, terms: &Terms) -> Result<Price, Unpriced> {
        let standard = self.usd(&PROBE, &Tier::Standard)?;
        if standard.total_price == 0.0 && !self.model.ends_with(":free") {
            return Err(Unpriced::Model);
        }
        let of_tokens = Tokens { web_searches: 0, ..*tokens };
        let (usd, quoted) = if self.provider == "anthropic" && terms.tier == Tier::Fast {
            self.fast_claude(&of_tokens, &standard.model_id)?
        } else {
            self.check_tier(&terms.tier, &standard)?;
            self.total(&of_tokens, &terms.tier)?
        };
        let usd = usd * terms.factor() + self.searches_usd(tokens.web_searches)?;
        Ok(made_out(usd, &quoted, terms))
    }

    /// Anthropic's fast mode, a model of its own at OpenRouter; `id` is the list's id of the model.
    fn fast_claude(self, tokens: &Tokens, id: &str) -> Result<(f64, PriceCalculation), Unpriced> {
        let model = format!("anthropic/{}-fast", dotted(id));
        let fast = Quote { provider: "openrouter", model: &model, ts: self.ts };
        fast.total(tokens, &Tier::Standard).map_err(|reason| match reason {
            Unpriced::Model => Unpriced::Tier,
            other => other,
        })
    }

    /// Whether a tier has a price of its own. `standard` is the price of [`PROBE`].
    fn check_tier(self, tier: &Tier, standard: &PriceCalculation) -> Result<(), Unpriced> {
        let is_priced =
            *tier == Tier::Standard || self.usd(&PROBE, tier)?.total_price != standard.total_price;
        if is_priced { Ok(()) } else { Err(Unpriced::Tier) }
    }

    /// The price of web searches, on which there is no surcharge.
    fn searches_usd(self, web_searches: u64) -> Result<f64, Unpriced> {
        if web_searches == 0 {
            return Ok(0.0);
        }
        let searches = self.usd(&Tokens { web_searches, ..Tokens::default() }, &Tier::Standard)?;
        if searches.total_price > 0.0 { Ok(searches.total_price) } else { Err(Unpriced::Counts) }
    }

    /// All in US dollars, cache writes for an hour at their own price.
    fn total(self, tokens: &Tokens, tier: &Tier) -> Result<(f64, PriceCalculation), Unpriced> {
        let quoted = self.usd(tokens, tier)?;
        let mut usd = quoted.total_price;
        if tokens.cache_write_1h > 0 {
            let as_5m = self.usd(&Tokens { cache_write_1h: 0, ..*tokens }, tier)?;
            let has_price = as_5m.total_price != quoted.total_price;
            if !has_price && self.model.contains("claude") {
                // Requests of as much input, so that the same context tier applies.
                let input = tokens.total_input();
                let plain = Tokens { input, ..Tokens::default() };
                let written = Tokens { cache_write: input, ..Tokens::default() };
                let (plain, written) = (self.usd(&plain, tier)?, self.usd(&written, tier)?);
                let more = 2.0 * plain.total_price - written.total_price;
                usd += more / input as f64 * tokens.cache_write_1h as f64;
            }
        }
        Ok((usd, quoted))
    }

    /// What the crate says.
    fn usd(self, tokens: &Tokens, tier: &Tier) -> Result<PriceCalculation, Unpriced> {
        let usage = usage(tokens);
        let request = PriceRequest::new(self.model, &usage)
            .with_provider_id(self.provider)
            .with_timestamp(self.ts);
        let request = match tier {
            Tier::Standard => request,
            Tier::Batch => request.with_price_context("processing", tier.as_str()),
            other => request.with_price_context("service_tier", other.as_str()),
        };
        Calculator::bundled().calculate(&request).map_err(|error| match error.kind() {
            ErrorKind::ProviderNotFound => Unpriced::Provider,
            ErrorKind::ModelNotFound => Unpriced::Model,
            _ => Unpriced::Counts,
        })
    }
}

fn made_out(usd: f64, quoted: &PriceCalculation, terms: &Terms) -> Price {
    let tier = terms.tier.as_str();
    Price {
        usd,
        source: LIST_NAME.to_owned(),
        date: Some(LIST_DATE.to_owned()),
        entry: format!("{}/{}", quoted.provider_id, quoted.model_id),
        terms: match terms.surcharge {
            Some((_, why)) => format!("{tier}; {why}"),
            None => tier.to_owned(),
        },
    }
}

/// Counts in the crate's convention: `input_tokens` is all input.
fn usage(tokens: &Tokens) -> Usage {
    let mut usage = Usage::new();
    usage.insert(UsageKey::INPUT_TOKENS, tokens.total_input() as f64);
    usage.insert(UsageKey::OUTPUT_TOKENS, tokens.output as f64);
    let optional = [
        (UsageKey::CACHE_READ_TOKENS, tokens.cache_read),
        (UsageKey::CACHE_WRITE_TOKENS, tokens.cache_write),
        (UsageKey::CACHE_WRITE_1H_TOKENS, tokens.cache_write_1h),
        (UsageKey::INPUT_AUDIO_TOKENS, tokens.audio_input.unwrap_or(0)),
        (UsageKey::OUTPUT_AUDIO_TOKENS, tokens.audio_output.unwrap_or(0)),
        (UsageKey::WEB_SEARCHES, tokens.web_searches),
    ];
    for (key, count) in optional {
        if count > 0 {
            usage.insert(key, count as f64);
        }
    }
    usage
}

/// `claude-opus-4-6` as OpenRouter writes it: `claude-opus-4.6`.
fn dotted(model: &str) -> String {
    match model.rsplit_once('-') {
        Some((rest, minor))
            if minor.len() == 1
                && minor.bytes().all(|byte| byte.is_ascii_digit())
                && rest.ends_with(|c: char| c.is_ascii_digit()) =>
        {
            format!("{rest}.{minor}")
        }
        _ => model.to_owned(),
    }
}

fn system_time(ts: WallNanos) -> SystemTime {
    let distance = Duration::from_nanos(ts.0.unsigned_abs());
    let time = match ts.0 < 0 {
        true => UNIX_EPOCH.checked_sub(distance),
        false => UNIX_EPOCH.checked_add(distance),
    };
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_list_is_the_version_that_is_built_in() {
        let lock = std::fs::read_to_string("Cargo.lock").unwrap();
        let package = lock.split("[[package]]").find(|it| it.contains("name = \"genai-prices\""));
        let version = LIST_NAME.rsplit(' ').next().unwrap();
        assert!(
            package.unwrap().contains(&format!("version = \"{version}\"")),
            "genai-prices changed: set LIST_NAME, and LIST_DATE to the day it was published"
        );
    }

    #[test]
    fn every_provider_of_ours_is_in_the_list() {
        for (ours, theirs) in PROVIDERS {
            let found = Calculator::bundled().find_provider(Some(theirs), None).unwrap();
            assert_eq!(found.unwrap().id(), *theirs, "{ours}");
        }
    }

    #[test]
    fn minor_versions_are_written_with_a_dot_elsewhere() {
        assert_eq!(dotted("claude-opus-4-6"), "claude-opus-4.6");
        assert_eq!(dotted("claude-opus-5"), "claude-opus-5");
        assert_eq!(dotted("claude-opus-4-20250514"), "claude-opus-4-20250514");
    }
}
