//! Fuzzes the body `state_file` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("state_file", bytes));
