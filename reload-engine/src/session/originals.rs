//! Copies of the files as the target loaded them, taken before somebody rebuilds them.
//!
//! Which modules need one is decided by others.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use object::{Endianness, read::elf::ElfFile64, read::elf::FileHeader};
use twox_hash::XxHash3_128;

use crate::{
    error::{Error, Result},
    ledger::GenerationRecord,
    model::{Addr, FileStamp, Generation, LoadBias, file_name},
    target::{
        maps::{self, MappedFile, Mapping},
        store,
    },
    watcher::{content_hash, stamp_of},
};

/// A module as the target has it mapped.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a> {
    pub pid: u32,
    /// As the target loaded it.
    pub path: &'a Path,
    pub bias: LoadBias,
    pub start: Addr,
    pub end: Addr,
    pub tls_module: u64,
}

/// Keeps a copy of the library in `folder`; its record as generation 0.
///
/// # Errors
/// The file at the path is not the one that is mapped any more and the mapped one cannot be reached; or the copy cannot be
/// written.
pub fn keep(module: Mapped<'_>, mappings: &[Mapping], folder: &Path) -> Result<GenerationRecord> {
    let (bytes, stamp) = read_mapped(module, mappings)?;
    let content = content_hash(&bytes);
    // A folder of its own keeps the name that debuggers and backtraces show. Closed and opened again from another file, the
    // library has another copy: somebody may still be at the one before.
    let path = XxHash3_128::oneshot(module.path.as_os_str().as_encoded_bytes()) as u64;
    let file = folder.join(format!("{path:016x}-{content}")).join(file_name(module.path));
    write_copy(&file, &bytes)?;
    Ok(record(module, file, stamp, content))
}

/// Puts `file`, whose path says what is in it, into the store with the folder that it lies in. Where another controller was
/// quicker, its copy stays: the target may run in it already.
///
/// # Errors
/// [`Error::File`]: it cannot be written.
pub fn write_copy(file: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        store::put(file, bytes)
    };
    write().map_err(|source| Error::File {
        path: file.to_owned(),
        doing: "keeping a copy of the original in the store",
        source,
    })
}

/// Removes the copy of a record, if it is one that [`keep`] has made in the target's `folder`.
pub fn remove(copy: &Path, folder: &Path) {
    let place = copy.parent().and_then(Path::parent);
    if place.is_some_and(|place| place.starts_with(folder)) {
        store::remove_with_folder(copy);
    }
}

/// The executable's record. The kernel keeps the original reachable for as long as the target runs, so no copy is needed to
/// compare with.
///
/// # Errors
/// The executable cannot be read.
pub fn of_executable(module: Mapped<'_>) -> Result<GenerationRecord> {
    let file = PathBuf::from(format!("/proc/{}/exe", module.pid));
    let (bytes, stamp) = read_whole(&file).map_err(|source| failed(&file, source))?;
    Ok(record(module, file, stamp, content_hash(&bytes)))
}

/// A generation's file that lies in the folder of the process from which this one was forked goes into this one's own: the
/// other may end first, and its folder with it. Where it lies from now on, if that is another place.
///
/// # Errors
/// It cannot be copied.
pub fn take_over(file: &Path, pid: u32, folder: &Path) -> Result<Option<PathBuf>> {
    // Not what lies in a container: `/proc/PID/root/...`.
    if file.starts_with("/proc") && file.iter().count() == 4 {
        let own = PathBuf::from(format!("/proc/{pid}/exe"));
        return Ok((file != own).then_some(own));
    }
    let Some(relative) = folder.parent().and_then(|store| file.strip_prefix(store).ok()) else { return Ok(None) };
    if file.starts_with(folder) {
        return Ok(None);
    }
    let own = folder.join("inherited").join(relative);
    let copy = || {
        fs::create_dir_all(own.parent().unwrap_or(folder))?;
        // What has two names is never written to: another name for it will do, where the file system has such.
        match fs::hard_link(file, &own) {
            // Also where the parent's has gone since somebody took it over.
            Err(_) if !own.exists() => store::put(&own, &fs::read(file)?),
            _ => Ok(()),
        }
    };
    copy().map_err(|source| Error::File {
        path: file.to_owned(),
        doing: "taking over what the parent kept",
        source,
    })?;
    Ok(Some(own))
}

