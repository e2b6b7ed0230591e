//! What a file asks other modules for by name, and what it offers them.

use std::collections::HashMap;

use object::{
    LittleEndian, Object as _, ObjectSymbol as _, SymbolSection, bytes_of, elf,
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
}

impl DynamicNames {
    /// None of a file that cannot be read.
    pub fn read(bytes: &[u8]) -> DynamicNames {
        let mut names = DynamicNames { asked: asked(bytes), ..DynamicNames::default() };
        let Ok(file) = ElfFile64::<LittleEndian>::parse(bytes) else { return names };
        for symbol in file.dynamic_symbols().filter(|symbol| !is_asked(symbol)) {
            let Ok(name) = symbol.name() else { continue };
            let (address, size, kind) = (Vaddr(symbol.address()), symbol.size(), symbol.elf_symbol().st_type());
            names.offered.insert(name.to_owned(), Offer { address, size, kind });
        }
        names
    }
}

/// [`DynamicNames::asked`] alone.
pub fn asked(bytes: &[u8]) -> HashMap<String, Request> {
    let Ok(file) = ElfFile64::<LittleEndian>::parse(bytes) else { return HashMap::new() };
    let request = |symbol: ElfSymbol64<'_, '_, LittleEndian>| {
        let offset = bytes_of(symbol.elf_symbol()).as_ptr() as usize - bytes.as_ptr() as usize;
        Some((symbol.name().ok()?.to_owned(), Request { entry: offset as u64, supplied: !symbol.is_undefined() }))
    };
    file.dynamic_symbols().filter(is_asked).filter_map(request).collect()
}

fn is_asked(symbol: &ElfSymbol64<'_, '_, LittleEndian>) -> bool {
    symbol.is_undefined() || symbol.section() == SymbolSection::Absolute
}
