//! Optimised, the accesses to several thread-locals stand in one function.

use std::cell::{Cell, RefCell};

const VERSION: i64 = if cfg!(v3) { 3 } else if cfg!(v2) { 2 } else { 1 };

thread_local! {
    static FIRST: Cell<i64> = const { Cell::new(1) };
    static LIST: RefCell<Vec<i64>> = RefCell::new(vec![VERSION]);
}
#[cfg(any(v2, v3))]
thread_local! {
    static ADDED: Cell<i64> = const { Cell::new(10) };
    static ADDED_LIST: RefCell<Vec<i64>> = RefCell::new(vec![VERSION; 3]);
}

#[unsafe(no_mangle)]
pub extern "C" fn mixed(x: i64) -> i64 {
    FIRST.set(FIRST.get() + x);
    let len = LIST.with_borrow_mut(|list| {
        list.push(x);
        list.len() as i64
    });
    #[cfg(any(v2, v3))]
    {
        ADDED.set(ADDED.get() + x);
        let added = ADDED_LIST.with_borrow_mut(|list| {
            list.push(x);
            list.len() as i64
        });
        return FIRST.get() * 1_000_000 + len * 10_000 + ADDED.get() * 100 + added;
    }
    #[allow(unreachable_code)]
    {
        FIRST.get() * 1_000_000 + len * 10_000
    }
}
