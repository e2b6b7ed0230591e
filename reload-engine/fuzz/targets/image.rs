//! A file by itself: tables, code, contents, names.

#![no_main]

#[path = "../../tests/hostile/steps.rs"]
#[allow(dead_code, reason = "one of two steps")]
mod steps;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    steps::alone(bytes);
});
