//! Costs against list prices written in a table, and what no table row can say.

use super::*;
use crate::reconstruct::finding::{CallClass, Exchange};
use crate::time::WallNanos;

/// The table: each row has a call, the list prices that apply to it and the cost they make.
const CASES: &str = include_str!("../../fixtures/prices/cases.csv");

/// How far a cost may be from the one in the table.
const TOLERANCE: f64 = 0.005;

fn call(provider: &str, host: &str, ts: WallNanos) -> LlmCall {
    let exchange = Exchange {
        method: Some("POST".into()),
        host: Some(host.into()),
        path: Some("/v1/x".into()),
        status: Some(200),
        ..Exchange::new(1, 1, ts)
    };
    LlmCall::new(exchange, provider, "any", "http")
}

/// Noon UTC of a day.
fn noon(date: &str) -> WallNanos {
    let mut parts = date.split('-').map(|part| part.parse::<i64>().unwrap());
    let (y, m, d) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    // Days from civil, counted from March so that the leap day is the last of a year.
    let (y, m) = if m <= 2 { (y - 1, m + 9) } else { (y, m - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + d - 1 - 719_468;
    WallNanos((days * 24 + 12) * 3_600_000_000_000)
}

fn claude(usage_json: &str) -> LlmCall {
    let mut call = call("anthropic", "api.anthropic.com", noon("2026-11-01"));
    call.model = Some("claude-opus-5".into());
    call.usage = Usage {
        input_tokens: Some(1000),
        output_tokens: Some(1000),
        usage_json: Some(usage_json.into()),
        ..Usage::default()
    };
    call
}

fn usd(call: &LlmCall) -> f64 {
    let cost = Prices::default().cost(call);
    cost.usd.unwrap_or_else(|| panic!("{cost:?}"))
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= TOLERANCE * expected
}

#[test]
fn costs_are_list_price_times_usage() {
    let mut lines = CASES.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut cases = 0;
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), names.len(), "{line}");
        let cell = |name| cells[names.iter().position(|it| *it == name).unwrap()];
        let text = |name| Some(cell(name)).filter(|it| !it.is_empty()).map(String::from);
        let count = |name| cell(name).parse::<u64>().unwrap();
        let mut call = call(cell("provider"), cell("host"), noon(cell("date")));
        call.request_model = text("request_model");
        call.model = text("model");
        call.request_tier = text("request_tier");
        call.tier = text("tier");
        call.usage = Usage {
            input_tokens: Some(count("input_tokens")),
            cache_read_tokens: Some(count("cache_read_tokens")),
            cache_creation_tokens: Some(count("cache_write_tokens")),
            cache_creation_1h_tokens: Some(count("cache_write_1h_tokens")),
            output_tokens: Some(count("output_tokens")),
            ..Usage::default()
        };
        let cost = Prices::default().cost(&call);
        let unpriced = cost.unpriced.map(Unpriced::as_str).unwrap_or_default();
        assert_eq!(unpriced, cell("unpriced"), "{line}\n{cost:?}");
        assert_eq!(cost.usd.is_some(), cost.unpriced.is_none(), "{line}");
        if let Some(usd) = cost.usd {
            let price = |name| cell(name).parse::<f64>().unwrap();
            let write_5m = count("cache_write_tokens") - count("cache_write_1h_tokens");
            let expected = (count("input_tokens") as f64 * price("usd_input")
                + count("cache_read_tokens") as f64 * price("usd_cache_read")
                + write_5m as f64 * price("usd_cache_write")
                + count("cache_write_1h_tokens") as f64 * price("usd_cache_write_1h")
                + count("output_tokens") as f64 * price("usd_output"))
                / 1e6;
            assert!((expected - price("cost_usd")).abs() < 1e-8, "the table itself: {line}");
            assert!(near(usd, expected), "{line}\nexpected {expected}, found {cost:?}");
            assert_eq!(cost.source.as_deref(), Some(LIST_NAME));
            assert_eq!(cost.date.as_deref(), Some(LIST_DATE));
        }
        cases += 1;
    }
    assert!(cases >= 40, "{cases}");
}

