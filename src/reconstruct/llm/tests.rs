//! Recognition of calls and the rules for counts that no transcript shows alone.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn observer(host: &str, path: &str, headers: &[(&str, &str)]) -> Option<Observer> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let head = RequestHead {
        method: "POST".to_owned(),
        target: path.to_owned(),
        version: "1.1",
        headers: headers.iter().map(own).collect(),
    };
    Observer::for_request(1, &head, Some(host), Some(path))
}

#[test]
fn calls_are_recognised_by_path_and_host() {
    let provider = |host, path| observer(host, path, &[]).map(|observer| observer.provider);
    assert_eq!(provider("api.anthropic.com", "/v1/messages?beta=true"), Some("anthropic"));
    assert_eq!(provider("API.OpenAI.com:443", "/v1/chat/completions"), Some("openai"));
    assert_eq!(provider("gateway.test", "/anthropic/v1/messages"), Some("anthropic"));
    assert_eq!(provider("gateway.test", "/deployments/a/chat/completions?v=1"), Some("openai"));
    assert_eq!(provider("api.anthropic.com", "/v1/messages/count_tokens"), None);
    assert_eq!(provider("api.anthropic.com", "/v1/messages/batches"), None);
    assert_eq!(provider("api.openai.com", "/v1/models"), None);
}

#[test]
fn an_unknown_host_must_show_the_api_in_the_request() {
    let proven = |headers| observer("gateway.test", "/v1/messages", headers).unwrap().proven;
    assert!(!proven(&[]));
    assert!(proven(&[("Anthropic-Version", "2023-06-01")]));
}

#[test]
fn the_agent_is_the_first_product() {
    assert_eq!(agent("claude-cli/2.1.197 (external, cli)").as_deref(), Some("claude-cli/2.1.197"));
    assert_eq!(agent("Anthropic/JS 0.1").as_deref(), Some("Anthropic/JS"));
    assert_eq!(agent(" "), None);
}

#[test]
fn usage_is_overwritten_never_added() {
    let mut reply = Reply::default();
    reply.merge_usage(&json!({ "input_tokens": 5, "output_tokens": 1 }));
    reply.merge_usage(&json!({ "input_tokens": null, "output_tokens": 7, "new": { "a": 1 } }));
    let usage = anthropic::usage(&reply.usage);
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(5), Some(7)));
    assert_eq!(reply.usage["new"]["a"], 1);
}

#[test]
fn cached_input_is_outside_for_one_api_and_inside_for_the_other() {
    let fields = json!({
        "input_tokens": 4, "cache_read_input_tokens": 100,
        "cache_creation": { "ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 5 },
    });
    let usage = anthropic::usage(fields.as_object().unwrap());
    assert_eq!(usage.cache_creation_tokens, Some(8));
    assert_eq!(usage.total_input_tokens(), Some(112));

    let fields = json!({
        "prompt_tokens": 112, "prompt_tokens_details": { "cached_tokens": 100 },
    });
    let usage = openai_chat::usage(fields.as_object().unwrap());
    assert_eq!((usage.input_tokens, usage.cache_read_tokens), (Some(12), Some(100)));
    assert_eq!(usage.cache_creation_tokens, None);
    assert_eq!(usage.total_input_tokens(), Some(112));
}

#[test]
fn counts_that_contradict_each_other_do_not_wrap() {
    let fields = json!({
        "prompt_tokens": 1, "completion_tokens": -5,
        "prompt_tokens_details": { "cached_tokens": u64::MAX, "cache_write_tokens": 2 },
    });
    let usage = openai_chat::usage(fields.as_object().unwrap());
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(0), None));
    let fields = json!({ "cache_creation": { "a": u64::MAX, "b": 1 } });
    assert_eq!(anthropic::usage(fields.as_object().unwrap()).cache_creation_tokens, None);
}

#[test]
fn counts_reported_while_streaming_are_final_once_the_answer_has_ended() {
    let mut reply = Reply::default();
    let chunk = |finish| {
        json!({
            "choices": [{ "delta": { "content": "a" }, "finish_reason": finish }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 1 },
        })
        .to_string()
    };
    openai_chat::event(&mut reply, WallNanos(1), &chunk(Value::Null));
    assert!(!reply.usage_final);
    openai_chat::event(&mut reply, WallNanos(2), &chunk(json!("stop")));
    assert!(reply.usage_final);
    assert_eq!(reply.first_token_ts, Some(WallNanos(1)));
}

#[test]
fn an_error_of_any_shape_is_an_error() {
    for (data, expected) in [
        (r#"{"error":{"code":"rate_limited"}}"#, "rate_limited"),
        (r#"{"error":"busy"}"#, "error"),
        (r#"{"error":{"code":502,"message":"bad gateway"}}"#, "error"),
    ] {
        let mut reply = Reply::default();
        openai_chat::event(&mut reply, WallNanos(1), data);
        assert_eq!(reply.error_type.as_deref(), Some(expected), "{data}");
    }
}

proptest! {
    #[test]
    fn any_event_data_is_taken(
        data in prop_oneof![
            r#"[{}\[\]",:a-c0-9 ]{0,60}"#,
            Just(r#"{"type":"message_start","message":7}"#.to_owned()),
            Just(r#"{"type":"message_delta","delta":[],"usage":{"output_tokens":"x"}}"#.to_owned()),
            Just(r#"{"choices":[[],{"delta":7},null],"usage":[]}"#.to_owned()),
            Just("[[[[".repeat(200)),
        ],
    ) {
        let mut reply = Reply::default();
        anthropic::event(&mut reply, WallNanos(1), None, &data);
        openai_chat::event(&mut reply, WallNanos(1), &data);
        anthropic::usage(&reply.usage);
        openai_chat::usage(&reply.usage);
    }
}
