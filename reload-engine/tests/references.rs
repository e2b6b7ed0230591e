//! The scan of references against the linker's own list (`--emit-relocs`), on libraries with published code inside: whatever
//! the linker filled in for a static, a thread-local, a function's address or a pointer in data must have been found.
//!
//! Says nothing of attribution, which is the plan's: only that no reference is missed, and that each leads where the linker
//! says.

use std::{collections::BTreeMap, path::Path};

use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget, SectionFlags, elf,
    read::elf::ElfFile64,
};
use reload_engine::{
    image::{Image, RelocationKind, Resolves, SectionKind},
    model::Vaddr,
};

mod published;

/// A place that the linker filled in.
struct Filled {
    at: u64,
    kind: elf::RelocationType,
    /// Where what it was filled in for lies, without the addend.
    symbol: u64,
    addend: i64,
    thread_local: bool,
}

/// How many of each kind were compared, and what is missing.
#[derive(Default)]
struct Comparison {
    compared: BTreeMap<&'static str, usize>,
    missed: Vec<String>,
}

impl Comparison {
    fn expect(&mut self, what: &'static str, filled: &Filled, found: bool) {
        *self.compared.entry(what).or_default() += 1;
        if !found {
            self.missed
                .push(format!("{what} at {:#x}: {:?} {:#x}{:+}", filled.at, filled.kind, filled.symbol, filled.addend));
        }
    }
}

/// What the linker filled in, section by section: the section's name and whether it holds instructions.
fn filled(file: &ElfFile64<'_>) -> Vec<(String, bool, Vec<Filled>)> {
    let loaded = file.sections().filter(|section| match section.flags() {
        SectionFlags::Elf { sh_flags, .. } => sh_flags.0 & elf::SHF_ALLOC.0 != 0,
        _ => false,
    });
    loaded
        .map(|section| {
            let places = section.relocations().filter_map(|(at, relocation)| {
                let RelocationTarget::Symbol(index) = relocation.target() else { return None };
                let RelocationFlags::Elf { r_type } = relocation.flags() else { return None };
                let symbol = file.symbol_by_index(index).ok()?;
                let thread_local = symbol.kind() == object::SymbolKind::Tls;
                (!symbol.is_undefined()).then(|| Filled {
                    at,
                    kind: r_type,
                    symbol: symbol.address(),
                    addend: relocation.addend(),
                    thread_local,
                })
            });
            let code = section.kind() == object::SectionKind::Text;
            (section.name().unwrap_or_default().to_owned(), code, places.collect())
        })
        .collect()
}

fn compare(path: &Path) -> Comparison {
    let bytes = std::fs::read(path).expect("read the library");
    let image = Image::parse(path, bytes.clone()).expect("a library");
    let file = ElfFile64::parse(&*bytes).expect("a library");
    let mut comparison = Comparison::default();
    for (section, code, places) in filled(&file) {
        for place in &places {
            if code {
                compare_instruction(&image, place, &mut comparison);
            } else if place.kind == elf::R_X86_64_64 {
                let target = Vaddr(place.symbol.wrapping_add_signed(place.addend));
                let found = image.relocation_at(Vaddr(place.at)).is_some_and(|slot| match &slot.resolves {
                    Resolves::Here(address) => *address == target,
                    Resolves::Symbol { here, addend, .. } => {
                        here.is_some_and(|here| here.0.wrapping_add_signed(*addend) == target.0)
                    }
                });
                comparison.expect("pointer in data", place, found);
            } else if place.kind == elf::R_X86_64_PC32 && !section.contains("eh_frame") {
                // Tables of distances lead to code and constants; one that led to state could not be redirected.
                let target = Vaddr(place.symbol.wrapping_add_signed(place.addend));
                let state = image.section_at(target).is_some_and(|section| section.kind.is_state());
                comparison.expect("distance in data", place, !state);
            }
        }
    }
    comparison
}

