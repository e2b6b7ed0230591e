//! Broken and hostile files: real libraries, damaged thousands of times. Each gives an error or a result, in bounded time and
//! memory; never a panic, which in the dashboard would cost one reload, nor a hang or an allocation that would cost it all.
//!
//! `HOSTILE=FIRST..LAST` tries other seeds; a failure names its own.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use reload_protocol::{File, FromAgent, Reply, Request, receive, send};

mod mutations;
mod steps;

use mutations::{Part, Random, mutate, parts};

/// For one file; on an idle machine none takes a tenth of a second.
const TIME: Duration = Duration::from_secs(30);
/// Bytes that reading a file may take for each of its own, and whatever its size.
const MEMORY_PER_BYTE: usize = 64;
const MEMORY: usize = 16 << 20;

struct Counting;
static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, which keeps the contract; counting beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // What was asked for counts, granted or not.
        let held = HELD.load(Ordering::Relaxed).saturating_add(layout.size());
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: passed on as it came.
        let place = unsafe { System.alloc(layout) };
        if !place.is_null() {
            HELD.fetch_add(layout.size(), Ordering::Relaxed);
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a worker found wrong with one file.
type Complaint = Option<String>;

/// Where the last panic happened.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `work` for each seed, one after the other; tells of panics, and of time and memory over the limits.
fn each(
    what: &str,
    seeds: std::ops::Range<u64>,
    limit: usize,
    work: impl Fn(u64) -> String + Send + 'static,
) -> Vec<String> {
    let (tell, told) = channel::<(u64, Complaint)>();
    let all = seeds.clone();
    thread::spawn(move || {
        for seed in all {
            let before = HELD.load(Ordering::Relaxed);
            MOST.store(before, Ordering::Relaxed);
            let mut damage = String::new();
            let outcome = catch_unwind(AssertUnwindSafe(|| damage = work(seed)));
            let used = MOST.load(Ordering::Relaxed).saturating_sub(before);
            let complaint = match outcome {
                Err(_) => Some(PANIC.lock().map(|panic| panic.clone()).unwrap_or_default()),
                Ok(()) if used > limit => Some(format!("{used} bytes of memory ({damage})")),
                Ok(()) => None,
            };
            if tell.send((seed, complaint)).is_err() {
                return;
            }
        }
    });
    let mut complaints = Vec::new();
    for seed in seeds {
        match told.recv_timeout(TIME) {
            Ok((_, None)) => {}
            Ok((seed, Some(complaint))) => complaints.push(format!("{what}, seed {seed}: {complaint}")),
            Err(RecvTimeoutError::Timeout) => panic!("{what}, seed {seed}: not done after {TIME:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("{what}, seed {seed}: the worker is gone"),
        }
    }
    complaints
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let chosen = std::env::var("HOSTILE").ok();
    let chosen = chosen.as_deref().and_then(|range| range.split_once(".."));
    chosen.map_or(0..count, |(first, last)| {
        first.parse().expect("HOSTILE=FIRST..LAST")..last.parse().expect("HOSTILE=FIRST..LAST")
    })
}

fn built(compiler: &str, name: &str, source: &str, flags: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join(name), folder.path().join("library.so"));
    std::fs::write(&input, source).expect("write the source");
    let mut command = Command::new(compiler);
    command.args(flags).arg("-o").arg(&output).arg(&input);
    let built = command.output().expect("the compiler is installed");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(Path::new(&output)).expect("the library")
}

const C: &str = r#"
#include <stdio.h>
struct node { struct node *next; int id; unsigned bits : 3; };
static struct node *head; static int counter = 7; int exported = 3; static const char *const words[] = {"one", "two", "six"};
static _Thread_local long seen; _Thread_local int shared = 2;
__attribute__((noinline)) static int inner(int x) { static int calls; return x + ++calls; }
int work(struct node *n, int x) { counter += x; n->id++; head = n; seen += shared++; return inner(x) * 2; }
int pick(int x) { switch (x) { case 0: return 11; case 1: return 5; case 2: return 99; case 3: return 17; case 4: return 2; } return x; }
int show(int i) { return printf("%s %d\n", words[i % 3], exported); }
static int (*chosen(void))(int) { return pick; }
int chooser(int) __attribute__((ifunc("chosen")));
"#;

const CPP: &str = r#"
#include <map>
#include <stdexcept>
#include <string>
struct Base { virtual ~Base() {} virtual int a() { return 1; } int z = 0; };
struct World : Base { double velocity; std::string name; int a() override { return 3; } };
static World world; static std::map<int, std::string> names; thread_local World own;
extern "C" int work(int x) { try { names[x] += "x"; return world.a() + own.z++; } catch (const std::exception &e) { throw World(); } catch (int i) { return i; } }
"#;

const RUST: &str = r#"
#![no_std]
#[panic_handler] fn panicked(_: &core::panic::PanicInfo) -> ! { loop {} }
#[derive(Clone, Copy)] pub enum Event { Key(u32), Move { x: u64 }, Quit }
pub trait Shape { fn area(&self) -> u32; }
pub struct Square(u32);
impl Shape for Square { fn area(&self) -> u32 { self.0 * self.0 } }
static mut LAST: Event = Event::Quit;
static SHAPES: [&(dyn Shape + Sync); 2] = [&Square(2), &Square(3)];
#[unsafe(no_mangle)] pub extern "C" fn work(n: u32) -> u32 {
    unsafe { LAST = if n > 3 { Event::Key(n) } else { Event::Move { x: 1 } } };
    let name = match n { 0 => "zero", 1 => "one", 2 => "second", 3 => "third", 4 => "fourth", _ => "many" };
    SHAPES.iter().map(|shape| shape.area()).sum::<u32>() + name.len() as u32 + name.as_bytes()[0] as u32
}
"#;

