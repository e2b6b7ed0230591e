//! The debugging information of a file.

#![no_main]

use reload_engine::image::layout::Layouts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    Layouts::read(bytes);
});
