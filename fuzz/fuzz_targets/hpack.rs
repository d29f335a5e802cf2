//! See `reconstruct::fuzz::hpack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::hpack(bytes));
