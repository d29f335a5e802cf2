//! The stored traces of `fixtures/traces`: which there are and what is in them.
//!
//! Each is written by this code alone; `UPDATE_GOLDEN=1 cargo test --test fixtures` writes them
//! again. All text in them is invented.
#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]

mod builder;
mod demo;
pub mod file;
mod local;
mod session;
mod wire;

use std::path::PathBuf;

use agentsight::event::{Event, ProbeState};
use builder::Recording;
pub use builder::at;

/// A trace that is stored.
pub struct Stored {
    /// File name below `fixtures/traces`, without its ending.
    pub name: &'static str,
    /// What was recorded.
    pub events: fn() -> Vec<Event>,
    /// How long the recording lasted.
    pub duration_ms: u64,
}

/// Every stored trace.
pub const STORED: [Stored; 6] = [
    Stored { name: "demo", events: demo::events, duration_ms: demo::END_MS },
    Stored { name: "empty", events: Vec::new, duration_ms: 1_500 },
    Stored { name: "local", events: local::events, duration_ms: local::END_MS },
    Stored { name: "no_calls", events: no_calls, duration_ms: 4_200 },
    Stored { name: "session", events: session::events, duration_ms: session::END_MS },
    Stored { name: "unfinished", events: unfinished, duration_ms: 4_700 },
];

impl Stored {
    /// Where it is stored.
    pub fn path(&self) -> PathBuf {
        let folder = PathBuf::from(".").join("fixtures/traces");
        folder.join(self.name).with_extension("parquet")
    }
}

/// A process that was running before, whose TLS library nobody could find: no plaintext at all.
fn no_calls() -> Vec<Event> {
    let mut r = Recording::default();
    let agent = r.found(2, 3_600, 900, &["/opt/demo/bin/quiet-agent", "--serve"]);
    r.probe(15, agent, "/opt/demo/bin/quiet-agent", ProbeState::Unresolved);
    r.load(agent, (0, 4_200), 12, 75);
    let child = r.start(1_300, 900, 901, "/usr/bin/make", &["make", "all"]);
    r.load(child, (1_300, 3_900), 150, 310);
    r.exit(3_950, child, Ok(0));
    r.finish(4_200)
}

/// The recording was stopped while one call waited for its answer and another was being streamed.
fn unfinished() -> Vec<Event> {
    let mut r = Recording::default();
    let argv = ["demo-agent", "--continue"];
    let agent = r.start(5, 4000, 4100, "/opt/demo/bin/demo-agent", &argv);
    r.probe(20, agent, "/opt/demo/bin/demo-agent", ProbeState::Attached);
    r.load(agent, (6, 4_700), 9, 190);
    let (waiting, streaming) = (r.connect(agent, "boringssl"), r.connect(agent, "boringssl"));
    let body = wire::anthropic_request("claude-opus-5", &["Go on."]);
    let message =
        wire::request("POST", "api.anthropic.com", "/v1/messages", "demo-agent/2.4.1 (cli)", &body);
    r.send(1_000, streaming, &message);
    r.send(3_100, waiting, &message);
    r.receive(2_000, streaming, &wire::stream_head(""));
    let answer = wire::Answer {
        model: "claude-opus-5",
        id: "msg_open",
        input: [5, 9_000, 0],
        output_tokens: 100,
        thinking_tokens: None,
        thinking: &[],
        text: &["I go on ", "with the next step."],
        tool: &[],
        stop_reason: "end_turn",
    };
    for (index, event) in answer.events().iter().take(4).enumerate() {
        r.receive(2_010 + index as u64 * 300, streaming, event);
    }
    r.finish(4_700)
}

/// Many calls one after the other and as many child processes; too much to print all of it.
pub fn long_session(calls: u64) -> Vec<Event> {
    let mut r = Recording::default();
    let argv = ["demo-agent", "--loop"];
    let agent = r.start(5, 4000, 4100, "/opt/demo/bin/demo-agent", &argv);
    r.probe(20, agent, "/opt/demo/bin/demo-agent", ProbeState::Attached);
    let api = r.connect(agent, "boringssl");
    for call in 0..calls {
        let ms = 1_000 + call * 1_500;
        let body = wire::anthropic_request("claude-haiku-5", &["Once more."]);
        let head =
            wire::request("POST", "api.anthropic.com", "/v1/messages", "demo-agent/2", &body);
        r.send(ms, api, &head);
        let answer = format!(
            r#"{{"id":"msg_{call}","type":"message","role":"assistant","model":"claude-haiku-5",
            "content":[],"stop_reason":"end_turn","usage":{{"input_tokens":9,"output_tokens":{call}}}}}"#
        );
        r.receive(ms + 400, api, &wire::response("200 OK", "", &answer));
        let pid = 5000 + u32::try_from(call).expect("few calls");
        let child = r.start(ms + 500, 4100, pid, "/bin/true", &["true"]);
        r.load(child, (ms + 500, ms + 600), call % 90, 4);
        r.exit(ms + 600, child, Ok(0));
    }
    let end_ms = 1_000 + calls * 1_500;
    r.load(agent, (6, end_ms), 10, 100);
    r.finish(end_ms)
}

/// Ten hours of an agent with eight helpers that start one after the other, all sampled each second:
/// some 360 000 events.
pub fn ten_hours() -> Vec<Event> {
    const END_MS: u64 = 36_000_000;
    let mut r = Recording::default();
    let argv = ["demo-agent", "--serve"];
    let agent = r.start(5, 4000, 4100, "/opt/demo/bin/demo-agent", &argv);
    r.probe(20, agent, "/opt/demo/bin/demo-agent", ProbeState::Attached);
    r.load(agent, (6, END_MS), 10, 100);
    for helper in 0..8 {
        let start_ms = 1_000 + helper * 1_800_000;
        let pid = 5000 + u32::try_from(helper).expect("few helpers");
        let process = r.start(start_ms, 4100, pid, "/usr/bin/node", &["node", "helper.js"]);
        r.load(process, (start_ms, END_MS), 1 + helper, 50);
        r.exit(END_MS - helper, process, Ok(0));
    }
    r.finish(END_MS)
}

/// Texts that a terminal would obey or that a page would show as markup, everywhere a trace can
/// hold text of others.
pub fn hostile_session() -> Vec<Event> {
    const EVIL: &str = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}<img src=//e.example>|`a`\r\n[l](http://e)";
    let long = EVIL.repeat(2_000);
    let mut r = Recording::default();
    let agent = r.start(5, 4000, 4100, &format!("/tmp/{EVIL}"), &[EVIL, &long, EVIL]);
    r.load(agent, (6, 4_000), 50, 100);
    r.probe(20, agent, &long, ProbeState::Unresolved);
    r.probe(21, agent, &long, ProbeState::Attached);
    r.lose(1_500, (&long, EVIL), u64::MAX, u64::MAX, None);
    let api = r.connect(agent, EVIL);
    let quoted = serde_json::Value::String(long.clone()).to_string();
    let body = format!(
        r#"{{"model":{quoted},"max_tokens":1,"messages":[{{"role":"user","content":{quoted}}}]}}"#
    );
    let agent_name = "e\u{202e}vil/1 <b>";
    r.send(1_000, api, &wire::request("POST", "h|ost", "/v1/messages", agent_name, &body));
    let answer = format!(
        r#"{{"id":"m","type":"message","role":"assistant","model":{quoted},"content":[],
        "stop_reason":{quoted},"usage":{{"input_tokens":18446744073709551615,"output_tokens":3}}}}"#
    );
    r.receive(1_400, api, &wire::response("200 OK", "", &answer));
    r.finish(4_000)
}
