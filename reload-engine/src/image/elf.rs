//! Reads an ELF file's tables into plain values: sections, segments, symbols, dynamic relocations, the dynamic section.
//!
//! Bytes in, values out. Every bound is checked by the `object` crate or here; a hostile file gives an error, never a panic
//! or an allocation larger than the file. Knows nothing of what the values mean for a reload.

use std::{collections::HashMap, ops::Range, path::Path};

use object::{
    LittleEndian, U64,
    elf::{self, FileHeader64},
    read::elf::{
        Dyn as _, FileHeader as _, ProgramHeader as _, Rela as _, SectionHeader as _, SectionTable, Sym as _,
        SymbolTable,
    },
};

use crate::{
    error::{Error, Result},
    model::{Stage, Vaddr, file_name},
};

type Header = FileHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;
/// `DF_1_PIE`: glibc's `dlopen` takes no file that says it is a program.
pub const PIE: u64 = 0x0800_0000;
/// In a shadow, what `PT_INTERP` of a program has become: a type that no loader knows, so that the shadow is taken for a
/// program when it is read again.
const HIDDEN_INTERP: elf::ProgramType = elf::ProgramType(0x6fff_4241);
/// Looked up for start-up code only, which a shadow does not run.
const SPARE: [&str; 3] = ["_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__gmon_start__"];
/// The lower half of the address space, where programs live.
const ADDRESS_LIMIT: u64 = 1 << 47;

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
    /// A symbol found by the loader, plus an addend; `here` is this file's own definition of it, if any.
    Symbol { name: String, addend: i64, here: Option<Vaddr> },
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
    pub symbols: Vec<RawSymbol>,
    /// Whether `symbols` comes from `.symtab`, local symbols included, rather than from `.dynsym`.
    pub has_local_symbols: bool,
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
    /// For a program with thread-locals: bytes from the start of its TLS block to the thread pointer, which stands at the
    /// block's end (psABI, "Thread-Local Storage", variant II).
    pub fn thread_pointer(&self) -> Option<u64> {
        (self.program && self.tls_size > 0).then(|| self.tls_size.next_multiple_of(self.tls_alignment.max(1)))
    }
}

