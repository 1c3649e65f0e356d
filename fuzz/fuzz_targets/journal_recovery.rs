//! Fuzzes the body `journal_recovery` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("journal_recovery", bytes));
