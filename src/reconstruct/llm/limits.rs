//! How much of a provider's limits is used, as heads of responses and messages of WebSockets say.
//!
//! Each provider spells it in its own way: several fields are one limit. Names lose the prefix that
//! all of a provider's limits have. Sources: the providers' API references, and names found in the
//! clients that read them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::dates;
use super::reply::text;
use crate::reconstruct::finding::{Header, Limit};
use crate::time::WallNanos;

/// Limits read from one head.
const MAX_LIMITS: usize = 256;

/// What a head says of limits, in the order of their names.
pub(super) fn of_head(http_id: u64, ts: WallNanos, headers: &[Header]) -> Vec<Limit> {
    let mut found = Found { http_id, ts, by_name: BTreeMap::new() };
    for (name, value) in headers {
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
            found.anthropic(rest, value);
        } else if let Some(rest) = name.strip_prefix("x-ratelimit-") {
            found.openai(rest, value);
        } else if let Some(rest) = name.strip_prefix("x-quota-snapshot-") {
            found.copilot(rest, value);
        } else if name.starts_with("x-usage-ratelimit-") {
            found.copilot(&name["x-".len()..], value);
        } else if let Some(rest) = name.strip_prefix("x-") {
            found.codex(rest, value);
        }
    }
    let is_told = |limit: &Limit| {
        limit.limit.is_some()
            || limit.remaining.is_some()
            || limit.used_percent.is_some()
            || limit.reset_ts.is_some()
            || limit.status.is_some()
    };
    found.by_name.into_values().filter(is_told).map(with_share).collect()
}

/// The share follows where what is allowed and what is left are known.
fn with_share(limit: Limit) -> Limit {
    let share = |allowed: f64, left: f64| {
        (allowed > 0.0).then(|| ((allowed - left) / allowed * 100.0).clamp(0.0, 100.0))
    };
    let used_percent = limit.used_percent.or_else(|| share(limit.limit?, limit.remaining?));
    Limit { used_percent, ..limit }
}

struct Found {
    http_id: u64,
    ts: WallNanos,
    by_name: BTreeMap<String, Limit>,
}

impl Found {
    fn named(&mut self, name: &str) -> Option<&mut Limit> {
        if self.by_name.len() >= MAX_LIMITS && !self.by_name.contains_key(name) {
            return None;
        }
        let (http_id, ts) = (self.http_id, self.ts);
        Some(self.by_name.entry(name.to_owned()).or_insert_with(|| new(http_id, ts, name)))
    }

    /// `NAME-limit`, `NAME-remaining`, `NAME-reset` (RFC 3339); and for subscriptions `unified-status`,
    /// `unified-WINDOW-utilization` (0 to 1), `unified-WINDOW-reset` (seconds since 1970).
    fn anthropic(&mut self, rest: &str, value: &str) {
        let Some((name, field)) = rest.rsplit_once('-') else { return };
        let is_unified = name == "unified" || name.starts_with("unified-");
        let known = ["limit", "remaining", "reset", "utilization", "status"];
        if !known.contains(&field) {
            return;
        }
        let Some(limit) = self.named(name) else { return };
        match field {
            "limit" => limit.limit = number(value),
            "remaining" => limit.remaining = number(value),
            "reset" => {
                limit.reset_ts = dates::rfc3339(value).or_else(|| dates::epoch(number(value)?));
            }
            "utilization" if is_unified => {
                limit.used_percent = number(value).map(|share| share * 100.0);
            }
            "status" => limit.status = word(value),
            _ => {}
        }
    }

    /// `limit-NAME`, `remaining-NAME`, `reset-NAME`, or the words alone; resets are durations, seconds
    /// or times.
    fn openai(&mut self, rest: &str, value: &str) {
        let (field, name) = rest.split_once('-').unwrap_or((rest, "requests"));
        if !["limit", "remaining", "reset"].contains(&field) {
            return;
        }
        let ts = self.ts;
        let Some(limit) = self.named(name) else { return };
        match field {
            "limit" => limit.limit = number(value),
            "remaining" => limit.remaining = number(value),
            _ => limit.reset_ts = reset(ts, value),
        }
    }

