//! The demo session: a made-up agent fixes a failing test in half a minute.
//!
//! It goes through what a report must get right: a compressed answer, thinking and a tool call, a
//! child that burns CPU, a call made by that child, a 429 and its retry, a stream with a stall that
//! is cut, one with bytes missing in its midst, and losses.

use agentsight::event::{
    ChannelType, Confidence, Direction, Event, PathOperation, ProbeState, Role, Source,
};
use serde_json::json;

use super::builder::{Connection, Ends, Process, Recording, failed, made, read};
use super::wire::{
    Answer, anthropic_request, chunk, client_hello, dns_response, gzip_response, request, response,
    stream_head,
};

const AGENT: &str = "demo-agent/2.4.1 (cli)";
const ANTHROPIC: &str = "api.anthropic.com";
const LARGE: &str = "claude-opus-5";
const SMALL: &str = "claude-haiku-5";

/// How long the made-up recording lasts.
pub const END_MS: u64 = 36_000;

/// All events of the session.
pub fn events() -> Vec<Event> {
    let mut r = Recording::default();
    let agent = r.start(5, 4000, 4100, "/opt/demo/bin/demo-agent", &["demo-agent", "-p", "fix it"]);
    r.load(agent, (6, 1_200), 85, 180);
    r.load(agent, (1_200, 34_600), 4, 212);
    r.probe(60, agent, "/opt/demo/bin/demo-agent", ProbeState::Attached);
    telemetry(&mut r, agent);
    let api = r.connect(agent, "boringssl");
    title(&mut r, api);
    think_and_call_a_tool(&mut r, api);
    run_the_tests(&mut r);
    let server = start_a_server(&mut r);
    be_limited_and_retry(&mut r, api);
    show_the_diff(&mut r);
    be_cut(&mut r, api);
    let second = r.connect(agent, "boringssl");
    lose_bytes(&mut r, second);
    finish_the_work(&mut r, second);
    use_files(&mut r, agent);
    use_the_network(&mut r, agent, api, second);
    r.lose(20_000, ("sample", "ring_full"), 3, 0, None);
    r.lose(20_400, ("process_exec", "map_full"), 1, 0, None);
    r.exit(34_200, server, Err(15));
    r.close(34_500, second);
    r.exit(34_600, agent, Ok(0));
    r.finish(END_MS)
}

