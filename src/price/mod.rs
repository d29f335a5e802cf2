//! What calls to models cost, at list prices.
//!
//! A call becomes a bill (which tokens, of which model, at which terms), and each item of it is
//! paid at the price of a file that the user gave (`file`), else of the built-in list. What a
//! provider itself says a call cost wins over both. A price that is not known is no price: the cost
//! is `None` and [`Unpriced`] says why, so that unpriced calls can be counted. Nothing here reads a
//! file or a clock. Subscriptions and discounts are not known here: what was spent under one is what
//! the same calls would cost at list prices.

mod bill;
mod file;
mod list;
mod terms;

pub use file::{MAX_FILE_BYTES, PriceFile, PriceFileError};
pub use list::{LIST_DATE, LIST_NAME};

use self::bill::{Bill, Item};
use self::terms::Terms;
use crate::reconstruct::finding::{LlmCall, Usage};

/// The `price_source` of costs that the provider itself reported.
pub const REPORTED: &str = "reported";

/// The `price_source` of calls that nobody pays for.
pub const FREE: &str = "free";

/// Why a call has no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unpriced {
    /// No token counts are known.
    Usage,
    /// Neither host nor provider is in a price list.
    Provider,
    /// The provider's list has no price for the model, or the call names none.
    Model,
    /// The model's price for the service tier, at the time of the call, is not known.
    Tier,
    /// The counts contradict each other, or are of a kind that the list has no price for.
    Counts,
}

impl Unpriced {
    /// The value of the `unpriced_reason` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Tier => "tier",
            Self::Counts => "counts",
        }
    }
}

/// What a call cost, and how that is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// US dollars; `None` when a price it needs is not known.
    pub usd: Option<f64>,
    /// Where the price is from: [`REPORTED`], [`FREE`], the name of the built-in list or of the
    /// user's file.
    pub source: Option<String>,
    /// Date of that list or file, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// Entries of the list that were used.
    pub model: Option<String>,
    /// What the price is for: the service tier, and what comes on top.
    pub terms: Option<String>,
    /// Why there is no cost.
    pub unpriced: Option<Unpriced>,
}

impl Cost {
    fn unpriced(reason: Unpriced) -> Self {
        Self { unpriced: Some(reason), ..Self::default() }
    }

    fn settled(usd: f64, source: &str) -> Self {
        Self { usd: Some(usd), source: Some(source.to_owned()), ..Self::default() }
    }
}

/// What one item of a bill costs.
#[derive(Clone, Debug, PartialEq)]
struct Price {
    usd: f64,
    source: String,
    date: Option<String>,
    /// Entry of the list.
    entry: String,
    terms: String,
}

/// The prices to be used: the built-in list, and what the user puts before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    file: Option<PriceFile>,
}

impl Prices {
    /// The built-in list, with a file whose entries come before it.
    #[must_use]
    pub fn with_file(file: PriceFile) -> Self {
        Self { file: Some(file) }
    }

    /// What a call cost by the counts that its provider reported; of a call that was cut, at least.
    #[must_use]
    pub fn cost(&self, call: &LlmCall) -> Cost {
        self.cost_of(call, &call.usage)
    }

    /// What a call would have cost with other counts than those it reported, such as estimates.
    #[must_use]
    pub fn cost_of(&self, call: &LlmCall, usage: &Usage) -> Cost {
        let (items, terms) = match bill::of(call, usage) {
            Bill::Free => return Cost::settled(0.0, FREE),
            Bill::Reported(usd) => return Cost::settled(usd, REPORTED),
            Bill::Unpriced(reason) => return Cost::unpriced(reason),
            Bill::Items { items, terms } => (items, terms),
        };
        let mut cost = Cost { usd: Some(0.0), ..Cost::default() };
        for item in &items {
            let price = match self.price(call, item, &terms) {
                Ok(price) => price,
                Err(reason) => return Cost::unpriced(reason),
            };
            cost.usd = cost.usd.map(|usd| usd + price.usd);
            add(&mut cost.source, &price.source);
            price.date.iter().for_each(|date| add(&mut cost.date, date));
            add(&mut cost.model, &price.entry);
            add(&mut cost.terms, &price.terms);
        }
        cost
    }

    fn price(&self, call: &LlmCall, item: &Item, terms: &Terms) -> Result<Price, Unpriced> {
        let ts = call.exchange.start_ts;
        let own = self.file.as_ref().and_then(|file| file.price(call, item, terms, ts));
        own.map_or_else(|| list::price(call, item, terms, ts), Ok)
    }
}

/// Adds a word to a list of different words, separated by `, `.
fn add(list: &mut Option<String>, word: &str) {
    match list {
        None => *list = Some(word.to_owned()),
        Some(words) if words.split(", ").any(|known| known == word) => {}
        Some(words) => {
            words.push_str(", ");
            words.push_str(word);
        }
    }
}

#[cfg(test)]
mod tests;
