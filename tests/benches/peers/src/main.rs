//! Programs that reload a library by the means of others, each calling `value()` in turn with its own kind of update, and
//! telling each new value with the time it was first returned. They end at the end of their input.
//!
//! `peers hot FOLDER NAME MILLISECONDS`, `peers dynamic FOLDER NAME`, `peers subsecond PATH`; with `hot-cost FOLDER NAME` and
//! `subsecond-cost PATH` what one call takes, directly and as each means it to be called: `cost DIRECT CALL`, nanoseconds.

use std::{
    env, fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use dynamic_reload::{DynamicReload, Lib, PlatformName, Search, UpdateState};
use hot_lib_reloader::LibReloader;
use object::{Object as _, ObjectSymbol as _};
use subsecond_types::{AddressMap, JumpTable};

type Value = extern "C" fn() -> i64;

fn main() {
    thread::spawn(|| {
        // The end of the input is the end of the measurement.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // SAFETY: changes how this thread's timers are rounded: short sleeps are as short as they are said.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["hot", folder, name, debounce] => hot(folder, name, debounce.parse().expect("milliseconds")),
        ["dynamic", folder, name] => dynamic(folder, name),
        ["subsecond", path] => patched(Path::new(path)),
        ["hot-cost", folder, name] => hot_cost(folder, name),
        ["subsecond-cost", path] => patched_cost(Path::new(path)),
        _ => panic!("usage: peers hot FOLDER NAME MILLISECONDS | dynamic FOLDER NAME | subsecond PATH | hot-cost ... | subsecond-cost ..."),
    }
}

fn hot(folder: &str, name: &str, debounce: u64) -> ! {
    let debounce = Some(Duration::from_millis(debounce));
    let mut library = LibReloader::new(folder, name, debounce, None).expect("a complete library");
    let mut teller = Teller::default();
    loop {
        library.update().expect("a complete library");
        // SAFETY: the generated libraries all have this function.
        let value = unsafe { library.get_symbol::<Value>(b"value\0").expect("it has `value`")() };
        teller.tell(value, Duration::ZERO);
    }
}

fn dynamic(folder: &str, name: &str) -> ! {
    let mut reload = DynamicReload::new(Some(vec![folder]), Some(folder), Search::Default, Duration::from_millis(1));
    // SAFETY: a library made for this, without constructors.
    let mut library: Option<Arc<Lib>> =
        Some(unsafe { reload.add_library(name, PlatformName::Yes) }.expect("a complete library"));
    let taken = |library: &mut Option<Arc<Lib>>, state: UpdateState, new: Option<&Arc<Lib>>| match state {
        UpdateState::Before => *library = None,
        UpdateState::After => *library = new.cloned(),
        UpdateState::ReloadFailed(_) => {}
    };
    let mut teller = Teller::default();
    loop {
        // SAFETY: nobody else uses the library.
        unsafe { reload.update(&taken, &mut library) };
        if let Some(library) = &library {
            // SAFETY: the generated libraries all have this function.
            let value = unsafe { library.lib.get::<Value>(b"value").expect("it has `value`")() };
            teller.tell(value, Duration::ZERO);
        }
    }
}

/// The function that the patches replace, as a pointer: the table is asked for what is called, and of a function's own type
/// that is a method around it.
const VALUE: fn() -> i64 = value;

fn value() -> i64 {
    std::hint::black_box(1)
}

fn hot_cost(folder: &str, name: &str) {
    let library = LibReloader::new(folder, name, None, None).expect("a complete library");
    // SAFETY: the generated libraries all have this function.
    let value = || unsafe { library.get_symbol::<Value>(b"value\0").expect("it has `value`") };
    let held = value();
    tell_cost(|| held(), || value()());
}

fn patched_cost(path: &Path) {
    let table = table(path, path);
    // SAFETY: a patch with a `main`, and a table made from it.
    unsafe { subsecond::apply_patch(table) }.expect("a complete library");
    let mut current = subsecond::HotFn::current(VALUE);
    let held = std::hint::black_box(VALUE);
    tell_cost(|| held(), || current.call(()));
}

/// In turns, and the shortest of each: what the machine does besides only ever adds.
fn tell_cost(mut direct: impl FnMut() -> i64, mut call: impl FnMut() -> i64) {
    const CALLS: u32 = 1_000_000;
    let (mut least_direct, mut least_call) = (Duration::MAX, Duration::MAX);
    for _ in 0..20 {
        let begun = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(direct());
        }
        least_direct = least_direct.min(begun.elapsed());
        let begun = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(call());
        }
        least_call = least_call.min(begun.elapsed());
    }
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(CALLS);
    println!("cost {} {}", each(least_direct), each(least_call));
}

/// Its linker makes the table of addresses before there is a patch to apply, so the time for that does not count here.
fn patched(path: &Path) -> ! {
    let inode = || fs::metadata(path).map_or(0, |metadata| metadata.ino());
    let mut loaded = inode();
    let mut teller = Teller::default();
    let mut current = subsecond::HotFn::current(VALUE);
    teller.tell(current.call(()), Duration::ZERO);
    let mut count = 0;
    loop {
        let now = inode();
        let mut preparing = Duration::ZERO;
        if now != loaded && now != 0 {
            loaded = now;
            let begun = Instant::now();
            count += 1;
            // The loader takes a path it knows for the library it has.
            let patch = path.with_extension(format!("{count}.so"));
            let table = table(path, &patch);
            preparing = begun.elapsed();
            fs::hard_link(path, &patch).expect("the folder is ours");
            // SAFETY: a patch with a `main`, and a table made from it.
            unsafe { subsecond::apply_patch(table) }.expect("a complete library");
        }
        teller.tell(current.call(()), preparing);
    }
}

fn table(path: &Path, patch: &Path) -> JumpTable {
    let bytes = fs::read(path).expect("a complete library");
    let file = object::File::parse(&*bytes).expect("a library");
    let mut map = AddressMap::default();
    // All functions of the library stand in the table, as those of a program would.
    for symbol in file.symbols().filter(|symbol| symbol.kind() == object::SymbolKind::Text) {
        map.insert(symbol.address(), symbol.address());
    }
    let address = |name: &str| file.symbol_by_name(name).map_or(0, |symbol| symbol.address());
    let reference = subsecond::aslr_reference() as u64;
    map.insert(VALUE as usize as u64, address("value"));
    let base = address("main");
    JumpTable { lib: PathBuf::from(patch), map, aslr_reference: reference, new_base_address: base, ifunc_count: 0 }
}

/// Says each new value once, and rests between two calls.
#[derive(Default)]
struct Teller {
    last: i64,
}

impl Teller {
    fn tell(&mut self, value: i64, not_counted: Duration) {
        if value != self.last {
            self.last = value;
            println!("value {} {}", value & 0xffff, now() - not_counted.as_nanos() as i64);
        }
        thread::sleep(Duration::from_micros(50));
    }
}

/// CLOCK_MONOTONIC, in nanoseconds.
fn now() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