    /// `FAMILY-primary-used-percent`, ... `-window-minutes`, `-reset-at`, `-reset-after-seconds`, and
    /// `codex-credits-balance`.
    fn codex(&mut self, rest: &str, value: &str) {
        if let Some(field) = rest.strip_prefix("codex-credits-") {
            let Some(limit) = self.named("credits") else { return };
            match field {
                "balance" => limit.remaining = number(value),
                "unlimited" if value.eq_ignore_ascii_case("true") => {
                    limit.status = word("unlimited");
                }
                _ => {}
            }
            return;
        }
        let window = ["primary", "secondary"]
            .iter()
            .find_map(|window| Some((*window, rest.split_once(&format!("-{window}-"))?)));
        let Some((window, (family, field))) = window else { return };
        let known = ["used-percent", "reset-at", "reset-after-seconds"];
        if !known.contains(&field) {
            return;
        }
        let family = family.strip_prefix("codex-").unwrap_or(family);
        let name = match family {
            "codex" => window.to_owned(),
            family => format!("{family}-{window}"),
        };
        let ts = self.ts;
        let Some(limit) = self.named(&name) else { return };
        match field {
            "used-percent" => limit.used_percent = number(value),
            "reset-at" => limit.reset_ts = number(value).and_then(dates::epoch),
            _ => {
                let later = number(value).and_then(|seconds| dates::later(ts, seconds * 1e3));
                limit.reset_ts = limit.reset_ts.or(later);
            }
        }
    }

    /// `ent=300&rem=98.2&rst=TIME`: what is allowed (-1 without limit), percent left, when anew.
    fn copilot(&mut self, name: &str, value: &str) {
        let Some(limit) = self.named(name) else { return };
        for pair in value.split('&') {
            let Some((field, value)) = pair.split_once('=') else { continue };
            match field {
                "ent" => match number(value) {
                    Some(allowed) if allowed < 0.0 => limit.status = word("unlimited"),
                    allowed => limit.limit = allowed,
                },
                "rem" => {
                    limit.used_percent = number(value).map(|left| (100.0 - left).clamp(0.0, 100.0));
                }
                "rst" => limit.reset_ts = dates::rfc3339(&value.replace("%3A", ":")),
                _ => {}
            }
        }
    }
}

/// What a message of Codex's WebSocket says: windows, each with the share that is used.
pub(super) fn of_event(http_id: u64, ts: WallNanos, data: &Value, found: &mut dyn FnMut(Limit)) {
    let family = text(data, "metered_limit_name").or_else(|| text(data, "limit_name"));
    let family = family.filter(|family| family != "codex");
    let Some(limits) = data["rate_limits"].as_object() else { return };
    for (window, said) in limits.iter().take(MAX_LIMITS) {
        let Some(used_percent) = said["used_percent"].as_f64() else { continue };
        let name = match &family {
            Some(family) => format!("{family}-{window}"),
            None => window.clone(),
        };
        let after = || dates::later(ts, said["reset_after_seconds"].as_f64()? * 1e3);
        found(Limit {
            used_percent: Some(used_percent),
            reset_ts: said["reset_at"].as_f64().and_then(dates::epoch).or_else(after),
            ..new(http_id, ts, &name)
        });
    }
}

fn new(http_id: u64, ts: WallNanos, name: &str) -> Limit {
    let name = name.to_owned();
    Limit {
        http_id,
        ts,
        name,
        limit: None,
        remaining: None,
        used_percent: None,
        reset_ts: None,
        status: None,
    }
}

fn number(value: &str) -> Option<f64> {
    value.parse().ok().filter(|number: &f64| number.is_finite())
}

