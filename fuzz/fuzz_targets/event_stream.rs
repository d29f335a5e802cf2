//! See `reconstruct::fuzz::event_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::event_stream(bytes));
