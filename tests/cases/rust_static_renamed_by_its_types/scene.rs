//! Edits after which every object is what it was, but which rustc's older scheme gives statics other names for: a variant at the
//! end of an enumeration, a field made public.

use std::{cell::RefCell, sync::Mutex};

const VERSION: i64 = if cfg!(v3) { 3 } else if cfg!(v2) { 2 } else { 1 };

#[derive(Clone, Copy)]
#[repr(i64)]
enum Kind {
    Quiet = 1,
    Loud = 2,
    #[cfg(not(v1))]
    Deaf = 3,
}

struct Stats {
    #[cfg(not(v3))]
    count: i64,
    #[cfg(v3)]
    pub count: i64,
}

static KIND: Mutex<Kind> = Mutex::new(Kind::Quiet);
static STATS: Mutex<Stats> = Mutex::new(Stats { count: 10 });

thread_local! {
    static OWN: RefCell<Stats> = const { RefCell::new(Stats { count: 100 }) };
}

#[unsafe(no_mangle)]
pub extern "C" fn set_loud(x: i64) -> i64 {
    *KIND.lock().unwrap() = Kind::Loud;
    x
}

#[unsafe(no_mangle)]
pub extern "C" fn kind(_: i64) -> i64 {
    let kind = *KIND.lock().unwrap();
    #[cfg(not(v1))]
    if let Kind::Deaf = kind {
        return -1;
    }
    kind as i64 * 10 + VERSION
}

#[unsafe(no_mangle)]
pub extern "C" fn count(x: i64) -> i64 {
    let mut stats = STATS.lock().unwrap();
    stats.count += x;
    stats.count * 10 + VERSION
}

#[unsafe(no_mangle)]
pub extern "C" fn own(x: i64) -> i64 {
    OWN.with_borrow_mut(|stats| {
        stats.count += x;
        stats.count * 10 + VERSION
    })
}
