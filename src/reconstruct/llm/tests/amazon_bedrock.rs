//! Amazon Bedrock: Converse, and Anthropic's API inside InvokeModel.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";

fn converse() -> (&'static str, &'static str) {
    (HOST, "/model/anthropic.claude-test-v1%3A0/converse-stream")
}

const STREAM: &[(&str, &str)] = &[
    ("messageStart", r#"{"role":"assistant"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"hm"}}}"#),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"AA"}}}"#,
    ),
    ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"I "},"p":"abc"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"look"}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
    (
        "contentBlockStart",
        r#"{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"t1","name":"ls"}}}"#,
    ),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"d\":1}"}}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
    ("messageStop", r#"{"stopReason":"tool_use"}"#),
    (
        "metadata",
        r#"{"usage":{"inputTokens":5,"outputTokens":7,"totalTokens":112,"cacheReadInputTokens":80,"cacheWriteInputTokens":20},"metrics":{"latencyMs":9}}"#,
    ),
];

#[test]
fn a_stream_of_converse_gives_its_row_and_is_known_again() {
    let mut session = Session::default();
    let body = json!({
        "system": [{ "text": "be" }, { "cachePoint": { "type": "default" } }],
        "messages": [{ "role": "user", "content": [{ "text": "go" }] }],
        "toolConfig": { "tools": [{ "toolSpec": { "name": "ls" } }, { "cachePoint": {} }] },
    });
    let call = session.call(converse(), &[], &body, Answer::Events(STREAM)).unwrap();
    assert_eq!((&*call.provider, &*call.api), ("aws.bedrock", "bedrock_converse"));
    assert_eq!(call.request_model.as_deref(), Some("anthropic.claude-test-v1:0"));
    assert_eq!((call.usage.input_tokens, call.usage.total_input_tokens()), (Some(5), Some(105)));
    assert_eq!((call.usage.output_tokens, call.usage_state), (Some(7), UsageState::Reported));
    assert_eq!(call.stop_reason.as_deref(), Some("tool_use"));
    let again = json!({ "messages": [
        { "role": "assistant", "content": [
            { "reasoningContent": { "reasoningText": { "text": "hm", "signature": "AA" } } },
            { "text": "I look" },
            { "toolUse": { "toolUseId": "t1", "name": "ls", "input": { "d": 1 } } },
        ] },
        { "role": "user", "content": [{ "toolResult": {
            "toolUseId": "t1", "status": "error", "content": [{ "text": "no" }, { "json": { "a": 1 } }],
        } }] },
    ] });
    let next = session.call(converse(), &[], &again, Answer::Whole(json!({}))).unwrap();
    let ids = |refs: &[BlockRef]| refs.iter().map(|block| block.block_id).collect::<Vec<_>>();
    assert_eq!(ids(&next.content.request)[..3], ids(&call.content.response));
    let result = session.told().last().unwrap();
    assert_eq!((result.text.as_deref(), result.is_error), (Some("no\n{\"a\":1}"), Some(true)));
}

#[test]
fn a_response_at_once_says_the_same_as_a_stream() {
    let mut session = Session::default();
    let streamed = session.call(converse(), &[], &json!({}), Answer::Events(STREAM)).unwrap();
    let content = json!([
        { "reasoningContent": { "reasoningText": { "text": "hm", "signature": "AA" } } },
        { "text": "I look" },
        { "toolUse": { "toolUseId": "t1", "name": "ls", "input": { "d": 1 } } },
    ]);
    let whole = json!({
        "output": { "message": { "role": "assistant", "content": content } },
        "stopReason": "tool_use", "usage": { "inputTokens": 5, "outputTokens": 7 },
    });
    let place = (HOST, "/model/m/converse");
    let whole = session.call(place, &[], &json!({}), Answer::Whole(whole)).unwrap();
    assert_eq!(paths(&whole.content.response), paths(&streamed.content.response));
}

#[test]
fn events_inside_base64_are_the_models_own() {
    let events = [
        json!({ "type": "message_start", "message": { "id": "m", "usage": { "input_tokens": 3 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "text": "hi" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_stop", "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": 3, "outputTokenCount": 2, "cacheReadInputTokenCount": 9,
        } }),
    ];
    let wrapped = events.map(|event| {
        json!({ "bytes": STANDARD.encode(event.to_string()), "p": "abcdef" }).to_string()
    });
    let events: Vec<_> = wrapped.iter().map(|data| ("chunk", &**data)).collect();
    let mut session = Session::default();
    let place = (HOST, "/model/anthropic.claude-test/invoke-with-response-stream");
    let body = json!({ "anthropic_version": "v", "messages": [] });
    let call = session.call(place, &[], &body, Answer::Events(&events)).unwrap();
    assert_eq!(&*call.api, "bedrock_invoke");
    assert_eq!((call.usage.input_tokens, call.usage.output_tokens), (Some(3), Some(2)));
    assert_eq!((call.usage.cache_read_tokens, call.usage_state), (Some(9), UsageState::Reported));
    assert_eq!(session.texts(), ["assistant text: hi"]);
}

#[test]
fn an_exception_ends_a_stream() {
    let mut session = Session::default();
    let mut events = STREAM[..6].to_vec();
    events.push(("throttlingException", r#"{"message":"slow down"}"#));
    let call = session.call(converse(), &[], &json!({}), Answer::Events(&events)).unwrap();
    assert_eq!(call.error_type.as_deref(), Some("throttlingException"));
    assert_eq!(call.usage_state, UsageState::None);
}

#[test]
fn counts_in_the_head_are_used_where_the_body_has_none() {
    let mut reply = Reply::default();
    reply.usage.insert("output_tokens".to_owned(), 4.into());
    let head = own(&[
        ("X-Amzn-Bedrock-Input-Token-Count", "12"),
        ("X-Amzn-Bedrock-Output-Token-Count", "5"),
    ]);
    bedrock::token_headers(&mut reply, &head);
    let usage = Api::BedrockInvoke.usage(&reply.usage);
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(12), Some(4)));
}
