//! Fuzzes the body `gate_answer` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("gate_answer", bytes));
