//! See `trace::fuzz::rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::trace::fuzz::rows(bytes));
