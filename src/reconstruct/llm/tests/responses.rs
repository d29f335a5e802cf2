//! OpenAI Responses, as Codex speaks it.

use super::*;

const PLACE: (&str, &str) = ("chatgpt.com", "/backend-api/codex/responses");

const REFERENCE: &[(&str, &str)] = &[
    (
        "",
        r#"{"type":"codex.rate_limits","rate_limits":{"primary":{"used_percent":12.5,"window_minutes":300,"reset_at":1795000000}}}"#,
    ),
    (
        "",
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_2","status":"in_progress","service_tier":"auto"}}"#,
    ),
    (
        "",
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"call_10","name":"shell","arguments":""}}"#,
    ),
    (
        "",
        r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":0,"delta":"{\"cmd"}"#,
    ),
    (
        "",
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"call_10","name":"shell","arguments":"{\"cmd\":\"ls\"}"}}"#,
    ),
    (
        "",
        r#"{"type":"response.completed","response":{"id":"resp_2","status":"completed","service_tier":"default","usage":{"input_tokens":52000,"input_tokens_details":{"cached_tokens":51200,"cache_write_tokens":0},"output_tokens":80,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":52080}}}"#,
    ),
];

fn ask(session: &mut Session, input: Value, answer: Answer<'_>) -> LlmCall {
    let body = json!({
        "type": "response.create", "model": "gpt-6-astra", "previous_response_id": "resp_1",
        "instructions": "rules", "input": input, "prompt_cache_key": "thread", "store": false,
        "service_tier": "priority",
    });
    session.call(PLACE, &[], &body, answer).unwrap()
}

