//! What is found in the mock server's own bytes is what the server served: every provider, every
//! way an answer can end, every coding and protocol, without a recorder or root.
//!
//! The plaintext that crossed the server's TLS library, with its times, is turned into the events
//! that a recording of the client would hold, and goes through reconstruction.
#![allow(unreachable_pub, reason = "modules of one program")]

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod events;
mod found;
mod http2;
mod latency;
mod sdks;
mod websocket;
