//! Ollama's own API.

use super::*;

const PLACE: (&str, &str) = ("127.0.0.1:11434", "/api/chat");
const LAST: &str = r#"{"model":"qwen3","created_at":"t","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":4353619900,"load_duration":63915300,"prompt_eval_count":10,"prompt_eval_duration":246847000,"eval_count":17,"eval_duration":4032296000}"#;

#[test]
fn lines_give_their_row() {
    let mut session = Session::default();
    let body = json!({
        "model": "qwen3", "messages": [
            { "role": "system", "content": "be" },
            { "role": "user", "content": "look", "images": ["AA"] },
            { "role": "tool", "tool_name": "ls", "content": "a" },
        ],
    });
    let call = r#"{"model":"qwen3","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"ls","arguments":{"d":"."}}}]},"done":false}"#;
    let thought = r#"{"model":"qwen3","message":{"thinking":"hm"},"done":false}"#;
    let events = [("", thought), ("", call), ("", LAST)];
    let call = session.call(PLACE, &[], &body, Answer::Events(&events)).unwrap();
    assert_eq!((&*call.provider, &*call.api), ("ollama", "ollama_chat"));
    assert_eq!((call.usage.input_tokens, call.usage.output_tokens), (Some(10), Some(17)));
    assert_eq!((call.usage.cache_read_tokens, call.usage_state), (None, UsageState::Reported));
    assert_eq!(call.stop_reason.as_deref(), Some("stop"));
    assert!(call.usage.usage_json.is_some_and(|usage| usage.contains("load_duration")));
    let expected = [
        "system text: be",
        "user text: look",
        "user image: -",
        "tool tool_result: a",
        "assistant thinking: hm",
        r#"assistant tool_use: {"d":"."}"#,
    ];
    assert_eq!(session.texts(), expected);
}

#[test]
fn generate_has_a_prompt_and_a_response() {
    let mut session = Session::default();
    let place = ("localhost:11434", "/api/generate");
    let body = json!({ "model": "qwen3", "system": "be", "prompt": "go", "stream": false });
    let answer = json!({ "model": "qwen3", "response": "gone", "done": true, "eval_count": 1 });
    let call = session.call(place, &[], &body, Answer::Whole(answer)).unwrap();
    assert_eq!(session.texts(), ["system text: be", "user text: go", "assistant text: gone"]);
    assert_eq!(paths(&call.content.request), ["system=1", "prompt=2"]);
    assert_eq!((call.transport.as_str(), call.first_token_ts), ("http", None));
}

#[test]
fn a_chat_of_another_program_is_no_call() {
    let mut session = Session::default();
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    let place = ("localhost:3000", "/api/chat");
    assert!(session.call(place, &[], &body, Answer::Whole(json!({}))).is_none());
}

#[test]
fn an_error_is_a_sentence() {
    let mut session = Session::default();
    let answer = Answer::Whole(json!({ "error": "model not found" }));
    let body = json!({ "model": "x", "messages": [] });
    let call = session.call(PLACE, &[], &body, answer).unwrap();
    assert_eq!(call.error_type.as_deref(), Some("error"));
}
