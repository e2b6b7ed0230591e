//! From the bytes of a file to its tables, one after the other.

use std::{ops::Range, path::Path};

use object::{
    LittleEndian,
    elf::{self, FileHeader64},
    read::elf::{
        Dyn as _, FileHeader as _, ProgramHeader as _, Rela as _, SectionHeader as _, SectionTable, Sym as _,
        SymbolTable,
    },
};

use super::{
    LoadSegment, PIE, Relocation, RelocationKind, Resolves, Section, SectionKind, Tables, TlsTemplate, word_at,
};
use crate::{
    error::{Error, Result},
    model::{Stage, Vaddr, file_name},
};

pub(super) type Header = FileHeader64<LittleEndian>;
pub(super) type Symbols<'a> = SymbolTable<'a, Header>;
pub(super) const LE: LittleEndian = LittleEndian;
/// In a shadow, what `PT_INTERP` of a program has become: a type that no loader knows, so that the shadow is taken for a
/// program when it is read again.
const HIDDEN_INTERP: elf::ProgramType = elf::ProgramType(0x6fff_4241);
/// Looked up for start-up code only, which a shadow does not run.
const SPARE: [&[u8]; 3] = [b"_ITM_deregisterTMCloneTable", b"_ITM_registerTMCloneTable", b"__gmon_start__"];
/// The lower half of the address space, where programs live.
const ADDRESS_LIMIT: u64 = 1 << 47;

/// Reads the tables of the x86-64 ELF shared object in `bytes`; `path` is for messages only.
///
/// # Errors
/// [`Error::Image`] at stage `validate` (not such a file) or `parse` (a table is broken).
pub fn read(path: &Path, bytes: &[u8]) -> Result<Tables> {
    let header = validated(path, bytes)?;
    let sections = header.sections(LE, bytes).map_err(broken(path, "section headers"))?;
    let reader = Reader { path, bytes, header, sections };
    let mut tables = Tables::default();
    let interpreter = reader.segments(&mut tables)?;
    let (thread_locals, alignment) = reader.sections(&mut tables)?;
    let dynamic = sections.symbols(LE, bytes, elf::SHT_DYNSYM).map_err(broken(path, "dynamic symbol table"))?;
    reader.symbol_table(&dynamic, &mut tables)?;
    let in_shadow = interpreter.as_ref().is_some_and(|interpreter| interpreter.hidden);
    reader.relocations(&dynamic, in_shadow, &mut tables)?;
    reader.names(&mut tables)?;

    // Some libraries name a loader too (libc, Qt), to say something when they are started; old linkers do not set the flag.
    let flagged = tables.flags_1.is_some_and(|(_, flags)| flags & PIE != 0);
    tables.program = interpreter.is_some() && (flagged || in_shadow || tables.soname.is_none());
    if tables.program {
        tables.interpreter_header = interpreter.map(|interpreter| (interpreter.header_offset, HIDDEN_INTERP.0));
        // A program's shadow has another template or none; the sections stay.
        (tables.tls_size, tables.tls_alignment) = (thread_locals, alignment);
    } else {
        tables.spare_relocation = None;
    }
    tables.constructors = routines(&tables, ".init_array");
    tables.destructors = routines(&tables, ".fini_array");
    Ok(tables)
}

/// The header of a file that this engine can be asked to read.
pub(super) fn validated<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a Header> {
    let fail = |reason: String| Error::Image { path: path.to_owned(), stage: Stage::Validate, reason };
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(fail("not an ELF file".into()));
    }
    let header = Header::parse(bytes).map_err(|error| fail(format!("ELF header: {error}")))?;
    if !header.is_class_64() || !header.is_little_endian() || header.e_machine.get(LE) != elf::EM_X86_64 {
        return Err(fail("built for another architecture; this engine reloads x86-64 code".to_string()));
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
        return Err(fail("not a shared object (ET_DYN); build it as a shared library".into()));
    }

    if u32::try_from(bytes.len()).is_err() {
        return Err(fail("larger than 4 GiB".into()));
    }
    Ok(header)
}

pub(super) fn broken(path: &Path, what: &'static str) -> impl Fn(object::Error) -> Error {
    move |error| Error::Image { path: path.to_owned(), stage: Stage::Parse, reason: format!("{what}: {error}") }
}

/// Where a name, or a table, stands in the file that it was read from.
pub(super) fn place_of(bytes: &[u8], part: &[u8]) -> Range<u32> {
    // An empty one need not lie in the file.
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
    start as u32..(start + part.len()) as u32
}

