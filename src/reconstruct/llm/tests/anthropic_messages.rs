//! Anthropic Messages: the reference sequence, and rules for counts and blocks.

use super::*;

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5","content":[],"stop_reason":null,"usage":{"input_tokens":4,"cache_creation_input_tokens":812,"cache_read_input_tokens":30211,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":812},"output_tokens":1,"service_tier":"standard","inference_geo":"us","speed":"standard"}}}"#;

/// Thinking that is withheld, then a tool.
const REFERENCE: &[(&str, &str)] = &[
    ("message_start", START),
    (
        "",
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    ),
    (
        "",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Er"}}"#,
    ),
    ("", r#"{"type":"content_block_stop","index":0}"#),
    ("ping", r#"{"type":"ping"}"#),
    (
        "",
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"Bash","input":{}}}"#,
    ),
    (
        "",
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"comm"}}"#,
    ),
    (
        "",
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"and\":\"ls\"}"}}"#,
    ),
    ("", r#"{"type":"content_block_stop","index":1}"#),
    (
        "",
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":4,"cache_creation_input_tokens":812,"cache_read_input_tokens":30211,"output_tokens":96,"output_tokens_details":{"thinking_tokens":41}}}"#,
    ),
    ("message_stop", r#"{"type":"message_stop"}"#),
];

fn ask(session: &mut Session, messages: Value, answer: Answer<'_>) -> LlmCall {
    session.call(ANTHROPIC, &[], &json!({ "model": "m", "messages": messages }), answer).unwrap()
}

#[test]
fn the_reference_sequence_gives_its_row() {
    let mut session = Session::default();
    let call = ask(&mut session, json!([]), Answer::Events(REFERENCE));
    let usage = &call.usage;
    assert_eq!(usage.input_tokens, Some(4));
    assert_eq!(usage.cache_read_tokens, Some(30211));
    assert_eq!(usage.cache_creation_tokens, Some(812));
    assert_eq!(usage.cache_creation_1h_tokens, Some(812));
    assert_eq!(usage.total_input_tokens(), Some(31027));
    assert_eq!((usage.output_tokens, usage.reasoning_tokens), (Some(96), Some(41)));
    assert_eq!(call.usage_state, UsageState::Reported);
    assert_eq!(call.stop_reason.as_deref(), Some("tool_use"));
    assert_eq!(call.tier.as_deref(), Some("standard"));
    assert_eq!(call.first_token_ts, Some(WallNanos(9_000_000)));
    let [thought, tool] = &call.content.response[..] else { panic!("{:?}", call.content) };
    assert_eq!(thought.streamed, Some((WallNanos(4_000_000), WallNanos(6_000_000))));
    assert_eq!(tool.path.to_string(), "content[1]");
    let texts = session.texts();
    assert_eq!(texts, ["assistant thinking: -", r#"assistant tool_use: {"command":"ls"}"#]);
    let block = session.told().last().unwrap();
    assert_eq!(block.tool_name.as_deref(), Some("Bash"));
    assert_eq!(block.tool_call_id.as_deref(), Some("toolu_1"));
    assert!(!block.is_cut);
}

#[test]
fn what_was_said_is_known_again_in_the_next_request() {
    let mut session = Session::default();
    ask(&mut session, json!([{ "role": "user", "content": "go" }]), Answer::Events(REFERENCE));
    let again = json!([
        { "role": "user", "content": [{ "type": "text", "text": "go" }] },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "", "signature": "Er" },
            { "type": "tool_use", "id": "toolu_1", "name": "Bash", "input": { "command": "ls" } },
        ] },
        { "role": "user", "content": [{
            "type": "tool_result", "tool_use_id": "toolu_1", "is_error": true, "content": "no",
            "cache_control": { "type": "ephemeral", "ttl": "1h" },
        }] },
    ]);
    let call = ask(&mut session, again, Answer::Whole(json!({})));
    let expected = [
        "messages[0].content[0]=1",
        "messages[1].content[0]=2",
        "messages[1].content[1]=3",
        "messages[2].content[0]=4",
    ];
    assert_eq!(paths(&call.content.request), expected);
    let result = session.told().last().unwrap();
    assert_eq!((result.role, result.is_error), (BlockRole::Tool, Some(true)));
}

#[test]
fn a_response_at_once_says_the_same_as_a_stream() {
    let mut session = Session::default();
    let streamed = ask(&mut session, json!([]), Answer::Events(REFERENCE));
    let whole = json!({
        "id": "msg_1", "model": "claude-opus-5", "stop_reason": "tool_use",
        "content": [
            { "type": "thinking", "thinking": "", "signature": "Er" },
            { "type": "tool_use", "id": "toolu_1", "name": "Bash", "input": { "command": "ls" } },
        ],
        "usage": { "input_tokens": 4, "output_tokens": 96, "speed": "fast" },
    });
    let whole = ask(&mut session, json!([]), Answer::Whole(whole));
    assert_eq!(paths(&whole.content.response), paths(&streamed.content.response));
    assert_eq!((whole.usage_state, whole.first_token_ts), (UsageState::Reported, None));
    assert_eq!(whole.content.response[0].streamed, None);
    assert_eq!(whole.tier.as_deref(), Some("fast"));
}