/// A request that is no LLM call.
fn telemetry(r: &mut Recording, agent: Process) {
    let host = "telemetry.demo.example";
    let connection = r.connect(agent, "boringssl");
    r.send(410, connection, &request("POST", host, "/v1/events", AGENT, r#"{"event":"start"}"#));
    r.receive(545, connection, &response("202 Accepted", "", "{}"));
    r.close(550, connection);
}

/// A whole, compressed answer of a small model.
fn title(r: &mut Recording, api: Connection) {
    let body = json!({
        "model": SMALL, "max_tokens": 64,
        "messages": [{"role": "user", "content": "Name this session: fix it"}],
    });
    r.send(1_200, api, &request("POST", ANTHROPIC, "/v1/messages", AGENT, &body.to_string()));
    let answer = json!({
        "id": "msg_title", "type": "message", "role": "assistant", "model": SMALL,
        "content": [{"type": "text", "text": "Fix the failing test"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 34, "cache_read_input_tokens": 0,
                  "cache_creation_input_tokens": 0, "output_tokens": 7},
    });
    r.receive(1_848, api, &gzip_response("request-id: req_title\r\n", &answer.to_string()));
}

/// What the agent reads and changes in its project.
fn use_files(r: &mut Recording, agent: Process) {
    const PROJECT: &str = "/home/demo/project";
    let path = |name: &str| format!("{PROJECT}/{name}");
    r.used(300, agent, "/home/demo/.config/demo-agent/settings.json", read(812));
    r.used(310, agent, &path(".demo-agent.json"), failed(2, 2));
    r.used(315, agent, "/etc/demo-agent/managed.json", failed(1, 13));
    r.used(12_200, agent, &path("src/parser.c"), read(18_240));
    r.used(17_900, agent, &path("src/parser.c.tmp"), made(18_254));
    let (from, to) = (path("src/parser.c.tmp"), path("src/parser.c"));
    r.changes(17_905, agent, PathOperation::Rename, &from, Some(&to));
    r.used(33_000, agent, "/home/demo/.local/state/demo-agent/session.jsonl", made(48_113));
    r.used(33_400, agent, "/tmp/demo-agent.lock", made(5));
    r.changes(34_500, agent, PathOperation::Unlink, "/tmp/demo-agent.lock", None);
}

/// The sockets below the TLS connections: one closed, one still open when the agent ends.
fn use_the_network(r: &mut Recording, agent: Process, api: Connection, second: Connection) {
    const SERVER: &str = "192.0.2.10:443";
    let resolver = Ends {
        channel_type: ChannelType::Udp,
        role: Role::Connect,
        local: "198.51.100.4:41007",
        remote: "198.51.100.1:53",
    };
    let resolver = r.open(1_150, agent, 8, resolver);
    let answer = dns_response(ANTHROPIC, &[[192, 0, 2, 10]]);
    r.moves(1_161, resolver, (Source::Dns, Direction::Read), &answer);
    r.close_socket(1_162, resolver);
    for (ms, connection, fd, local, moved) in [
        (1_165, api, 9, "198.51.100.4:50100", (9_862, 4_512)),
        (24_580, second, 11, "198.51.100.4:50102", (7_930, 2_871)),
    ] {
        let socket = r.open(ms, agent, fd, Ends::connect(local, SERVER));
        let hello = client_hello(ANTHROPIC, &["h2", "http/1.1"]);
        r.moves(ms + 2, socket, (Source::TlsHello, Direction::Write), &hello);
        r.carries(ms + 30, socket, connection, Confidence::Certain);
        r.pass(socket, Direction::Read, moved.0);
        r.pass(socket, Direction::Write, moved.1);
        r.close_socket(34_590, socket);
    }
}

fn think_and_call_a_tool(r: &mut Recording, api: Connection) {
    let body = anthropic_request(LARGE, &["Fix the failing test, please."]);
    r.send(2_100, api, &request("POST", ANTHROPIC, "/v1/messages", AGENT, &body));
    r.receive(3_300, api, &stream_head("request-id: req_plan\r\n"));
    let answer = Answer {
        model: LARGE,
        id: "msg_plan",
        input: [4, 0, 12_840],
        output_tokens: 187,
        thinking_tokens: Some(64),
        thinking: &["The test suite must run first, ", "then I can see what fails."],
        text: &["I run the tests first."],
        tool: &["{\"command\":\"make", " check\"}"],
        stop_reason: "tool_use",
    };
    stream(r, api, &answer.events(), (3_302, 180));
    r.receive(5_380, api, &chunk(""));
}

/// Hands over `events` one by one, a first one at `first_ms` and one each `every_ms` after it.
fn stream(r: &mut Recording, on: Connection, events: &[Vec<u8>], (first_ms, every_ms): (u64, u64)) {
    for (index, event) in events.iter().enumerate() {
        r.receive(first_ms + index as u64 * every_ms, on, event);
    }
}

/// A shell with a compiler that burns CPU and memory and a script that asks another model.
fn run_the_tests(r: &mut Recording) {
    let shell = r.start(5_410, 4100, 4110, "/bin/sh", &["sh", "-c", "make check"]);
    r.probe(5_415, shell, "/bin/sh", ProbeState::Absent);
    let argv = ["cc1", "-O2", "-quiet", "src/parser.c", "-o", "/tmp/parser.s"];
    let compiler = r.start(5_600, 4110, 4112, "/usr/libexec/gcc/cc1", &argv);
    r.load(compiler, (5_600, 8_000), 98, 240);
    r.load(compiler, (8_000, 11_700), 99, 498);
    let argv = ["python3", "tools/summarise.py", "--only", "failed"];
    let script = r.start(5_650, 4110, 4111, "/usr/bin/python3", &argv);
    r.load(script, (5_650, 6_900), 92, 38);
    r.load(script, (6_900, 9_300), 3, 44);
    r.probe(5_700, script, "/usr/lib/libssl.so.3", ProbeState::Attached);
    r.probe(5_710, script, "/usr/local/bin/demo-helper", ProbeState::Unresolved);
    summarise(r, script);
    r.exit(9_320, script, Ok(0));
    r.exit(11_720, compiler, Ok(0));
    r.exit(12_100, shell, Ok(2));
}

/// An OpenAI Chat Completions call by the script.
fn summarise(r: &mut Recording, script: Process) {
    let connection = r.connect(script, "openssl");
    let body = json!({
        "model": "gpt-5.5", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Summarise: one test failed."}],
    });
    let host = "api.openai.com";
    let message =
        request("POST", host, "/v1/chat/completions", "summarise/0.1 python", &body.to_string());
    r.send(7_000, connection, &message);
    r.receive(7_900, connection, &stream_head("x-request-id: req_sum\r\n"));
    let base = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-5.5"});
    let choice = |delta: serde_json::Value, finish: serde_json::Value| {
        let mut event = base.clone();
        event["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        event["usage"] = json!(null);
        event
    };
    let mut last = base.clone();
    last["choices"] = json!([]);
    last["usage"] = json!({
        "prompt_tokens": 1200, "completion_tokens": 60, "total_tokens": 1260,
        "prompt_tokens_details": {"cached_tokens": 1024},
        "completion_tokens_details": {"reasoning_tokens": 32},
    });
    let events = [
        choice(json!({"role": "assistant", "content": ""}), json!(null)),
        choice(json!({"content": "One of "}), json!(null)),
        choice(json!({"content": "42 tests failed."}), json!(null)),
        choice(json!({}), json!("stop")),
        last,
    ];
    for (index, event) in events.iter().enumerate() {
        r.receive(7_950 + index as u64 * 250, connection, &chunk(&format!("data: {event}\n\n")));
    }
    r.receive(9_200, connection, &chunk("data: [DONE]\n\n"));
    r.receive(9_201, connection, &chunk(""));
    r.close(9_250, connection);
}

/// A background child that works while the model is asked.
fn start_a_server(r: &mut Recording) -> Process {
    let argv = ["node", "server.js", "--watch", "--title", "\u{1b}[31mred\u{1b}[0m\ttab"];
    let server = r.start(12_150, 4100, 4120, "/usr/bin/node", &argv);
    r.load(server, (12_150, 14_000), 110, 96);
    r.load(server, (14_000, 30_000), 36, 131);
    r.load(server, (30_000, 34_200), 1, 120);
    r.probe(12_200, server, "/usr/bin/node", ProbeState::Failed);
    server
}

fn be_limited_and_retry(r: &mut Recording, api: Connection) {
    let body = anthropic_request(LARGE, &["Fix the failing test, please.", "Done.", "One failed."]);
    let message = request("POST", ANTHROPIC, "/v1/messages", AGENT, &body);
    r.send(12_300, api, &message);
    let error = json!({
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "too many tokens in this minute"},
    });
    let headers = "retry-after: 2\r\nrequest-id: req_limit\r\n";
    r.receive(12_482, api, &response("429 Too Many Requests", headers, &error.to_string()));
    r.send(14_500, api, &message);
    r.receive(15_640, api, &stream_head("request-id: req_retry\r\n"));
    let answer = Answer {
        model: LARGE,
        id: "msg_retry",
        input: [6, 12_840, 1_911],
        output_tokens: 642,
        thinking_tokens: None,
        thinking: &[],
        text: &[
            "The parser drops ",
            "the last line. ",
            "I change the loop ",
            "and look at the diff.",
        ],
        tool: &["{\"command\":", "\"git diff --stat\"}"],
        stop_reason: "tool_use",
    };
    stream(r, api, &answer.events(), (15_660, 260));
    r.receive(19_050, api, &chunk(""));
}

/// A child too short for any sample.
fn show_the_diff(r: &mut Recording) {
    let argv = ["sh", "-c", "git diff --stat"];
    let shell = r.start(19_200, 4100, 4130, "/bin/sh", &argv);
    let git = r.start(19_210, 4130, 4131, "/usr/bin/git", &["git", "diff", "--stat"]);
    r.load(git, (19_210, 19_300), 70, 12);
    r.exit(19_305, git, Ok(0));
    r.exit(19_310, shell, Ok(0));
}

/// The server goes away in the midst of an answer, after a stall.
fn be_cut(r: &mut Recording, api: Connection) {
    let body = anthropic_request(LARGE, &["Fix it.", "Done.", "One file changed."]);
    r.send(19_600, api, &request("POST", ANTHROPIC, "/v1/messages", AGENT, &body));
    r.receive(20_700, api, &stream_head("request-id: req_cut\r\n"));
    let answer = Answer {
        model: LARGE,
        id: "msg_cut",
        input: [5, 14_751, 388],
        output_tokens: 500,
        thinking_tokens: None,
        thinking: &[],
        text: &["The change is ", "small: one line ", "in the parser."],
        tool: &[],
        stop_reason: "end_turn",
    };
    let events = answer.events();
    stream(r, api, &events[..3], (20_710, 200));
    r.receive(23_650, api, &events[3]);
    r.close(24_000, api);
}

/// Part of the stream could not be copied; its end is there.
fn lose_bytes(r: &mut Recording, api: Connection) {
    let body = anthropic_request(LARGE, &["Fix it.", "Done.", "One file changed."]);
    r.send(24_600, api, &request("POST", ANTHROPIC, "/v1/messages", AGENT, &body));
    r.receive(25_500, api, &stream_head("request-id: req_gap\r\n"));
    let answer = Answer {
        model: LARGE,
        id: "msg_gap",
        input: [5, 14_751, 388],
        output_tokens: 223,
        thinking_tokens: None,
        thinking: &[],
        text: &["The change is ", "small: one line ", "in the parser. ", "I run the tests again."],
        tool: &[],
        stop_reason: "end_turn",
    };
    let mut events = answer.events();
    let torn = events.remove(4);
    for (index, event) in events.iter().enumerate() {
        let ms = 25_520 + index as u64 * 240;
        if index == 3 {
            r.receive_torn(ms, api, event, torn.len() as u64);
        } else {
            r.receive(ms, api, event);
        }
    }
    r.receive(27_900, api, &chunk(""));
}

fn finish_the_work(r: &mut Recording, api: Connection) {
    let body = anthropic_request(LARGE, &["Fix it.", "Done.", "All tests pass."]);
    r.send(31_000, api, &request("POST", ANTHROPIC, "/v1/messages", AGENT, &body));
    r.receive(31_870, api, &stream_head("request-id: req_last\r\n"));
    let answer = Answer {
        model: LARGE,
        id: "msg_last",
        input: [3, 15_139, 240],
        output_tokens: 58,
        thinking_tokens: None,
        thinking: &[],
        text: &["The test passes now: ", "the parser kept the last line."],
        tool: &[],
        stop_reason: "end_turn",
    };
    stream(r, api, &answer.events(), (31_880, 210));
    r.receive(33_400, api, &chunk(""));
}
