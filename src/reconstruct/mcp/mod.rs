//! Calls of the Model Context Protocol: JSON-RPC 2.0 between an agent and the servers of its tools.
//!
//! ```text
//!  stdio_data ─▶ stdio ─▶ stream ─▶ line ─┐
//!                                         ├─▶ message ─▶ session ─▶ McpCall
//!  exchange ─▶ http (bodies, events) ─────┘
//! ```
//!
//! Of revision 2025-11-25 and before (`initialize`, sessions, requests of the server, batches) and of
//! 2026-07-28 (each request stands alone). What a process and its peer both saw is told once: as the
//! server's end has it over pipes, as the client's has it over HTTP.

mod http;
mod json;
mod line;
mod message;
mod session;
mod stdio;

pub(crate) use http::{Answers, Tap};
pub(crate) use stdio::Stdio;

#[cfg(any(test, fuzzing))]
pub(super) use fuzz::fuzz;

#[cfg(any(test, fuzzing))]
mod fuzz;
