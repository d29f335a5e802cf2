//! Gemini, also behind Code Assist.

use super::*;

const PLACE: (&str, &str) = (
    "generativelanguage.googleapis.com",
    "/v1beta/models/gemini-test:streamGenerateContent?alt=sse",
);

fn chunk(parts: Value, more: Value) -> String {
    let mut chunk = json!({
        "candidates": [{ "content": { "role": "model", "parts": parts }, "index": 0 }],
        "modelVersion": "gemini-3.8-flash", "responseId": "r1",
        "usageMetadata": { "promptTokenCount": 264, "totalTokenCount": 264 },
    });
    for (name, value) in more.as_object().unwrap() {
        match name.as_str() {
            "finishReason" => chunk["candidates"][0]["finishReason"] = value.clone(),
            name => chunk[name] = value.clone(),
        }
    }
    chunk.to_string()
}

fn reference() -> Vec<String> {
    let usage = json!({
        "promptTokenCount": 264, "candidatesTokenCount": 104, "thoughtsTokenCount": 989,
        "totalTokenCount": 1357,
    });
    vec![
        chunk(json!([{ "text": "first ", "thought": true }]), json!({})),
        chunk(json!([{ "text": "second", "thought": true }]), json!({})),
        chunk(json!([{ "text": "so" }, { "text": " it is" }]), json!({})),
        chunk(
            json!([{ "functionCall": { "name": "ls", "args": { "dir": "." } }, "thoughtSignature": "AA" }]),
            json!({ "finishReason": "STOP", "usageMetadata": usage }),
        ),
    ]
}

fn ask(session: &mut Session, place: (&str, &str), body: &Value, data: &[String]) -> LlmCall {
    let events: Vec<_> = data.iter().map(|data| ("", &**data)).collect();
    session.call(place, &[], body, Answer::Events(&events)).unwrap()
}

#[test]
fn the_reference_sequence_gives_its_row() {
    let mut session = Session::default();
    let call = ask(&mut session, PLACE, &json!({ "contents": [] }), &reference());
    assert_eq!((call.usage.input_tokens, call.usage.output_tokens), (Some(264), Some(1093)));
    assert_eq!(call.usage.reasoning_tokens, Some(989));
    assert_eq!(call.usage_state, UsageState::Reported);
    assert_eq!(call.request_model.as_deref(), Some("gemini-test"));
    assert_eq!(call.model.as_deref(), Some("gemini-3.8-flash"));
    assert_eq!(
        (call.stop_reason.as_deref(), call.response_id.as_deref()),
        (Some("STOP"), Some("r1"))
    );
    let expected =
        ["candidates[0].parts[0]=1", "candidates[0].parts[1]=2", "candidates[0].parts[2]=3"];
    assert_eq!(paths(&call.content.response), expected);
    assert_eq!(
        call.content.response[0].streamed,
        Some((WallNanos(3_000_000), WallNanos(4_000_000)))
    );
    let expected = [
        "assistant thinking: first second",
        "assistant text: so it is",
        r#"assistant tool_use: {"dir":"."}"#,
    ];
    assert_eq!(session.texts(), expected);
}

