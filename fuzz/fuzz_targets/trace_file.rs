//! See `trace::fuzz::file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::trace::fuzz::file(bytes));
