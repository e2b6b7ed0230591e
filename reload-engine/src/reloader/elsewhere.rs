//! Other modules: what a reload does not reach there, functions that were inlined, definitions that count instead, calls of what is
//! gone; and what new code finds there that the loader does not.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use object::elf;

use crate::{
    image::{DynamicNames, Image, Inlines, declared_in, demangle, is_library, requests},
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
    inlines: HashMap<PathBuf, Inlines>,
    names: HashMap<PathBuf, DynamicNames>,
    /// By module, those that have begun to offer something that the loader did not find for it.
    suppliers: HashMap<PathBuf, BTreeSet<PathBuf>>,
    /// By module, what it was given.
    given: HashMap<PathBuf, BTreeSet<String>>,
}

impl Elsewhere {
    /// Reads the running generation of a module, so that no reload of another has to.
    pub fn prepare(&mut self, ledger: &ModuleLedger) {
        if let Some(file) = running(ledger) {
            self.inlines_of(file);
            self.names_of(file);
        }
    }

    fn inlines_of(&mut self, file: &Path) -> &Inlines {
        self.inlines.entry(file.to_owned()).or_insert_with(|| read(file, Inlines::read))
    }

    fn names_of(&mut self, file: &Path) -> &DynamicNames {
        self.names.entry(file.to_owned()).or_insert_with(|| read(file, DynamicNames::read))
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
            let inlines = self.inlines_of(file);
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
            let names = self.names_of(file);
            gone.retain(|name| !names.offered.contains_key(*name));
        }
        for (path, file) in others(ledger, reloaded) {
            let asked = &self.names_of(file).asked;
            lines.extend(gone.iter().filter(|name| asked.contains_key(**name)).map(|name| {
                format!("`{}` is gone, and {} uses it: there its old code runs on", demangle(name), file_name(path))
            }));
        }
        lines.truncate(Details::LIMIT);
        lines
    }

    /// What makes the loader find what a new file of the module asks for and only later generations of others offer: they are in
    /// no scope that it looks through. Their entries in the shadow's symbol table become absolute and hidden, which it takes as
    /// they are (glibc 2.28 and later, `RESOLVE_MAP` of `elf/dl-reloc.c`). Only what it has missed before, or what was given to
    /// the running generation: everything else it finds itself, where the program's scopes say.
    pub fn supplies(&mut self, new: &[u8], ledger: &Ledger, module: &Path) -> Vec<Edit> {
        if besides(ledger, module).all(|(_, of)| of.generations.len() < 2) {
            return Vec::new();
        }
        let given = self.given(ledger, module).clone();
        let suppliers = self.suppliers.get(module).cloned().unwrap_or_default();
        if given.is_empty() && suppliers.is_empty() {
            return Vec::new();
        }
        let mut edits = Vec::new();
        let mut requests = requests(new);
        for (path, of) in besides(ledger, module) {
            let may = |name: &String| suppliers.contains(path) || given.contains(name);
            let names: Vec<String> = requests.keys().filter(|name| may(name)).cloned().collect();
            for name in names {
                if let Some((kind, at)) = self.place_of(of, &name)
                    && let Some(request) = requests.remove(&name)
                {
                    edits.push(shadow::supplied(request.entry, kind, at));
                    self.given(ledger, module).insert(name);
                }
            }
        }
        edits
    }

    /// What a module was given, by whatever session: its file is looked at once.
    fn given(&mut self, ledger: &Ledger, module: &Path) -> &mut BTreeSet<String> {
        if !self.given.contains_key(module) {
            let asked = ledger.module(module).and_then(running).map(|file| &self.names_of(file).asked);
            let supplied = asked.into_iter().flatten().filter(|(_, request)| request.supplied);
            let names = supplied.map(|(name, _)| name.clone()).collect();
            self.given.insert(module.to_owned(), names);
        }
        self.given.entry(module.to_owned()).or_default()
    }

    /// Whether some module has begun to offer what the loader did not find for this one, and nobody has known yet that it does.
    pub fn find_supplier(&mut self, ledger: &Ledger, module: &Path, name: &str) -> bool {
        let offering = besides(ledger, module).filter(|(_, of)| self.offers(of, name));
        let offering: Vec<PathBuf> = offering.map(|(path, _)| path.to_path_buf()).collect();
        let known = self.suppliers.entry(module.to_owned()).or_default();
        let count = known.len();
        known.extend(offering);
        known.len() > count
    }

    /// Where a module has what only its later generations offer. Functions are led on from where the oldest has them. Variables
    /// stay there, as far as all have them in one size; constants are each generation's own.
    fn place_of(&mut self, of: &ModuleLedger, name: &str) -> Option<(elf::SymbolType, Addr)> {
        let (first, later) = of.generations.split_first()?;
        let running = later.iter().find(|record| record.number == of.active)?;
        let offer = *self.names_of(&running.file).offered.get(name)?;
        if self.names_of(&first.file).offered.contains_key(name) {
            return None;
        }
        let mut all = Vec::new();
        for record in later {
            all.extend(self.names_of(&record.file).offered.get(name).map(|offer| (*offer, record.bias)));
        }
        let (oldest, bias) = *all.iter().find(|(other, _)| other.kind == offer.kind)?;
        let at = match offer.kind {
            elf::STT_FUNC => bias.addr(oldest.address),
            elf::STT_OBJECT if offer.constant => running.bias.addr(offer.address),
            elf::STT_OBJECT if all.iter().all(|(other, _)| other.size == offer.size) => bias.addr(oldest.address),
            // Thread-locals and IFUNCs are more than an address.
            _ => return None,
        };
        Some((offer.kind, at))
    }

    /// Whether this module has begun to offer the name.
    pub fn offers(&mut self, of: &ModuleLedger, name: &str) -> bool {
        self.place_of(of, name).is_some()
    }
}

/// Every module but this one, by path.
fn besides<'a>(ledger: &'a Ledger, module: &'a Path) -> impl Iterator<Item = (&'a Path, &'a ModuleLedger)> {
    ledger.modules.iter().map(|(path, of)| (&**path, &**of)).filter(move |(path, _)| *path != module)
}

/// The same with the copy of the file that each runs.
fn others<'a>(ledger: &'a Ledger, reloaded: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Path)> {
    besides(ledger, reloaded).filter_map(|(path, of)| Some((path, running(of)?)))
}

/// Nothing of a file that cannot be read: that has been told of when its module was prepared.
fn read<T: Default>(file: &Path, parse: impl Fn(&[u8]) -> T) -> T {
    fs::read(file).map(|bytes| parse(&bytes)).unwrap_or_default()
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
