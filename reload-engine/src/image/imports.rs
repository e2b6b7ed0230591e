//! What a file asks other modules for, by name.

use std::collections::HashSet;

use object::{Endianness, Object as _, read::elf::ElfFile64};

/// Names of undefined dynamic symbols; none of a file that cannot be read.
pub fn imports(bytes: &[u8]) -> HashSet<String> {
    let Ok(file) = ElfFile64::<Endianness>::parse(bytes) else { return HashSet::new() };
    let names = file.imports().into_iter().flatten().filter_map(|import| Some(import.ok()?.name()));
    names.filter_map(|name| Some(String::from_utf8_lossy(name.name()?).into_owned())).collect()
}
