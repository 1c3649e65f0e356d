//! Fuzzes the body `batch_proof` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("batch_proof", bytes));
