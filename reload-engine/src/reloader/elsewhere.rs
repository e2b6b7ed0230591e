//! Other modules: what a reload does not reach there, functions that were inlined, definitions that count instead, calls of what is
//! gone; and what new code finds there that the loader does not.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use object::elf;

use crate::{
    image::{DynamicNames, Image, Inlines, Offer, Request, asked, declared_in, demangle, is_library},
    ledger::{Ledger, ModuleLedger},
    model::{Addr, Details, file_name},
    plan::{
        Plan,
        shadow::{self, Edit},
    },
};

/// What other modules have inlined and ask for, by the kept copies of their files.
#[derive(Debug, Default)]
pub struct Elsewhere {
    read: HashMap<PathBuf, Module>,
}

#[derive(Debug, Default)]
struct Module {
    inlines: Inlines,
    names: DynamicNames,
}

impl Elsewhere {
    /// Reads the running generation of a module, so that no reload of another has to.
    pub fn prepare(&mut self, ledger: &ModuleLedger) {
        if let Some(file) = running(ledger) {
            self.of(file);
        }
    }

    fn of(&mut self, file: &Path) -> &Module {
        self.read.entry(file.to_owned()).or_insert_with(|| {
            // A file that cannot be read has been told of when its module was prepared.
            let read = |bytes: Vec<u8>| Module { inlines: Inlines::read(&bytes), names: DynamicNames::read(&bytes) };
            fs::read(file).map(read).unwrap_or_default()
        })
    }

    /// One line for each changed function and module that has it inlined.
    pub fn inlined(&mut self, plan: &Plan, ledger: &Ledger, reloaded: &Path) -> Vec<String> {
        let image = &plan.image;
        let names: BTreeSet<&str> =
            plan.changed.iter().map(|index| image.function_name(&image.functions[*index as usize])).collect();
        let mut lines = Vec::new();
        if names.is_empty() {
            return lines;
        }
        for (path, file) in others(ledger, reloaded) {
            let inlines = &self.of(file).inlines;
            for name in &names {
                if let Some(place) = inlines.place_of(name, || declared_in(&image.bytes, name)) {
                    lines.push(format!(
                        "`{}` was inlined into {place} of {}: its change takes no effect there until that is rebuilt and reloaded",
                        demangle(name),
                        file_name(path)
                    ));
                }
            }
        }
        lines.truncate(Details::LIMIT);
        lines
    }

    /// One line for each exported function of `old`, the generation before, that is gone and module that asks for it by name.
    /// What others offer too may be what it was given.
    pub fn still_used(&mut self, plan: &Plan, old: &Image, ledger: &Ledger, reloaded: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let removed = plan.removed.iter().map(|index| &old.functions[*index as usize]);
        let exported = removed.filter(|function| old.tables.exports.binary_search(&function.address).is_ok());
        let mut gone: BTreeSet<&str> = exported.map(|function| old.function_name(function)).collect();
        if gone.is_empty() {
            return lines;
        }
        let offered = DynamicNames::read(&plan.image.bytes).offered;
        gone.retain(|name| !offered.contains_key(*name));
        for (_, file) in others(ledger, reloaded) {
            let names = &self.of(file).names;
            gone.retain(|name| !names.offered.contains_key(*name));
        }
        for (path, file) in others(ledger, reloaded) {
            let asked = &self.of(file).names.asked;
            lines.extend(gone.iter().filter(|name| asked.contains_key(**name)).map(|name| {
                format!("`{}` is gone, and {} uses it: there its old code runs on", demangle(name), file_name(path))
            }));
        }
        lines.truncate(Details::LIMIT);
        lines
    }