fn compare_instruction(image: &Image, place: &Filled, comparison: &mut Comparison) {
    let reference = image.references.binary_search_by_key(&Vaddr(place.at), |reference| reference.site);
    let reference = reference.ok().map(|index| image.references[index]);
    let field = image.bytes_from(Vaddr(place.at - 3));
    let distance = i32::from_le_bytes([field[3], field[4], field[5], field[6]]);
    // For an operand the addend also makes up for the distance from the field to the next instruction.
    let through_slot = place.at.wrapping_sub(place.addend as u64).wrapping_add_signed(distance.into());
    let section = |address: u64| image.section_at(Vaddr(address)).map(|section| section.kind);
    match place.kind {
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => {
            let leads_to = |address: Vaddr| {
                let expected =
                    reference.map(|it| place.symbol.wrapping_add_signed(place.addend) + it.next().0 - place.at);
                Some(address.0) == expected
            };
            let found = reference.is_some_and(|it| leads_to(it.target));
            let lea = field[1] == 0x8d && field[0] & 0xf8 == 0x48;
            match section(place.symbol) {
                Some(kind) if kind.is_state() => comparison.expect("operand", place, found),
                Some(SectionKind::Code) if lea => {
                    let target = Vaddr(place.symbol.wrapping_add_signed(place.addend + 4));
                    if image.function_starting_at(target).is_some() {
                        comparison.expect("address of a function", place, found);
                    }
                }
                _ => {}
            }
        }
        elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX
            if section(place.symbol).is_some_and(SectionKind::is_state) =>
        {
            // The linker made it an operand, or there is a slot that is filled in when the library is loaded.
            let slot = image.relocation_at(Vaddr(through_slot)).is_some_and(|slot| {
                slot.kind == RelocationKind::Address
                    && match slot.resolves {
                        Resolves::Here(address) => address.0 == place.symbol,
                        Resolves::Symbol { here, .. } => here == Some(Vaddr(place.symbol)),
                    }
            });
            comparison.expect("operand by way of the GOT", place, reference.is_some() || slot);
        }
        elf::R_X86_64_TLSGD | elf::R_X86_64_TLSLD => {
            let found = image.tls_uses.iter().any(|it| it.site.0 == place.at);
            comparison.expect("request for a thread-local", place, found);
        }
        elf::R_X86_64_DTPOFF32 => {
            assert!(place.thread_local, "{:#x}", place.at);
            let found = image.tls_displacements.iter().any(|it| it.site.0 == place.at);
            comparison.expect("distance in the block of thread-locals", place, found);
        }
        elf::R_X86_64_GOTTPOFF => {
            let slot = image.relocation_at(Vaddr(through_slot));
            let found = slot.is_some_and(|slot| slot.kind == RelocationKind::ThreadPointerOffset);
            comparison.expect("distance from the thread pointer", place, found);
        }
        elf::R_X86_64_GOTPC32_TLSDESC => {
            let slot = image.relocation_at(Vaddr(through_slot));
            let found = slot.is_some_and(|slot| slot.kind == RelocationKind::TlsDescriptor);
            comparison.expect("descriptor of a thread-local", place, found);
        }
        _ => {}
    }
}

/// Every reference of the example's library is found; there are at least so many operands that lead to statics.
fn check(example: &str, profile: &str, operands: usize) {
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("published");
    let library = published::library(example, profile, &["-Wl,--emit-relocs"], &room);
    let comparison = compare(&library);
    println!("{example} ({profile}): {:?}, {} missed", comparison.compared, comparison.missed.len());
    let direct = comparison.compared.get("operand").copied().unwrap_or(0);
    assert!(direct >= operands, "the linker lists only {direct} operands: does it still keep its relocations?");
    assert!(comparison.missed.is_empty(), "{example} ({profile}):\n{}", comparison.missed.join("\n"));
}

#[test]
fn none_is_missed_in_sqlite() {
    check("over_sqlite", "release", 1000);
}

#[test]
fn none_is_missed_in_zstd() {
    check("over_zstd", "release", 10);
}

#[test]
fn none_is_missed_in_regex() {
    check("over_regex", "release", 10);
}

#[test]
fn none_is_missed_in_regex_unoptimised() {
    check("over_regex", "dev", 10);
}
