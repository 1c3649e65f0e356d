//! Fuzzes the body `revocation_list` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("revocation_list", bytes));