fn word(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// A duration as Go writes it, seconds from now, seconds or milliseconds since 1970, or a date.
fn reset(ts: WallNanos, value: &str) -> Option<WallNanos> {
    match number(value) {
        // A million seconds are twelve days, and 1970-01-12.
        Some(seconds) if seconds < 1e6 => dates::later(ts, seconds * 1e3),
        Some(number) => dates::epoch(number),
        None => dates::rfc3339(value).or_else(|| dates::later(ts, dates::go_duration_ms(value)?)),
    }
}

/// How long a response asks to wait before the next try. A date counts from the response's own where
/// it has one, since clocks differ.
pub(super) fn retry_after_ms(ts: WallNanos, headers: &[Header]) -> Option<f64> {
    let value = |wanted: &str| {
        let field = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        field.map(|(_, value)| value.trim())
    };
    let not_negative = |number: &f64| *number >= 0.0;
    if let Some(ms) = value("retry-after-ms").and_then(number).filter(not_negative) {
        return Some(ms);
    }
    let after = value("retry-after")?;
    if let Some(seconds) = number(after).filter(not_negative) {
        return Some(seconds * 1e3);
    }
    let now = value("date").and_then(dates::http_date).unwrap_or(ts);
    dates::http_date(after).map(|then| then.ms_since(now).max(0.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TS: WallNanos = WallNanos(1_795_176_000_000_000_000);

    fn head(fields: &[(&str, &str)]) -> Vec<Header> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn limits(fields: &[(&str, &str)]) -> Vec<Limit> {
        of_head(7, TS, &head(fields))
    }

    fn in_seconds(seconds: i64) -> Option<WallNanos> {
        Some(WallNanos(TS.0 + seconds * 1_000_000_000))
    }

    #[test]
    fn counts_of_an_api_key() {
        let found = limits(&[
            ("anthropic-ratelimit-input-tokens-limit", "40000"),
            ("Anthropic-RateLimit-Input-Tokens-Remaining", "30000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-20T12:00:05Z"),
        ]);
        let expected = Limit {
            limit: Some(40000.0),
            remaining: Some(30000.0),
            used_percent: Some(25.0),
            reset_ts: in_seconds(5),
            ..new(7, TS, "input-tokens")
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn shares_of_a_subscription() {
        let found = limits(&[
            ("anthropic-ratelimit-unified-status", "allowed_warning"),
            ("anthropic-ratelimit-unified-5h-utilization", "0.25"),
            ("anthropic-ratelimit-unified-5h-reset", "1795176060"),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
            ("anthropic-ratelimit-unified-fallback-percentage", "0.5"),
        ]);
        let [all, window] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&*all.name, all.status.as_deref()), ("unified", Some("allowed_warning")));
        assert_eq!((&*window.name, window.used_percent), ("unified-5h", Some(25.0)));
        assert_eq!(window.reset_ts, in_seconds(60));
    }

    #[test]
    fn durations_and_times_of_compatible_servers() {
        let found = limits(&[
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("X-RateLimit-Limit", "20"),
            ("X-RateLimit-Reset", "1795176001000"),
        ]);
        let [requests, tokens] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&*requests.name, requests.reset_ts), ("requests", in_seconds(1)));
        assert_eq!((tokens.used_percent, tokens.reset_ts), (Some(100.0), in_seconds(360)));
    }

    #[test]
    fn windows_of_codex_in_heads_and_messages() {
        let found = limits(&[
            ("x-codex-primary-used-percent", "12.5"),
            ("x-codex-primary-window-minutes", "300"),
            ("x-codex-primary-reset-at", "1795176009"),
            ("x-codex-bengal-fox-secondary-used-percent", "3"),
            ("x-codex-credits-balance", "17"),
            ("x-request-id", "primary"),
        ]);
        let names: Vec<_> = found.iter().map(|limit| &*limit.name).collect();
        assert_eq!(names, ["bengal-fox-secondary", "credits", "primary"]);
        assert_eq!(found[2].reset_ts, in_seconds(9));
        let message = json!({ "rate_limits": {
            "primary": { "used_percent": 12.5, "window_minutes": 300, "reset_at": 1_795_176_009 },
            "secondary": null,
        } });
        let mut told = Vec::new();
        of_event(7, TS, &message, &mut |limit| told.push(limit));
        assert_eq!(told, found[2..]);
    }

    #[test]
    fn quotas_of_copilot() {
        let value = "ent=300&ov=0.0&ovPerm=false&rem=98.5&rst=2026-11-20T12%3A00%3A05Z";
        let found = limits(&[("x-quota-snapshot-premium_models", value)]);
        let [quota] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&*quota.name, quota.limit), ("premium_models", Some(300.0)));
        assert_eq!((quota.used_percent, quota.reset_ts), (Some(1.5), in_seconds(5)));
        let found = limits(&[("x-quota-snapshot-chat", "ent=-1&rem=100.0")]);
        assert_eq!(found[0].status.as_deref(), Some("unlimited"));
    }

    #[test]
    fn heads_that_say_nothing_give_nothing() {
        let empty: [Limit; 0] = [];
        assert_eq!(limits(&[("x-ratelimit-limit-tokens", "many"), ("x-", ""), ("a", "b")]), empty);
    }

    #[test]
    fn a_wait_is_told_in_three_ways() {
        let wait = |fields: &[(&str, &str)]| retry_after_ms(TS, &head(fields));
        assert_eq!(wait(&[("Retry-After", "2"), ("retry-after-ms", "1500")]), Some(1500.0));
        assert_eq!(wait(&[("Retry-After", "2")]), Some(2000.0));
        let then = ("retry-after", "Fri, 20 Nov 2026 12:00:30 GMT");
        assert_eq!(wait(&[then]), Some(30_000.0));
        assert_eq!(wait(&[then, ("date", "Fri, 20 Nov 2026 12:00:20 GMT")]), Some(10_000.0));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
    }
}
