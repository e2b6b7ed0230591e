//! Reads an ELF file's tables into plain values: sections, segments, symbols, dynamic relocations, the dynamic section.
//!
//! Bytes in, values out. Every bound is checked by the `object` crate or here; a hostile file gives an error, never a panic
//! or an allocation larger than the file. Knows nothing of what the values mean for a reload.

use std::ops::Range;

use object::{LittleEndian, U64};

use crate::model::Vaddr;

mod reader;
mod symbols;

pub use reader::read;
pub use symbols::{SymbolEntries, symbols};

/// `DF_1_PIE`: glibc's `dlopen` takes no file that says it is a program.
pub const PIE: u64 = 0x0800_0000;
/// A section that occupies memory.
#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    pub address: u64,
    pub size: u64,
    pub offset: u64,
    pub kind: SectionKind,
}

impl Section {
    pub fn contains(&self, address: Vaddr) -> bool {
        address.0 >= self.address && address.0 - self.address < self.size
    }

    pub fn end(&self) -> u64 {
        self.address + self.size
    }
}

/// What a section's bytes are to a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Executable instructions of the program (`.text*`, also custom ones).
    Code,
    /// Stubs and start-up code that the linker made (`.plt*`, `.init`, `.fini`).
    LinkerCode,
    /// Writable data that is the program's state.
    State,
    /// Writable data that starts as zeroes and has no bytes in the file.
    ZeroState,
    /// Read-only after relocation: `.rodata`, `.data.rel.ro`, GOT, dynamic section, unwind tables...
    Constant,
    /// Thread-local template.
    ThreadLocal,
}

impl SectionKind {
    pub fn is_state(self) -> bool {
        matches!(self, SectionKind::State | SectionKind::ZeroState)
    }

    pub fn is_code(self) -> bool {
        matches!(self, SectionKind::Code | SectionKind::LinkerCode)
    }
}

/// A PT_LOAD segment.
#[derive(Clone, Copy, Debug)]
pub struct LoadSegment {
    pub address: u64,
    pub offset: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub writable: bool,
    pub executable: bool,
    /// File offset of its program header.
    pub header_offset: u64,
}

/// The PT_TLS header.
#[derive(Clone, Copy, Debug)]
pub struct TlsTemplate {
    /// File offset of the program header.
    pub header_offset: u64,
    pub address: u64,
    /// Of its bytes in the file.
    pub offset: u64,
    pub file_size: u64,
}

/// A symbol table entry with an address of its own.
#[derive(Clone, Debug)]
pub struct RawSymbol {
    /// In the symbol table.
    pub index: u32,
    /// Where its name stands in the file.
    pub name: Range<u32>,
    pub address: u64,
    pub size: u64,
    pub kind: RawKind,
    pub local: bool,
    /// Name of the source file it came from (`STT_FILE`), for local symbols.
    pub file: Option<Range<u32>>,
    /// Name of the version it is exported under, where one name has several.
    pub version: Option<Range<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawKind {
    Function,
    IndirectFunction,
    Object,
    ThreadLocal,
}

/// What a dynamic relocation resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolves {
    /// An address of this file: `RELATIVE`, `RELR`, or symbolic against a symbol that nobody may preempt.
    Here(Vaddr),
    /// A symbol found by the loader, plus an addend; `name` is where its name stands in the file, `here` this file's own
    /// definition of it, if any.
    Symbol { name: Range<u32>, addend: i64, here: Option<Vaddr> },
}

