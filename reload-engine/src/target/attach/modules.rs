//! The ELF objects in another process as they lie in its memory: exported symbols and unwind tables.
//!
//! Read from memory, never from files: those may be deleted, replaced, or belong to another mount namespace. Nothing is cached
//! and nothing is decided here.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian, Pointer};
use object::{
    Endianness,
    elf::{
        DT_GNU_HASH, DT_HASH, DT_SONAME, DT_STRSZ, DT_STRTAB, DT_SYMTAB, Dyn64, DynamicTag, ELFMAG, FileHeader64, PF_X,
        PT_DYNAMIC, PT_GNU_EH_FRAME, PT_LOAD, ProgramHeader64, SHN_UNDEF, Sym64,
    },
    pod,
    read::elf::{Dyn, FileHeader, GnuHashTable, HashTable, ProgramHeader, Sym},
};

use super::memory::Memory;
use crate::target::maps::Mapping;

type Header = FileHeader64<Endianness>;
const ENDIAN: Endianness = Endianness::Little;
/// Program headers directly follow the ELF header in everything that linkers make.
const HEADERS: usize = 4096;
/// Larger tables than any program has: memory that is being overwritten must not lead to huge allocations.
const MOST: u64 = 1 << 30;

/// One loaded object.
pub struct Module {
    /// Its DT_SONAME, else the name of its file; empty for what has neither.
    pub name: String,
    /// Lowest and one past the highest address of its segments.
    pub range: Range<u64>,
    /// What is added to an address stated in the file.
    pub bias: u64,
    /// Segments that hold code.
    pub code: Vec<Range<u64>>,
    segments: Vec<Range<u64>>,
    eh_frame_hdr: Option<Range<u64>>,
    dynamic: Dynamic,
}

#[derive(Default)]
struct Dynamic {
    symbols: u64,
    strings: Range<u64>,
    gnu_hash: Option<u64>,
    hash: Option<u64>,
}

/// A defined dynamic symbol.
#[derive(Clone, Debug)]
pub struct Symbol {
    pub name: String,
    pub range: Range<u64>,
}

/// The tables that an unwinder needs, with their addresses.
pub struct UnwindTables {
    pub index: (Range<u64>, Vec<u8>),
    pub frames: (Range<u64>, Vec<u8>),
}

/// Every object of which some part can be executed.
pub fn loaded(memory: &Memory, mappings: &[Mapping]) -> Vec<Module> {
    let begins = mappings.iter().filter(|mapping| mapping.readable && mapping.offset == 0);
    let modules = begins.filter_map(|mapping| Module::at(memory, mapping));
    modules
        .filter(|module| {
            let in_it = |mapping: &&Mapping| module.range.contains(&mapping.start.0) && mapping.executable;
            mappings.iter().any(|mapping| in_it(&mapping))
        })
        .collect()
}

impl Module {
    fn at(memory: &Memory, mapping: &Mapping) -> Option<Module> {
        let start = mapping.start.0;
        if memory.read(start, 4).ok()? != ELFMAG {
            return None;
        }
        let bytes = memory.read_some(start, HEADERS);
        let header = Header::parse(&*bytes).ok()?;
        let headers: &[ProgramHeader64<Endianness>] = header.program_headers(ENDIAN, &*bytes).ok()?;
        let loads = || headers.iter().filter(|header| header.p_type(ENDIAN) == PT_LOAD);
        let bias = start.wrapping_sub(loads().next()?.p_vaddr(ENDIAN) & !0xfff);
        let range = |header: &ProgramHeader64<Endianness>| {
            let from = bias.wrapping_add(header.p_vaddr(ENDIAN));
            from..from.saturating_add(header.p_memsz(ENDIAN))
        };
        let segments: Vec<Range<u64>> = loads().map(range).collect();
        let code = loads().filter(|header| header.p_flags(ENDIAN).contains(PF_X)).map(range).collect();
        let one = |kind| headers.iter().find(|header| header.p_type(ENDIAN) == kind).map(range);
        let (dynamic, soname) =
            one(PT_DYNAMIC).and_then(|range| Dynamic::read(memory, range, bias, start)).unwrap_or_default();
        let soname = soname.map(|offset| memory.text(dynamic.strings.start + offset, 256));
        let file = || mapping.file.as_ref()?.path.file_name().map(|name| name.to_string_lossy().into_owned());
        Some(Module {
            name: soname.filter(|name| !name.is_empty()).or_else(file).unwrap_or_default(),
            range: start..segments.iter().map(|segment| segment.end).max()?,
            bias,
            code,
            eh_frame_hdr: one(PT_GNU_EH_FRAME),
            segments,
            dynamic,
        })
    }

