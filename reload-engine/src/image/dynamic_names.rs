//! What a file asks other modules for by name, and what it offers them.

use std::collections::HashSet;

use object::{LittleEndian, Object as _, ObjectSymbol as _, read::elf::ElfFile64};

/// Names of dynamic symbols, without versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicNames {
    pub asked: HashSet<String>,
    pub offered: HashSet<String>,
}

impl DynamicNames {
    /// None of a file that cannot be read.
    pub fn read(bytes: &[u8]) -> DynamicNames {
        let mut names = DynamicNames::default();
        let Ok(file) = ElfFile64::<LittleEndian>::parse(bytes) else { return names };
        for symbol in file.dynamic_symbols() {
            let Ok(name) = symbol.name() else { continue };
            let those = if symbol.is_undefined() { &mut names.asked } else { &mut names.offered };
            those.insert(name.to_owned());
        }
        names
    }
}
