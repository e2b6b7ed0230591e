//! The library whose eight functions name the version they were saved with, and the program whose threads call them all the
//! time and check every result.

use std::{fs, path::PathBuf};

use crate::{
    dashboard::{Launched, Room},
    greek::host,
    toolchain::{self, Library},
};

/// What version 1 of the library has in every function.
pub const STAMP: [u8; 4] = 0x5a5a_0001u32.to_le_bytes();

/// The library, and its first bytes.
pub fn library(room: &Room) -> (PathBuf, Vec<u8>) {
    let library = Library::new("hammer", toolchain::hosts().join("hammer_library.c"), "-O2 -Wl,--build-id=none");
    let installed = room.path().join(library.file_name());
    library.build(1, room.path(), &installed);
    let first = fs::read(&installed).expect("just built");
    (installed, first)
}

/// The program with its library, followed by the dashboard in auto mode `all`; the library and its first bytes.
pub fn hammered<'a>(room: &'a Room, options: &[&str]) -> (Launched<'a>, PathBuf, Vec<u8>) {
    let (installed, first) = library(room);
    let mut target = room.launch_with(options, &host(room, "hammer"), &[]);
    target.host.line_where(|line| line.starts_with("ready ").then_some(()));
    assert_eq!(target.ask(&format!("open {}", installed.display())), "ok");
    target.done(&["mode", "all"]);
    (target, installed, first)
}

/// The library with this version stamped in.
pub fn stamped(first: &[u8], version: u16) -> Vec<u8> {
    let mut bytes = first.to_vec();
    for at in stamps(first) {
        bytes[at..at + 2].copy_from_slice(&version.to_le_bytes());
    }
    bytes
}

/// Where the stamps stand in version 1.
pub fn stamps(first: &[u8]) -> Vec<usize> {
    (0..first.len() - 4).filter(|&at| first[at..at + 4] == STAMP).collect()
}
