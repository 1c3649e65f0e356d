//! Fuzzes the body `aws_signature` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("aws_signature", bytes));