impl Resolves {
    /// What it resolves to in this file, if that is where the loader finds it.
    pub fn here(&self) -> Option<Vaddr> {
        match self {
            Resolves::Here(here) => Some(*here),
            Resolves::Symbol { here, .. } => *here,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocationKind {
    /// A 64-bit address.
    Address,
    /// The address that a stub of the procedure linkage table jumps to.
    CallSlot,
    /// TLS module id (`DTPMOD64`).
    TlsModule,
    /// Offset inside the module's TLS block (`DTPOFF64`).
    TlsOffset,
    /// Offset from the thread pointer (`TPOFF64`).
    ThreadPointerOffset,
    /// Two words of a TLS descriptor.
    TlsDescriptor,
    /// Result of an IFUNC resolver.
    Indirect,
    /// Anything else (`COPY`, size relocations...).
    Other,
}

/// A dynamic relocation.
#[derive(Clone, Debug)]
pub struct Relocation {
    pub slot: Vaddr,
    pub kind: RelocationKind,
    pub resolves: Resolves,
}

/// The tables of one file.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pub sections: Vec<Section>,
    pub segments: Vec<LoadSegment>,
    /// Page-rounded range that the loader makes read-only after relocation.
    pub relro: Option<Range<u64>>,
    /// Where the symbol table lies in the file.
    pub symbols: Range<u32>,
    /// Whether that is `.symtab`, local symbols included, rather than `.dynsym`.
    pub has_local_symbols: bool,
    /// Where the names of symbols lie in the file.
    pub names: Range<u32>,
    /// One name of what it exports may have several versions.
    pub defines_versions: bool,
    /// Where functions begin that other modules can find by name, ascending. A program's are few, whatever its symbols say.
    pub exports: Vec<Vaddr>,
    pub relocations: Vec<Relocation>,
    pub soname: Option<String>,
    pub needed: Vec<String>,
    /// A program (PIE) rather than a library: its thread-locals lie at fixed distances from the thread pointer.
    pub program: bool,
    /// File offsets of the dynamic entries that run code at load and unload.
    pub constructor_tags: Vec<u64>,
    /// File offset of a program's `PT_INTERP` header, and the type that hides it.
    pub interpreter_header: Option<(u64, u32)>,
    /// Where the TLS template comes from.
    pub tls_template: Option<TlsTemplate>,
    /// A dynamic relocation that a program's shadow has no use for: file offset of its entry, and the slot.
    pub spare_relocation: Option<(u64, Vaddr)>,
    /// Where a program has its copies of other modules' variables (`COPY`).
    pub copies: Vec<Vaddr>,
    /// Where debugging information lies in the file, ascending.
    pub debugging: Vec<Range<u64>>,
    /// File offset and value of `DT_FLAGS_1`.
    pub flags_1: Option<(u64, u64)>,
    /// Size in bytes of the TLS template (PT_TLS).
    pub tls_size: u64,
    /// Of the TLS template, in bytes.
    pub tls_alignment: u64,
    /// Targets of `.init_array` entries.
    pub constructors: Vec<Vaddr>,
    /// Targets of `.fini_array` entries.
    pub destructors: Vec<Vaddr>,
}

impl Tables {
    /// Bytes of the program's instructions.
    pub fn code_size(&self) -> u64 {
        let code = self.sections.iter().filter(|section| section.kind == SectionKind::Code);
        code.fold(0, |size, section| size.saturating_add(section.size))
    }

    /// For a program with thread-locals: bytes from the start of its TLS block to the thread pointer, which stands at the
    /// block's end (psABI, "Thread-Local Storage", variant II).
    pub fn thread_pointer(&self) -> Option<u64> {
        (self.program && self.tls_size > 0).then(|| self.tls_size.next_multiple_of(self.tls_alignment.max(1)))
    }
}

/// The section holding `address`, thread-local templates excepted; `sections` ascend by address.
pub fn section_at(sections: &[Section], address: Vaddr) -> Option<&Section> {
    index_at(sections, address).map(|index| &sections[index])
}

/// Its index.
pub fn index_at(sections: &[Section], address: Vaddr) -> Option<usize> {
    let after = sections.partition_point(|section| section.address <= address.0);
    // `.tbss` overlaps what follows it, so look a few sections back.
    let mut near = (after.saturating_sub(8)..after).rev();
    near.find(|index| sections[*index].kind != SectionKind::ThreadLocal && sections[*index].contains(address))
}

/// The little-endian word at an address that the file itself holds.
pub fn word_at(bytes: &[u8], segments: &[LoadSegment], address: Vaddr) -> Option<u64> {
    let segment = segments.iter().find(|segment| {
        address.0 >= segment.address && address.0 - segment.address < segment.file_size.saturating_sub(7)
    })?;
    let offset = usize::try_from(segment.offset + (address.0 - segment.address)).ok()?;
    let word: &U64<LittleEndian> = object::pod::from_bytes(bytes.get(offset..offset + 8)?).ok()?.0;
    Some(word.get(LittleEndian))
}
