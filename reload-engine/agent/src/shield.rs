//! The shield: mappings of a file that somebody may overwrite become mappings of a private copy of it.
//!
//! A library's pages follow its file: who writes into the file writes into the program, and who truncates it takes even the
//! pages away that the program has changed. So each mapping is replaced by the same part of the copy, with the pages that are
//! private to the process (relocated, written, patched) carried over. `mremap` puts the new mapping over the old one in one
//! step, so that threads may go on reading and running it; what they may write is replaced while they are stopped.
//!
//! The file itself is kept alive: the loader knows a library by device and inode (glibc's `struct r_file_id`), and would take
//! a new file that was given the same inode for the library that is loaded.

use std::{
    ffi::c_int,
    fs::{self, File, OpenOptions},
    mem,
    ops::Range,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    ptr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use reload_protocol::{Replacement, Segment};

use crate::{
    errno,
    fd::GuestFd,
    memory::{self, Mapping, PAGE},
    passed,
    shadow::range_of,
};

/// What the kernel says of each page (`admin-guide/mm/pagemap`).
const PAGEMAP: &str = "/proc/self/pagemap";
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// A mapping that is ready to take another one's place.
pub struct Cover {
    range: Range<u64>,
    /// Where the replacement waits.
    place: u64,
    protection: c_int,
    pagemap: GuestFd,
    /// Room for what the kernel says of the pages; written by the agent's thread only.
    pages: Vec<AtomicU64>,
    /// It has left its place, or is about to.
    gone: AtomicBool,
}

impl Cover {
    /// Maps the copy elsewhere; `passed` are the descriptors that came along.
    pub fn prepare(replacement: &Replacement, mappings: &[Mapping], passed: &[GuestFd]) -> Result<Cover, String> {
        let Replacement { segment, inode, file, offset } = replacement;
        let (range, protection) = (range_of(segment), segment.protection as c_int);
        let same =
            |mapping: &Mapping| (&mapping.range, mapping.protection, mapping.inode) == (&range, protection, *inode);
        let Some(covered) = mappings.iter().find(|mapping| same(mapping)) else {
            return Err(format!("the mapping at {:#x} has changed meanwhile", range.start));
        };
        keep_inode(covered)?;
        let len = range.end - range.start;
        let opened = |path: &str| File::open(path).map_err(|error| format!("{path}: {error}"));
        let (owned, borrowed);
        let (path, copy): (&str, &File) = match file {
            reload_protocol::File::Path(path) => {
                owned = opened(path)?;
                (path, &owned)
            }
            reload_protocol::File::Passed { index, name } => {
                borrowed = passed::borrowed(passed::find(*index, name, passed)?);
                (name, &borrowed)
            }
        };
        let pagemap = opened(PAGEMAP)?;
        let size = copy.metadata().map_err(|error| format!("{path}: {error}"))?.len();
        if memory::page_ceil(size) < offset + len {
            return Err(format!("{path} is too short"));
        }
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh private mapping wherever the kernel finds room.
        let place = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len as usize,
                writable,
                libc::MAP_PRIVATE,
                copy.as_raw_fd(),
                *offset as libc::off_t,
            )
        };
        if place == libc::MAP_FAILED {
            return Err(format!("mapping {path}: errno {}", errno()));
        }
        let pages = (0..len / PAGE).map(|_| AtomicU64::new(0)).collect();
        let pagemap = GuestFd::adopt(OwnedFd::from(pagemap)).map_err(|error| format!("{PAGEMAP}: {error}"))?;
        let place = place as u64;
        let cover = Cover { range, place, protection, pagemap, pages, gone: AtomicBool::new(false) };
        // Once in advance: the stop should find no page that has to be fetched.
        if !cover.carry_over() {
            return Err(format!("{PAGEMAP} cannot be read: errno {}", errno()));
        }
        Ok(cover)
    }

    pub fn segment(&self) -> Segment {
        let Range { start, end } = self.range;
        Segment { range: reload_protocol::Range { start, len: end - start }, protection: self.protection as u32 }
    }

    pub fn is_writable(&self) -> bool {
        self.protection & libc::PROT_WRITE != 0
    }

    pub fn contains(&self, address: u64) -> bool {
        self.range.contains(&address)
    }

    /// Copies the pages that are the process's own. Allocates nothing. False if the kernel does not tell which.
    fn carry_over(&self) -> bool {
        self.ask_kernel() && {
            for index in 0..self.pages.len() {
                self.copy_page(index);
            }
            true
        }
    }

    fn ask_kernel(&self) -> bool {
        let len = self.pages.len() * size_of::<u64>();
        let offset = (self.range.start / PAGE) * size_of::<u64>() as u64;
        // SAFETY: `pages` has room for `len` bytes, which may change behind a shared reference as they are atomic.
        let got = unsafe {
            libc::syscall(
                libc::SYS_pread64,
                self.pagemap.raw(),
                self.pages.as_ptr().cast_mut(),
                len,
                offset as libc::off_t,
            )
        };
        got == len as libc::c_long
    }

    fn copy_page(&self, index: usize) {
        let says = self.pages[index].load(Ordering::Relaxed);
        if says & (PRESENT | SWAPPED) == 0 || says & OF_FILE != 0 {
            return;
        }
        let offset = index as u64 * PAGE;
        // SAFETY: both are mapped and readable, and `place` is writable and nobody else's. Before the stop somebody may be
        // writing the page at this moment; what is torn by that is copied again in the stop.
        unsafe {
            ptr::copy_nonoverlapping(
                (self.range.start + offset) as *const u8,
                (self.place + offset) as *mut u8,
                PAGE as usize,
            )
        };
    }

    /// For memory that nobody writes to.
    pub fn put_on(self) -> Result<(), String> {
        let failed = |what: &str| Err(format!("{what} at {:#x}: errno {}", self.range.start, errno()));
        let waiting = self.place..self.place + (self.range.end - self.range.start);
        if memory::protect(&waiting, self.protection).is_err() {
            return failed("the shield's protection");
        }
        if self.exchange() { Ok(()) } else { failed("putting the shield") }
    }

    /// For memory that threads write to, all of them stopped: no allocation, no locks. Where it does not succeed the old
    /// mapping stays as it is.
    pub fn put_on_stopped(&self) {
        if self.carry_over() {
            self.exchange();
        }
    }

    fn exchange(&self) -> bool {
        let len = self.range.end - self.range.start;
        // A child that is forked from here on must not do it too: its replacement may be in its place already.
        if self.gone.swap(true, Ordering::AcqRel) {
            return true;
        }
        let flags = libc::c_long::from(libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED);
        // SAFETY: moves a mapping of our own over one with the same contents, of the same length.
        let moved = unsafe { libc::syscall(libc::SYS_mremap, self.place, len, len, flags, self.range.start) };
        moved as u64 == self.range.start
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        if !self.gone.load(Ordering::Acquire) {
            memory::release(&(self.place..self.place + (self.range.end - self.range.start)));
        }
    }
}

