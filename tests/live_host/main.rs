//! How the recorder gets on with its host: process storms, bad input, few privileges, `doctor`.
//!
//! Needs root and eBPF. Where the host lacks them every test prints a line `SKIPPED` with the
//! reason; `AGENTSIGHT_REQUIRE_LIVE=1` makes that a failure. Unlike `tests/live` these tests read
//! traces by rows, so that they need no query engine.
#![allow(unreachable_pub, reason = "modules of one program")]

mod bad_input;
mod doctor;
#[path = "../live/host.rs"]
mod host;
mod noise;
mod privileges;
mod program;
#[allow(dead_code, reason = "shared with tests/live, which uses the rest")]
#[path = "../live/recorder.rs"]
mod recorder;
mod rows;
mod selfcheck;
mod storm;
