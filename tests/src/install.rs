//! Putting a file where another one is, in the ways that linkers and people do, and spoiling it in the ways they do.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// As lld and mold do: a temporary file beside it, renamed over it when complete.
pub fn by_rename(new: &Path, installed: &Path) {
    let temporary = beside(installed);
    fs::copy(new, &temporary).expect("the folder is ours");
    fs::rename(&temporary, installed).expect("the folder is ours");
}

/// As cargo does for `target/debug/`: removed, then a hard link made.
pub fn by_hard_link(new: &Path, installed: &Path) {
    let private = beside(installed);
    fs::copy(new, &private).expect("the folder is ours");
    remove(installed);
    fs::hard_link(&private, installed).expect("one file system");
    fs::remove_file(&private).expect("the folder is ours");
}

/// As ld.bfd does: removed, created and written piece by piece, each piece flushed.
pub fn by_pieces(new: &Path, installed: &Path) {
    let bytes = fs::read(new).expect("just built");
    remove(installed);
    let mut file = File::create(installed).expect("the folder is ours");
    for piece in bytes.chunks(bytes.len() / 8 + 1) {
        file.write_all(piece).expect("the disk has room");
        file.sync_data().expect("the disk has room");
    }
    file.set_permissions(fs::Permissions::from_mode(0o755)).expect("the file is ours");
}

/// As `cp new old` does: the very file that processes have mapped is truncated and written.
pub fn by_copy(new: &Path, installed: &Path) {
    let bytes = fs::read(new).expect("just built");
    overwrite(&bytes, installed);
}

/// Writes these bytes into a file that stays the same one.
pub fn overwrite(bytes: &[u8], installed: &Path) {
    let mut file = File::options().write(true).truncate(true).open(installed).expect("the file is ours");
    file.write_all(bytes).expect("the disk has room");
}

/// What `damage KIND` writes, made from a good file.
pub fn damaged(kind: &str, good: &Path) -> Vec<u8> {
    let mut bytes = fs::read(good).expect("just built");
    match kind {
        "half" => bytes.truncate(bytes.len() / 2),
        "zeroes" => bytes.fill(0),
        "empty" => bytes.clear(),
        "text" => bytes = b"#!/bin/sh\necho this is no library\n".repeat(50),
        // e_machine, a half-word at offset 18 of the ELF header: 183 is AArch64.
        "machine" => bytes[18..20].copy_from_slice(&183u16.to_le_bytes()),
        // EI_CLASS at offset 4: 1 is 32 bit.
        "class" => bytes[4] = 1,
        // e_type, a half-word at offset 16: 1 is an object file.
        "object" => bytes[16..18].copy_from_slice(&1u16.to_le_bytes()),
        other => panic!("no such damage: {other}"),
    }
    bytes
}

/// Replaces a file by these bytes, by rename: a process that maps the old file is not touched.
pub fn bytes(bytes: &[u8], installed: &Path) {
    let temporary = beside(installed);
    fs::write(&temporary, bytes).expect("the folder is ours");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    fs::rename(&temporary, installed).expect("the folder is ours");
}

/// A file that is gone already is fine.
pub fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}: {error}", path.display());
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().expect("a file").to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}
