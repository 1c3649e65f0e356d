//! Fuzzes the body `upstream_date` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("upstream_date", bytes));
