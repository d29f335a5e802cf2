//! The mock LLM server is what recordings are measured by, so it is measured itself: every test
//! sets its truth against the bytes a client of our own sent and received.

mod support;

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::client::{Client, Response};
use support::mock::answer::{Answer, Block, Usage};
use support::mock::coding::{Coding, Encoder, unpack};
use support::mock::http::{Framing, Incoming};
use support::mock::script::{ANTHROPIC_PATH, Delivery, Failure, OPENAI_PATH, Reply, Rule, Script};
use support::mock::script::{NAMES, When};
use support::mock::split::Split;
use support::mock::truth::{Connection, Truth, hex};
use support::mock::websocket::{self, Frames, Message, Packer};
use support::mock::{Server, script_file};

const PATIENCE: Duration = Duration::from_secs(20);

/// Everything a stream can hold, with text that has multi-byte characters at every turn.
fn rich_answer() -> Answer {
    Answer {
        blocks: vec![
            Block::Thinking("Überlegen … 思考".into()),
            Block::Text("Größe: 10 µm — 完成 🌍".into()),
            Block::ToolUse { name: "Bash".into(), input: json!({"command": "echo 'ñ'"}) },
        ],
        delta_chars: 5,
        ..Answer::default()
    }
}

fn server(reply: Reply, delivery: Delivery) -> Server {
    let rule = |path| Rule::new(When::path(path), reply.clone()).delivered(delivery.clone());
    Server::start(Script::of(vec![rule(ANTHROPIC_PATH), rule(OPENAI_PATH)])).unwrap()
}

fn streaming(model: &str) -> String {
    json!({"model": model, "stream": true, "max_tokens": 99, "messages": []}).to_string()
}

/// The events of a stream as `(event field, data)`.
fn events(body: &[u8]) -> Vec<(Option<String>, String)> {
    let text = String::from_utf8(body.to_vec()).unwrap().replace("\r\n", "\n");
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).map(String::from)
    };
    let whole = text.split("\n\n").filter(|event| !event.is_empty());
    whole.map(|event| (field(event, "event: "), field(event, "data: ").unwrap())).collect()
}

/// Stops the server and returns its only connection, checked against what the client saw.
fn only_connection(server: Server, client: Client) -> Connection {
    let Client { sent, received, .. } = client;
    let truth = server.stop();
    assert_eq!(truth.connections.len(), 1);
    let connection = truth.connections.into_iter().next().unwrap();
    let sha256 = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    assert_eq!(connection.received.sha256(), sha256(&sent));
    assert_eq!(connection.sent.sha256(), sha256(&received));
    assert_eq!(connection.received.kept, sent);
    assert_eq!(connection.sent.bytes, received.len() as u64);
    connection
}

fn ask(server: &Server, path: &str, fields: &str, body: &str) -> (Client, Response) {
    let mut client = Client::connect(server);
    client.post(path, fields, body);
    let response = client.response();
    (client, response)
}

