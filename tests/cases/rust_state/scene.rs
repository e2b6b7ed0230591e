//! State in every place where Rust keeps it; the versions differ in what the functions do with it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::{CString, c_char},
    panic,
    sync::{
        LazyLock, Mutex, OnceLock, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    thread,
};

const VERSION: i64 = if cfg!(v4) {
    4
} else if cfg!(v3) {
    3
} else if cfg!(v2) {
    2
} else {
    1
};

static CALLS: AtomicI64 = AtomicI64::new(0);
static mut UNGUARDED: i64 = 5;
static LIST: OnceLock<Mutex<Vec<i64>>> = OnceLock::new();
static MAP: LazyLock<RwLock<HashMap<i64, String>>> = LazyLock::new(Default::default);
static DESTROYED: AtomicI64 = AtomicI64::new(0);
#[unsafe(no_mangle)]
pub static exported_total: AtomicI64 = AtomicI64::new(1000);

struct Guest(i64);
impl Drop for Guest {
    fn drop(&mut self) {
        DESTROYED.fetch_add(self.0 * VERSION, Ordering::Relaxed);
    }
}

thread_local! {
    static PLAIN: Cell<i64> = const { Cell::new(10) };
    static GUEST: RefCell<Guest> = const { RefCell::new(Guest(0)) };
    static LAZY: RefCell<Vec<i64>> = RefCell::new(vec![VERSION]);
}

trait Shape {
    fn area(&self, x: i64) -> i64;
    fn name(&mut self, x: i64) -> i64;
}

struct Circle {
    side: i64,
    asked: i64,
}

impl Shape for Circle {
    fn area(&self, x: i64) -> i64 {
        self.side * x * VERSION
    }
    fn name(&mut self, x: i64) -> i64 {
        self.asked += 1;
        100 * VERSION + x + self.asked * 10_000
    }
}

static SHAPE: Mutex<Option<Box<dyn Shape + Send>>> = Mutex::new(None);
/// A closure boxed by whichever version ran first.
static CLOSURE: OnceLock<Box<dyn Fn(i64) -> i64 + Send + Sync>> = OnceLock::new();

#[unsafe(no_mangle)]
pub extern "C" fn make_shape(side: i64) -> i64 {
    *SHAPE.lock().unwrap() = Some(Box::new(Circle { side, asked: 0 }));
    side
}

#[unsafe(no_mangle)]
pub extern "C" fn area(x: i64) -> i64 {
    SHAPE.lock().unwrap().as_ref().unwrap().area(x)
}

#[unsafe(no_mangle)]
pub extern "C" fn name(x: i64) -> i64 {
    SHAPE.lock().unwrap().as_mut().unwrap().name(x)
}

fn scaled(x: i64) -> i64 {
    x * VERSION
}

#[unsafe(no_mangle)]
pub extern "C" fn closure(x: i64) -> i64 {
    CLOSURE.get_or_init(|| Box::new(|x| scaled(x) + 1))(x)
}

#[unsafe(no_mangle)]
pub extern "C" fn compute(x: i64) -> i64 {
    x + VERSION * 100
}

#[unsafe(no_mangle)]
pub extern "C" fn count(x: i64) -> i64 {
    exported_total.fetch_add(VERSION, Ordering::Relaxed);
    // SAFETY: the host calls this from one thread.
    let unguarded = unsafe {
        UNGUARDED += VERSION;
        UNGUARDED
    };
    (CALLS.fetch_add(x, Ordering::Relaxed) + x) * 1000 + unguarded
}

#[unsafe(no_mangle)]
pub extern "C" fn push(x: i64) -> i64 {
    let mut list = LIST.get_or_init(Default::default).lock().unwrap();
    list.push(x * VERSION);
    MAP.write().unwrap().insert(x, format!("version {VERSION}"));
    list.iter().sum::<i64>() * 100 + MAP.read().unwrap().len() as i64
}

#[unsafe(no_mangle)]
pub extern "C" fn lookup(x: i64) -> *const c_char {
    text(MAP.read().unwrap().get(&x).cloned().unwrap_or_default())
}

#[unsafe(no_mangle)]
pub extern "C" fn per_thread(x: i64) -> i64 {
    PLAIN.set(PLAIN.get() + x * VERSION);
    LAZY.with_borrow_mut(|lazy| lazy.push(x));
    PLAIN.get() * 1000 + LAZY.with_borrow(|lazy| lazy.len() as i64 * 10 + lazy[0])
}

#[unsafe(no_mangle)]
pub extern "C" fn weigh(x: i64) -> i64 {
    GUEST.with_borrow_mut(|guest| {
        guest.0 += x;
        guest.0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn destroyed_weight(x: i64) -> i64 {
    DESTROYED.load(Ordering::Relaxed) + x
}

#[unsafe(no_mangle)]
pub extern "C" fn spawned(x: i64) -> i64 {
    thread::spawn(move || compute(x)).join().unwrap()
}

fn fail_if_large(x: i64) -> i64 {
    if x > 10 {
        panic!("version {VERSION} fails at {x}");
    }
    x
}

#[unsafe(no_mangle)]
pub extern "C" fn caught(x: i64) -> *const c_char {
    panic::set_hook(Box::new(|_| ()));
    text(match panic::catch_unwind(|| fail_if_large(x)) {
        Ok(x) => format!("fine {x}"),
        Err(cause) => cause.downcast_ref::<String>().cloned().unwrap_or_default(),
    })
}

#[inline(never)]
fn where_am_i() -> String {
    std::backtrace::Backtrace::force_capture().to_string()
}

/// Whether the backtrace names the function it was taken in, and a file.
#[unsafe(no_mangle)]
pub extern "C" fn traced(_: i64) -> *const c_char {
    let trace = where_am_i();
    let named = trace.contains("where_am_i");
    let placed = trace.contains("scene.rs");
    text(format!("version {VERSION} named {named} placed {placed}"))
}

#[unsafe(no_mangle)]
pub extern "C" fn speak(x: i64) -> *const c_char {
    println!("version {VERSION} prints {x}");
    text(format!("version {VERSION} says {x}"))
}

fn text(text: String) -> *const c_char {
    CString::new(text).unwrap().into_raw()
}
