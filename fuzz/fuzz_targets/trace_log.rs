//! See `trace::fuzz::log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::trace::fuzz::log(bytes));
