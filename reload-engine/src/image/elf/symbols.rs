//! The symbol table: its entries as they stand in the file, and what they stand for.

use std::{ops::Range, path::Path};

use foldhash::{HashMap, HashMapExt as _};
use object::{
    LittleEndian, elf,
    read::{
        StringTable,
        elf::{FileHeader as _, SectionTable, Sym as _},
    },
};

use super::{
    RawKind, RawSymbol, Section, SectionKind, Tables,
    reader::{Header, LE, Symbols, broken, place_of, validated},
    section_at,
};
use crate::{error::Result, model::Vaddr};

/// The symbols of the file whose tables these are, in their order; `path` is for messages only. Those whose address is `left_out`
/// are, but for thread-locals, which have none.
///
/// # Errors
/// [`Error::Image`]: a name that lies outside of the file.
pub fn symbols(path: &Path, bytes: &[u8], tables: &Tables, left_out: impl Fn(Vaddr) -> bool) -> Result<Vec<RawSymbol>> {
    let header = validated(path, bytes)?;
    let sections = header.sections(LE, bytes).map_err(broken(path, "section headers"))?;
    let dynamic = sections.symbols(LE, bytes, elf::SHT_DYNSYM).map_err(broken(path, "dynamic symbol table"))?;
    let versions = symbol_versions(&sections, bytes, &dynamic);
    let entries = SymbolEntries::of(bytes, tables);
    let strings = StringTable::new(bytes, tables.names.start.into(), tables.names.end.into());
    let mut file = None;
    let mut unsized_objects = Vec::new();
    let mut symbols = Vec::new();
    for (index, symbol) in (0..).zip(entries.all) {
        let kind = symbol.st_type();
        if kind != elf::STT_FILE && kind != elf::STT_TLS && left_out(Vaddr(symbol.st_value(LE))) {
            continue;
        }
        let name = symbol.name(LE, strings).map_err(broken(path, "symbol name"))?;
        if kind == elf::STT_FILE {
            // Behind one without a name GNU ld puts what is hidden, of all files.
            file = Some(place_of(bytes, name)).filter(|_| !name.is_empty());
            continue;
        }
        let kind = match kind {
            elf::STT_FUNC => RawKind::Function,
            elf::STT_GNU_IFUNC => RawKind::IndirectFunction,
            elf::STT_OBJECT => RawKind::Object,
            elf::STT_TLS => RawKind::ThreadLocal,
            elf::STT_NOTYPE => match untyped(tables, symbol, name) {
                Some(kind) => kind,
                None => continue,
            },
            _ => continue,
        };
        if symbol.is_undefined(LE) || name.is_empty() {
            continue;
        }
        if kind == RawKind::Object && symbol.st_type() == elf::STT_NOTYPE && symbol.st_size(LE) == 0 {
            unsized_objects.push(symbols.len());
        }
        let local = symbol.is_local();
        let name = without_version(symbol, name);
        let version = if local { None } else { versions.get(&(name, symbol.st_value(LE))) };
        symbols.push(RawSymbol {
            index,
            version: version.map(|version| place_of(bytes, version)),
            name: place_of(bytes, name),
            address: symbol.st_value(LE),
            size: symbol.st_size(LE),
            kind,
            local,
            file: if local { file.clone() } else { None },
        });
    }
    give_sizes(&tables.sections, &mut symbols, &unsized_objects);
    Ok(symbols)
}

/// The entries of a file's symbol table.
#[derive(Clone, Copy)]
pub struct SymbolEntries<'a> {
    all: &'a [elf::Sym64<LittleEndian>],
    names: &'a [u8],
}

impl<'a> SymbolEntries<'a> {
    pub fn of(bytes: &'a [u8], tables: &Tables) -> SymbolEntries<'a> {
        let part = |range: &Range<u32>| bytes.get(range.start as usize..range.end as usize).unwrap_or_default();
        let all = object::pod::slice_from_all_bytes(part(&tables.symbols)).unwrap_or_default();
        SymbolEntries { all, names: part(&tables.names) }
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.all.len() as u32
    }

    fn entry(self, index: u32) -> &'a elf::Sym64<LittleEndian> {
        &self.all[index as usize]
    }

    /// Address and size in bytes, as the entry states them.
    pub fn place(self, index: u32) -> (Vaddr, u64) {
        let entry = self.entry(index);
        (Vaddr(entry.st_value(LE)), entry.st_size(LE))
    }

    pub fn is_local(self, index: u32) -> bool {
        self.entry(index).is_local()
    }

    /// Its type and binding as one number.
    pub fn kind(self, index: u32) -> u8 {
        self.entry(index).st_info.0
    }

    /// The symbol's name, without its version.
    pub fn name(self, index: u32) -> &'a [u8] {
        without_version(self.entry(index), self.text(index))
    }

    /// The same with its version.
    pub fn text(self, index: u32) -> &'a [u8] {
        let text = self.names.get(self.entry(index).st_name.get(LE) as usize..).unwrap_or_default();
        &text[..memchr::memchr(0, text).unwrap_or(text.len())]
    }

    /// The name of the source file that the local symbols behind this entry come from, where it says so: empty for hidden ones,
    /// of all files.
    pub fn file(self, index: u32) -> Option<&'a [u8]> {
        (self.entry(index).st_type() == elf::STT_FILE).then(|| self.text(index))
    }

    /// Whether the entry stands for a function if it has a name and its address is one of code: as [`symbols`] has it.
    pub fn may_be_function(self, index: u32) -> bool {
        let entry = self.entry(index);
        let kind = entry.st_type();
        let is_one = kind == elf::STT_FUNC || kind == elf::STT_GNU_IFUNC;
        (is_one || (kind == elf::STT_NOTYPE && !entry.is_local())) && !entry.is_undefined(LE)
    }

    /// Whether those of `other` say the same but for addresses and sizes.
    pub fn are_moved(self, other: SymbolEntries<'_>) -> bool {
        // All that stands before the place: the index of the name, type and binding, visibility, the section's index.
        let identity = |entry: &elf::Sym64<LittleEndian>| object::pod::bytes_of(entry).first_chunk::<8>().copied();
        self.all.len() == other.all.len()
            && self.all.iter().map(identity).eq(other.all.iter().map(identity))
            && self.names == other.names
    }
}

/// The linker appends `@VERSION` to what others can see, where the source names one.
fn without_version<'a>(symbol: &elf::Sym64<LittleEndian>, name: &'a [u8]) -> &'a [u8] {
    let at = if symbol.is_local() { None } else { memchr::memchr(b'@', name).filter(|at| *at > 0) };
    &name[..at.unwrap_or(name.len())]
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
fn give_sizes(sections: &[Section], symbols: &mut [RawSymbol], unsized_objects: &[usize]) {
    if unsized_objects.is_empty() {
        return;
    }
    let mut starts: Vec<u64> = symbols.iter().map(|symbol| symbol.address).collect();
    starts.sort_unstable();
    for index in unsized_objects {
        let address = symbols[*index].address;
        let section = section_at(sections, Vaddr(address));
        let end = section.map_or(address, Section::end);
        let next = starts.get(starts.partition_point(|start| *start <= address)).copied();
        symbols[*index].size = next.unwrap_or(end).min(end) - address;
    }
}

/// The versions of what the file exports, by name and address.
fn symbol_versions<'a>(
    sections: &SectionTable<'a, Header>,
    bytes: &'a [u8],
    dynamic: &Symbols<'a>,
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
