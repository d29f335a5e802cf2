//! See `reconstruct::fuzz::http2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::http2(bytes));
