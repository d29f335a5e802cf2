//! Records Rust programs that carry their TLS libraries stripped inside them, with the real recorder,
//! and holds the plaintext in the trace against what the mock server sent and received.
//!
//! Reads the trace file itself and therefore needs no query engine. Needs root and eBPF; says
//! `SKIPPED` and why where they are not there (see `tests/live`).
#![allow(unreachable_pub, reason = "modules of one program")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../live/host.rs"]
#[allow(dead_code, reason = "shared with tests/live, which uses more of it")]
mod host;
#[path = "../live/recorder.rs"]
#[allow(dead_code, reason = "shared with tests/live, which uses more of it")]
mod recorder;

mod client;
mod codex;
mod registers;
mod streams;