#[test]
fn code_assist_wraps_both_sides() {
    let place = ("cloudcode-pa.googleapis.com", "/v1internal:streamGenerateContent?alt=sse");
    let body = json!({
        "model": "gemini-test", "project": "p", "user_prompt_id": "u1",
        "request": {
            "session_id": "s1", "systemInstruction": { "role": "user", "parts": [{ "text": "be" }] },
            "contents": [
                { "role": "model", "parts": [
                    { "text": "so it is" }, { "functionCall": { "name": "ls", "args": { "dir": "." } } },
                ] },
                { "role": "user", "parts": [
                    { "functionResponse": { "id": "c", "name": "ls", "response": { "output": "a" } } },
                ] },
            ],
            "tools": [{ "functionDeclarations": [{ "name": "ls" }, { "name": "cat" }] }],
        },
    });
    let wrapped: Vec<_> = reference()
        .iter()
        .map(|data| {
            let inner: Value = serde_json::from_str(data).unwrap();
            json!({ "response": inner, "traceId": "t" }).to_string()
        })
        .collect();
    let mut session = Session::default();
    let call = ask(&mut session, place, &body, &wrapped);
    assert_eq!(call.usage.output_tokens, Some(1093));
    assert_eq!(
        (&*call.provider, call.request_model.as_deref()),
        ("gcp.gemini", Some("gemini-test"))
    );
    assert_eq!(call.correlation.session_id.as_deref(), Some("s1"));
    assert_eq!(call.correlation.prompt_id.as_deref(), Some("u1"));
    let expected = [
        "systemInstruction.parts[0]=1",
        "contents[0].parts[0]=2",
        "contents[0].parts[1]=3",
        "contents[1].parts[0]=4",
        "tools[0].functionDeclarations[0]=5",
        "tools[0].functionDeclarations[1]=6",
    ];
    assert_eq!(paths(&call.content.request), expected);
    let said = ["candidates[0].parts[0]=7", "candidates[0].parts[1]=2", "candidates[0].parts[2]=3"];
    assert_eq!(paths(&call.content.response), said);
}

#[test]
fn the_total_tells_whether_thoughts_are_inside() {
    let output = |total: Value| {
        let fields = json!({
            "promptTokenCount": 100, "toolUsePromptTokenCount": 10, "candidatesTokenCount": 20,
            "thoughtsTokenCount": 5, "cachedContentTokenCount": 60, "totalTokenCount": total,
        });
        let usage = Api::Gemini.usage(fields.as_object().unwrap());
        assert_eq!((usage.input_tokens, usage.cache_read_tokens), (Some(50), Some(60)));
        usage.output_tokens
    };
    assert_eq!(output(json!(135)), Some(25));
    assert_eq!(output(json!(130)), Some(20));
    assert_eq!(output(json!(140)), Some(30));
    assert_eq!(output(Value::Null), Some(25));
}

#[test]
fn an_error_says_when_to_come_again() {
    let error = json!({ "error": {
        "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "m",
        "details": [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s" }],
    } });
    for data in [error.to_string(), json!([error]).to_string()] {
        let call = ask(&mut Session::default(), PLACE, &json!({ "contents": [] }), &[data]);
        assert_eq!(call.error_type.as_deref(), Some("RESOURCE_EXHAUSTED"));
        assert_eq!(call.retry_after_ms, Some(3500.0));
        assert_eq!(call.usage_state, UsageState::None);
    }
}

#[test]
fn a_stream_that_was_cut_has_partial_counts() {
    let data = &reference()[..2];
    let mut session = Session::default();
    let call = ask(&mut session, PLACE, &json!({ "contents": [] }), data);
    assert_eq!((call.usage_state, call.usage.input_tokens), (UsageState::Partial, Some(264)));
    assert!(session.told().all(|block| block.is_cut));
}

#[test]
fn media_and_code_are_blocks() {
    let mut session = Session::default();
    let parts = json!([
        { "inlineData": { "mimeType": "image/png", "data": "AA" } },
        { "fileData": { "mimeType": "application/pdf" } },
        { "executableCode": { "code": "1" } },
        { "thoughtSignature": "AA" },
    ]);
    let body = json!({ "contents": [{ "parts": parts }], "tools": [{ "googleSearch": {} }] });
    let answer = Answer::Whole(json!({ "promptFeedback": { "blockReason": "SAFETY" } }));
    let call = session.call(PLACE, &[], &body, answer).unwrap();
    assert_eq!(call.stop_reason.as_deref(), Some("SAFETY"));
    let texts = session.texts();
    assert_eq!(texts[..2], ["user image: -", "user document: -"]);
    assert!(texts[2].starts_with("user executableCode: "), "{}", texts[2]);
    assert_eq!(texts[3], r#"system tool_definition: {"googleSearch":{}}"#);
}