fn record(module: Mapped<'_>, file: PathBuf, stamp: FileStamp, content: String) -> GenerationRecord {
    GenerationRecord {
        number: Generation(0),
        parent: Generation(0),
        file,
        bias: module.bias,
        tls_module: module.tls_module,
        tls_base: 0,
        stamp,
        content,
        merged: Vec::new(),
    }
}

fn read_mapped(module: Mapped<'_>, mappings: &[Mapping]) -> Result<(Vec<u8>, FileStamp)> {
    let own = maps::within(mappings, module.start, module.end).iter().filter(|mapping| mapping.start >= module.start);
    let mut of_file = own.filter(|mapping| mapping.file.is_some());
    let Some((mapping, mapped)) = of_file.next().and_then(|mapping| Some((mapping, mapping.file.as_ref()?))) else {
        return Err(refused(module, "no file is mapped where the loader says the module is"));
    };
    if let Ok((bytes, stamp)) = read_whole(module.path)
        && is_the_mapped(mapped, &stamp)
    {
        return Ok((bytes, stamp));
    }
    // The kernel leads to the file itself, whatever became of its name; that takes rights (CAP_CHECKPOINT_RESTORE).
    let link = PathBuf::from(format!("/proc/{}/map_files/{:x}-{:x}", module.pid, mapping.start.0, mapping.end.0));
    read_whole(&link).map_err(|error| {
        tracing::debug!("{}: {error}", link.display());
        refused(module, "the file was replaced before a copy of what the program loaded could be taken")
    })
}

/// By inode. The device is no help: overlay and btrfs report different ones in maps and in stat.
fn is_the_mapped(mapped: &MappedFile, stamp: &FileStamp) -> bool {
    !mapped.deleted && mapped.inode == stamp.inode
}

/// A file that is not being written: its stamp is the same before and after.
fn read_whole(path: &Path) -> std::io::Result<(Vec<u8>, FileStamp)> {
    const TRIES: u32 = 3;
    let mut tries = 0;
    loop {
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let after = file.metadata()?;
        tries += 1;
        let same = stamp_of(&before) == stamp_of(&after) && after.size() == bytes.len() as u64;
        if same || tries == TRIES {
            return Ok((bytes, stamp_of(&after)));
        }
    }
}

fn refused(module: Mapped<'_>, reason: &str) -> Error {
    Error::Unsuitable { module: file_name(module.path), reason: reason.into() }
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), doing: "reading the original", source }
}

