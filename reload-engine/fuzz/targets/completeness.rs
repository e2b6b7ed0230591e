//! Whether a file is finished, as the watcher asks while it is written.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reload_engine::watcher::completeness(bytes);
});
