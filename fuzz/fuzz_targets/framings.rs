//! See `reconstruct::fuzz::framings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::framings(bytes));
