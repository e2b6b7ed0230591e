//! Files that come as descriptors, where the engine's files are not ours: a container has other files under their paths.
//!
//! The loader opens files by name, and takes two equal names for one library. So each descriptor gets a name that was never
//! used before, though its number may have been.

use std::{
    collections::VecDeque,
    fs, io,
    mem::ManuallyDrop,
    os::fd::{FromRawFd, RawFd},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::fd::{self, GuestFd};

/// Of the files that have been loaded, so many stay open, for whoever looks for symbols by a library's name.
const KEPT: usize = 64;
/// Digits of a name's number; it begins anew after so many bits.
const DIGITS: u32 = 20;

/// A name for the loader under which the thread that holds `fd`, the calling one, is asked for it, by whichever thread.
pub fn name_for_loader(fd: RawFd) -> io::Result<String> {
    // In a forked child it goes on, since the child has its parent's libraries.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // "PID/task/TID" as whoever mounted `/proc` counts.
    let own = fs::read_link("/proc/thread-self")?;
    let thread = own.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(format!("/proc/self/./task/{thread}/fd{}/{fd}", spelled(number)))
}

/// `/` and `/.` in a path mean nothing: a number in these two digits.
fn spelled(number: u32) -> String {
    (0..DIGITS).map(|digit| if number >> digit & 1 == 1 { "/." } else { "/" }).collect()
}

/// The descriptor with this index among those that came with a message.
pub fn find<'a>(index: u32, name: &str, passed: &'a [GuestFd]) -> Result<&'a GuestFd, String> {
    passed.get(index as usize).ok_or_else(|| format!("{name}: its descriptor did not come along"))
}

/// As [`find`], for what stays open longer than the message.
pub fn take(index: u32, name: &str, passed: &mut Vec<GuestFd>) -> Result<GuestFd, String> {
    find(index, name, passed)?;
    Ok(passed.swap_remove(index as usize))
}

/// What was loaded stays open for a while.
#[derive(Default)]
pub struct Kept(VecDeque<GuestFd>);

impl Kept {
    /// In a table that is the host's too, nothing is kept.
    pub fn add(&mut self, file: GuestFd) {
        if !fd::is_separate() {
            return;
        }
        self.0.push_back(file);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }
}

/// A file to look into, which stays the caller's.
pub fn borrowed(fd: &GuestFd) -> ManuallyDrop<fs::File> {
    // SAFETY: an open descriptor; the file is never dropped, so it is not closed.
    ManuallyDrop::new(unsafe { fs::File::from_raw_fd(fd.raw()) })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Read, os::fd::AsRawFd};

    use super::{name_for_loader, spelled};

    #[test]
    fn names_of_one_descriptor_differ_and_lead_to_it() {
        let file = std::fs::File::open("/proc/self/exe").expect("this program");
        let names: BTreeSet<String> = (0..100).map(|_| name_for_loader(file.as_raw_fd()).expect("a name")).collect();
        assert_eq!(names.len(), 100);
        for name in names {
            assert!(reload_protocol::is_name_of_passed(&name), "{name}");
            let mut magic = [0; 4];
            std::fs::File::open(&name).and_then(|mut file| file.read_exact(&mut magic)).expect("it opens");
            assert_eq!(&magic, b"\x7fELF");
        }
        let all: BTreeSet<String> = (0..1 << 12).map(spelled).collect();
        assert_eq!(all.len(), 1 << 12);
    }
}
