//! See `redact::fuzz::events`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::redact::fuzz::events(bytes));
