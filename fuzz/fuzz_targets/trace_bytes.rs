//! See `trace::fuzz::bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::trace::fuzz::bytes(bytes));
