//! A library with Zstandard inside.

use std::cell::Cell;

thread_local! { static PACKED: Cell<usize> = const { Cell::new(0) }; }

#[unsafe(no_mangle)]
pub extern "C" fn run(level: i32) -> usize {
    let input = vec![7_u8; 1 << 16];
    let (mut packed, mut output) = (vec![0_u8; 1 << 17], vec![0_u8; 1 << 16]);
    // SAFETY: lengths are those of the buffers.
    let back = unsafe {
        let len = zstd_sys::ZSTD_compress(
            packed.as_mut_ptr().cast(),
            packed.len(),
            input.as_ptr().cast(),
            input.len(),
            level,
        );
        PACKED.set(len);
        zstd_sys::ZSTD_decompress(output.as_mut_ptr().cast(), output.len(), packed.as_ptr().cast(), len)
    };
    assert_eq!(input, output);
    back + PACKED.get()
}