/// The same file with tables of relocations that say they hold nothing.
fn with_empty_relocations(bytes: &[u8]) -> Vec<u8> {
    const HEADER: usize = 64;
    const RELA: u32 = 4;
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize;
    let (table, count) = (word(0x28), usize::from(u16::from_le_bytes([bytes[0x3c], bytes[0x3d]])));
    let mut emptied = bytes.to_vec();
    for header in (0..count).map(|index| table + index * HEADER) {
        if bytes[header + 4..header + 8] == RELA.to_le_bytes() {
            emptied[header + 0x20..header + 0x28].fill(0);
        }
    }
    emptied
}

/// One test: the memory counted is everybody's.
#[test]
fn damaged_files_are_errors_and_nothing_worse() {
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut place) = PANIC.lock() {
            *place = panic.to_string();
        }
    }));
    let mut complaints = Vec::new();
    let shared = ["-shared", "-fPIC", "-g"];
    let with = |flags: &[&'static str]| [&shared[..], flags].concat();
    let rust = ["--edition=2024", "--crate-type=cdylib", "-Cpanic=abort", "-Cdebuginfo=2", "-Copt-level=2"];
    let libraries = [
        ("C", 2000, built("gcc", "library.c", C, &with(&["-O2"]))),
        ("C, unoptimised", 600, built("gcc", "library.c", C, &with(&["-O0", "-gdwarf-4", "-gz"]))),
        ("C, stripped", 400, built("gcc", "library.c", C, &with(&["-Os", "-s", "-Wl,-z,pack-relative-relocs"]))),
        ("C++", 300, built("g++", "library.cpp", CPP, &with(&["-O1"]))),
        ("Rust", 700, built("rustc", "library.rs", RUST, &[&rust[..], &["-Clink-arg=-nostdlib"]].concat())),
    ];
    for (language, count, bytes) in libraries {
        let limit = bytes.len() * MEMORY_PER_BYTE + MEMORY;
        let parts: Vec<Part> = parts(&bytes);
        let original = steps::alone(&bytes).expect("as the compiler made it, it is read");
        steps::successor(&original, &original);
        // Random damage empties no table; fuzzing did.
        steps::alone(&with_empty_relocations(&bytes));
        complaints.extend(each(language, seeds(count), limit, move |seed| {
            let (mutant, damage) = mutate(&bytes, &parts, seed);
            if let Some(image) = steps::alone(&mutant) {
                steps::successor(&original, &image);
                steps::successor(&image, &original);
                steps::successor(&image, &Arc::clone(&image));
            }
            damage
        }));
    }

    let mut frames = Vec::new();
    let requests = [Request::Hello { version: 1 }, Request::Load { file: File::Path("/a".into()), low: 1, high: 2 }];
    requests.iter().for_each(|request| send(&mut frames, request).expect("into memory"));
    let part = |key, value| reload_protocol::Part { key: vec![key; 5], value };
    let parts = vec![part(1, Some(vec![1; 40])), part(2, None)];
    let reply = Reply::Ledger { revision: 1, whole: true, parts };
    send(&mut frames, &FromAgent::Reply(reply)).expect("into memory");
    complaints.extend(each("frames", seeds(3000), MEMORY, move |seed| {
        let mut random = Random::new(seed);
        let mut bytes = frames.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        let mut stream = &bytes[..];
        while let Ok(_request) = receive::<Request>(&mut stream) {}
        let mut stream = &bytes[..];
        while let Ok(_answer) = receive::<FromAgent>(&mut stream) {}
        String::new()
    }));
    let _ = std::panic::take_hook();
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}
