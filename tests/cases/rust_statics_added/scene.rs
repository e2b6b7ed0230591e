//! Each version adds statics and thread-locals among the others. rustc addresses all thread-locals of a library relative to
//! one base, so an added one moves the rest.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

const VERSION: i64 = if cfg!(v3) {
    3
} else if cfg!(v2) {
    2
} else {
    1
};

#[cfg(any(v2, v3))]
static ADDED_BEFORE: [AtomicI64; 9] = [const { AtomicI64::new(7) }; 9];
static FIRST: AtomicI64 = AtomicI64::new(1);
#[cfg(any(v2, v3))]
static ADDED_BETWEEN: Mutex<Vec<i64>> = Mutex::new(Vec::new());
static SECOND: Mutex<Vec<i64>> = Mutex::new(Vec::new());
#[cfg(v3)]
static ADDED_AFTER: AtomicI64 = AtomicI64::new(30);

#[cfg(any(v2, v3))]
thread_local! {
    static LOCAL_ADDED: Cell<i64> = const { Cell::new(500) };
}
thread_local! {
    static LOCAL: Cell<i64> = const { Cell::new(5) };
    static LOCAL_LIST: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
}

#[unsafe(no_mangle)]
pub extern "C" fn shared(x: i64) -> i64 {
    let first = FIRST.fetch_add(x, Ordering::Relaxed) + x;
    let mut second = SECOND.lock().unwrap();
    second.push(x * VERSION);
    first * 1000 + second.iter().sum::<i64>()
}

#[unsafe(no_mangle)]
pub extern "C" fn local(x: i64) -> i64 {
    LOCAL.set(LOCAL.get() + x * VERSION);
    LOCAL.get()
}

#[unsafe(no_mangle)]
pub extern "C" fn local_list(x: i64) -> i64 {
    LOCAL_LIST.with_borrow_mut(|list| {
        list.push(x);
        list.iter().sum::<i64>() * VERSION
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn added(x: i64) -> i64 {
    #[cfg(any(v2, v3))]
    let x = {
        let mut between = ADDED_BETWEEN.lock().unwrap();
        between.push(x);
        between.iter().sum::<i64>() + ADDED_BEFORE[8].fetch_add(1, Ordering::Relaxed) * 100
    };
    #[cfg(v3)]
    let x = x + ADDED_AFTER.load(Ordering::Relaxed) * 10_000;
    x
}

#[unsafe(no_mangle)]
pub extern "C" fn local_added(x: i64) -> i64 {
    // Not the same code as `added` in version 1: the compiler would fold the two into one.
    #[cfg(not(any(v2, v3)))]
    let x = x + 500;
    #[cfg(any(v2, v3))]
    let x = {
        LOCAL_ADDED.set(LOCAL_ADDED.get() + x);
        LOCAL_ADDED.get()
    };
    x
}
