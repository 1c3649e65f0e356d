//! Fuzzes the body `input` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("input", bytes));
