//! The file mappings of a process, from `/proc/PID/maps`.

use std::{
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    model::Addr,
};

/// One line of `/proc/PID/maps`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub start: Addr,
    /// One past the last byte.
    pub end: Addr,
    pub readable: bool,
    pub writable: bool,
    pub executable: bool,
    /// In the file.
    pub offset: u64,
    pub file: Option<MappedFile>,
    /// `[stack]`, `[vdso]` and the like.
    pub label: Option<String>,
}

/// The file behind a mapping, which may have left its path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MappedFile {
    pub path: PathBuf,
    pub major: u32,
    pub minor: u32,
    pub inode: u64,
    /// The kernel says that the path no longer names this file.
    pub deleted: bool,
}

/// The mappings of process `pid`, ascending.
pub fn read(pid: u32) -> Result<Vec<Mapping>> {
    let path = PathBuf::from(format!("/proc/{pid}/maps"));
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoSuchProcess { pid },
        io::ErrorKind::PermissionDenied => Error::NotPermitted { pid },
        _ => Error::File { path, doing: "reading the mappings", source },
    })?;
    Ok(parse(&bytes))
}

/// A number that stays the same as long as the process takes no page fault: without one nothing was loaded and run. Cheap.
pub fn faults(pid: u32) -> Result<u64> {
    let gone = |_: io::Error| Error::NoSuchProcess { pid };
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(gone)?;
    // proc_pid_stat(5): the name may hold anything; `minflt` and `majflt` are fields 10 and 12.
    let fields = text.rsplit_once(')').map_or("", |(_, after)| after).split(' ');
    let numbers: Vec<u64> = fields.skip(8).take(3).filter_map(|field| field.parse().ok()).collect();
    Ok(numbers.first().copied().unwrap_or(0) + numbers.last().copied().unwrap_or(0))
}

/// What is mapped of files for execution and where, as one number.
pub fn code_fingerprint(pid: u32) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for mapping in read(pid)?.iter().filter(|mapping| mapping.executable) {
        (mapping.start, mapping.end, &mapping.file).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Those of ascending mappings that lie in `start..end`, wholly or in part.
pub fn within(mappings: &[Mapping], start: Addr, end: Addr) -> &[Mapping] {
    let first = mappings.partition_point(|mapping| mapping.end <= start);
    let after = mappings.partition_point(|mapping| mapping.start < end);
    mappings.get(first..after).unwrap_or_default()
}

/// The file that is mapped somewhere in `start..end`, if any.
pub fn file_in(mappings: &[Mapping], start: Addr, end: Addr) -> Option<&MappedFile> {
    within(mappings, start, end).iter().find_map(|mapping| mapping.file.as_ref())
}

fn parse(bytes: &[u8]) -> Vec<Mapping> {
    bytes.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `start-end perms offset major:minor inode      path`; the path may hold anything but a newline.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let from = rest.iter().position(|&byte| byte != b' ')?;
        let len = rest[from..].iter().position(|&byte| byte == b' ').unwrap_or(rest.len() - from);
        let (found, after) = rest[from..].split_at(len);
        rest = after;
        str::from_utf8(found).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?.as_bytes().to_owned();
    let offset = hexadecimal(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let inode: u64 = field()?.parse().ok()?;
    let name = rest.trim_ascii_start();
    let may = |letter| permissions.contains(&letter);
    let file = (inode != 0).then(|| {
        let kept = name.strip_suffix(b" (deleted)");
        // Newlines are escaped as in a C string.
        let path = Path::new(OsStr::from_bytes(kept.unwrap_or(name))).to_owned();
        Some(MappedFile {
            path,
            major: u32::from_str_radix(major, 16).ok()?,
            minor: u32::from_str_radix(minor, 16).ok()?,
            inode,
            deleted: kept.is_some(),
        })
    });
    Some(Mapping {
        start: Addr(hexadecimal(start)?),
        end: Addr(hexadecimal(end)?),
        readable: may(b'r'),
        writable: may(b'w'),
        executable: may(b'x'),
        offset,
        label: (inode == 0 && !name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()),
        file: file.flatten(),
    })
}

fn hexadecimal(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{code_fingerprint, faults, file_in, parse, read};
    use crate::model::Addr;

    #[test]
    fn lines_with_spaces_labels_and_deleted_files() {
        let text = b"1000-3000 r-xp 00001000 fe:0a 77                 /tmp/a b/lib x.so (deleted)\n\
                     5000-6000 rw-p 00000000 00:00 0\n9000-a000 rw-p 00000000 00:00 0                  [stack]\n";
        let mappings = parse(text);
        assert_eq!(mappings.len(), 3);
        let file = file_in(&mappings, Addr(0x2000), Addr(0x2001)).expect("a file");
        assert_eq!((file.path.as_path(), file.deleted), (Path::new("/tmp/a b/lib x.so"), true));
        assert_eq!((file.major, file.minor, file.inode), (0xfe, 0x0a, 77));
        assert!(mappings[0].executable && !mappings[0].writable && mappings[0].offset == 0x1000);
        assert_eq!(mappings[2].label.as_deref(), Some("[stack]"));
        assert_eq!(file_in(&mappings, Addr(0x5000), Addr(0x6000)), None);
        let within = |start, end| super::within(&mappings, Addr(start), Addr(end)).len();
        assert_eq!((within(0x3000, 0x5000), within(0x2fff, 0x5001), within(0, 0x10000)), (0, 2, 3));
    }

    #[test]
    fn what_is_loaded_shows_in_the_fingerprint_and_takes_faults() {
        let own = std::process::id();
        let before = (code_fingerprint(own).expect("maps"), faults(own).expect("stat"));
        assert!(before.1 > 0);
        // SAFETY: one of libc's own companions, without constructors that would mind.
        let library = unsafe { nix::libc::dlopen(c"libBrokenLocale.so.1".as_ptr(), nix::libc::RTLD_NOW) };
        assert!(!library.is_null(), "it comes with libc");
        let after = (code_fingerprint(own).expect("maps"), faults(own).expect("stat"));
        assert_ne!(before.0, after.0);
        assert!(before.1 < after.1);
    }

    #[test]
    fn this_process_has_its_executable_mapped() {
        let mappings = read(std::process::id()).expect("maps");
        let own = std::env::current_exe().expect("executable");
        assert!(mappings.iter().filter_map(|mapping| mapping.file.as_ref()).any(|file| file.path == own));
    }
}
