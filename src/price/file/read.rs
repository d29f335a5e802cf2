//! From the text of a price file to its entries, each value checked.

use serde_json::{Map, Value};

use super::pattern::Pattern;
use super::{Entry, MAX_FILE_BYTES, PriceFile, PriceFileError, Rates};
use crate::price::terms::Tier;
use crate::time::WallNanos;

/// Longest name, pattern or word in a file, characters.
const MAX_TEXT_CHARS: usize = 256;

/// Context tiers of one entry at most; list prices have one.
const MAX_LONG_CONTEXTS: usize = 16;

/// Highest price, US dollars per million tokens or thousand searches: far above any, and far below
/// where sums would lose cents.
const MAX_USD: f64 = 1e6;

/// Longest part of a wrong value that an error repeats, characters.
const MAX_FOUND_CHARS: usize = 60;

const DAY_NS: i64 = 86_400_000_000_000;

type Result<T> = std::result::Result<T, PriceFileError>;

pub(super) fn parse(json: &str, name: &str) -> Result<PriceFile> {
    let found = json.len() as u64;
    if found > MAX_FILE_BYTES {
        return Err(PriceFileError::TooLarge { found });
    }
    let value: Value =
        serde_json::from_str(json).map_err(|error| PriceFileError::Json(error.to_string()))?;
    let file = Object::new(&value, "file", &["name", "date", "prices"])?;
    let name = file.optional("name", text)?.unwrap_or(name).to_owned();
    let date = file.optional("date", day)?.map(|(_, date)| date);
    let list = file.required("prices", "an array", Value::as_array)?;
    let entries = list.iter().enumerate();
    let entries =
        entries.map(|(at, value)| entry(value, &format!("prices[{at}]"))).collect::<Result<_>>()?;
    Ok(PriceFile { name, date, entries })
}

fn entry(value: &Value, at: &str) -> Result<Entry> {
    const FIELDS: &[&str] = &[
        "provider",
        "model",
        "tier",
        "from",
        "usd_per_million_tokens",
        "long_context",
        "usd_per_thousand_web_searches",
    ];
    let entry = Object::new(value, at, FIELDS)?;
    let model_text = entry.required("model", TEXT, text_of)?;
    let tier = entry.optional("tier", text)?.map_or(Tier::Standard, Tier::named);
    if let Tier::Other(word) = &tier {
        return Err(entry.wrong("tier", "standard, flex, priority, fast or batch", word));
    }
    let place = |name: &str| format!("{at}.{name}");
    let rates = entry.field("usd_per_million_tokens");
    let rates = rates.ok_or_else(|| entry.missing("usd_per_million_tokens", "an object"))?;
    Ok(Entry {
        provider: entry.optional("provider", text)?.map(str::to_owned),
        model: Pattern::new(model_text),
        model_text: model_text.to_owned(),
        tier,
        from: entry.optional("from", day)?,
        rates: self::rates(rates, &place("usd_per_million_tokens"))?,
        long_context: match entry.field("long_context") {
            Some(value) => long_context(value, &place("long_context"))?,
            None => Vec::new(),
        },
        web_searches_usd: entry.optional("usd_per_thousand_web_searches", usd)?,
    })
}

fn rates(value: &Value, at: &str) -> Result<Rates> {
    const FIELDS: &[&str] = &["input", "output", "cache_read", "cache_write", "cache_write_1h"];
    let rates = Object::new(value, at, FIELDS)?;
    let input = rates.required("input", USD, usd_of)?;
    // What has no price of its own is input like any other; an hour costs what five minutes do.
    let cache_write = rates.optional("cache_write", usd)?.unwrap_or(input);
    Ok(Rates {
        input,
        output: rates.required("output", USD, usd_of)?,
        cache_read: rates.optional("cache_read", usd)?.unwrap_or(input),
        cache_write,
        cache_write_1h: rates.optional("cache_write_1h", usd)?.unwrap_or(cache_write),
    })
}

fn long_context(value: &Value, at: &str) -> Result<Vec<(u64, Rates)>> {
    let list = value.as_array().filter(|list| list.len() <= MAX_LONG_CONTEXTS);
    let expected = format!("an array of at most {MAX_LONG_CONTEXTS}");
    let list = list.ok_or_else(|| wrong(at, &expected, &value.to_string()))?;
    let mut tiers: Vec<(u64, Rates)> = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let tier = Object::new(value, &at, &["over_input_tokens", "usd_per_million_tokens"])?;
        let over = tier.required("over_input_tokens", "a count of tokens", Value::as_u64)?;
        if tiers.last().is_some_and(|(before, _)| *before >= over) {
            let expected = "more tokens than the one before";
            return Err(tier.wrong("over_input_tokens", expected, &over.to_string()));
        }
        let rates = tier.field("usd_per_million_tokens");
        let rates = rates.ok_or_else(|| tier.missing("usd_per_million_tokens", "an object"))?;
        tiers.push((over, self::rates(rates, &format!("{at}.usd_per_million_tokens"))?));
    }
    Ok(tiers)
}

/// A JSON object of which the fields are known.
struct Object<'a> {
    fields: &'a Map<String, Value>,
    at: &'a str,
}

/// How an optional field is read: what it should be, and how it becomes a value.
type Reading<'a, T> = (&'static str, fn(&'a Value) -> Option<T>);

const TEXT: &str = "a text of 1 to 256 characters";
const USD: &str = "a price in US dollars, 0 to 1000000";

fn text_of(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| (1..=MAX_TEXT_CHARS).contains(&text.chars().count()))
}

fn usd_of(value: &Value) -> Option<f64> {
    value.as_f64().filter(|usd| (0.0..=MAX_USD).contains(usd))
}

