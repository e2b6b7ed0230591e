//! Closures have numbers for names: one that comes or goes changes what the others are called, and objects of them live on.

use std::sync::{Mutex, OnceLock};

const VERSION: i64 = if cfg!(v4) { 4 } else if cfg!(v3) { 3 } else if cfg!(v2) { 2 } else { 1 };

type Boxed = Box<dyn Fn(i64) -> i64 + Send + Sync>;
static KEPT: OnceLock<Vec<Boxed>> = OnceLock::new();
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn make(x: i64) -> Vec<Boxed> {
    let name = format!("kept since {x}");
    let mut all: Vec<Boxed> = Vec::new();
    #[cfg(v3)]
    all.push(Box::new(move |y| x * 1_000_000 + y));
    all.push(Box::new(move |y| x + y));
    #[cfg(v2)]
    all.push(Box::new(move |y| y - 1000));
    all.push(Box::new(move |y| {
        LOG.lock().unwrap().push(name.clone());
        name.len() as i64 * 100 + y
    }));
    #[cfg(not(v4))]
    all.push(Box::new(|y| y * 7));
    all
}

#[unsafe(no_mangle)]
pub extern "C" fn keep(x: i64) -> i64 {
    KEPT.get_or_init(|| make(x)).len() as i64
}

#[unsafe(no_mangle)]
pub extern "C" fn kept_sum(y: i64) -> i64 {
    KEPT.get().map_or(-1, |all| all.iter().map(|one| one(y)).sum())
}

#[unsafe(no_mangle)]
pub extern "C" fn fresh_sum(y: i64) -> i64 {
    make(1).iter().map(|one| one(y)).sum::<i64>() * 10 + VERSION
}
