//! Fuzzes the body `worker_frames` of `fuzz/src/bodies/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::bodies::run("worker_frames", bytes));
