//! See `reconstruct::fuzz::http1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::http1(bytes));
