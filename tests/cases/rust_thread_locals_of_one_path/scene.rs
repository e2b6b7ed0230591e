//! Unoptimised and linked as a whole, `thread_local!` leaves two variables of one path and one size. Once a field of their type is
//! made public both have other names, and which is which nobody can tell.

use std::cell::RefCell;

const VERSION: i64 = if cfg!(v2) { 2 } else { 1 };

struct Stats {
    #[cfg(not(v2))]
    count: i64,
    #[cfg(v2)]
    pub count: i64,
}

thread_local! {
    static OWN: RefCell<Stats> = RefCell::new(Stats { count: 100 });
}

#[unsafe(no_mangle)]
pub extern "C" fn own(x: i64) -> i64 {
    OWN.with_borrow_mut(|stats| {
        stats.count += x;
        stats.count * 10 + VERSION
    })
}