#[test]
fn an_error_in_the_midst_leaves_partial_counts() {
    let mut session = Session::default();
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let begin =
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let text =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"so fa"}}"#;
    let events = [("", START), ("", begin), ("", text), ("error", error)];
    let call = ask(&mut session, json!([]), Answer::Events(&events));
    assert_eq!(call.error_type.as_deref(), Some("overloaded_error"));
    assert_eq!(call.usage_state, UsageState::Partial);
    assert_eq!(session.texts(), ["assistant text: so fa"]);
    assert!(session.told().all(|block| block.is_cut));
}

#[test]
fn every_kind_of_block_passes_through() {
    let mut session = Session::default();
    let content = json!([
        { "type": "text", "text": "" },
        { "type": "redacted_thinking", "data": "AA" },
        { "type": "server_tool_use", "id": "s1", "name": "web_search", "input": { "query": "q" } },
        { "type": "web_search_tool_result", "tool_use_id": "s1", "content": [{ "url": "u" }] },
        { "type": "compaction", "content": "in short" },
        { "type": "image", "source": { "type": "base64", "data": "AA" } },
        { "type": "document", "source": {} },
        { "type": "later_invention", "a": 1 },
        { "a": 2 },
    ]);
    let call = ask(
        &mut session,
        json!([{ "role": "assistant", "content": content }]),
        Answer::Whole(json!({})),
    );
    let expected = [
        "assistant thinking: -",
        r#"assistant server_tool_use: {"query":"q"}"#,
        "tool web_search_tool_result: -",
        "assistant compaction: in short",
        "assistant image: -",
        "assistant document: -",
        r#"assistant later_invention: {"type":"later_invention","a":1}"#,
        r#"assistant unknown: {"a":2}"#,
    ];
    assert_eq!(session.texts(), expected);
    assert_eq!(call.content.request[0].path.to_string(), "messages[0].content[1]");
}

#[test]
fn arguments_that_break_off_are_kept_as_text() {
    let mut session = Session::default();
    let events = &REFERENCE[5..7];
    ask(&mut session, json!([]), Answer::Events(events));
    assert_eq!(session.texts(), [r#"assistant tool_use: {"comm"#]);
}

#[test]
fn deltas_whose_start_was_lost_are_still_told() {
    let mut session = Session::default();
    ask(&mut session, json!([]), Answer::Events(&REFERENCE[6..9]));
    assert_eq!(session.texts(), [r#"assistant tool_use: {"command":"ls"}"#]);
}

#[test]
fn the_reason_for_a_cache_miss_is_told() {
    let mut session = Session::default();
    let reason = json!({ "type": "tools_changed", "cache_missed_input_tokens": 77 });
    let answer = json!({ "id": "m", "diagnostics": { "cache_miss_reason": reason } });
    let call = ask(&mut session, json!([]), Answer::Whole(answer));
    assert_eq!(call.cache_miss_reason.as_deref(), Some("tools_changed"));
    assert_eq!(call.cache_missed_tokens, Some(77));
    let pending = json!({ "id": "m", "diagnostics": { "cache_miss_reason": null } });
    let call = ask(&mut session, json!([]), Answer::Whole(pending));
    assert_eq!(call.cache_miss_reason, None);
}

#[test]
fn usage_is_overwritten_never_added() {
    let mut reply = Reply::default();
    reply.merge_usage(&json!({ "input_tokens": 5, "output_tokens": 1 }));
    reply.merge_usage(&json!({ "input_tokens": null, "output_tokens": 7, "new": { "a": 1 } }));
    let usage = Api::Anthropic.usage(&reply.usage);
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(5), Some(7)));
    assert_eq!(reply.usage["new"]["a"], 1);
}

#[test]
fn cached_input_is_apart() {
    let fields = json!({
        "input_tokens": 4, "cache_read_input_tokens": 100,
        "cache_creation": { "ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 5 },
    });
    let usage = Api::Anthropic.usage(fields.as_object().unwrap());
    assert_eq!(usage.cache_creation_tokens, Some(8));
    assert_eq!(usage.total_input_tokens(), Some(112));
    let fields = json!({ "cache_creation": { "a": u64::MAX, "b": 1 } });
    assert_eq!(Api::Anthropic.usage(fields.as_object().unwrap()).cache_creation_tokens, None);
}

#[test]
fn tiers_and_warm_ups_are_asked_for() {
    let mut session = Session::default();
    let body = json!({
        "model": "m", "service_tier": "auto", "speed": "fast", "max_tokens": 0, "messages": [],
    });
    let call = session.call(ANTHROPIC, &[], &body, Answer::Whole(json!({}))).unwrap();
    assert_eq!(call.request_tier.as_deref(), Some("fast"));
    assert_eq!(call.placement.class, CallClass::Warmup);
}

#[test]
fn vertex_names_the_model_in_the_path() {
    let mut session = Session::default();
    let path =
        "/v1/projects/p/locations/r/publishers/anthropic/models/claude-test:streamRawPredict";
    let place = ("r-aiplatform.googleapis.com", path);
    let body =
        json!({ "anthropic_version": "v", "messages": [{ "role": "user", "content": "a" }] });
    let call = session.call(place, &[], &body, Answer::Events(REFERENCE)).unwrap();
    assert_eq!((&*call.provider, &*call.api), ("gcp.vertex_ai", "anthropic_messages"));
    assert_eq!(call.request_model.as_deref(), Some("claude-test"));
    assert_eq!(call.usage.total_input_tokens(), Some(31027));
}