#[test]
fn an_anthropic_stream_tells_cumulative_usage_and_the_truth_knows_every_step() {
    let server = server(Reply::Answer(rich_answer()), Delivery::default());
    let (client, response) = ask(&server, ANTHROPIC_PATH, "", &streaming("claude-x"));
    assert_eq!((response.status, response.complete), (200, true));
    let events = events(&response.body);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_deref().unwrap()).collect();
    assert_eq!(names.first(), Some(&"message_start"));
    assert_eq!(names.last(), Some(&"message_stop"));
    assert!(names.contains(&"ping"));
    let data: Vec<Value> = events.iter().map(|(_, d)| serde_json::from_str(d).unwrap()).collect();
    assert_eq!(data[0]["message"]["usage"]["output_tokens"], 1);
    let last = &data[data.len() - 2];
    let usage = Usage::distinct(1);
    assert_eq!(last["usage"]["input_tokens"], usage.input_tokens);
    assert_eq!(last["usage"]["cache_read_input_tokens"], json!(usage.cache_read_tokens));
    assert_eq!(last["usage"]["output_tokens"], usage.output_tokens);
    let arguments: String =
        data.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(arguments, r#"{"command":"echo 'ñ'"}"#);

    let connection = only_connection(server, client);
    let exchange = &connection.exchanges[0];
    assert!(exchange.complete && exchange.streamed && exchange.usage_final);
    assert_eq!(exchange.usage, Some(usage));
    assert_eq!(exchange.stop_reason.as_deref(), Some("tool_use"));
    assert_eq!(exchange.model.as_deref(), Some("claude-x"));
    assert_eq!(exchange.event_ts.len(), events.len());
    assert_eq!(exchange.response_body_bytes, response.body.len() as u64);
    let first_token_ts = exchange.first_token_ts.unwrap();
    let order = [
        exchange.request_end_ts,
        exchange.first_byte_ts.unwrap(),
        first_token_ts,
        exchange.end_ts.unwrap(),
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert!(exchange.event_ts.is_sorted());
}

#[test]
fn openai_usage_comes_only_to_those_who_ask_for_it() {
    let server = server(Reply::Answer(rich_answer()), Delivery::default());
    let asking =
        json!({"model": "gpt-x", "stream": true, "stream_options": {"include_usage": true}});
    let (mut client, response) = ask(&server, OPENAI_PATH, "", &asking.to_string());
    let told = events(&response.body);
    assert_eq!(told.last().unwrap().1, "[DONE]");
    let usage: Value = serde_json::from_str(&told[told.len() - 2].1).unwrap();
    let distinct = Usage::distinct(1);
    assert_eq!(usage["usage"]["prompt_tokens"], distinct.total_input_tokens());
    assert_eq!(
        usage["usage"]["prompt_tokens_details"]["cached_tokens"],
        json!(distinct.cache_read_tokens)
    );

    client.post(OPENAI_PATH, "", &streaming("gpt-x"));
    let untold = events(&client.response().body);
    assert_eq!(untold.len(), told.len() - 1);
    assert!(untold.iter().all(|(_, data)| !data.contains("prompt_tokens")));
    client.post(OPENAI_PATH, "", r#"{"model":"gpt-x"}"#);
    let document: Value = serde_json::from_slice(&client.response().body).unwrap();
    assert_eq!(document["usage"]["completion_tokens"], Usage::distinct(3).output_tokens);

    let calls = only_connection(server, client).exchanges;
    assert_eq!(calls[0].usage, Some(distinct));
    assert_eq!(calls[1].usage, None);
    assert_eq!(calls[2].usage, Some(Usage::distinct(3)));
    assert!(calls.iter().all(|call| call.stop_reason.as_deref() == Some("tool_calls")));
}

#[test]
fn every_way_of_cutting_and_framing_carries_the_same_events() {
    let body = streaming("claude-x");
    let plain = server(Reply::Answer(rich_answer()), Delivery::default());
    let expected = events(&ask(&plain, ANTHROPIC_PATH, "", &body).1.body);
    let splits = [Split::Every(1), Split::Every(7), Split::InsideUtf8, Split::InsideLineEnds];
    for split in splits {
        for framing in [Framing::Chunked, Framing::Close] {
            let codings = Coding::ALL.into_iter().map(|coding| (Some(coding), true));
            for (coding, crlf) in [(None, false), (None, true)].into_iter().chain(codings) {
                let delivery =
                    Delivery { framing: Some(framing), coding, split, crlf, ..Delivery::default() };
                let server = server(Reply::Answer(rich_answer()), delivery);
                let field = "Accept-Encoding: gzip, br, zstd, deflate\r\n";
                let (client, response) = ask(&server, ANTHROPIC_PATH, field, &body);
                let name = coding.map_or("identity", Coding::name);
                let says = format!("content-encoding: {name}");
                assert_eq!(response.head.contains(&says), coding.is_some());
                let decoded = unpack(response.body.clone(), Some(name), 1 << 20).unwrap();
                assert_eq!(events(&decoded), expected, "{split:?} {framing:?}");
                let exchange = &only_connection(server, client).exchanges[0];
                assert_eq!(exchange.response_wire_bytes, response.body.len() as u64);
                assert_eq!(exchange.response_body_bytes, decoded.len() as u64);
            }
        }
    }
}

#[test]
fn single_byte_writes_of_heads_and_chunk_sizes_change_nothing() {
    let delivery = Delivery { write_bytes: Some(1), ..Delivery::default() };
    let server = server(Reply::Answer(Answer::text("kurz")), delivery);
    let (client, response) = ask(&server, ANTHROPIC_PATH, "", r#"{"model":"m"}"#);
    let document: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(document["content"][0]["text"], "kurz");
    only_connection(server, client);
}

#[test]
fn keep_alive_pipelining_and_chunked_uploads_keep_offsets_exact() {
    let server = server(Reply::Answer(Answer::text("ja")), Delivery::default());
    let mut client = Client::connect(&server);
    let body = r#"{"model":"claude-x"}"#;
    let chunked = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;ext=1\r\n{\"mod\r\nf\r\nel\":\"claude-x\"}\r\n0\r\nTrailer: x\r\n\r\n";
    let plain = "GET /nowhere?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send(format!("{chunked}{plain}").as_bytes());
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().body, b"{}");
    client.post(ANTHROPIC_PATH, "", body);
    assert!(client.response().complete);

    let connection = only_connection(server, client);
    let [first, second, third] = &connection.exchanges[..] else { panic!("three exchanges") };
    assert_eq!(first.request_model.as_deref(), Some("claude-x"));
    assert_eq!(first.request_wire_bytes, body.len() as u64);
    assert_eq!(second.request_offset, chunked.len() as u64);
    assert_eq!(second.target, "/nowhere?x=1");
    assert!(!second.scripted && second.api.is_none());
    assert_eq!(third.request_offset, (chunked.len() + plain.len()) as u64);
    let third_response = &connection.sent.kept[third.response_offset as usize..];
    assert!(third_response.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on_and_head_has_no_body() {
    let server = server(Reply::Answer(Answer::text("ja")), Delivery::default());
    let mut client = Client::connect(&server);
    client.send(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    client.send(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
          Content-Length: 2\r\n\r\n",
    );
    assert!(client.head().starts_with("HTTP/1.1 100 Continue"));
    client.send(b"{}");
    assert_eq!(client.response().status, 200);
    only_connection(server, client);
}

#[test]
fn a_packed_request_is_understood() {
    for coding in Coding::ALL {
        let server = server(Reply::Answer(Answer::text("ja")), Delivery::default());
        let mut encoder = Encoder::new(coding).unwrap();
        let mut packed = encoder.pack(br#"{"model":"packed"}"#).unwrap();
        packed.extend(encoder.finish().unwrap());
        let mut client = Client::connect(&server);
        let head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n";
        let fields =
            format!("Content-Encoding: {}\r\nContent-Length: {}", coding.name(), packed.len());
        client.send(format!("{head}{fields}\r\n\r\n").as_bytes());
        client.send(&packed);
        assert_eq!(client.response().status, 200);
        let exchange = &only_connection(server, client).exchanges[0];
        assert_eq!(exchange.request_model.as_deref(), Some("packed"));
        assert_eq!(exchange.request_wire_bytes, packed.len() as u64);
    }
}

#[test]
fn a_rule_of_one_use_fails_once_and_the_retry_succeeds() {
    let failure = Failure {
        status: 429,
        error_type: "rate_limit_error".into(),
        message: "slow down".into(),
        retry_after_s: Some(1),
    };
    let script = Script::of(vec![
        Rule::new(When::path(ANTHROPIC_PATH), Reply::Failure(failure)).times(1),
        Rule::new(When::path(ANTHROPIC_PATH), Reply::Answer(Answer::text("ja"))),
    ]);
    let server = Server::start(script).unwrap();
    let (mut client, refused) = ask(&server, ANTHROPIC_PATH, "", "{}");
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("retry-after: 1\r\n"));
    client.post(ANTHROPIC_PATH, "", "{}");
    assert_eq!(client.response().status, 200);
    let calls = only_connection(server, client).exchanges;
    assert_eq!(calls[0].error_type.as_deref(), Some("rate_limit_error"));
    assert_eq!((calls[0].usage.as_ref(), calls[0].status), (None, 429));
    assert_eq!(calls[1].usage, Some(Usage::distinct(1)));
}

#[test]
fn an_error_in_the_midst_of_a_stream_leaves_the_counts_told_so_far() {
    let answer = Answer { error_after_events: Some(3), ..rich_answer() };
    let server = server(Reply::Answer(answer), Delivery::default());
    let (client, response) = ask(&server, ANTHROPIC_PATH, "", &streaming("m"));
    let events = events(&response.body);
    assert_eq!((response.complete, events.len()), (true, 4));
    assert_eq!(events[3].0.as_deref(), Some("error"));
    let exchange = &only_connection(server, client).exchanges[0];
    assert_eq!(exchange.error_type.as_deref(), Some("overloaded_error"));
    assert!(exchange.complete && !exchange.usage_final && exchange.stop_reason.is_none());
    let told = Usage { output_tokens: 1, reasoning_tokens: None, ..Usage::distinct(1) };
    assert_eq!(exchange.usage, Some(told));
}

#[test]
fn a_cut_stream_ends_inside_an_event_without_an_end() {
    let delivery = Delivery { cut_after_events: Some(4), ..Delivery::default() };
    let server = server(Reply::Answer(rich_answer()), delivery);
    let (client, response) = ask(&server, ANTHROPIC_PATH, "", &streaming("m"));
    assert!(!response.complete);
    assert!(!response.body.ends_with(b"\n\n"));
    let exchange = &only_connection(server, client).exchanges[0];
    assert!(!exchange.complete && exchange.end_ts.is_none());
    assert_eq!(exchange.event_ts.len(), 4);
    assert_eq!(exchange.response_wire_bytes, response.body.len() as u64);
}

#[test]
fn an_agent_script_follows_the_conversation_and_not_the_count_of_requests() {
    let server = Server::start(Script::agent(&["true", "false"], Delivery::default())).unwrap();
    let tools = json!([{"name": "Bash"}]);
    let results = |count: usize| -> Value {
        let result = json!({"role": "user", "content": [{"type": "tool_result", "content": "x"}]});
        json!({"model": "m", "tools": tools, "messages": vec![result; count]})
    };
    let quota = json!({"model": "m", "tools": tools, "max_tokens": 1, "messages": []});
    let title = json!({"model": "m", "messages": []});
    let command = |answer: &Value| answer["content"][2]["input"]["command"].clone();
    let mut client = Client::connect(&server);
    let mut answer_to = |body: &Value| -> Value {
        client.post(ANTHROPIC_PATH, "", &body.to_string());
        serde_json::from_slice(&client.response().body).unwrap()
    };
    assert_eq!(answer_to(&quota)["content"][0]["text"], "Mock session");
    assert_eq!(command(&answer_to(&results(0))), "true");
    assert_eq!(answer_to(&title)["stop_reason"], "end_turn");
    assert_eq!(command(&answer_to(&results(0))), "true", "a retry gets the same answer");
    assert_eq!(command(&answer_to(&results(1))), "false");
    assert_eq!(answer_to(&results(2))["stop_reason"], "end_turn");
}

#[test]
fn waiting_ends_when_the_condition_holds_and_stopping_ends_open_connections() {
    let delays = Delivery { event_delays_ms: vec![600_000], ..Delivery::default() };
    let server = server(Reply::Answer(Answer::text("nie")), delays);
    let mut client = Client::connect(&server);
    client.post(ANTHROPIC_PATH, "", &streaming("m"));
    let head_sent = |truth: &Truth| truth.exchanges().iter().any(|e| e.first_byte_ts.is_some());
    assert!(server.wait_for(PATIENCE, head_sent).is_ok());
    assert!(server.wait_for(Duration::ZERO, |truth| truth.connections.len() > 1).is_err());
    let connection = &server.stop().connections[0];
    assert_eq!(connection.error.as_deref(), Some("server is stopping"));
    assert!(connection.closed_ts.is_some() && !connection.exchanges[0].complete);
}

#[test]
fn a_broken_request_costs_only_its_own_connection() {
    let server = server(Reply::Answer(Answer::text("ja")), Delivery::default());
    let mut broken = Client::connect(&server);
    broken.send(b"\x00\x01 nonsense\r\n\r\n");
    assert!(server.wait_for(PATIENCE, |truth| truth.connections[0].error.is_some()).is_ok());
    let (_, response) = ask(&server, ANTHROPIC_PATH, "", "{}");
    assert_eq!(response.status, 200);
}

#[test]
fn script_files_say_what_is_wrong_with_them() {
    let good = r#"[{"when": {"path": "/v1/messages", "tool_results": 0}, "times": 2,
        "answer": {"blocks": [{"thinking": "hm"}, {"tool": "Bash", "input": {"command": "ls"}}],
                   "usage": {"input_tokens": 3, "output_tokens": 5}},
        "delivery": {"split": "inside_utf8", "framing": "close", "event_delays_ms": [5], "stall": [2, 700],
                     "coding": "br"}}]"#;
    let script = script_file::parse(good).unwrap();
    assert_eq!(script.rules[0].times, Some(2));
    let delivery = &script.rules[0].delivery;
    assert_eq!((delivery.split, delivery.coding), (Split::InsideUtf8, Some(Coding::Br)));
    assert_eq!(delivery.stall, Some((2, 700)));
    let Reply::Answer(answer) = &script.rules[0].reply else { panic!("an answer") };
    assert!(answer.calls_tool());
    assert_eq!(answer.usage.as_ref().unwrap().output_tokens, 5);

    let misspelt = script_file::parse(r#"[{"answer": {}, "delivery": {"gzp": true}}]"#);
    assert_eq!(misspelt.unwrap_err(), "rule 0: delivery: unknown key gzp");
    let empty = script_file::parse(r#"[{"times": 1}]"#);
    assert_eq!(empty.unwrap_err(), "rule 0: expected answer, failure, document or websocket");
    assert!(NAMES.iter().all(|name| Script::named(name).is_some()));
}

proptest! {
    #[test]
    fn pieces_are_never_empty_and_together_the_whole(text in "\\PC{0,40}(\r\n|\n){0,3}", size in 0_usize..9) {
        for split in [Split::Whole, Split::Every(size), Split::InsideUtf8, Split::InsideLineEnds] {
            let pieces = split.pieces(text.as_bytes());
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(pieces.concat(), text.as_bytes());
        }
    }

    #[test]
    fn cutting_inside_utf8_leaves_no_multi_byte_character_whole(text in "\\PC{1,40}") {
        let pieces = Split::InsideUtf8.pieces(text.as_bytes());
        let continuations = text.bytes().filter(|byte| byte & 0xC0 == 0x80).count();
        prop_assert_eq!(pieces.len(), 1 + continuations);
    }
}

/// The client's side of a frame (RFC 6455, 5.2): masked.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first, 0x80 | 127];
    frame.extend((payload.len() as u64).to_be_bytes());
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Plaintext that arrives a byte at a time.
struct Trickle(std::vec::IntoIter<u8>);

impl Incoming for Trickle {
    fn receive(&mut self, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
        let next = self.0.next();
        buffer.extend(next);
        Ok(usize::from(next.is_some()))
    }

    fn send_continue(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A message as it is read when it was not compressed.
fn text_message(text: &[u8]) -> Message {
    Message::Text { text: text.to_vec(), wire_bytes: text.len() as u64 }
}

#[test]
fn compressed_websocket_messages_are_read_with_and_without_memory() {
    for keeps in [true, false] {
        let mut packer = Packer::new(keeps);
        let text = "the same words again and again, ".repeat(50);
        let packed: Vec<_> = (0..3).map(|_| packer.pack(text.as_bytes()).unwrap()).collect();
        // What is remembered is not said again.
        assert_eq!(packed[1].len() < packed[0].len(), keeps);
        let frames: Vec<u8> = packed.iter().flat_map(|data| masked(0xc1, data)).collect();
        let mut incoming = Trickle(frames.into_iter());
        let mut reader = Frames::new(true, keeps);
        for packed in packed {
            let wire_bytes = packed.len() as u64;
            let read = reader.next(&mut incoming).unwrap().unwrap();
            assert_eq!(read, Message::Text { text: text.clone().into_bytes(), wire_bytes });
        }
    }
}

#[test]
fn websocket_messages_are_read_however_they_arrive() {
    // The example of RFC 6455, 1.3.
    let accept = websocket::accept_key("dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    // A message in two fragments with a ping between them, another one, and the end.
    let frames = [
        masked(0x01, b"one "),
        masked(0x89, b"there?"),
        masked(0x80, b"message"),
        masked(0x81, &[b'x'; 70_000]),
        masked(0x88, &[]),
    ];
    let mut incoming = Trickle(frames.concat().into_iter());
    let mut reader = Frames::default();
    let mut next = || reader.next(&mut incoming).unwrap().unwrap();
    assert_eq!(next(), Message::Reply { frame: b"\x8a\x06there?".to_vec(), last: false });
    assert_eq!(next(), text_message(b"one message"));
    assert_eq!(next(), text_message(&[b'x'; 70_000]));
    assert_eq!(next(), Message::Reply { frame: vec![0x88, 0], last: true });
    assert_eq!(reader.next(&mut incoming).unwrap(), None);
    let long = websocket::message(&["y".repeat(300).as_bytes()], false);
    assert_eq!(&long[..4], &[0x81, 126, 1, 44]);
    let mut unmasked = Trickle(vec![0x81, 1, b'x'].into_iter());
    assert!(Frames::default().next(&mut unmasked).is_err(), "clients have to mask");
}