/// Reads the tables of the x86-64 ELF shared object in `bytes`; `path` is for messages only.
///
/// # Errors
/// [`Error::Image`] at stage `validate` (not such a file) or `parse` (a table is broken).
pub fn read(path: &Path, bytes: &[u8]) -> Result<Tables> {
    let fail = |stage, reason: String| Error::Image { path: path.to_owned(), stage, reason };
    let parse = |what: &'static str| move |error: object::Error| fail(Stage::Parse, format!("{what}: {error}"));

    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(fail(Stage::Validate, "not an ELF file".into()));
    }
    let header = Header::parse(bytes).map_err(|error| fail(Stage::Validate, format!("ELF header: {error}")))?;
    if !header.is_class_64() || !header.is_little_endian() || header.e_machine.get(LE) != elf::EM_X86_64 {
        return Err(fail(
            Stage::Validate,
            "built for another architecture; this engine reloads x86-64 code".to_string(),
        ));
    }
    if header.e_type.get(LE) == elf::ET_EXEC {
        return Err(Error::Refused {
            module: file_name(path),
            stage: Stage::Validate,
            reasons: vec!["built for a fixed address (ET_EXEC): the loader cannot load a second one beside it".into()],
            remedy: "build it position-independent and restart the target (gcc, clang: without -no-pie and -static; \
                     Rust: without relocation-model=static or crt-static)"
                .into(),
        });
    }
    if header.e_type.get(LE) != elf::ET_DYN {
        return Err(fail(Stage::Validate, "not a shared object (ET_DYN); build it as a shared library".into()));
    }

    if u32::try_from(bytes.len()).is_err() {
        return Err(fail(Stage::Validate, "larger than 4 GiB".into()));
    }
    let program_headers = header.program_headers(LE, bytes).map_err(parse("program headers"))?;
    let sections = header.sections(LE, bytes).map_err(parse("section headers"))?;
    let mut tables = Tables::default();

    let header_size = size_of::<elf::ProgramHeader64<LittleEndian>>() as u64;
    let (mut interpreter_header, mut in_shadow) = (None, false);
    for (index, segment) in program_headers.iter().enumerate() {
        let (address, memory_size) = (segment.p_vaddr(LE), segment.p_memsz(LE));
        let end = address
            .checked_add(memory_size)
            .filter(|end| *end < ADDRESS_LIMIT)
            .ok_or_else(|| fail(Stage::Parse, format!("segment {index} wraps around the address space")))?;
        let kind = segment.p_type(LE);
        let header_offset = header.e_phoff.get(LE) + index as u64 * header_size;
        if kind == elf::PT_LOAD {
            let file_end = segment.p_offset(LE).checked_add(segment.p_filesz(LE));
            if file_end.is_none_or(|end| end > bytes.len() as u64) || segment.p_filesz(LE) > memory_size {
                return Err(fail(Stage::Parse, format!("segment {index} lies outside the file")));
            }
            tables.segments.push(LoadSegment {
                address,
                offset: segment.p_offset(LE),
                file_size: segment.p_filesz(LE),
                memory_size,
                writable: segment.p_flags(LE).contains(elf::PF_W),
                executable: segment.p_flags(LE).contains(elf::PF_X),
                header_offset,
            });
        } else if kind == elf::PT_GNU_RELRO {
            tables.relro = Some(address & !0xfff..end & !0xfff);
        } else if kind == elf::PT_TLS {
            tables.tls_size = memory_size;
            tables.tls_alignment = segment.p_align(LE);
            let (offset, file_size) = (segment.p_offset(LE), segment.p_filesz(LE));
            tables.tls_template = Some(TlsTemplate { header_offset, address, offset, file_size });
        } else if kind == elf::PT_INTERP || kind == HIDDEN_INTERP {
            interpreter_header = Some((header_offset, HIDDEN_INTERP.0));
            in_shadow = kind == HIDDEN_INTERP;
        } else if kind == elf::PT_DYNAMIC {
            let entries = segment.dynamic(LE, bytes).map_err(parse("dynamic section"))?.unwrap_or(&[]);
            for (entry_index, entry) in entries.iter().enumerate() {
                let tag = entry.d_tag(LE);
                let place = segment.p_offset(LE) + entry_index as u64 * 16;
                if CONSTRUCTOR_TAGS.contains(&tag) {
                    tables.constructor_tags.push(place);
                } else if tag == elf::DT_FLAGS_1 {
                    tables.flags_1 = Some((place + 8, entry.d_val(LE)));
                }
            }
        }
    }
    if tables.segments.is_empty() {
        return Err(fail(Stage::Validate, "no loadable segment".into()));
    }

    // Size and alignment.
    let (mut thread_local_sections, mut thread_local_start) = ((0, 1), None);
    for section in sections.iter() {
        let flags = section.sh_flags(LE);
        if !flags.contains(elf::SHF_ALLOC) {
            let name = sections.section_name(LE, section).unwrap_or_default();
            if (name.starts_with(b".debug_") || name.starts_with(b".zdebug_")) && section.data(LE, bytes).is_ok() {
                let start = section.sh_offset(LE);
                tables.debugging.push(start..start + section.sh_size(LE));
            }
            continue;
        }
        let name = sections.section_name(LE, section).map_err(parse("section name"))?;
        let name = String::from_utf8_lossy(name).into_owned();
        let zero = section.sh_type(LE) == elf::SHT_NOBITS;
        if !zero {
            section.data(LE, bytes).map_err(parse("section bounds"))?;
        }
        if section.sh_addr(LE).checked_add(section.sh_size(LE)).is_none_or(|end| end >= ADDRESS_LIMIT) {
            return Err(fail(Stage::Parse, format!("section {name} lies outside the address space")));
        }
        if flags.contains(elf::SHF_TLS) {
            let (size, alignment) = &mut thread_local_sections;
            let start = *thread_local_start.get_or_insert(section.sh_addr(LE));
            *size = (*size).max((section.sh_addr(LE) + section.sh_size(LE)).saturating_sub(start));
            *alignment = (*alignment).max(section.sh_addralign(LE));
        }
        tables.sections.push(Section {
            kind: kind_of(&name, flags, zero),
            name,
            address: section.sh_addr(LE),
            size: section.sh_size(LE),
            offset: section.sh_offset(LE),
        });
    }
    tables.sections.sort_by_key(|section| section.address);
    tables.debugging.sort_by_key(|range| range.start);

    let full = sections.symbols(LE, bytes, elf::SHT_SYMTAB).map_err(parse("symbol table"))?;
    let dynamic = sections.symbols(LE, bytes, elf::SHT_DYNSYM).map_err(parse("dynamic symbol table"))?;
    tables.has_local_symbols = !full.is_empty();
    let symbols = if tables.has_local_symbols { &full } else { &dynamic };
    let names = symbols.strings();
    let base = bytes.as_ptr() as usize;
    let range_of = |name: &[u8]| {
        // An empty one need not lie in the file.
        if name.is_empty() {
            return 0..0;
        }
        let start = name.as_ptr() as usize - base;
        start as u32..(start + name.len()) as u32
    };
    let versions = symbol_versions(&sections, bytes, &dynamic);
    let mut file = None;
    let mut unsized_objects = Vec::new();
    for symbol in symbols.iter() {
        let kind = symbol.st_type();
        let name = symbol.name(LE, names).map_err(parse("symbol name"))?;
        if kind == elf::STT_FILE {
            file = Some(range_of(name));
            continue;
        }
        let kind = match kind {
            elf::STT_FUNC => RawKind::Function,
            elf::STT_GNU_IFUNC => RawKind::IndirectFunction,
            elf::STT_OBJECT => RawKind::Object,
            elf::STT_TLS => RawKind::ThreadLocal,
            elf::STT_NOTYPE => match untyped(&tables, symbol, name) {
                Some(kind) => kind,
                None => continue,
            },
            _ => continue,
        };
        if symbol.is_undefined(LE) || name.is_empty() {
            continue;
        }
        if kind == RawKind::Object && symbol.st_type() == elf::STT_NOTYPE && symbol.st_size(LE) == 0 {
            unsized_objects.push(tables.symbols.len());
        }
        let local = symbol.is_local();
        // The linker appends `@VERSION` where the source names one.
        let at = name.iter().position(|byte| *byte == b'@').filter(|at| *at > 0 && !local);
        let name = &name[..at.unwrap_or(name.len())];
        tables.symbols.push(RawSymbol {
            version: versions.get(&(name, symbol.st_value(LE))).filter(|_| !local).map(|version| range_of(version)),
            name: range_of(name),
            address: symbol.st_value(LE),
            size: symbol.st_size(LE),
            kind,
            local,
            file: if local { file.clone() } else { None },
        });
    }
    give_sizes(&mut tables, &unsized_objects);

    let exported = |symbol: &&elf::Sym64<LittleEndian>| symbol.st_type() == elf::STT_FUNC && !symbol.is_undefined(LE);
    tables.exports = dynamic.iter().filter(exported).map(|symbol| Vaddr(symbol.st_value(LE))).collect();
    tables.exports.sort_unstable();

    for section in sections.iter() {
        if !section.sh_flags(LE).contains(elf::SHF_ALLOC) {
            continue;
        }
        // Of none nobody can tell where they stand.
        let entries = section.rela(LE, bytes).map_err(parse("relocations"))?.filter(|(entries, _)| !entries.is_empty());
        if let Some((entries, _)) = entries {
            let first = entries.as_ptr() as usize - bytes.as_ptr() as usize;
            for (index, entry) in entries.iter().enumerate() {
                let symbol_index = entry.r_sym(LE, false);
                let (kind, here) = classify(entry.r_type(LE, false));
                let addend = entry.r_addend(LE);
                let resolves = if here || symbol_index == 0 {
                    Resolves::Here(Vaddr(addend as u64))
                } else {
                    let symbol = dynamic
                        .symbol(object::SymbolIndex(symbol_index as usize))
                        .map_err(parse("symbol of a relocation"))?;
                    let name = symbol.name(LE, dynamic.strings()).map_err(parse("symbol name"))?;
                    let here =
                        (!symbol.is_undefined(LE)).then(|| Vaddr(symbol.st_value(LE).wrapping_add(addend as u64)));
                    match here {
                        // A section's symbol (gold): nobody else can define it.
                        Some(here) if symbol.is_local() => Resolves::Here(here),
                        _ => Resolves::Symbol { name: String::from_utf8_lossy(name).into_owned(), addend, here },
                    }
                };
                let slot = Vaddr(entry.r_offset(LE));
                if entry.r_type(LE, false) == elf::R_X86_64_COPY {
                    tables.copies.push(slot);
                }
                let spare = match &resolves {
                    Resolves::Symbol { name, here: None, .. } => {
                        kind == RelocationKind::Address && SPARE.contains(&name.as_str())
                    }
                    // What has become of it in a shadow.
                    Resolves::Here(_) => in_shadow && kind == RelocationKind::ThreadPointerOffset,
                    Resolves::Symbol { .. } => false,
                };
                if spare {
                    let entry = first + index * size_of::<elf::Rela64<LittleEndian>>();
                    tables.spare_relocation = Some((entry as u64, slot));
                }
                tables.relocations.push(Relocation { slot, kind, resolves });
            }
        }
        if let Some(entries) = section.relr(LE, bytes).map_err(parse("relative relocations"))? {
            // One word of bits stands for up to 63 slots, but no file has more slots than words.
            for slot in entries.take(bytes.len() / 8) {
                // The addend stands in the slot itself.
                let value = word_at(bytes, &tables.segments, Vaddr(slot)).unwrap_or(0);
                tables.relocations.push(Relocation {
                    slot: Vaddr(slot),
                    kind: RelocationKind::Address,
                    resolves: Resolves::Here(Vaddr(value)),
                });
            }
        }
        if section.sh_type(LE) == elf::SHT_DYNAMIC
            && let Some((entries, strings)) = section.dynamic(LE, bytes).map_err(parse("dynamic section"))?
        {
            let strings = sections.strings(LE, bytes, strings).map_err(parse("dynamic strings"))?;
            for entry in entries {
                let text = |entry: &elf::Dyn64<LittleEndian>| {
                    let offset = u32::try_from(entry.d_val(LE)).ok()?;
                    Some(String::from_utf8_lossy(strings.get(offset).ok()?).into_owned())
                };
                match entry.d_tag(LE) {
                    elf::DT_SONAME => tables.soname = text(entry),
                    elf::DT_NEEDED => tables.needed.extend(text(entry)),
                    _ => {}
                }
            }
        }
    }
    // Some libraries name a loader too (libc, Qt), to say something when they are started; old linkers do not set the flag.
    let flagged = tables.flags_1.is_some_and(|(_, flags)| flags & PIE != 0);
    tables.program = interpreter_header.is_some() && (flagged || in_shadow || tables.soname.is_none());
    if tables.program {
        tables.interpreter_header = interpreter_header;
        // A program's shadow has another template or none; the sections stay.
        (tables.tls_size, tables.tls_alignment) = thread_local_sections;
    } else {
        tables.spare_relocation = None;
    }
    if let Some(stray) = tables.relocations.iter().find(|relocation| relocation.slot.0 >= ADDRESS_LIMIT) {
        return Err(fail(Stage::Parse, format!("a relocation at {:?} lies outside the address space", stray.slot)));
    }
    tables.relocations.sort_by_key(|relocation| relocation.slot);
    tables.constructors = routines(&tables, ".init_array");
    tables.destructors = routines(&tables, ".fini_array");
    Ok(tables)
}

