//! See `reconstruct::fuzz::content_coding`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::content_coding(bytes));
