//! A program with state in every place where Rust keeps it, that says so in lines until its input ends.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io::Read,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

const STEP: u64 = 1;

static TICKS: AtomicU64 = AtomicU64::new(0);
static WORKER: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicBool = AtomicBool::new(false);
static COUNTS: OnceLock<Mutex<HashMap<String, u64>>> = OnceLock::new();

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIST: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

trait Animal {
    fn report(&self) -> Report;
}

struct Report {
    version: u64,
    weight: u64,
}

struct Dog {
    weight: u64,
}

impl Animal for Dog {
    #[inline(never)]
    fn report(&self) -> Report {
        Report { version: 1, weight: weigh(self.weight) }
    }
}

#[inline(never)]
fn weigh(weight: u64) -> u64 {
    weight * 2
}

#[inline(never)]
fn step() -> u64 {
    STEP
}

#[inline(never)]
fn round() {
    WORKER.fetch_add(step(), Relaxed);
}

#[inline(never)]
fn tick(animal: &dyn Animal) {
    let tick = TICKS.fetch_add(1, Relaxed) + 1;
    let mut counts = COUNTS.get_or_init(Default::default).lock().unwrap();
    *counts.entry("tick".to_owned()).or_default() += 1;
    CALLS.set(CALLS.get() + 1);
    LIST.with_borrow_mut(|list| list.push(tick));
    let Report { version, weight } = animal.report();
    let all = [counts["tick"], CALLS.get(), LIST.with_borrow(|list| list.len() as u64)];
    let kept = if all.iter().all(|count| *count == tick) { tick } else { 0 };
    println!(
        "tick={tick} kept={kept} version={version} weight={weight} step={} worker={}",
        step(),
        WORKER.load(Relaxed)
    );
}

/// Small enough to be inlined where the compiler does that.
fn rest(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

fn main() {
    let animal: Box<dyn Animal> = Box::new(Dog { weight: 7 });
    thread::spawn(|| {
        while !ENDED.load(Relaxed) {
            round();
            rest(2);
        }
    });
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ENDED.store(true, Relaxed);
    });
    while !ENDED.load(Relaxed) {
        tick(&*animal);
        rest(20);
    }
}
