//! See `reconstruct::fuzz::mcp_messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::mcp_messages(bytes));