fn day_of(value: &Value) -> Option<(WallNanos, String)> {
    let text = value.as_str()?;
    Some((midnight(text)?, text.to_owned()))
}

fn text<'a>() -> Reading<'a, &'a str> {
    (TEXT, text_of)
}

fn usd<'a>() -> Reading<'a, f64> {
    (USD, usd_of)
}

fn day<'a>() -> Reading<'a, (WallNanos, String)> {
    ("a date as YYYY-MM-DD", day_of)
}

impl<'a> Object<'a> {
    fn new(value: &'a Value, at: &'a str, known: &[&str]) -> Result<Self> {
        let fields = value.as_object();
        let fields = fields.ok_or_else(|| wrong(at, "an object", &value.to_string()))?;
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(wrong(at, &format!("only the fields {}", known.join(", ")), name));
        }
        Ok(Self { fields, at })
    }

    fn field(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name)
    }

    fn optional<T>(&self, name: &str, reading: fn() -> Reading<'a, T>) -> Result<Option<T>> {
        let (expected, read) = reading();
        let Some(value) = self.field(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.wrong(name, expected, &value.to_string()))
    }

    fn required<T>(
        &self,
        name: &str,
        expected: &str,
        read: fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.field(name).ok_or_else(|| self.missing(name, expected))?;
        read(value).ok_or_else(|| self.wrong(name, expected, &value.to_string()))
    }

    fn missing(&self, name: &str, expected: &str) -> PriceFileError {
        self.wrong(name, expected, "nothing")
    }

    fn wrong(&self, name: &str, expected: &str, found: &str) -> PriceFileError {
        wrong(&format!("{}.{name}", self.at), expected, found)
    }
}

fn wrong(at: &str, expected: &str, found: &str) -> PriceFileError {
    let mut short: String = found.chars().take(MAX_FOUND_CHARS).collect();
    if short.len() < found.len() {
        short.push_str("...");
    }
    PriceFileError::Value { at: at.to_owned(), expected: expected.to_owned(), found: short }
}

/// Midnight UTC of a day of the years 1970 to 2199 written as `YYYY-MM-DD`.
fn midnight(text: &str) -> Option<WallNanos> {
    let number = |range| -> Option<i64> {
        let digits: &str = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let dashes = text.len() == 10 && text.get(4..5)? == "-" && text.get(7..8)? == "-";
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of = |month, year| match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_day = (1970..2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(month, year)).contains(&day);
    if !dashes || !is_day {
        return None;
    }
    let years: i64 = (1970..year).map(|year| 365 + i64::from(is_leap(year))).sum();
    let months: i64 = (1..month).map(|month| days_of(month, year)).sum();
    Some(WallNanos((years + months + day - 1) * DAY_NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_has_them() {
        assert_eq!(midnight("1970-01-01"), Some(WallNanos(0)));
        assert_eq!(midnight("2026-01-01"), Some(WallNanos(1_767_225_600_000_000_000)));
        assert_eq!(midnight("2024-02-29"), Some(WallNanos(1_709_164_800_000_000_000)));
        for wrong in
            ["2025-02-29", "2026-13-01", "2026-1-01", "2026-01-00", "1969-12-31", "é026-01-01"]
        {
            assert_eq!(midnight(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = |json: &str| parse(json, "f").unwrap_err().to_string();
        assert!(error("{").starts_with("expected JSON: "), "{}", error("{"));
        assert_eq!(error("[]"), "file: expected an object, found []");
        assert_eq!(error("{}"), "file.prices: expected an array, found nothing");
        let entry = |entry: &str| error(&format!(r#"{{"prices": [{entry}]}}"#));
        assert_eq!(
            entry(r#"{"model": "m", "usd_per_million_tokens": {"input": "3", "output": 1}}"#),
            "prices[0].usd_per_million_tokens.input: \
             expected a price in US dollars, 0 to 1000000, found \"3\""
        );
        assert_eq!(
            entry(r#"{"model": "m", "form": "2026-01-01"}"#),
            "prices[0]: expected only the fields provider, model, tier, from, \
             usd_per_million_tokens, long_context, usd_per_thousand_web_searches, found form"
        );
        assert_eq!(
            entry(r#"{"model": "m", "tier": "gold"}"#),
            "prices[0].tier: expected standard, flex, priority, fast or batch, found gold"
        );
        assert_eq!(
            entry(r#"{"model": "m", "usd_per_million_tokens": {"input": 1, "output": -1}}"#),
            "prices[0].usd_per_million_tokens.output: \
             expected a price in US dollars, 0 to 1000000, found -1"
        );
        let long = "x".repeat(300);
        assert!(entry(&format!(r#"{{"model": "{long}"}}"#)).ends_with("xxx..."));
        let large = " ".repeat(MAX_FILE_BYTES as usize + 1);
        assert_eq!(error(&large), "expected at most 4194304 bytes, found 4194305");
    }

    #[test]
    fn context_tiers_rise() {
        let tier = |over: u64| {
            format!(
                r#"{{"over_input_tokens": {over},
                     "usd_per_million_tokens": {{"input": 2, "output": 2}}}}"#
            )
        };
        let file = |tiers: [u64; 2]| {
            let tiers = tiers.map(tier).join(", ");
            let rates = r#"{"input": 1, "output": 1}"#;
            let entry = format!(
                r#"{{"model": "*", "usd_per_million_tokens": {rates}, "long_context": [{tiers}]}}"#
            );
            parse(&format!(r#"{{"prices": [{entry}]}}"#), "f")
        };
        assert_eq!(file([10, 20]).unwrap().entries[0].long_context.len(), 2);
        assert_eq!(
            file([20, 20]).unwrap_err().to_string(),
            "prices[0].long_context[1].over_input_tokens: \
             expected more tokens than the one before, found 20"
        );
    }
}
