//! The floor: what a program costs that closes the library and opens the new file itself, and keeps nothing.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    process::ExitCode,
    thread,
    time::Duration,
};

use libloading::Library;

use crate::clock;

/// The hidden first argument; the library's path follows.
pub const ARGUMENT: &str = "__floor";

/// Calls `value` and looks at the file in turn, and says what it sees as `hosts/caller.c` does.
pub fn main(library: &OsString) -> ExitCode {
    thread::spawn(|| {
        // The end of the input is the end of the measurement.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    clock::sleep_precisely();
    let inode = || fs::metadata(library).map_or(0, |metadata| metadata.ino());
    // SAFETY: a library made for this, without constructors.
    let open = || unsafe { Library::new(library) }.expect("a complete library");
    let mut loaded = (inode(), open());
    let mut last = -1;
    loop {
        let now = inode();
        if now != loaded.0 && now != 0 {
            let (_, old) = loaded;
            old.close().expect("nobody else uses it");
            loaded = (now, open());
        }
        // SAFETY: the generated libraries all have this function.
        let found = unsafe { (loaded.1.get::<extern "C" fn() -> i64>(b"value").expect("it has `value`"))() };
        if found != last {
            println!("value {} {}", found & 0xffff, clock::now());
            last = found;
        }
        thread::sleep(Duration::from_micros(50));
    }
}
