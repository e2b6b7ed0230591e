//! What kind of program a file is, as far as an agent could live in it. Opens nothing and decides nothing.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use object::{
    Endianness, ReadCache,
    elf::{EM_X86_64, FileHeader32, FileHeader64, PT_INTERP},
    read::elf::{FileHeader, ProgramHeader},
};

/// The loader of glibc on x86-64.
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Why no agent can live in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsuited {
    NotElf,
    Bits32,
    OtherProcessor,
    Broken,
    Static,
    /// Its dynamic loader is another one than glibc's.
    Loader(PathBuf),
}

impl fmt::Display for Unsuited {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsuited::NotElf => write!(formatter, "it is neither a 64-bit ELF program nor a script"),
            Unsuited::Bits32 => write!(formatter, "it is a 32-bit program"),
            Unsuited::OtherProcessor => write!(formatter, "it is built for another processor than x86-64"),
            Unsuited::Broken => write!(formatter, "its ELF headers are broken"),
            Unsuited::Static => write!(formatter, "it is statically linked and loads no libraries"),
            Unsuited::Loader(loader) if loader.to_string_lossy().contains("ld-musl") => {
                write!(formatter, "it uses musl ({}), and the agent needs glibc", loader.display())
            }
            Unsuited::Loader(loader) => {
                write!(formatter, "its loader is {}, not that of glibc ({LOADER})", loader.display())
            }
        }
    }
}

impl Unsuited {
    pub fn remedy(&self) -> &'static str {
        match self {
            Unsuited::NotElf | Unsuited::Broken => "name a program",
            Unsuited::Bits32 | Unsuited::OtherProcessor => "build it for x86-64",
            Unsuited::Static => {
                "build it dynamically (without -static or -static-pie; Rust: without crt-static; not for musl)"
            }
            Unsuited::Loader(_) => "build it for glibc",
        }
    }
}

/// Whether the program in `file` is a dynamic one for glibc on x86-64.
pub fn check(file: File) -> Result<(), Unsuited> {
    let cache = ReadCache::new(file);
    let Ok(header) = FileHeader64::<Endianness>::parse(&cache) else {
        let narrow = FileHeader32::<Endianness>::parse(&cache).is_ok();
        return Err(if narrow { Unsuited::Bits32 } else { Unsuited::NotElf });
    };
    let endian = header.endian().map_err(|_| Unsuited::Broken)?;
    if header.e_machine(endian) != EM_X86_64 {
        return Err(Unsuited::OtherProcessor);
    }
    let segments = header.program_headers(endian, &cache).map_err(|_| Unsuited::Broken)?;
    let segment = segments.iter().find(|segment| segment.p_type(endian) == PT_INTERP).ok_or(Unsuited::Static)?;
    let loader = segment.data(endian, &cache).map_err(|()| Unsuited::Broken)?;
    let loader = Path::new(OsStr::from_bytes(loader.strip_suffix(b"\0").unwrap_or(loader)));
    if loader.file_name() == Some(OsStr::new(LOADER)) { Ok(()) } else { Err(Unsuited::Loader(loader.to_owned())) }
}
