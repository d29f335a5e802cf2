//! What redaction costs: a session that re-sends its history, heads alone, small chunks, and what
//! programs tell each other.
//!
//! `cargo bench --no-default-features --bench redact`. Prints figures, asserts nothing.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

#[path = "../tests/support/session.rs"]
mod session;

use std::hint::black_box;
use std::time::Instant;

use agentsight::event::{Body, Direction, Event, Source};
use agentsight::redact::Redactor;

const RUNS: usize = 5;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        // Run as one of the tests, unoptimised: figures would mean nothing.
        return;
    }
    let mut turns = Vec::new();
    session::resend_history(200, 1, &mut |event| turns.push(event));
    measure("200 turns", &turns);

    let head = format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\naccept: application/json\r\nauthorization: Bearer \
         sk-ant-api03-{}\r\nuser-agent: agent/1.0 (external, cli)\r\nanthropic-version: 2023-06-01\r\n\
         content-type: application/json\r\nconnection: keep-alive\r\nhost: api.example\r\n\
         accept-encoding: gzip, deflate, br, zstd\r\ncontent-length: 0\r\n\r\n",
        "a1".repeat(45)
    );
    let mut connection = session::Connection::new(2);
    let mut write = || connection.call(Direction::Write, head.as_bytes(), 1_000);
    measure("heads without bodies", &(0..20_000).map(|_| write()).collect::<Vec<_>>());

    let mut connection = session::Connection::new(3);
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut chunks = vec![connection.call(Direction::Read, head, 1_000)];
    let chunk = format!("80\r\n{}\r\n", "d".repeat(128));
    chunks.extend((0..100_000).map(|_| connection.call(Direction::Read, chunk.as_bytes(), 1_000)));
    measure("chunks of 128 bytes", &chunks);

    let code =
        concat!(include_str!("../src/redact/argv.rs"), include_str!("../src/redact/http1.rs"));
    let line = serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": {"text": code}}).to_string();
    for (what, text) in [("source code in a pipe", code), ("JSON lines in a pipe", &line)] {
        for call_bytes in [512, 4096, 65536] {
            let text = format!("{text}\n").repeat(200);
            let mut connection = session::Connection::new(4);
            let printed = text.as_bytes().chunks(call_bytes).map(|data| {
                let mut event = connection.call(Direction::Write, data, 1_000);
                if let Body::Data(data) = &mut event.body {
                    data.source = Source::Stdio;
                }
                event
            });
            let printed: Vec<Event> = printed.collect();
            measure(&format!("{what}, {call_bytes} bytes a call"), &printed);
        }
    }
}

/// Prints the fastest of some runs.
fn measure(what: &str, events: &[Event]) {
    let bytes: u64 = events
        .iter()
        .map(|event| match &event.body {
            Body::Data(tls) => tls.data_bytes,
            _ => 0,
        })
        .sum();
    let run = || {
        let events = events.to_vec();
        let mut redactor = Redactor::new([1; 32]);
        // To drop the events is not part of it.
        let mut out = Vec::with_capacity(events.len());
        let started = Instant::now();
        events.into_iter().for_each(|event| redactor.push(event, &mut |event| out.push(event)));
        redactor.flush(&mut |event| out.push(event));
        let elapsed = started.elapsed();
        black_box(out);
        elapsed
    };
    let fastest = (0..RUNS).map(|_| run()).min().unwrap_or_default().as_secs_f64();
    println!(
        "{what}: {:.1} MB, {} events: {:.2} GB/s, {:.0} ns an event",
        bytes as f64 / 1e6,
        events.len(),
        bytes as f64 / fastest / 1e9,
        fastest * 1e9 / events.len() as f64,
    );
}