/// The section holding `address`, thread-local templates excepted; `sections` ascend by address.
pub fn section_at(sections: &[Section], address: Vaddr) -> Option<&Section> {
    // `.tbss` overlaps what follows it, so look a few sections back.
    let end = sections.partition_point(|section| section.address <= address.0);
    sections[..end]
        .iter()
        .rev()
        .take(8)
        .find(|section| section.kind != SectionKind::ThreadLocal && section.contains(address))
}

/// What a symbol is whose type hand-written assembly does not say. Inside of code it may be any label, unless it is exported;
/// what linkers define themselves is no variable.
fn untyped(tables: &Tables, symbol: &elf::Sym64<LittleEndian>, name: &[u8]) -> Option<RawKind> {
    const MARKERS: [&[u8]; 9] = [
        b"__bss_start",
        b"_bss_end__",
        b"__bss_end__",
        b"__end__",
        b"_edata",
        b"edata",
        b"_end",
        b"data_start",
        b"__data_start",
    ];
    let address = Vaddr(symbol.st_value(LE));
    let section = section_at(&tables.sections, address)?;
    let marker = MARKERS.contains(&name) || name.starts_with(b"__start_") || name.starts_with(b"__stop_");
    match section.kind {
        SectionKind::Code if !symbol.is_local() => Some(RawKind::Function),
        SectionKind::State | SectionKind::ZeroState if !marker => Some(RawKind::Object),
        _ => None,
    }
}