    /// What makes the loader find what a new file of the module asks for and only later generations of others offer: they are in
    /// no scope that it looks through. Their entries in the shadow's symbol table become absolute and hidden, which it takes as
    /// they are (glibc 2.28 and later, `RESOLVE_MAP` of `elf/dl-reloc.c`).
    pub fn supplies(&mut self, new: &[u8], ledger: &Ledger, reloaded: &Path) -> Vec<Edit> {
        let has_later = |(path, of): (&Path, &ModuleLedger)| path != reloaded && of.generations.len() > 1;
        if !ledger.modules.iter().any(|(path, of)| has_later((path, of))) {
            return Vec::new();
        }
        let mut asked = asked(new);
        // What the loader finds for the running generation it finds again.
        if let Some(file) = ledger.module(reloaded).and_then(running) {
            let before = &self.of(file).names.asked;
            asked.retain(|name, _| before.get(name).is_none_or(|request| request.supplied));
        }
        let modules: Vec<(&Path, &ModuleLedger)> = ledger.modules.iter().map(|(path, of)| (&**path, &**of)).collect();
        for first in modules.iter().filter_map(|(_, of)| of.generations.first()) {
            let offered = &self.of(&first.file).names.offered;
            asked.retain(|name, _| !offered.contains_key(name));
        }
        let mut edits = Vec::new();
        for (_, of) in modules.into_iter().filter(|module| has_later(*module)) {
            let Some(file) = running(of) else { continue };
            let offered = &self.of(file).names.offered;
            let offer = |(name, request): (&String, &Request)| Some((name.clone(), request.entry, *offered.get(name)?));
            let mut found: Vec<(String, u64, Offer)> = asked.iter().filter_map(offer).collect();
            found.retain(|(_, _, offer)| SUPPLIED.contains(&offer.kind));
            for (name, entry, offer) in found {
                if let Some(at) = self.home_of(of, &name, offer) {
                    edits.push(shadow::supplied(entry, offer.kind, at));
                    asked.remove(&name);
                }
            }
        }
        edits
    }

    /// Where the oldest generation has it that offers it like this: functions are led from there to what runs, variables stay
    /// there.
    fn home_of(&mut self, of: &ModuleLedger, name: &str, offer: Offer) -> Option<Addr> {
        of.generations.iter().find_map(|record| {
            let known = *self.of(&record.file).names.offered.get(name)?;
            let same = known.kind == offer.kind && (known.kind == elf::STT_FUNC || known.size == offer.size);
            same.then(|| record.bias.addr(known.address))
        })
    }

    /// Whether what runs of this module offers the name to others.
    pub fn offers(&mut self, ledger: &ModuleLedger, name: &str) -> bool {
        running(ledger).is_some_and(|file| self.of(file).names.offered.contains_key(name))
    }
}

/// Functions and variables. Thread-locals and IFUNCs are more than an address.
const SUPPLIED: [elf::SymbolType; 2] = [elf::STT_FUNC, elf::STT_OBJECT];

/// Every module but the one that is reloaded, by path, with the copy of the file that it runs.
fn others<'a>(ledger: &'a Ledger, reloaded: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Path)> {
    let others = ledger.modules.iter().filter(|(path, _)| ***path != *reloaded);
    others.filter_map(|(path, of)| Some((&**path, running(of)?)))
}

/// The copy of the file that a module runs.
fn running(ledger: &ModuleLedger) -> Option<&Path> {
    Some(&ledger.running()?.file)
}

/// One line for each changed function that another module defines as well, where that definition is the one in use. What the
/// languages' own headers bring nobody has edited.
pub fn preempted(plan: &Plan, functions: Vec<usize>) -> Vec<String> {
    let image = &plan.image;
    let changed = functions.into_iter().filter(|index| plan.changed.contains(&(*index as u32)));
    let names: BTreeSet<String> = changed.map(|index| demangle(image.function_name(&image.functions[index]))).collect();
    names
        .into_iter()
        .filter(|name| !is_library(name))
        .map(|name| {
            format!(
                "`{name}` is defined by another module too, and that definition is used: its change takes effect with a \
                 reload of that one"
            )
        })
        .take(Details::LIMIT)
        .collect()
}
