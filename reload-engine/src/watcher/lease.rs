//! Proof that nobody writes to a file, from the kernel: a read lease (fcntl(2)) is granted while nobody has the file open for
//! writing, and is broken before somebody can open it so.
//!
//! Needs the file to be ours (or CAP_LEASE) and a file system that has leases; elsewhere nothing can be said.

use std::{fs::File, os::fd::AsRawFd};

use nix::{errno::Errno, libc};

/// Whether somebody has a file open for writing.
#[derive(Debug)]
pub enum Writers<'a> {
    Nobody(Lease<'a>),
    Somebody,
    Unknown,
}

/// While it is held nobody can open the file for writing; whoever tries waits for its end, and it counts as broken.
#[derive(Debug)]
pub struct Lease<'a>(&'a File);

/// `<linux/fcntl.h>`; glibc has it for `_GNU_SOURCE` only.
const F_SETSIG: libc::c_int = 10;

/// Of a file that is open for reading only.
pub fn writers(file: &File) -> Writers<'_> {
    // What the kernel tells of a broken lease by; by default it would be SIGIO, which ends a process that does not expect it.
    // Nobody expects this one either, and it does nothing.
    if ask(file, F_SETSIG, libc::SIGURG) < 0 {
        return Writers::Unknown;
    }
    match Errno::result(ask(file, libc::F_SETLEASE, libc::F_RDLCK)) {
        Ok(_) => Writers::Nobody(Lease(file)),
        Err(Errno::EAGAIN) => Writers::Somebody,
        Err(_) => Writers::Unknown,
    }
}

impl Lease<'_> {
    /// Whether nobody has tried to open the file for writing since.
    pub fn is_whole(&self) -> bool {
        ask(self.0, libc::F_GETLEASE, 0) == libc::F_RDLCK
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        ask(self.0, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

fn ask(file: &File, what: libc::c_int, argument: libc::c_int) -> libc::c_int {
    // SAFETY: an open descriptor and commands that take a number.
    unsafe { libc::fcntl(file.as_raw_fd(), what, argument) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        os::unix::fs::OpenOptionsExt,
    };

    use super::{Writers, writers};

    #[test]
    fn a_writer_is_seen_before_and_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let writer = File::create(&path).expect("it is ours");
        let reader = File::open(&path).expect("it is there");
        match writers(&reader) {
            Writers::Somebody => {}
            // A file system without leases.
            Writers::Unknown => return,
            Writers::Nobody(_) => panic!("the writer is not seen"),
        }
        drop(writer);
        let Writers::Nobody(lease) = writers(&reader) else { panic!("nobody writes any more") };
        assert!(lease.is_whole());
        // Would wait until the lease is given back.
        let mut hasty = OpenOptions::new();
        hasty.write(true).custom_flags(nix::libc::O_NONBLOCK);
        hasty.open(&path).expect_err("the lease is in the way");
        assert!(!lease.is_whole());
        drop(lease);
        hasty.open(&path).expect("the lease is gone");
    }
}
