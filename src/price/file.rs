//! Prices that the user gives: a small JSON file that comes before the built-in list.
//!
//! `docs/PRICES.md` describes the format. Everything in the file is checked when it is read; what is
//! wrong is said with its place in the file. Unknown fields are wrong, so that a misspelt price does
//! not silently become another.

mod pattern;
mod read;

use self::pattern::Pattern;
use super::Price;
use super::bill::{Item, Tokens};
use super::terms::{Terms, Tier};
use crate::reconstruct::finding::LlmCall;
use crate::time::WallNanos;

/// Size of a price file at most; ten thousand entries take about a quarter of it.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// Prices given by the user, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceFile {
    /// The `price_source` of costs at these prices.
    name: String,
    /// The `price_date` of costs at these prices, `YYYY-MM-DD`; else each entry's `from`.
    date: Option<String>,
    entries: Vec<Entry>,
}

/// Why a price file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceFileError {
    /// It is larger than [`MAX_FILE_BYTES`].
    #[error("expected at most {MAX_FILE_BYTES} bytes, found {found}")]
    TooLarge {
        /// Its size, bytes.
        found: u64,
    },
    /// It is not JSON.
    #[error("expected JSON: {0}")]
    Json(String),
    /// A value is not what it should be.
    #[error("{at}: expected {expected}, found {found}")]
    Value {
        /// JSON path of the value.
        at: String,
        /// What it should be.
        expected: String,
        /// What it is, shortened.
        found: String,
    },
}

/// The price of some models.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// `None` is every provider.
    provider: Option<String>,
    model: Pattern,
    /// As it stands in the file.
    model_text: String,
    tier: Tier,
    /// First moment of the day it is from, UTC; `None` is always.
    from: Option<(WallNanos, String)>,
    rates: Rates,
    /// Rates of requests with more input than so many tokens, in rising order of these.
    long_context: Vec<(u64, Rates)>,
    /// Per thousand searches.
    web_searches_usd: Option<f64>,
}

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    input: f64,
    cache_read: f64,
    cache_write: f64,
    cache_write_1h: f64,
    output: f64,
}

impl PriceFile {
    /// Reads the text of a price file; `name` is what costs at its prices are labelled with where
    /// the file itself gives no name.
    ///
    /// # Errors
    /// When it is too large, no JSON, or not in the format.
    pub fn parse(json: &str, name: &str) -> Result<Self, PriceFileError> {
        read::parse(json, name)
    }

    /// What an item costs, if the file has a price for it: of the entries that fit, the one with the
    /// latest `from`, and of those the last.
    pub(super) fn price(
        &self,
        call: &LlmCall,
        item: &Item,
        terms: &Terms,
        ts: WallNanos,
    ) -> Option<Price> {
        let fits = |model: &str, entry: &Entry| {
            let is_provider =
                entry.provider.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(&call.provider));
            is_provider
                && entry.tier == terms.tier
                && entry.from.as_ref().is_none_or(|(from, _)| *from <= ts)
                && (item.tokens.web_searches == 0 || entry.web_searches_usd.is_some())
                && entry.model.matches(model)
        };
        let entry = item.models.iter().find_map(|model| {
            let from = |entry: &&Entry| entry.from.as_ref().map(|(from, _)| *from);
            self.entries.iter().filter(|entry| fits(model, entry)).max_by_key(from)
        })?;
        let from = entry.from.as_ref().map(|(_, date)| date);
        Some(Price {
            usd: entry.usd(&item.tokens),
            source: self.name.clone(),
            date: self.date.as_ref().or(from).cloned(),
            entry: match &entry.provider {
                Some(provider) => format!("{provider}/{}", entry.model_text),
                None => entry.model_text.clone(),
            },
            terms: terms.tier.as_str().to_owned(),
        })
    }
}

impl Entry {
    fn usd(&self, tokens: &Tokens) -> f64 {
        let total_input = tokens.total_input();
        let long = self.long_context.iter().rev().find(|(over, _)| total_input > *over);
        let rates = long.map_or(&self.rates, |(_, rates)| rates);
        let cache_write_5m = tokens.cache_write.saturating_sub(tokens.cache_write_1h);
        let parts = [
            (tokens.input, rates.input),
            (tokens.cache_read, rates.cache_read),
            (cache_write_5m, rates.cache_write),
            (tokens.cache_write_1h, rates.cache_write_1h),
            (tokens.output, rates.output),
        ];
        let of_tokens: f64 = parts.iter().map(|(tokens, usd)| *tokens as f64 * usd / 1e6).sum();
        let per_thousand = self.web_searches_usd.unwrap_or(0.0);
        of_tokens + tokens.web_searches as f64 * per_thousand / 1e3
    }
}
