//! The stored traces of `fixtures/traces`: which there are and what is in them.
//!
//! Each is written by this code alone; `UPDATE_GOLDEN=1 cargo test --test fixtures` writes them
//! again. All text in them is invented.
#![allow(dead_code)] // Each test program uses its own part.

mod builder;
mod demo;
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
pub const STORED: [Stored; 4] = [
    Stored { name: "demo", events: demo::events, duration_ms: demo::END_MS },
    Stored { name: "empty", events: Vec::new, duration_ms: 1_500 },
    Stored { name: "no_calls", events: no_calls, duration_ms: 4_200 },
    Stored { name: "unfinished", events: unfinished, duration_ms: 4_700 },
];

impl Stored {
    /// Where it is stored.
    pub fn path(&self) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/traces");
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
