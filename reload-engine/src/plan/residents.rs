//! Which functions of a new file run in its shadow, and where their calls lead.
//!
//! What has not changed runs where it ran: whoever runs in the shadow calls it there, by its oldest entry, as pointers to it do.
//! So nothing but the shadow's residents has to be bound, and a reload costs what has changed, not what exists. The rest of the
//! shadow's code would find statics of its own, which nobody knows: it must never run. Whatever may lead there makes a resident of
//! it.

use std::ops::Range;

use foldhash::HashMap;

use super::{
    Plan,
    bind::FunctionIdentities,
    lineage::{Lineage, is_alone},
    registration,
};
use crate::{
    image::{
        CodeReference, Exit, Exits, Image, MOST_CASES, Relocation, RelocationKind, SectionKind, code_led_to, exits,
        those_in,
    },
    model::{Addr, Vaddr},
};

/// So many functions are followed however large a part of the file they are.
const FEW: usize = 64;

/// The code that runs in a shadow.
#[derive(Debug)]
pub struct Residents {
    /// Ascending.
    code: Vec<Range<Vaddr>>,
    calls: Vec<Call>,
}

/// A call, or a jump, out of a resident to a function that runs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where its 32-bit distance stands.
    pub site: Vaddr,
    /// The next instruction, which the distance counts from.
    pub next: Vaddr,
    pub to: Addr,
}

impl Residents {
    /// Everything may run there, and nothing is called elsewhere.
    pub fn all() -> Residents {
        Residents { code: vec![Vaddr(0)..Vaddr(u64::MAX)], calls: Vec::new() }
    }

    /// What is implemented anew, and what can only be reached by way of that.
    pub fn of(plan: &Plan, lineage: &Lineage, functions: &FunctionIdentities) -> Residents {
        let image = &*plan.image;
        // Without a symbol table it cannot be told where a function ends, and an extension's initialiser hands out addresses
        // of this file before all is bound.
        let bounded = image.tables.has_local_symbols && registration::python_modules(image).is_empty();
        let found = if bounded { Search::of(plan, lineage, functions).and_then(Search::run) } else { None };
        found.unwrap_or_else(Residents::all)
    }

    /// Of references that ascend by site, those that stand in a resident.
    pub fn references<'a>(&'a self, references: &'a [CodeReference]) -> impl Iterator<Item = &'a CodeReference> {
        self.code.iter().flat_map(|code| those_in(code, references))
    }

    /// Whether what stands at the address runs in the shadow.
    pub fn contains(&self, address: Vaddr) -> bool {
        let after = self.code.partition_point(|code| code.start <= address);
        self.code[..after].last().is_some_and(|code| code.contains(&address))
    }

    pub fn calls(&self) -> &[Call] {
        &self.calls
    }
}

/// Follows code from what is implemented anew to what runs along with it.
struct Search<'a> {
    plan: &'a Plan,
    image: &'a Image,
    lineage: &'a Lineage,
    functions: &'a FunctionIdentities,
    /// Parallel to the image's functions: of those that share an address, the first.
    resident: Vec<bool>,
    open: Vec<usize>,
    found: usize,
    /// Calls by the function that they lead to.
    calls: Vec<(usize, Call)>,
    /// What compilers split off from functions, by the name of these.
    pieces: HashMap<&'a [u8], Vec<usize>>,
    /// How many entries of tables may still be looked at.
    cases: usize,
}

impl<'a> Search<'a> {
    /// From all that runs in the shadow whoever calls it; `None` where that cannot be told.
    fn of(plan: &'a Plan, lineage: &'a Lineage, functions: &'a FunctionIdentities) -> Option<Self> {
        let image = &*plan.image;
        let (open, calls, pieces) = Default::default();
        let resident = vec![false; image.functions.len()];
        let mut search =
            Search { plan, image, lineage, functions, resident, open, found: 0, calls, pieces, cases: MOST_CASES };
        for (index, function) in image.functions.iter().enumerate() {
            if function.indirect {
                // Its resolver hands out addresses of this file before anything is bound.
                return None;
            } else if function.auxiliary {
                search.pieces.entry(image.whole_name(function)).or_default().push(index);
            } else if functions.of(index).is_none() {
                search.join(index);
            }
        }
        let start_up = plan.start_up.constructors.iter().chain(&plan.start_up.destructors);
        start_up.chain(&plan.implements).for_each(|function| search.join(*function as usize));
        // Hooks are called in whichever generation is active, and the unwinder asks what the frames of this file name.
        let hooks = plan.hooks.before.into_iter().chain(plan.hooks.after);
        hooks.chain(image.personalities.iter().copied()).for_each(|function| search.join_at(function));
        search.join_what_data_leads_to();
        Some(search)
    }

    /// Has run there what a pointer in the shadow's data is left to lead to: a label, a piece, what has no other place.
    fn join_what_data_leads_to(&mut self) {
        let is_address = |it: &&Relocation| matches!(it.kind, RelocationKind::Address | RelocationKind::CallSlot);
        for relocation in self.image.tables.relocations.iter().filter(is_address) {
            let Some(target) = relocation.resolves.here() else { continue };
            let called = relocation.kind == RelocationKind::CallSlot;
            let is_left =
                |first| if called { self.elsewhere(first).is_none() } else { self.functions.of(first).is_none() };
            // The tables of constructors and destructors are hidden from the loader.
            let is_read = || {
                let section = self.image.section_at(relocation.slot);
                section.is_none_or(|section| ![".init_array", ".fini_array"].contains(&section.name.as_str()))
            };
            if self.image.function_starting_at(target).is_none_or(is_left) && is_read() {
                self.join_at(target);
            }
        }
    }