#[test]
fn the_reference_sequence_gives_its_row() {
    let mut session = Session::default();
    let input = json!([{ "type": "function_call_output", "call_id": "call_9", "output": "ok" }]);
    let call = ask(&mut session, input, Answer::Events(REFERENCE));
    let usage = &call.usage;
    assert_eq!((usage.input_tokens, usage.cache_read_tokens), (Some(800), Some(51200)));
    assert_eq!(usage.total_input_tokens(), Some(52000));
    assert_eq!((usage.output_tokens, usage.reasoning_tokens), (Some(80), Some(64)));
    assert_eq!(call.usage_state, UsageState::Reported);
    assert_eq!(call.stop_reason.as_deref(), Some("completed"));
    assert_eq!(call.request_tier.as_deref(), Some("priority"));
    assert_eq!(call.tier.as_deref(), Some("default"));
    assert_eq!(call.response_id.as_deref(), Some("resp_2"));
    assert_eq!(call.correlation.previous_response_id.as_deref(), Some("resp_1"));
    assert_eq!(call.correlation.thread_id.as_deref(), Some("thread"));
    assert_eq!(call.first_token_ts, Some(WallNanos(6_000_000)));
    assert_eq!(paths(&call.content.request), ["instructions=1", "input[0]=2"]);
    assert_eq!(paths(&call.content.response), ["output[0]=3"]);
    assert_eq!(
        call.content.response[0].streamed,
        Some((WallNanos(5_000_000), WallNanos(7_000_000)))
    );
    let limits: Vec<_> = session
        .found
        .iter()
        .filter_map(|finding| match finding {
            Finding::Limit(limit) => Some((&*limit.name, limit.used_percent)),
            _ => None,
        })
        .collect();
    assert_eq!(limits, [("primary", Some(12.5))]);
    let expected =
        ["system text: rules", "tool tool_result: ok", r#"assistant tool_use: {"cmd":"ls"}"#];
    assert_eq!(session.texts(), expected);
    assert!(session.told().all(|block| !block.is_cut));
}

#[test]
fn a_whole_item_makes_up_for_lost_deltas() {
    let mut session = Session::default();
    ask(&mut session, json!([]), Answer::Events(&REFERENCE[4..]));
    let block = session.told().last().unwrap();
    assert_eq!(block.text.as_deref(), Some(r#"{"cmd":"ls"}"#));
    assert!(!block.is_cut);
}

#[test]
fn what_broke_off_is_told_as_far_as_it_came() {
    let mut session = Session::default();
    let call = ask(&mut session, json!([]), Answer::Events(&REFERENCE[1..4]));
    assert_eq!(session.texts()[1..], [r#"assistant tool_use: {"cmd"#]);
    assert!(session.told().last().unwrap().is_cut);
    assert_eq!((call.usage_state, call.stop_reason), (UsageState::None, None));
}

#[test]
fn what_was_said_is_known_again_in_the_next_request() {
    let said = json!([
        { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AA" },
        { "type": "message", "role": "assistant", "status": "completed",
          "content": [{ "type": "output_text", "text": "hi", "annotations": [] }] },
        { "type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin" },
        { "type": "web_search_call", "id": "ws", "status": "completed", "action": { "query": "q" } },
    ]);
    let mut session = Session::default();
    let whole =
        json!({ "id": "r", "status": "completed", "output": said, "usage": { "input_tokens": 1 } });
    let answered = ask(&mut session, json!("go"), Answer::Whole(whole));
    assert_eq!(answered.usage_state, UsageState::Reported);
    let again = ask(&mut session, said, Answer::Whole(json!({})));
    assert_eq!(paths(&answered.content.request), ["instructions=1", "input=2"]);
    let expected = ["output[0]=3", "output[1].content[0]=4", "output[2]=5", "output[3]=6"];
    assert_eq!(paths(&answered.content.response), expected);
    let expected =
        ["instructions=1", "input[0]=3", "input[1].content[0]=4", "input[2]=5", "input[3]=6"];
    assert_eq!(paths(&again.content.request), expected);
    assert_eq!(session.told().count(), 6);
}

#[test]
fn items_map_to_blocks() {
    let mut session = Session::default();
    let input = json!([
        { "role": "developer", "content": "be" },
        { "role": "user", "content": [{ "type": "input_text", "text": "a" }, { "type": "input_image" }] },
        { "type": "reasoning", "summary": [{ "type": "summary_text", "text": "s" }] },
        { "type": "local_shell_call", "call_id": "l", "action": { "command": ["ls"] } },
        { "type": "local_shell_call_output", "call_id": "l", "output": "out" },
        { "type": "compaction", "encrypted_content": "ZZ" },
        { "type": "item_reference", "id": "x" },
    ]);
    ask(&mut session, input, Answer::Whole(json!({})));
    let expected = [
        "system text: be",
        "user text: a",
        "user image: -",
        "assistant thinking: s",
        r#"assistant tool_use: {"command":["ls"]}"#,
        "tool tool_result: out",
        "assistant compaction: -",
        r#"user item_reference: {"type":"item_reference","id":"x"}"#,
    ];
    assert_eq!(session.texts()[1..], expected);
}

#[test]
fn a_warm_up_and_a_compaction_are_told_apart() {
    let mut session = Session::default();
    let mut class = |path, body: Value| {
        let answer = Answer::Whole(json!({}));
        session.call(("chatgpt.com", path), &[], &body, answer).unwrap().placement.class
    };
    let body = json!({ "model": "m", "input": [], "generate": false });
    assert_eq!(class("/backend-api/codex/responses", body), CallClass::Warmup);
    let body = json!({ "model": "m", "input": [] });
    assert_eq!(class("/backend-api/codex/responses/compact", body), CallClass::Compaction);
}

#[test]
fn failures_have_a_type() {
    let errors = [
        (r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#, "rate_limit_exceeded"),
        (
            r#"{"type":"error","status":429,"error":{"type":"usage_limit_reached"},"headers":{"retry-after-ms":"70"}}"#,
            "usage_limit_reached",
        ),
        (
            r#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"server_error"}}}"#,
            "server_error",
        ),
    ];
    for (data, expected) in errors {
        let call = ask(&mut Session::default(), json!([]), Answer::Events(&[("", data)]));
        assert_eq!(call.error_type.as_deref(), Some(expected), "{data}");
        assert_eq!(call.retry_after_ms.is_some(), data.contains("headers"), "{data}");
    }
    let incomplete = r#"{"type":"response.incomplete","response":{"status":"incomplete","usage":{"input_tokens":5,"output_tokens":1}}}"#;
    let call = ask(&mut Session::default(), json!([]), Answer::Events(&[("", incomplete)]));
    assert_eq!(call.stop_reason.as_deref(), Some("incomplete"));
    assert_eq!(call.usage_state, UsageState::Reported);
}

#[test]
fn the_reason_for_a_cache_miss_is_told() {
    let ask = |diagnostics: Value| {
        let answer = json!({ "id": "r", "prompt_cache_diagnostics": diagnostics });
        let call = ask(&mut Session::default(), json!([]), Answer::Whole(answer));
        (call.cache_miss_reason, call.cache_missed_tokens)
    };
    let miss = json!({ "type": "cache_miss", "reason": "input_changed", "cache_missed_tokens": 9 });
    assert_eq!(ask(miss), (Some("input_changed".to_owned()), Some(9)));
    assert_eq!(ask(json!({ "type": "cache_hit" })), (None, None));
    assert_eq!(ask(json!({ "type": "unavailable" })).0.as_deref(), Some("unavailable"));
}