/// The soname stated in a library, if it differs from its file name.
pub fn soname(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    let elf = ElfFile64::<Endianness>::parse(&*bytes).ok()?;
    let endian = elf.endian();
    let sections = elf.elf_header().sections(endian, &*bytes).ok()?;
    let (dynamic, strings) = sections.dynamic(endian, &*bytes).ok()??;
    let strings = sections.strings(endian, &*bytes, strings).ok()?;
    let entry = dynamic.iter().find(|entry| entry.d_tag.get(endian) == object::elf::DT_SONAME)?;
    let name = strings.get(u32::try_from(entry.d_val.get(endian)).ok()?).ok()?;
    let name = String::from_utf8(name.to_owned()).ok()?;
    (name != file_name(file)).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Mapped, keep, of_executable, remove, soname, take_over};
    use crate::{
        model::{Addr, LoadBias},
        target::maps,
        watcher::stamp,
    };

    /// A library that every test process has mapped.
    fn libc() -> (std::path::PathBuf, Vec<maps::Mapping>) {
        let mappings = maps::read(std::process::id()).unwrap();
        let file = mappings.iter().filter_map(|mapping| mapping.file.as_ref());
        let path = file.map(|file| file.path.clone()).find(|path| path.to_string_lossy().contains("/libc.so")).unwrap();
        (path, mappings)
    }

    fn mapped<'a>(path: &'a Path, real: &Path, mappings: &[maps::Mapping]) -> Mapped<'a> {
        let own = || mappings.iter().filter(|mapping| mapping.file.as_ref().is_some_and(|file| file.path == real));
        let start = own().map(|mapping| mapping.start).min().unwrap();
        let end = own().map(|mapping| mapping.end).max().unwrap();
        Mapped { pid: std::process::id(), path, bias: LoadBias(start.0), start, end, tls_module: 0 }
    }

    #[test]
    fn file_of_the_parent_gets_a_name_in_the_childs_folder() {
        let store = tempfile::tempdir().unwrap();
        let (parent, child) = (store.path().join("7/shadows/1-a"), store.path().join("8"));
        fs::create_dir_all(&parent).unwrap();
        fs::create_dir_all(&child).unwrap();
        fs::write(parent.join("x.so"), b"x").unwrap();
        let taken = take_over(&parent.join("x.so"), 8, &child).unwrap().unwrap();
        assert_eq!(take_over(&parent.join("x.so"), 8, &child).unwrap(), Some(taken.clone()));
        fs::remove_dir_all(&parent).unwrap();
        assert_eq!(take_over(&parent.join("x.so"), 8, &child).unwrap(), Some(taken.clone()));
        assert_eq!((fs::read(&taken).unwrap(), taken.starts_with(&child)), (b"x".to_vec(), true));
        assert_eq!(take_over(&taken, 8, &child).unwrap(), None);
        assert_eq!(take_over(Path::new("/proc/8/root/tmp/store/8/x.so"), 8, &child).unwrap(), None);
        assert_eq!(take_over(Path::new("/proc/7/exe"), 8, &child).unwrap(), Some("/proc/8/exe".into()));
        assert!(take_over(&parent.join("gone.so"), 8, &child).is_err());
    }

    #[test]
    fn copy_of_what_is_mapped() {
        let (path, mappings) = libc();
        let folder = tempfile::tempdir().unwrap();
        let record = keep(mapped(&path, &path, &mappings), &mappings, folder.path()).unwrap();
        assert_eq!(fs::read(&record.file).unwrap(), fs::read(&path).unwrap());
        assert_eq!(record.stamp, stamp(&path).unwrap());
        assert_eq!(soname(&record.file), None);
        let again = keep(mapped(&path, &path, &mappings), &mappings, folder.path()).unwrap();
        assert_eq!(again, record);
        remove(Path::new("/proc/self/exe"), folder.path());
        remove(&folder.path().join("x.so"), folder.path());
        assert!(record.file.exists());
        remove(&record.file, folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn replaced_file_is_never_taken_for_the_original() {
        let (path, mappings) = libc();
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("libc.so.6");
        fs::write(&other, "another file").unwrap();
        match keep(mapped(&other, &path, &mappings), &mappings, folder.path()) {
            // With the right to follow map_files the original is reached all the same.
            Ok(record) => assert_eq!(fs::read(&record.file).unwrap(), fs::read(&path).unwrap()),
            Err(error) => assert!(error.to_string().contains("replaced"), "{error}"),
        }
    }

    #[test]
    fn executable_is_reached_through_the_kernel() {
        let own = std::env::current_exe().unwrap();
        let mappings = maps::read(std::process::id()).unwrap();
        let record = of_executable(mapped(&own, &own, &mappings)).unwrap();
        assert_eq!(record.stamp, stamp(&own).unwrap());
        assert_eq!(record.bias, LoadBias(mapped(&own, &own, &mappings).start.0));
        assert_ne!(Addr(record.bias.0), Addr(0));
    }
}
