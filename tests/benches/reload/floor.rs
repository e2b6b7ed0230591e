//! The floor: what a program costs that closes the library and opens the new file itself, and keeps nothing.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use libloading::Library;

use crate::clock;

/// The hidden first argument; the library's path follows.
pub const ARGUMENT: &str = "__floor";

/// Looks at the file before each call.
pub fn main(library: &OsString) -> ExitCode {
    let inode = || fs::metadata(library).map_or(0, |metadata| metadata.ino());
    let mut seen = inode();
    let mut loaded = open(library);
    call_in_turn(|| {
        let now = inode();
        if now != seen && now != 0 {
            reopen(&mut loaded, library);
            seen = now;
        }
        value(&loaded)
    })
}

/// The library, and None only while it is closed.
pub type Opened = Option<Library>;

pub fn open(library: &OsString) -> Opened {
    // SAFETY: a library made for this, without constructors.
    Some(unsafe { Library::new(library) }.expect("a complete library"))
}

pub fn reopen(loaded: &mut Opened, library: &OsString) {
    loaded.take().expect("opened before").close().expect("nobody else uses it");
    *loaded = open(library);
}

pub fn value(library: &Opened) -> i64 {
    let library = library.as_ref().expect("closed only while it is opened again");
    // SAFETY: the generated libraries all have this function.
    unsafe { (library.get::<extern "C" fn() -> i64>(b"value").expect("it has `value`"))() }
}

/// Calls in turn, and says what it sees as `hosts/caller.c` does, until the end of the input, which is that of the measurement.
pub fn call_in_turn(mut call: impl FnMut() -> i64) -> ! {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    clock::sleep_precisely();
    let mut last = -1;
    loop {
        let found = call();
        if found != last {
            println!("value {} {}", found & 0xffff, clock::now());
            last = found;
        }
        thread::sleep(Duration::from_micros(50));
    }
}
