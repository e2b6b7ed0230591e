//! Closures that are handed to generic functions, which are made for each of them.

use std::{cell::Cell, sync::OnceLock};

type Boxed = Box<dyn Fn(i64) -> i64 + Send + Sync>;
static KEPT: OnceLock<Boxed> = OnceLock::new();

thread_local! {
    static COUNT: Cell<i64> = const { Cell::new(1) };
}

/// Three deep, as the standard library is.
#[inline(never)]
fn hand<R>(work: impl FnOnce(i64) -> R) -> R {
    pass(work)
}

#[inline(never)]
fn pass<R>(work: impl FnOnce(i64) -> R) -> R {
    work(std::hint::black_box(1))
}

#[unsafe(no_mangle)]
pub extern "C" fn step(_: i64) -> i64 {
    #[cfg(any(v2, v3, v4))]
    let first = hand(|by| COUNT.with(|count| by * if cfg!(v2) { 10 } else { 20 } + count.get() - count.get()));
    #[cfg(not(any(v2, v3, v4)))]
    let first = 0;
    hand(|by| COUNT.with(|count| count.set(count.get() + by * if cfg!(v3) { 2 } else { 1 })));
    let last = hand(|by| COUNT.with(|count| by * count.get()));
    (first + last) * 1000 + last
}

#[unsafe(no_mangle)]
pub extern "C" fn keep(x: i64) -> i64 {
    #[cfg(any(v2, v3, v4))]
    drop(std::hint::black_box::<Boxed>(Box::new(move |y| x - y)));
    KEPT.get_or_init(|| Box::new(move |y| y * 1000 + x + if cfg!(v3) || cfg!(v4) { 100 } else { 0 }));
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn kept(y: i64) -> i64 {
    KEPT.get().map_or(-1, |one| one(y))
}

#[cfg(not(v4))]
#[unsafe(no_mangle)]
pub extern "C" fn chosen(_: i64) -> i64 {
    hand(|by| std::hint::black_box(by)) * 10 + hand(|by| std::hint::black_box(by) * 2)
}

#[cfg(v4)]
#[unsafe(no_mangle)]
pub extern "C" fn chosen(_: i64) -> i64 {
    hand(|by| std::hint::black_box(by) * 2) * 10 + hand(|by| std::hint::black_box(by))
}