#[test]
fn iterations_are_paid_each_at_its_models_price() {
    let call = claude(
        r#"{"iterations": [
            {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
            {"type": "advisor_message", "model": "claude-haiku-4-5", "input_tokens": 1000,
             "output_tokens": 100, "cache_read_input_tokens": 0},
            {"type": "message", "input_tokens": 2000, "output_tokens": 1000,
             "cache_creation": {"ephemeral_1h_input_tokens": 400, "ephemeral_5m_input_tokens": 600}}
        ], "server_tool_use": {"web_search_requests": 3}}"#,
    );
    let compaction = (180_000.0 * 5.0 + 3_500.0 * 25.0) / 1e6;
    let advisor = (1_000.0 * 1.0 + 100.0 * 5.0) / 1e6;
    let message = (2_000.0 * 5.0 + 600.0 * 6.25 + 400.0 * 10.0 + 1_000.0 * 25.0) / 1e6;
    let cost = Prices::default().cost(&call);
    assert!(near(cost.usd.unwrap(), compaction + advisor + message + 3.0 * 0.01), "{cost:?}");
    let models = "anthropic/claude-opus-5, anthropic/claude-haiku-4-5";
    assert_eq!(cost.model.as_deref(), Some(models));
    let unknown = claude(r#"{"iterations": [{"input_tokens": 1}, {"model": "who"}]}"#);
    assert_eq!(Prices::default().cost(&unknown).unpriced, Some(Unpriced::Model));
}

