//! Records real programs with the real recorder and holds the trace against what the mock LLM
//! server says it served: bytes, tokens, times, processes.
//!
//! Needs root and eBPF. Where the host lacks them every test prints a line `SKIPPED` with the
//! reason; `AGENTSIGHT_REQUIRE_LIVE=1` makes that a failure. Every test runs in a network namespace
//! of its own in which only loopback exists, so nothing recorded here can reach anyone.
#![allow(unreachable_pub, reason = "modules of one program")]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod claude;
mod client;
mod clients;
mod compare;
mod demo;
mod durability;
mod facts;
mod host;
mod libraries;
mod lifecycle;
mod modes;
mod parts;
mod recorder;
mod redaction;
mod tokens;
mod trace;
mod weight;
