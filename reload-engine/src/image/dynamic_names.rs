//! What a file asks other modules for by name, and what it offers them.

use std::collections::HashMap;

use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolSection, bytes_of, elf,
    read::elf::{ElfFile64, ElfSymbol64},
};

use crate::model::Vaddr;

/// Dynamic symbols by their names, without versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicNames {
    pub asked: HashMap<String, Request>,
    pub offered: HashMap<String, Offer>,
}

/// A symbol that others define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where in the file its entry of the symbol table stands.
    pub entry: u64,
    /// A shadow was given the address; otherwise the loader finds it.
    pub supplied: bool,
}

/// A definition that other modules can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub address: Vaddr,
    pub size: u64,
    pub kind: elf::SymbolType,
    /// Nobody writes there once the loader is done.
    pub constant: bool,
}

impl DynamicNames {
    /// None of a file that cannot be read.
    pub fn read(bytes: &[u8]) -> DynamicNames {
        let Ok(file) = ElfFile64::<LittleEndian>::parse(bytes) else { return DynamicNames::default() };
        let mut names = DynamicNames { asked: requests_of(&file, bytes), offered: HashMap::new() };
        for symbol in file.dynamic_symbols().filter(|symbol| !is_request(symbol)) {
            let Ok(name) = symbol.name() else { continue };
            let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
            let constant = section.is_some_and(|section| {
                section.kind() == SectionKind::ReadOnlyData
                    || section.name().is_ok_and(|name| name.starts_with(".data.rel.ro"))
            });
            let (address, size, kind) = (Vaddr(symbol.address()), symbol.size(), symbol.elf_symbol().st_type());
            names.offered.insert(name.to_owned(), Offer { address, size, kind, constant });
        }
        names
    }
}

/// [`DynamicNames::asked`] alone.
pub fn requests(bytes: &[u8]) -> HashMap<String, Request> {
    ElfFile64::parse(bytes).map(|file| requests_of(&file, bytes)).unwrap_or_default()
}

fn requests_of(file: &ElfFile64<'_, LittleEndian>, bytes: &[u8]) -> HashMap<String, Request> {
    let request = |symbol: ElfSymbol64<'_, '_, LittleEndian>| {
        let offset = bytes_of(symbol.elf_symbol()).as_ptr() as usize - bytes.as_ptr() as usize;
        Some((symbol.name().ok()?.to_owned(), Request { entry: offset as u64, supplied: !symbol.is_undefined() }))
    };
    file.dynamic_symbols().filter(is_request).filter_map(request).collect()
}

fn is_request(symbol: &ElfSymbol64<'_, '_, LittleEndian>) -> bool {
    symbol.is_undefined() || symbol.section() == SymbolSection::Absolute
}