/// Variables of hand-written assembly often have no size: they reach to the next symbol.
fn give_sizes(tables: &mut Tables, unsized_objects: &[usize]) {
    if unsized_objects.is_empty() {
        return;
    }
    let mut starts: Vec<u64> = tables.symbols.iter().map(|symbol| symbol.address).collect();
    starts.sort_unstable();
    for index in unsized_objects {
        let address = tables.symbols[*index].address;
        let section = section_at(&tables.sections, Vaddr(address));
        let end = section.map_or(address, Section::end);
        let next = starts.get(starts.partition_point(|start| *start <= address)).copied();
        tables.symbols[*index].size = next.unwrap_or(end).min(end) - address;
    }
}

/// The versions of what the file exports, by name and address.
fn symbol_versions<'a>(
    sections: &SectionTable<'a, Header>,
    bytes: &'a [u8],
    dynamic: &SymbolTable<'a, Header>,
) -> HashMap<(&'a [u8], u64), &'a [u8]> {
    // A table that cannot be read says nothing: names are then all there is.
    let Ok(Some(table)) = sections.versions(LE, bytes) else { return HashMap::new() };
    let exported = dynamic.enumerate().filter(|(_, symbol)| !symbol.is_undefined(LE));
    exported
        .filter_map(|(index, symbol)| {
            let version = table.version(table.version_index(LE, index).index()).ok()??;
            Some(((symbol.name(LE, dynamic.strings()).ok()?, symbol.st_value(LE)), version.name()))
        })
        .collect()
}

/// The little-endian word at an address that the file itself holds.
pub fn word_at(bytes: &[u8], segments: &[LoadSegment], address: Vaddr) -> Option<u64> {
    let segment = segments.iter().find(|segment| {
        address.0 >= segment.address && address.0 - segment.address < segment.file_size.saturating_sub(7)
    })?;
    let offset = usize::try_from(segment.offset + (address.0 - segment.address)).ok()?;
    let word: &U64<LittleEndian> = object::pod::from_bytes(bytes.get(offset..offset + 8)?).ok()?.0;
    Some(word.get(LE))
}

const CONSTRUCTOR_TAGS: [elf::DynamicTag; 6] =
    [elf::DT_INIT, elf::DT_FINI, elf::DT_INIT_ARRAY, elf::DT_FINI_ARRAY, elf::DT_INIT_ARRAYSZ, elf::DT_FINI_ARRAYSZ];

/// Second value: the relocation never looks at a symbol.
fn classify(kind: elf::RelocationType) -> (RelocationKind, bool) {
    match kind {
        elf::R_X86_64_RELATIVE => (RelocationKind::Address, true),
        elf::R_X86_64_64 | elf::R_X86_64_GLOB_DAT => (RelocationKind::Address, false),
        elf::R_X86_64_JUMP_SLOT => (RelocationKind::CallSlot, false),
        elf::R_X86_64_DTPMOD64 => (RelocationKind::TlsModule, false),
        elf::R_X86_64_DTPOFF64 => (RelocationKind::TlsOffset, false),
        elf::R_X86_64_TPOFF64 => (RelocationKind::ThreadPointerOffset, false),
        elf::R_X86_64_TLSDESC => (RelocationKind::TlsDescriptor, false),
        elf::R_X86_64_IRELATIVE => (RelocationKind::Indirect, true),
        _ => (RelocationKind::Other, false),
    }
}

fn kind_of(name: &str, flags: elf::SectionFlags, zero: bool) -> SectionKind {
    const LINKER_CODE: [&str; 5] = [".init", ".fini", ".plt", ".plt.got", ".plt.sec"];
    /// Written by the loader or by start-up code only.
    const NOT_STATE: [&str; 9] = [
        ".dynamic",
        ".init_array",
        ".fini_array",
        ".preinit_array",
        ".ctors",
        ".dtors",
        ".tm_clone_table",
        ".relro_padding",
        ".eh_frame",
    ];
    if flags.contains(elf::SHF_TLS) {
        SectionKind::ThreadLocal
    } else if flags.contains(elf::SHF_EXECINSTR) {
        if LINKER_CODE.contains(&name) { SectionKind::LinkerCode } else { SectionKind::Code }
    } else if !flags.contains(elf::SHF_WRITE)
        || NOT_STATE.contains(&name)
        || name.starts_with(".got")
        || name.starts_with(".data.rel.ro")
        || name.starts_with(".bss.rel.ro")
    {
        SectionKind::Constant
    } else if zero {
        SectionKind::ZeroState
    } else {
        SectionKind::State
    }
}

/// What an array of pointers to functions holds.
fn routines(tables: &Tables, section: &str) -> Vec<Vaddr> {
    let Some(array) = tables.sections.iter().find(|found| found.name == section) else { return Vec::new() };
    tables
        .relocations
        .iter()
        .filter(|relocation| array.contains(relocation.slot))
        .filter_map(|relocation| match relocation.resolves {
            Resolves::Here(target) => Some(target),
            Resolves::Symbol { here, .. } => here,
        })
        .collect()
}