#[test]
fn searches_and_regions_cost_more_and_audio_has_its_own_price() {
    let plain = usd(&claude("{}"));
    assert!(near(plain, 0.03));
    let searched = usd(&claude(r#"{"server_tool_use": {"web_search_requests": 2}}"#));
    assert!(near(searched, 0.03 + 0.02));
    let geo = r#"{"inference_geo": "us", "server_tool_use": {"web_search_requests": 2}}"#;
    assert!(near(usd(&claude(geo)), 0.03 * 1.1 + 0.02), "no surcharge on searches");
    let terms = Prices::default().cost(&claude(geo)).terms.unwrap();
    assert_eq!(terms, "standard; inference in the US x1.1");
    let fast = usd(&claude(r#"{"service_tier": "standard", "speed": "fast"}"#));
    assert!(near(fast, 0.06));
    let mut heard = call("gcp.gemini", "generativelanguage.googleapis.com", noon("2026-01-15"));
    heard.model = Some("gemini-2.5-flash".into());
    heard.usage = Usage {
        input_tokens: Some(10_000),
        output_tokens: Some(0),
        usage_json: Some(
            r#"{"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 2000},
                {"modality": "AUDIO", "tokenCount": 8000}]}"#
                .into(),
        ),
        ..Usage::default()
    };
    assert!(near(usd(&heard), (2_000.0 * 0.3 + 8_000.0 * 1.0) / 1e6));
}

#[test]
fn what_the_provider_says_it_cost_wins() {
    let mut call = claude(r#"{"cost": 0.5}"#);
    call.usage.reported_cost_usd = Some(0.5);
    let cost = Prices::default().cost(&call);
    assert_eq!((cost.usd, cost.source.as_deref()), (Some(0.5), Some(REPORTED)));
    let own_key = r#"{"is_byok": true, "cost_details": {"upstream_inference_cost": 0.25}}"#;
    call.usage.usage_json = Some(own_key.into());
    assert_eq!(Prices::default().cost(&call).usd, Some(0.75));
    call.usage.reported_cost_usd = Some(f64::NAN);
    assert_eq!(Prices::default().cost(&call).source.as_deref(), Some(LIST_NAME));
}

#[test]
fn counting_and_refusals_are_free_and_silence_is_not() {
    let mut counted = claude("{}");
    counted.exchange.path = Some("/v1/messages/count_tokens?beta=true".into());
    let cost = Prices::default().cost(&counted);
    assert_eq!((cost.usd, cost.source.as_deref()), (Some(0.0), Some(FREE)));
    let mut classed = claude("{}");
    classed.placement.class = CallClass::CountTokens;
    assert_eq!(Prices::default().cost(&classed).usd, Some(0.0));
    let mut refused = claude("{}");
    refused.usage = Usage::default();
    assert_eq!(Prices::default().cost(&refused).unpriced, Some(Unpriced::Usage));
    refused.exchange.status = Some(429);
    assert_eq!(Prices::default().cost(&refused).usd, Some(0.0));
}

#[test]
fn a_cut_call_costs_at_least_its_input() {
    let mut cut = claude("{}");
    cut.usage.output_tokens = None;
    assert!(near(usd(&cut), 0.005));
    let estimated = Usage { output_tokens: Some(2000), ..cut.usage.clone() };
    assert!(near(Prices::default().cost_of(&cut, &estimated).usd.unwrap(), 0.055));
}

#[test]
fn hostile_counts_end_in_no_price_or_a_finite_one() {
    let mut call = claude(r#"{"iterations": [], "server_tool_use": 7, "inference_geo": []}"#);
    call.usage.input_tokens = Some(u64::MAX);
    call.usage.cache_read_tokens = Some(u64::MAX);
    call.usage.cache_creation_1h_tokens = Some(u64::MAX);
    let cost = Prices::default().cost(&call);
    assert!(cost.usd.is_none_or(f64::is_finite), "{cost:?}");
    call.exchange.host = Some("\0 ? # @".into());
    call.exchange.start_ts = WallNanos(i64::MIN);
    call.model = Some("claude-".repeat(100_000));
    assert!(Prices::default().cost(&call).usd.is_none());
}

#[test]
fn a_file_comes_before_the_list() {
    let file = r#"{
        "name": "our contract",
        "prices": [
            {"model": "claude-opus-*", "usd_per_million_tokens": {"input": 1, "output": 2}},
            {"provider": "anthropic", "model": "CLAUDE-OPUS-5", "from": "2026-10-01",
             "usd_per_million_tokens": {"input": 2, "output": 4, "cache_write": 3},
             "long_context": [{"over_input_tokens": 1500,
                               "usd_per_million_tokens": {"input": 20, "output": 40}}]},
            {"model": "*", "from": "2026-12-01",
             "usd_per_million_tokens": {"input": 9, "output": 9}},
            {"model": "claude-opus-5", "tier": "fast", "usd_per_thousand_web_searches": 100,
             "usd_per_million_tokens": {"input": 50, "output": 50}}
        ]}"#;
    let prices = Prices::with_file(PriceFile::parse(file, "prices.json").unwrap());
    let mut call = claude("{}");
    let cost = prices.cost(&call);
    assert!(near(cost.usd.unwrap(), 0.006), "the later entry: {cost:?}");
    assert_eq!(cost.source.as_deref(), Some("our contract"));
    assert_eq!(cost.date.as_deref(), Some("2026-10-01"));
    assert_eq!(cost.model.as_deref(), Some("anthropic/CLAUDE-OPUS-5"));
    call.usage.cache_creation_tokens = Some(600);
    call.usage.cache_creation_1h_tokens = Some(100);
    let long = (1_000.0 * 20.0 + 600.0 * 20.0 + 1_000.0 * 40.0) / 1e6;
    assert!(near(prices.cost(&call).usd.unwrap(), long), "what has no price is input");
    call.usage.cache_creation_tokens = Some(500);
    let short = (1_000.0 * 2.0 + 500.0 * 3.0 + 1_000.0 * 4.0) / 1e6;
    assert!(near(prices.cost(&call).usd.unwrap(), short));
    call = claude("{}");
    call.exchange.start_ts = noon("2026-09-30");
    assert!(near(prices.cost(&call).usd.unwrap(), 0.003), "before the later entry");
    call.provider = "elsewhere".into();
    call.exchange.start_ts = noon("2026-11-01");
    assert!(near(prices.cost(&call).usd.unwrap(), 0.003), "not that provider");
    let fast = claude(r#"{"speed": "fast", "server_tool_use": {"web_search_requests": 1}}"#);
    assert!(near(prices.cost(&fast).usd.unwrap(), 0.2));
    let searched = claude(r#"{"server_tool_use": {"web_search_requests": 1}}"#);
    let cost = prices.cost(&searched);
    assert_eq!(cost.source.as_deref(), Some(LIST_NAME), "no price for searches in the file");
}
