//! See `reconstruct::fuzz::host_names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::host_names(bytes));
