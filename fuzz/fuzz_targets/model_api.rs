//! See `reconstruct::fuzz::model_api`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agentsight::reconstruct::fuzz::model_api(bytes));