/// That a file names a program to load it with.
struct Interpreter {
    header_offset: u64,
    /// As in a shadow.
    hidden: bool,
}

struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    header: &'a Header,
    sections: SectionTable<'a, Header>,
}

impl<'a> Reader<'a> {
    fn fail(&self, stage: Stage, reason: String) -> Error {
        Error::Image { path: self.path.to_owned(), stage, reason }
    }

    fn broken(&self, what: &'static str) -> impl Fn(object::Error) -> Error {
        broken(self.path, what)
    }

    /// What the loader maps, and the dynamic section's entries that a shadow has changed.
    fn segments(&self, tables: &mut Tables) -> Result<Option<Interpreter>> {
        let headers = self.header.program_headers(LE, self.bytes).map_err(self.broken("program headers"))?;
        let header_size = size_of::<elf::ProgramHeader64<LittleEndian>>() as u64;
        let mut interpreter = None;
        for (index, segment) in headers.iter().enumerate() {
            let (address, memory_size) = (segment.p_vaddr(LE), segment.p_memsz(LE));
            let end = address
                .checked_add(memory_size)
                .filter(|end| *end < ADDRESS_LIMIT)
                .ok_or_else(|| self.fail(Stage::Parse, format!("segment {index} wraps around the address space")))?;
            let kind = segment.p_type(LE);
            let header_offset = self.header.e_phoff.get(LE) + index as u64 * header_size;
            if kind == elf::PT_LOAD {
                let file_end = segment.p_offset(LE).checked_add(segment.p_filesz(LE));
                if file_end.is_none_or(|end| end > self.bytes.len() as u64) || segment.p_filesz(LE) > memory_size {
                    return Err(self.fail(Stage::Parse, format!("segment {index} lies outside the file")));
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
                interpreter = Some(Interpreter { header_offset, hidden: kind == HIDDEN_INTERP });
            } else if kind == elf::PT_DYNAMIC {
                let entries = segment.dynamic(LE, self.bytes).map_err(self.broken("dynamic section"))?.unwrap_or(&[]);
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
            return Err(self.fail(Stage::Validate, "no loadable segment".into()));
        }
        Ok(interpreter)
    }

    /// Those that occupy memory; size and alignment of all thread-local ones together.
    fn sections(&self, tables: &mut Tables) -> Result<(u64, u64)> {
        let (mut thread_local_sections, mut thread_local_start) = ((0, 1), None);
        for section in self.sections.iter() {
            let flags = section.sh_flags(LE);
            if !flags.contains(elf::SHF_ALLOC) {
                let name = self.sections.section_name(LE, section).unwrap_or_default();
                // What a damaged file says lies where something is loaded from is no debugging information.
                let is_apart = |part: &Range<u64>| {
                    let mut loaded = tables.segments.iter();
                    !loaded.any(|it| part.start < it.offset + it.file_size && it.offset < part.end)
                };
                if (name.starts_with(b".debug_") || name.starts_with(b".zdebug_"))
                    && section.data(LE, self.bytes).is_ok()
                    && let Some((start, size)) = section.file_range(LE)
                    && is_apart(&(start..start + size))
                {
                    tables.debugging.push(start..start + size);
                }
                continue;
            }
            let name = self.sections.section_name(LE, section).map_err(self.broken("section name"))?;
            let name = String::from_utf8_lossy(name).into_owned();
            let zero = section.sh_type(LE) == elf::SHT_NOBITS;
            if !zero {
                section.data(LE, self.bytes).map_err(self.broken("section bounds"))?;
            }
            if section.sh_addr(LE).checked_add(section.sh_size(LE)).is_none_or(|end| end >= ADDRESS_LIMIT) {
                return Err(self.fail(Stage::Parse, format!("section {name} lies outside the address space")));
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
        Ok(thread_local_sections)
    }

    /// The full one where there is one, else the dynamic one.
    fn symbol_table(&self, dynamic: &Symbols<'a>, tables: &mut Tables) -> Result<()> {
        let full = self.sections.symbols(LE, self.bytes, elf::SHT_SYMTAB).map_err(self.broken("symbol table"))?;
        tables.has_local_symbols = !full.is_empty();
        let symbols = if tables.has_local_symbols { &full } else { dynamic };
        let strings = self.sections.section(symbols.string_section()).and_then(|strings| strings.data(LE, self.bytes));
        tables.names = strings.map_or(0..0, |strings| place_of(self.bytes, strings));
        tables.symbols = place_of(self.bytes, object::pod::bytes_of_slice(symbols.symbols()));
        tables.defines_versions = self.sections.iter().any(|section| section.sh_type(LE) == elf::SHT_GNU_VERDEF);

        let exported = |symbol: &&elf::Sym64<LittleEndian>| symbol.st_type() == elf::STT_FUNC && is_own(symbol);
        tables.exports = dynamic.iter().filter(exported).map(|symbol| Vaddr(symbol.st_value(LE))).collect();
        tables.exports.sort_unstable();
        Ok(())
    }

    /// All that the loader carries out, whatever section they stand in, ascending.
    fn relocations(&self, dynamic: &Symbols<'a>, in_shadow: bool, tables: &mut Tables) -> Result<()> {
        for section in self.sections.iter() {
            if !section.sh_flags(LE).contains(elf::SHF_ALLOC) {
                continue;
            }
            // Of none nobody can tell where they stand.
            let entries = section
                .rela(LE, self.bytes)
                .map_err(self.broken("relocations"))?
                .filter(|(entries, _)| !entries.is_empty());
            if let Some((entries, _)) = entries {
                let first = entries.as_ptr() as usize - self.bytes.as_ptr() as usize;
                tables.relocations.reserve(entries.len());
                for (index, entry) in entries.iter().enumerate() {
                    let symbol_index = entry.r_sym(LE, false);
                    let (kind, here) = classify(entry.r_type(LE, false));
                    let addend = entry.r_addend(LE);
                    let resolves = if here || symbol_index == 0 {
                        Resolves::Here(Vaddr(addend as u64))
                    } else {
                        let symbol = dynamic
                            .symbol(object::SymbolIndex(symbol_index as usize))
                            .map_err(self.broken("symbol of a relocation"))?;
                        let name = symbol.name(LE, dynamic.strings()).map_err(self.broken("symbol name"))?;
                        let here = is_own(symbol).then(|| Vaddr(symbol.st_value(LE).wrapping_add(addend as u64)));
                        match here {
                            // A section's symbol (gold): nobody else can define it.
                            Some(here) if symbol.is_local() => Resolves::Here(here),
                            _ => Resolves::Symbol { name: place_of(self.bytes, name), addend, here },
                        }
                    };
                    let slot = Vaddr(entry.r_offset(LE));
                    if entry.r_type(LE, false) == elf::R_X86_64_COPY {
                        tables.copies.push(slot);
                    }
                    let spare = match &resolves {
                        Resolves::Symbol { name, here: None, .. } => {
                            let name = &self.bytes[name.start as usize..name.end as usize];
                            kind == RelocationKind::Address && SPARE.contains(&name)
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
            if let Some(entries) = section.relr(LE, self.bytes).map_err(self.broken("relative relocations"))? {
                // One word of bits stands for up to 63 slots, but no file has more slots than words.
                for slot in entries.take(self.bytes.len() / 8) {
                    // The addend stands in the slot itself.
                    let value = word_at(self.bytes, &tables.segments, Vaddr(slot)).unwrap_or(0);
                    tables.relocations.push(Relocation {
                        slot: Vaddr(slot),
                        kind: RelocationKind::Address,
                        resolves: Resolves::Here(Vaddr(value)),
                    });
                }
            }
        }
        if let Some(stray) = tables.relocations.iter().find(|relocation| relocation.slot.0 >= ADDRESS_LIMIT) {
            let reason = format!("a relocation at {:?} lies outside the address space", stray.slot);
            return Err(self.fail(Stage::Parse, reason));
        }
        tables.relocations.sort_by_key(|relocation| relocation.slot);
        Ok(())
    }

    /// Its own and those of the libraries that it needs.
    fn names(&self, tables: &mut Tables) -> Result<()> {
        for section in self.sections.iter().filter(|section| section.sh_flags(LE).contains(elf::SHF_ALLOC)) {
            if section.sh_type(LE) == elf::SHT_DYNAMIC
                && let Some((entries, strings)) =
                    section.dynamic(LE, self.bytes).map_err(self.broken("dynamic section"))?
            {
                let strings = self.sections.strings(LE, self.bytes, strings).map_err(self.broken("dynamic strings"))?;
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
        Ok(())
    }
}

/// Whether it has an address of this file. What a shadow is supplied with is absolute.
fn is_own(symbol: &elf::Sym64<LittleEndian>) -> bool {
    !symbol.is_undefined(LE) && symbol.st_shndx(LE) != elf::SHN_ABS
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
