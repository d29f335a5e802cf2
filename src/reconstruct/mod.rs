//! Events to findings: connections, HTTP exchanges, event streams, LLM calls.
//!
//! Sans-IO: bytes and gaps in, findings out. No file, clock, Arrow or async, so that the same
//! events always give the same findings. Total: no input is an error, damage costs only the
//! message it is in.

pub mod finding;