/// The inodes that are kept.
static KEPT: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Keeps the file that is mapped there in existence, for as long as the process lives, whatever becomes of its name.
fn keep_inode(mapping: &Mapping) -> Result<(), String> {
    let Mapping { inode, path, .. } = mapping;
    let mut kept = KEPT.lock().map_err(|_| "an earlier shield failed".to_owned())?;
    // The kernel keeps the program's own, which may have lost its name already.
    let is_program = || fs::metadata("/proc/self/exe").is_ok_and(|program| program.ino() == *inode);
    if *inode == 0 || kept.contains(inode) || is_program() {
        return Ok(());
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    let file = file.map_err(|error| format!("{path}: {error}"))?;
    if file.metadata().map_err(|error| format!("{path}: {error}"))?.ino() != *inode {
        return Err(format!("{path} has been replaced already: nobody can write into what is loaded"));
    }
    mem::forget(GuestFd::adopt(OwnedFd::from(file)).map_err(|error| format!("{path}: {error}"))?);
    kept.push(*inode);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::{fd::AsRawFd, unix::fs::MetadataExt},
        ptr,
    };

    use reload_protocol::{Range, Replacement, Segment};

    use super::Cover;
    use crate::memory;

    #[test]
    fn own_pages_are_carried_over_and_the_file_may_go() {
        let folder = std::env::temp_dir().join(format!("reload-shield-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("temporary folder");
        let (file, copy) = (folder.join("file"), folder.join("copy"));
        let content: Vec<u8> = (0..4u8).flat_map(|page| [page + 1; 4096]).collect();
        fs::write(&file, &content).expect("file");
        fs::write(&copy, &content).expect("copy");
        let opened = fs::File::open(&file).expect("file");
        // SAFETY: a fresh private mapping of four pages.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                4 * 4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE,
                opened.as_raw_fd(),
                0,
            )
        }
        .cast::<u8>();
        let byte = |page: usize| {
            // SAFETY: one of the four pages.
            unsafe { at.add(page * 4096 + 7).read_volatile() }
        };
        // SAFETY: as above; makes the second page the process's own.
        unsafe { at.add(4096 + 7).write_volatile(99) };
        assert_eq!((byte(0), byte(1)), (1, 99));
        let segment = Segment { range: Range { start: at as u64, len: 4 * 4096 }, protection: 3 };
        let file = reload_protocol::File::Path(copy.to_str().expect("UTF-8").to_owned());
        let mappings = memory::mappings().expect("maps");
        let inode = opened.metadata().expect("file").ino();
        let other = Replacement { segment, inode: inode + 1, file: file.clone(), offset: 0 };
        assert!(Cover::prepare(&other, &mappings, &[]).is_err_and(|message| message.contains("changed meanwhile")));
        let cover = Cover::prepare(&Replacement { segment, inode, file, offset: 0 }, &mappings, &[]).expect("a cover");
        cover.put_on_stopped();
        // Without the shield every one of these pages would be gone (SIGBUS).
        fs::write(folder.join("file"), b"").expect("file");
        assert_eq!([byte(0), byte(1), byte(2), byte(3)], [1, 99, 3, 4]);
        fs::remove_dir_all(&folder).expect("ours");
    }
}
