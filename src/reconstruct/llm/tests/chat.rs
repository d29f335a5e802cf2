//! OpenAI Chat Completions and servers that speak it.

use super::*;

const PLACE: (&str, &str) = ("api.openai.com", "/v1/chat/completions");

const REFERENCE: &[(&str, &str)] = &[
    (
        "",
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-5.5","choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"sh","arguments":""}}]},"finish_reason":null}],"usage":null,"obfuscation":"x8"}"#,
    ),
    (
        "",
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"c\":1}"}}]},"finish_reason":null}],"usage":null}"#,
    ),
    (
        "",
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}"#,
    ),
    (
        "",
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1200,"completion_tokens":60,"total_tokens":1260,"prompt_tokens_details":{"cached_tokens":1024,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":32}}}"#,
    ),
    ("", "[DONE]"),
];

fn ask(session: &mut Session, messages: Value, answer: Answer<'_>) -> LlmCall {
    session.call(PLACE, &[], &json!({ "model": "m", "messages": messages }), answer).unwrap()
}

/// A stream with these deltas.
fn chunks(deltas: &[Value]) -> Vec<String> {
    let chunk = |delta: &Value| json!({ "choices": [{ "index": 0, "delta": delta }] }).to_string();
    deltas.iter().map(chunk).collect()
}

fn stream(session: &mut Session, data: &[String]) -> LlmCall {
    let events: Vec<_> = data.iter().map(|data| ("", &**data)).collect();
    ask(session, json!([]), Answer::Events(&events))
}

