//! Calls whole, as an exchange feeds them: what is recognised, handed out, and when. What each API
//! says is in a file of its own, with the reference sequences of its provider's types.

mod amazon_bedrock;
mod anthropic_messages;
mod chat;
mod gemini_generate;
mod ollama_api;
mod responses;

use proptest::prelude::*;
use serde_json::json;

use super::fuzz::exchange;
use super::*;
use crate::reconstruct::exchange::Caller;
use crate::reconstruct::finding::{Block, BlockKind, BlockRole, Header};

/// Headers by name and value.
type Fields<'a> = &'a [(&'a str, &'a str)];

fn own(fields: Fields<'_>) -> Vec<Header> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Exchanges made one after the other, and what is found of them.
#[derive(Default)]
struct Session {
    blocks: Blocks,
    found: Vec<Finding>,
    calls: u64,
}

/// What comes back.
enum Answer<'a> {
    /// One JSON text.
    Whole(Value),
    /// Kinds and data of events, a millisecond apart.
    Events(&'a [(&'a str, &'a str)]),
}

impl Session {
    /// A call; what is found beside it is added to what was found before.
    fn call(
        &mut self,
        (host, path): (&str, &str),
        headers: Fields<'_>,
        body: &Value,
        answer: Answer<'_>,
    ) -> Option<LlmCall> {
        self.calls += 1;
        let Self { blocks, found, calls } = self;
        let findings = &mut Caller { blocks, sink: &mut |finding| found.push(finding) };
        let mut head = request_head(path, headers);
        head.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        let mut observer = Observer::for_request(*calls, &head, Some(host), Some(path))?;
        observer.request_bytes(WallNanos(1), body.to_string().as_bytes(), findings);
        let streamed = matches!(answer, Answer::Events(_));
        let content_type = if streamed { "text/event-stream" } else { "application/json" };
        let response = ResponseHead {
            status: 200,
            version: "1.1",
            headers: own(&[("content-type", content_type)]),
        };
        observer.response_head(WallNanos(2_000_000), &response, streamed);
        match answer {
            Answer::Whole(body) => {
                observer.response_bytes(WallNanos(3_000_000), body.to_string().as_bytes());
            }
            Answer::Events(events) => {
                for (at, (kind, data)) in (3..).zip(events) {
                    let kind = Some(*kind).filter(|kind| !kind.is_empty());
                    observer.event(WallNanos(at * 1_000_000), kind, data);
                }
            }
        }
        let exchange = Exchange { request_headers: head.headers, ..exchange() };
        observer.finish(exchange, true, findings)
    }

    /// The text of every block that was told, with its role and kind.
    fn texts(&self) -> Vec<String> {
        let text = |block: &Block| {
            let text = block.text.as_deref().unwrap_or("-");
            format!("{} {}: {text}", block.role.as_str(), block.kind.as_str())
        };
        self.told().map(text).collect()
    }

    fn told(&self) -> impl Iterator<Item = &Block> {
        self.found.iter().filter_map(|finding| match finding {
            Finding::Block(block) => Some(&**block),
            _ => None,
        })
    }
}

fn request_head(path: &str, headers: Fields<'_>) -> RequestHead {
    RequestHead {
        method: "POST".to_owned(),
        target: path.to_owned(),
        version: "1.1",
        headers: own(headers),
    }
}

/// What blocks of a call are numbered, with where they stand.
fn paths(refs: &[BlockRef]) -> Vec<String> {
    refs.iter().map(|block| format!("{}={}", block.path, block.block_id)).collect()
}

const ANTHROPIC: (&str, &str) = ("api.anthropic.com", "/v1/messages");

fn conversation(turns: usize) -> Value {
    let turn = |turn| json!({ "role": "user", "content": format!("turn {turn}") });
    json!({
        "model": "m", "system": "be kind", "tools": [{ "name": "sh", "input_schema": {} }],
        "messages": (0..turns).map(turn).collect::<Value>(),
    })
}

#[test]
fn what_is_sent_again_is_told_once_and_listed_each_time() {
    let mut session = Session::default();
    for turns in 1..4 {
        let call = session.call(ANTHROPIC, &[], &conversation(turns), Answer::Whole(json!({})));
        let content = call.unwrap().content;
        assert!(content.is_request_whole);
        assert_eq!(content.request.len(), 2 + turns);
    }
    let texts = session.texts();
    assert_eq!(texts[0], "system text: be kind");
    assert_eq!(texts[1], r#"system tool_definition: {"name":"sh","input_schema":{}}"#);
    assert_eq!(texts[2..], ["user text: turn 0", "user text: turn 1", "user text: turn 2"]);
    let callers: Vec<_> = session.told().map(|block| block.call_id).collect();
    assert_eq!(callers, [1, 1, 1, 2, 3]);
}

#[test]
fn nothing_of_what_may_be_no_call_is_handed_out_before_it_is_proven() {
    let late = json!({ "messages": [{ "role": "user", "content": "a" }], "model": "m" });
    let never = json!({ "messages": [{ "role": "user", "content": "a" }] });
    let gateway = ("gateway.test", "/v1/messages");
    let mut session = Session::default();
    assert!(session.call(gateway, &[], &never, Answer::Whole(json!({}))).is_none());
    assert_eq!(session.found, []);
    let call = session.call(gateway, &[], &late, Answer::Whole(json!({}))).unwrap();
    assert_eq!(paths(&call.content.request), ["messages[0].content[0]=1"]);
    let call =
        session.call(gateway, &[("Anthropic-Version", "1")], &never, Answer::Whole(json!({})));
    assert_eq!(paths(&call.unwrap().content.request), ["messages[0].content[0]=1"]);
}

#[test]
fn what_only_looks_like_a_call_is_shown_as_unknown() {
    let mut session = Session::default();
    let place = ("api.openai.com", "/v1/embeddings");
    let answer = || Answer::Whole(json!({ "model": "e-1", "usage": { "prompt_tokens": 3 } }));
    let body = json!({ "input": ["a", "b"], "model": "e" });
    let call = session.call(place, &[], &body, answer()).unwrap();
    assert_eq!((&*call.api, &*call.provider), ("other", "openai"));
    assert_eq!((call.request_model.as_deref(), call.model.as_deref()), (Some("e"), Some("e-1")));
    assert_eq!((call.usage_state, call.usage.input_tokens), (UsageState::None, None));
    assert_eq!(call.usage.usage_json.as_deref(), Some(r#"{"prompt_tokens":3}"#));
    assert!(!call.content.is_request_whole);
    for body in [json!({ "model": "e" }), json!({ "input": "a" }), json!([1])] {
        assert!(session.call(place, &[], &body, answer()).is_none(), "{body}");
    }
    assert_eq!(session.found, []);
}

#[test]
fn counting_tokens_is_a_call_that_uses_none() {
    let place = ("api.anthropic.com", "/v1/messages/count_tokens");
    let mut session = Session::default();
    let answer = Answer::Whole(json!({ "input_tokens": 9 }));
    let call = session.call(place, &[], &conversation(1), answer).unwrap();
    assert_eq!(call.placement.class, CallClass::CountTokens);
    assert_eq!((call.usage_state, call.usage.total_input_tokens()), (UsageState::None, None));
    assert_eq!(call.usage.usage_json.as_deref(), Some(r#"{"input_tokens":9}"#));
}

#[test]
fn a_gap_in_a_request_leaves_what_came_before() {
    let mut blocks = Blocks::default();
    let mut told = 0;
    let findings = &mut Caller { blocks: &mut blocks, sink: &mut |_| told += 1 };
    let head = request_head("/v1/messages", &[]);
    let mut observer =
        Observer::for_request(1, &head, Some("api.anthropic.com"), Some("/v1/messages")).unwrap();
    let body = conversation(2).to_string();
    let (before, after) = body.split_at(body.find("turn 1").unwrap());
    observer.request_bytes(WallNanos(1), before.as_bytes(), findings);
    observer.request_gap();
    observer.request_bytes(WallNanos(1), after.as_bytes(), findings);
    let call = observer.finish(exchange(), false, findings).unwrap();
    assert_eq!(call.content.request.len(), 3);
    assert!(!call.content.is_request_whole);
    assert_eq!(call.content.request_digest, None);
    assert_eq!(told, 3);
}

#[test]
fn an_element_that_cannot_be_read_is_shown_as_such() {
    let mut session = Session::default();
    let long = "x".repeat(json_reader::MAX_ELEMENT_BYTES);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": long }] });
    let call = session.call(ANTHROPIC, &[], &body, Answer::Whole(json!({}))).unwrap();
    let block = session.told().next().unwrap();
    assert_eq!(block.kind, BlockKind::Other("oversize".to_owned()));
    assert!(block.is_cut && block.bytes > json_reader::MAX_ELEMENT_BYTES as u64);
    assert_eq!(call.content.request[0].bytes, block.bytes);
}

#[test]
fn a_request_of_countless_blocks_is_listed_in_part() {
    let mut session = Session::default();
    let message = json!({ "role": "user", "content": "a" });
    let messages: Value = (0..70_000).map(|_| message.clone()).collect();
    let body = json!({ "model": "m", "messages": messages });
    let content = session.call(ANTHROPIC, &[], &body, Answer::Whole(json!({}))).unwrap().content;
    assert_eq!(content.request.len(), 1 << 16);
    assert!(!content.is_request_whole);
    assert_eq!(session.told().count(), 1);
}

#[test]
fn what_waits_for_proof_is_bounded() {
    let mut session = Session::default();
    let text = "x".repeat(1 << 20);
    let message = json!({ "role": "user", "content": text });
    let messages: Value = (0..9).map(|_| message.clone()).collect();
    let body = json!({ "messages": messages, "model": "m" });
    let gateway = ("gateway.test", "/v1/messages");
    let content = session.call(gateway, &[], &body, Answer::Whole(json!({}))).unwrap().content;
    assert_eq!(content.request.len(), 3);
    assert!(!content.is_request_whole);
}

#[test]
fn only_long_pauses_are_noted_and_not_endlessly_many() {
    let head = request_head("/v1/messages", &[]);
    let mut observer = Observer::for_request(1, &head, None, Some("/v1/messages")).unwrap();
    observer.response_pause(WallNanos(0), WallNanos(999_999_999));
    assert_eq!(observer.pauses, []);
    for _ in 0..2 * MAX_PAUSES {
        observer.response_pause(WallNanos(0), WallNanos(1_000_000_000));
    }
    assert_eq!(observer.pauses.len(), MAX_PAUSES);
}

#[test]
fn the_agent_is_the_first_product() {
    assert_eq!(agent("claude-cli/2.1.197 (external, cli)").as_deref(), Some("claude-cli/2.1.197"));
    assert_eq!(agent("Anthropic/JS 0.1").as_deref(), Some("Anthropic/JS"));
    assert_eq!(agent(" "), None);
}

#[test]
fn agents_are_told_by_their_own_ids() {
    let mut session = Session::default();
    let user = json!({ "user_id": "user_1_account_2_session_s-9" });
    let body = json!({ "model": "m", "messages": [], "metadata": user });
    let headers: Fields<'_> = &[
        ("X-Claude-Code-Agent-Id", "a1"),
        ("x-claude-code-parent-agent-id", "a0"),
        ("x-claude-code-prompt-id", "p1"),
        ("x-claude-code-request-class", "subagent"),
        ("x-client-request-id", "r1"),
    ];
    let ids =
        session.call(ANTHROPIC, headers, &body, Answer::Whole(json!({}))).unwrap().correlation;
    assert_eq!(ids.session_id.as_deref(), Some("s-9"));
    assert_eq!(ids.agent_id.as_deref(), Some("a1"));
    assert_eq!(ids.parent_agent_id.as_deref(), Some("a0"));
    assert_eq!(ids.prompt_id.as_deref(), Some("p1"));
    assert_eq!(ids.request_class.as_deref(), Some("subagent"));
    assert_eq!(ids.client_request_id.as_deref(), Some("r1"));

    let headers: Fields<'_> = &[("X-Claude-Code-Session-Id", "s-1")];
    let ids =
        session.call(ANTHROPIC, headers, &body, Answer::Whole(json!({}))).unwrap().correlation;
    assert_eq!(ids.session_id.as_deref(), Some("s-1"));
}

#[test]
fn the_turn_of_codex_is_in_its_own_words() {
    let mut session = Session::default();
    let place = ("chatgpt.com", "/backend-api/codex/responses");
    let turn = r#"{"session_id":"s","thread_id":"t","turn_id":"u"}"#;
    let body = json!({
        "model": "m", "input": [], "prompt_cache_key": "k",
        "client_metadata": { "X-Codex-Turn-Metadata": turn, "x-openai-subagent": "review" },
    });
    let headers: Fields<'_> = &[("session_id", "older"), ("originator", "x")];
    let ids = session.call(place, headers, &body, Answer::Whole(json!({}))).unwrap().correlation;
    assert_eq!(ids.session_id.as_deref(), Some("s"));
    assert_eq!(ids.thread_id.as_deref(), Some("t"));
    assert_eq!(ids.prompt_id.as_deref(), Some("u"));
    assert_eq!(ids.request_class.as_deref(), Some("review"));
}

proptest! {
    #[test]
    fn where_a_request_was_cut_does_not_show(
        turns in 0_usize..5, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let body = conversation(turns).to_string();
        let read = |pieces: &[&[u8]]| {
            let (mut blocks, mut found) = (Blocks::default(), Vec::new());
            let findings = &mut Caller { blocks: &mut blocks, sink: &mut |it| found.push(it) };
            let head = request_head("/v1/messages", &[]);
            let mut observer = Observer::for_request(1, &head, None, Some("/v1/messages")).unwrap();
            for piece in pieces {
                observer.request_bytes(WallNanos(1), piece, findings);
            }
            let call = observer.finish(exchange(), true, findings);
            (found, call)
        };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> =
            cuts.windows(2).map(|pair| &body.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(&pieces), read(&[body.as_bytes()]));
    }

    #[test]
    fn any_bodies_are_taken(
        data in prop_oneof![
            r#"[{}\[\]",:a-c0-9 ]{0,60}"#,
            Just(r#"{"type":"message_start","message":7}"#.to_owned()),
            Just(r#"{"type":"message_delta","delta":[],"usage":{"output_tokens":"x"}}"#.to_owned()),
            Just(r#"{"choices":[[],{"delta":7},null],"usage":[]}"#.to_owned()),
            Just(r#"{"type":"response.output_item.done","item":[],"output_index":-1}"#.to_owned()),
            Just(r#"{"candidates":[{"content":{"parts":[7,{"text":1}]}}]}"#.to_owned()),
            Just(r#"{"messages":[{"role":7,"content":[[],7,{"type":[]}]}],"tools":[7]}"#.to_owned()),
            Just("[[[[".repeat(200)),
        ],
    ) {
        fuzz(data.as_bytes());
    }
}
