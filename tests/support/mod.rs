//! What the integration tests and the `mock-llm` example share.
//!
//! It owns the mock LLM server that tells the truth about what it served. It knows nothing of the
//! recorder, the trace or the library under test, so that its word can be set against theirs.
#![allow(dead_code, reason = "every program that includes this uses a part of it")]
#![allow(unreachable_pub, reason = "written as a library of several programs")]

pub mod client;
pub mod codex;
pub mod mock;
pub mod sdk;
