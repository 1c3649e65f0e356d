//! Fuzzes the body `cloudtrail` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("cloudtrail", bytes));
