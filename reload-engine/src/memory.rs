//! Memory that is at hand before it is asked for.
//!
//! The kernel hands out memory page by page, when each is first written to, and clears it then: that was nearly half of the time
//! which reading a file took. So what a reload is going to take is taken, written to and given back while nobody waits, and the
//! allocator keeps what it is given back, as it does for programs that must not wait for the kernel (glibc manual, 3.2.3.8,
//! "Malloc Tunable Parameters").

use std::{hint::black_box, sync::Once};

/// Bytes taken from the allocator at once.
const PIECE: usize = 1 << 20;
/// Bytes that are at hand at most.
const MOST: usize = 8 << 20;
/// Bytes that a function takes, from its symbol to the plan; measured.
const FUNCTION: usize = 1 << 10;
const PAGE: usize = 1 << 12;

/// Has at hand, for this thread, what a file with so many functions takes. Threads that share the work have arenas of their own.
pub fn ready_for(functions: usize) {
    keep_what_is_freed();
    let piece = |_| {
        let mut piece = Vec::<u8>::with_capacity(PIECE);
        for page in piece.spare_capacity_mut().chunks_mut(PAGE) {
            page[0].write(0);
        }
        black_box(piece)
    };
    let bytes = functions.saturating_mul(FUNCTION).min(MOST);
    drop((0..bytes.div_ceil(PIECE)).map(piece).collect::<Vec<_>>());
}

/// Has the allocator return to the kernel less than by default: single pieces of memory that are larger than those of any but
/// the largest files, and what is unused at the end of a thread's arena beyond the size that an arena mostly has.
fn keep_what_is_freed() {
    /// The largest that glibc takes (`HEAP_MAX_SIZE / 2`).
    const LARGE: libc::c_int = 32 << 20;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Where it is not taken, a reload is as slow as without.
        // SAFETY: other threads may ask for memory meanwhile: they compare its size with the old number or the new one.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE);
        }
    });
}