#[test]
fn the_reference_sequence_gives_its_row() {
    let mut session = Session::default();
    let call = ask(&mut session, json!([]), Answer::Events(REFERENCE));
    let usage = &call.usage;
    assert_eq!((usage.input_tokens, usage.cache_read_tokens), (Some(176), Some(1024)));
    assert_eq!(usage.total_input_tokens(), Some(1200));
    assert_eq!((usage.output_tokens, usage.reasoning_tokens), (Some(60), Some(32)));
    assert_eq!(call.usage_state, UsageState::Reported);
    assert_eq!(call.stop_reason.as_deref(), Some("tool_calls"));
    assert_eq!(call.first_token_ts, Some(WallNanos(4_000_000)));
    assert_eq!(paths(&call.content.response), ["choices[0].tool_calls[0]=1"]);
    assert_eq!(session.texts(), [r#"assistant tool_use: {"c":1}"#]);
    let block = session.told().next().unwrap();
    assert_eq!(block.tool_call_id.as_deref(), Some("call_1"));
    assert_eq!(block.tool_name.as_deref(), Some("sh"));
}

#[test]
fn what_was_said_is_known_again_in_the_next_request() {
    let mut session = Session::default();
    ask(&mut session, json!([]), Answer::Events(REFERENCE));
    let call = json!({ "id": "call_1", "type": "function", "function": { "name": "sh", "arguments": "{ \"c\": 1 }" } });
    let again = json!([
        { "role": "developer", "content": "rules" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "call_1", "content": "done" },
    ]);
    let call = ask(&mut session, again, Answer::Whole(json!({})));
    let expected =
        ["messages[0].content[0]=2", "messages[1].tool_calls[0]=1", "messages[2].content[0]=3"];
    assert_eq!(paths(&call.content.request), expected);
    assert_eq!(session.texts()[1..], ["system text: rules", "tool tool_result: done"]);
}

#[test]
fn a_response_at_once_says_the_same_as_a_stream() {
    let mut session = Session::default();
    let streamed = ask(&mut session, json!([]), Answer::Events(REFERENCE));
    let call = json!({ "id": "call_1", "function": { "name": "sh", "arguments": "{\"c\":1}" } });
    let whole = json!({
        "id": "c", "model": "m", "service_tier": "flex",
        "choices": [{ "index": 0, "message": { "tool_calls": [call] }, "finish_reason": "tool_calls" }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 4 },
    });
    let whole = ask(&mut session, json!([]), Answer::Whole(whole));
    assert_eq!(paths(&whole.content.response), paths(&streamed.content.response));
    assert_eq!((whole.usage_state, whole.first_token_ts), (UsageState::Reported, None));
    assert_eq!(whole.tier.as_deref(), Some("flex"));
}

#[test]
fn reasoning_is_read_under_each_of_its_names() {
    for delta in [
        json!({ "reasoning_content": "hm" }),
        json!({ "reasoning": "hm", "reasoning_details": [{ "text": "hm" }] }),
        json!({ "reasoning_details": [{ "type": "reasoning.text", "text": "hm" }] }),
    ] {
        let mut session = Session::default();
        let data = chunks(&[delta, json!({ "content": "yes" })]);
        let call = stream(&mut session, &data);
        assert_eq!(session.texts(), ["assistant thinking: hm", "assistant text: yes"]);
        assert_eq!(call.first_token_ts, Some(WallNanos(3_000_000)));
    }
}

#[test]
fn custom_tools_functions_and_refusals_are_blocks() {
    let mut session = Session::default();
    let custom = json!({ "index": 1, "id": "c2", "type": "custom", "custom": { "name": "sql", "input": "select" } });
    let more = json!({ "index": 1, "custom": { "input": " 1" } });
    let data = chunks(&[
        json!({ "refusal": "no" }),
        json!({ "tool_calls": [custom] }),
        json!({ "tool_calls": [more] }),
        json!({ "function_call": { "name": "f", "arguments": "{}" } }),
    ]);
    let call = stream(&mut session, &data);
    let expected = ["assistant text: no", "assistant tool_use: {}", "assistant tool_use: select 1"];
    assert_eq!(session.texts(), expected);
    assert_eq!(session.told().last().unwrap().tool_name.as_deref(), Some("sql"));
    assert!(session.told().all(|block| block.is_cut), "nothing said that this was all");
    assert_eq!(call.usage_state, UsageState::None);
}

#[test]
fn pictures_and_files_have_no_text() {
    let mut session = Session::default();
    let content = json!([
        { "type": "text", "text": "look" },
        { "type": "image_url", "image_url": { "url": "data:" } },
        { "type": "file", "file": {} },
        { "type": "input_audio", "input_audio": 1 },
    ]);
    ask(&mut session, json!([{ "role": "user", "content": content }]), Answer::Whole(json!({})));
    let texts = session.texts();
    assert_eq!(texts[..3], ["user text: look", "user image: -", "user document: -"]);
    assert!(texts[3].starts_with("user input_audio: {"), "{}", texts[3]);
}

#[test]
fn counts_reported_while_streaming_are_final_once_the_answer_has_ended() {
    let chunk = |finish: Value| {
        json!({
            "choices": [{ "delta": { "content": "a" }, "finish_reason": finish }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 1 },
        })
        .to_string()
    };
    let mut session = Session::default();
    let call = stream(&mut session, &[chunk(Value::Null)]);
    assert_eq!(call.usage_state, UsageState::Partial);
    let call = stream(&mut session, &[chunk(Value::Null), chunk(json!("stop"))]);
    assert_eq!(call.usage_state, UsageState::Reported);
}

#[test]
fn a_cut_stream_lacks_counts_only_if_they_were_asked_for() {
    let mut session = Session::default();
    let mut state = |options: Value, events: &[(&str, &str)]| {
        let body = json!({ "model": "m", "messages": [], "stream_options": options });
        session.call(PLACE, &[], &body, Answer::Events(events)).unwrap().usage_state
    };
    let asked = json!({ "include_usage": true });
    assert_eq!(state(asked.clone(), &REFERENCE[..2]), UsageState::Partial);
    assert_eq!(state(json!({}), &REFERENCE[..2]), UsageState::None);
    assert_eq!(state(asked, &REFERENCE[4..]), UsageState::None);
}

#[test]
fn an_error_of_any_shape_is_an_error() {
    for (data, expected) in [
        (r#"{"error":{"code":"rate_limited"}}"#, "rate_limited"),
        (r#"{"error":"busy"}"#, "error"),
        (r#"{"error":{"code":502,"message":"bad gateway"}}"#, "error"),
    ] {
        let call = stream(&mut Session::default(), &[data.to_owned()]);
        assert_eq!(call.error_type.as_deref(), Some(expected), "{data}");
    }
}

#[test]
fn what_a_server_says_it_cost_is_kept() {
    let usage =
        json!({ "prompt_tokens": 9, "completion_tokens": 1, "cost": 0.25, "is_byok": false });
    let mut session = Session::default();
    let place = ("openrouter.ai", "/api/v1/chat/completions");
    let body = json!({ "model": "m", "messages": [] });
    let answer = Answer::Whole(json!({ "choices": [], "usage": usage, "provider": "X" }));
    let call = session.call(place, &[], &body, answer).unwrap();
    assert_eq!(call.provider, "openrouter");
    assert_eq!(call.usage.reported_cost_usd, Some(0.25));
}

#[test]
fn counts_that_contradict_each_other_do_not_wrap() {
    let fields = json!({
        "prompt_tokens": 1, "completion_tokens": -5,
        "prompt_tokens_details": { "cached_tokens": u64::MAX, "cache_write_tokens": 2 },
    });
    let usage = Api::OpenaiChat.usage(fields.as_object().unwrap());
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(0), None));
    let fields = json!({ "prompt_tokens": 112, "prompt_tokens_details": { "cached_tokens": 100 } });
    let usage = Api::OpenaiChat.usage(fields.as_object().unwrap());
    assert_eq!((usage.input_tokens, usage.cache_read_tokens), (Some(12), Some(100)));
    assert_eq!((usage.cache_creation_tokens, usage.total_input_tokens()), (None, Some(112)));
}
