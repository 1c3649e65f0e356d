//! Fuzzes the body `headers` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("headers", bytes));
