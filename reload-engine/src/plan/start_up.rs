//! What a library would have the loader run at its start and at the program's end, and what of that is new.
//!
//! No constructor runs twice. One that no earlier generation had is to be run once. The compiler's own start-up function of a
//! C++ source file is another matter: it constructs the file's statics all together, so that it may run only where all of
//! them are new; otherwise those that are new are named.

use std::collections::{BTreeSet, HashMap};

use super::homes::{Home, PlannedHomes};
use crate::{
    image::{Function, Image, NameKey, demangle, is_compilers, is_file_start_up, is_static_initialiser},
    model::Vaddr,
};

/// Indices of functions, in the order of the file's tables, and what is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StartUp {
    /// To be run once, before anything of the generation is published.
    pub constructors: Vec<u32>,
    /// To be run at the program's end, as nobody else will.
    pub destructors: Vec<u32>,
    /// New statics whose constructors cannot be run by themselves, as reasons against the reload.
    pub refusals: Vec<String>,
    pub warnings: Vec<String>,
}

/// The constructors and destructors that the generations so far had.
#[derive(Debug, Default)]
pub struct Known {
    constructors: Entries,
    destructors: Entries,
}

impl Known {
    /// Adds those of one more generation.
    pub fn learn(&mut self, image: &Image) {
        self.constructors.learn(image, &image.tables.constructors);
        self.destructors.learn(image, &image.tables.destructors);
    }
}

/// The entries of one kind of table.
#[derive(Debug, Default)]
struct Entries {
    /// How many of this name one generation had at most.
    named: HashMap<NameKey, usize>,
    /// The same of those without a name.
    nameless: usize,
}

impl Entries {
    fn learn(&mut self, image: &Image, table: &[Vaddr]) {
        let (by_name, nameless) = by_name(image, table);
        self.nameless = self.nameless.max(nameless);
        for (key, entries) in by_name {
            let count = self.named.entry(key).or_default();
            *count = entries.len().max(*count);
        }
    }
}

pub fn plan(known: &Known, image: &Image, homes: &PlannedHomes) -> StartUp {
    let mut start_up = StartUp::default();
    let table = &image.tables.constructors;
    let fresh = news(&known.constructors, image, "constructor", table, &mut start_up.warnings);
    for &entry in &image.tables.constructors {
        let Some(index) = image.function_starting_at(entry) else { continue };
        let function = &image.functions[index];
        let name = image.function_name(function);
        let is_new = fresh.contains(&entry);
        if !is_file_start_up(name) {
            if is_new {
                start_up.constructors.push(index as u32);
            }
            continue;
        }
        let constructed = constructed_by(image, function);
        let (own, older): (Vec<usize>, Vec<usize>) =
            constructed.into_iter().partition(|object| homes.objects[*object] == Home::Own);
        if is_new && older.is_empty() && !own.is_empty() {
            start_up.constructors.push(index as u32);
        } else {
            start_up.refusals.extend(own.into_iter().map(|object| {
                format!(
                    "`{}` is new or starts anew and is set up at start, together with statics of the same source file that \
                     exist already: it would stay zero. Make it a static inside a function, or set it up in \
                     `superreload_after` and use --force",
                    demangle(image.object_name(&image.objects[object]))
                )
            }));
        }
    }
    let table = &image.tables.destructors;
    let fresh = news(&known.destructors, image, "destructor", table, &mut start_up.warnings);
    let starting = |entry: &Vaddr| image.function_starting_at(*entry);
    start_up.destructors = fresh.iter().filter_map(starting).map(|index| index as u32).collect();
    start_up
}

/// The entries of a table by the names of their functions, and how many have none.
fn by_name(image: &Image, table: &[Vaddr]) -> (HashMap<NameKey, Vec<Vaddr>>, usize) {
    let mut by_name: HashMap<NameKey, Vec<Vaddr>> = HashMap::new();
    let mut nameless = 0;
    for &entry in table {
        match image.function_starting_at(entry) {
            Some(index) => by_name.entry(image.identities()[index].key).or_default().push(entry),
            None => nameless += 1,
        }
    }
    (by_name, nameless)
}

/// The entries of a table that no earlier generation had, by name.
fn news(known: &Entries, image: &Image, what: &str, table: &[Vaddr], warnings: &mut Vec<String>) -> Vec<Vaddr> {
    let (by_name, nameless) = by_name(image, table);
    let mut fresh = Vec::new();
    for (key, entries) in by_name {
        let name = || image.function_starting_at(entries[0]).map(|index| image.function_name(&image.functions[index]));
        match known.named.get(&key).copied().unwrap_or(0) {
            0 if known.nameless == 0 => fresh.extend(entries),
            before if before < entries.len() => warnings.push(format!(
                "a {what} called `{}` seems to be new, but nothing tells it from those before: it was not run",
                demangle(name().unwrap_or_default())
            )),
            _ => {}
        }
    }
    if nameless > known.nameless {
        warnings.push(format!(
            "the file has {} {what}s more than before, without names (it was stripped): they were not run",
            nameless - known.nameless
        ));
    }
    // In the order in which the loader would run them.
    table.iter().filter(|entry| fresh.contains(entry)).copied().collect()
}

/// The statics that a source file's start-up function sets up, itself or through the compiler's functions for single ones.
fn constructed_by(image: &Image, start_up: &Function) -> BTreeSet<usize> {
    let file = image.identity(start_up).file;
    let belongs = |function: &&Function| {
        let in_its_file = || file.is_some() && image.identity(function).file == file;
        function.address == start_up.address || (in_its_file() && is_static_initialiser(image.function_name(function)))
    };
    let own = image.functions.iter().filter(belongs).flat_map(|function| function.those_in(&image.references));
    let objects = own.filter_map(|reference| image.state_meant(reference.target));
    // The guard of an inline variable says by itself whether it has been constructed; `std::__ioinit` only counts.
    let plain = |object: &usize| {
        let name = image.object_name(&image.objects[*object]);
        !is_compilers(name)
    };
    objects.filter(plain).collect()
}
