//! Fuzzes the body `verify_body` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("verify_body", bytes));
