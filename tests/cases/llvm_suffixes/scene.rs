//! What LLVM promotes from one codegen unit to another gets a suffix with a hash of the whole unit, another one each time.

#![allow(static_mut_refs)]

const VERSION: i64 = if cfg!(v3) { 3 } else if cfg!(v2) { 2 } else { 1 };

mod store {
    use std::sync::atomic::{AtomicI64, Ordering};
    static TOTAL: AtomicI64 = AtomicI64::new(5);
    static mut LIST: [i64; 8] = [1; 8];
    #[inline(never)]
    fn inner(x: i64) -> i64 {
        // SAFETY: one thread calls this.
        unsafe {
            LIST[(x & 7) as usize] += 1;
            LIST.iter().sum()
        }
    }
    #[inline]
    pub fn add(x: i64) -> i64 {
        (TOTAL.fetch_add(x, Ordering::Relaxed) + x) * 1000 + inner(x)
    }
}

mod shape {
    pub trait Shape: Sync {
        fn area(&self, x: i64) -> i64;
    }
    pub struct Square;
    impl Shape for Square {
        #[inline(never)]
        fn area(&self, x: i64) -> i64 {
            x * x * super::VERSION
        }
    }
    pub static SHAPES: [&dyn Shape; 1] = [&Square];
}

mod more {
    pub fn added(x: i64) -> i64 {
        if super::VERSION >= 2 { super::store::add(x) } else { x }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn compute(x: i64) -> i64 {
    store::add(x) * 100 + shape::SHAPES[(x & 0) as usize].area(x)
}

#[unsafe(no_mangle)]
pub extern "C" fn other(x: i64) -> i64 {
    more::added(x) + VERSION * 10_000_000
}