    /// `None`: that is most of the file, or it cannot be told.
    fn run(mut self) -> Option<Residents> {
        let image = self.image;
        // Stubs of the linker's lead through slots, which are bound; other code without a name is rare.
        let nameless = nameless(image);
        for code in &nameless {
            self.follow(code, code.end.0 - code.start.0)?;
        }
        while let Some(first) = self.open.pop() {
            if self.found > (image.functions.len() / 2).max(FEW) {
                return None;
            }
            let function = &image.functions[first];
            let size = image.aliases_from(first).map(|alias| alias.size).max().filter(|size| *size > 0);
            self.follow(&(function.address..function.end), size.unwrap_or(u64::MAX))?;
            for alias in image.aliases_from(first) {
                let pieces = self.pieces.remove(image.whole_name(alias)).unwrap_or_default();
                pieces.into_iter().for_each(|piece| self.join(piece));
            }
        }
        let residents = (0..).zip(&self.resident).filter(|(_, resident)| **resident);
        let named = residents.map(|(first, _): (usize, _)| image.functions[first].address..image.functions[first].end);
        let mut code: Vec<Range<Vaddr>> = nameless.into_iter().chain(linker_code(image)).chain(named).collect();
        code.sort_unstable_by_key(|code| code.start);
        let away = self.calls.iter().filter(|(callee, _)| !self.resident[*callee]);
        Some(Residents { code, calls: away.map(|(_, call)| *call).collect() })
    }

    /// Has the function of this index run in the shadow, and those that share its address.
    fn join(&mut self, index: usize) {
        let Some(first) = self.image.function_starting_at(self.image.functions[index].address) else { return };
        if !self.resident[first] {
            self.resident[first] = true;
            self.found += 1;
            self.open.push(first);
        }
    }

    /// Has whatever covers the address run there.
    fn join_at(&mut self, address: Vaddr) {
        if let Some(covering) = self.image.function_covering(address) {
            self.join(covering);
        }
    }

    /// Where code leads to; `None`: not all of its first `body` bytes can be decoded, or its tables do not end.
    fn follow(&mut self, code: &Range<Vaddr>, body: u64) -> Option<()> {
        let image = self.image;
        let Exits { branches, addresses, at_end } = exits(image, code, body)?;
        if at_end {
            self.join_at(code.end);
        }
        for Exit { site, next, target } in branches {
            let callee = image.function_starting_at(target);
            match (callee.and_then(|callee| Some((callee, self.elsewhere(callee)?))), site) {
                (Some((callee, to)), Some(site)) => self.calls.push((callee, Call { site, next, to })),
                _ => self.join_at(target),
            }
        }
        for address in addresses {
            if image.function_starting_at(address).is_none_or(|function| self.functions.of(function).is_none()) {
                self.join_at(address);
            }
            self.follow_table(address)?;
        }
        Some(())
    }

    /// Has run there what a table of distances leads to, if there is one: the cases of a switch, which all lie in one function,
    /// or functions. What stands behind a table may be another one, whose distances count from elsewhere. `None`: there is too
    /// much of it.
    fn follow_table(&mut self, table: Vaddr) -> Option<()> {
        let image = self.image;
        let mut switch = None;
        for target in code_led_to(image, table) {
            self.cases = self.cases.checked_sub(1)?;
            let covering = image.function_covering(target);
            if image.function_starting_at(target).is_none() && *switch.get_or_insert(covering) != covering {
                break;
            }
            covering.into_iter().for_each(|function| self.join(function));
        }
        Some(())
    }

    /// Where calls of a function lead that does not run in the shadow: where its oldest entry leads to whatever runs, and will,
    /// by itself. One that depends on others may at times lead into its own code.
    fn elsewhere(&self, first: usize) -> Option<Addr> {
        let alone = is_alone(self.image, first);
        let family = self.plan.partners[first].filter(|family| alone && !self.lineage.is_entangled(*family));
        family.and(self.functions.of(first))
    }
}

/// Code of the program that stands before the first symbol of its section.
fn nameless(image: &Image) -> Vec<Range<Vaddr>> {
    let sections = image.tables.sections.iter().filter(|section| section.kind == SectionKind::Code);
    let before_symbols = sections.map(|section| {
        let first = image.functions.partition_point(|function| function.address.0 < section.address);
        let symbol = image.functions.get(first).map_or(section.end(), |function| function.address.0);
        Vaddr(section.address)..Vaddr(symbol.min(section.end()))
    });
    before_symbols.filter(|code| !code.is_empty()).collect()
}

/// Code that linkers make.
fn linker_code(image: &Image) -> impl Iterator<Item = Range<Vaddr>> {
    let sections = image.tables.sections.iter().filter(|section| section.kind == SectionKind::LinkerCode);
    sections.map(|section| Vaddr(section.address)..Vaddr(section.end()))
}
