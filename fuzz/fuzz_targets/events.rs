//! See `reconstruct::fuzz::events`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::events(bytes));
