//! Entries in `.init_array`, as the crates `ctor` and `inventory` make them: each runs once, whenever it came.

use std::sync::atomic::{AtomicI64, Ordering};

const VERSION: i64 = if cfg!(v1) { 1 } else if cfg!(v2) { 2 } else { 3 };

static FIRST: AtomicI64 = AtomicI64::new(0);
static SECOND: AtomicI64 = AtomicI64::new(0);
static ARGUMENTS: AtomicI64 = AtomicI64::new(0);

extern "C" fn first() {
    FIRST.fetch_add(1, Ordering::Relaxed);
}
#[used]
#[unsafe(link_section = ".init_array")]
static FIRST_ENTRY: extern "C" fn() = first;

#[cfg(not(v1))]
extern "C" fn second(count: i32) {
    SECOND.fetch_add(1, Ordering::Relaxed);
    ARGUMENTS.store(i64::from(count), Ordering::Relaxed);
}
#[cfg(not(v1))]
#[used]
#[unsafe(link_section = ".init_array")]
static SECOND_ENTRY: extern "C" fn(i32) = second;

#[unsafe(no_mangle)]
extern "C" fn compute(x: i64) -> i64 {
    VERSION * 100 + x
}

#[unsafe(no_mangle)]
extern "C" fn counts(x: i64) -> i64 {
    let load = |counter: &AtomicI64| counter.load(Ordering::Relaxed);
    load(&FIRST) * 100 + load(&SECOND) * 10 + load(&ARGUMENTS) + x
}
