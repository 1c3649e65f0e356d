//! Fuzzes the body `breakglass_request` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("breakglass_request", bytes));