    pub fn has_code_at(&self, address: u64) -> bool {
        self.code.iter().any(|code| code.contains(&address))
    }

    /// The defined symbols for which `wanted` holds. Linkers share the ends of names, so names are looked at one by one.
    pub fn symbols(&self, memory: &Memory, wanted: impl Fn(&[u8]) -> bool) -> Vec<Symbol> {
        self.try_symbols(memory, wanted).unwrap_or_default()
    }

    fn try_symbols(&self, memory: &Memory, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<Symbol>> {
        let count = self.symbol_count(memory)?;
        let bytes = read(memory, self.dynamic.symbols, count * size_of::<Sym64<Endianness>>() as u64)?;
        let strings = read(memory, self.dynamic.strings.start, self.dynamic.strings.end - self.dynamic.strings.start)?;
        let (symbols, _) = pod::slice_from_bytes::<Sym64<Endianness>>(&bytes, count as usize).ok()?;
        let defined = symbols.iter().filter(|symbol| symbol.st_shndx(ENDIAN) != SHN_UNDEF);
        let found = defined.filter_map(|symbol| {
            let name = strings.get(symbol.st_name(ENDIAN) as usize..)?.split(|&byte| byte == 0).next()?;
            let start = self.bias.wrapping_add(symbol.st_value(ENDIAN));
            let range = start..start.saturating_add(symbol.st_size(ENDIAN));
            wanted(name).then(|| Symbol { name: String::from_utf8_lossy(name).into_owned(), range })
        });
        Some(found.collect())
    }

    pub fn symbol(&self, memory: &Memory, name: &str) -> Option<u64> {
        self.symbols(memory, |found| found == name.as_bytes()).first().map(|symbol| symbol.range.start)
    }

    /// No table says how many there are, but those for looking them up cover them all.
    fn symbol_count(&self, memory: &Memory) -> Option<u64> {
        if let Some(at) = self.dynamic.gnu_hash {
            let bytes = memory.read_some(at, (self.segment_end(at)? - at).min(MOST) as usize);
            return GnuHashTable::<Header>::parse(ENDIAN, &bytes).ok()?.symbol_table_length(ENDIAN).map(u64::from);
        }
        let at = self.dynamic.hash?;
        let bytes = memory.read_some(at, (self.segment_end(at)? - at).min(MOST) as usize);
        Some(HashTable::<Header>::parse(ENDIAN, &bytes).ok()?.symbol_table_length().into())
    }

    fn segment_end(&self, address: u64) -> Option<u64> {
        self.segments.iter().find(|segment| segment.contains(&address)).map(|segment| segment.end)
    }

    pub fn unwind_tables(&self, memory: &Memory) -> Option<UnwindTables> {
        let index = self.eh_frame_hdr.clone()?;
        let index_bytes = read(memory, index.start, index.end - index.start)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(index.start);
        let parsed = EhFrameHdr::new(&index_bytes, LittleEndian).parse(&bases, 8).ok()?;
        let Pointer::Direct(start) = parsed.eh_frame_ptr() else { return None };
        let end = self.segment_end(start)?;
        let bytes = read(memory, start, end - start)?;
        Some(UnwindTables { index: (index, index_bytes), frames: (start..end, bytes) })
    }
}

impl Dynamic {
    /// With it the offset of DT_SONAME.
    fn read(memory: &Memory, range: Range<u64>, bias: u64, start: u64) -> Option<(Dynamic, Option<u64>)> {
        let bytes = read(memory, range.start, range.end - range.start)?;
        let count = bytes.len() / size_of::<Dyn64<Endianness>>();
        let (entries, _) = pod::slice_from_bytes::<Dyn64<Endianness>>(&bytes, count).ok()?;
        let value = |tag: DynamicTag| {
            let entry = entries.iter().find(|entry| entry.d_tag(ENDIAN) == tag)?;
            Some(entry.d_val(ENDIAN))
        };
        // glibc's loader relocates these entries in place; the vdso's stay as the file has them.
        let address = |tag| value(tag).map(|found| if found < start { found.wrapping_add(bias) } else { found });
        let strings = address(DT_STRTAB)?;
        let dynamic = Dynamic {
            symbols: address(DT_SYMTAB)?,
            strings: strings..strings.saturating_add(value(DT_STRSZ)?),
            gnu_hash: address(DT_GNU_HASH),
            hash: address(DT_HASH),
        };
        Some((dynamic, value(DT_SONAME)))
    }
}

fn read(memory: &Memory, address: u64, len: u64) -> Option<Vec<u8>> {
    if len > MOST { None } else { memory.read(address, len as usize).ok() }
}
