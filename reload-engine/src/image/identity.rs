//! What a symbol table says of functions but for where they lie. While none comes, goes or gets another name all builds of a
//! file agree in that, so one list serves all of them, and whoever sees the same list need not compare names.

use std::{
    iter::zip,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use memchr::memmem;

use super::{Analysis, Function, NameKey, TextKey, content, elf::SymbolEntries};
use crate::model::Vaddr;

/// Which function a symbol stands for.
#[derive(Clone, Debug)]
pub struct Identity {
    pub key: NameKey,
    /// Source file, for local symbols.
    pub file: Option<TextKey>,
    /// The version it is exported under.
    pub version: Option<TextKey>,
    /// As [`Function::auxiliary`].
    pub(super) auxiliary: bool,
}

/// Those of all functions of a file, in their order.
#[derive(Debug, Default)]
pub struct Identities {
    all: Vec<Identity>,
    /// Parallel to them, as [`content::entry_of`] says.
    meanings: Vec<u128>,
}

impl Identities {
    pub fn new(all: Vec<Identity>, image: &Analysis) -> Identities {
        let meanings = image.hands.map(&all, content::entry_of);
        Identities { all, meanings }
    }

    pub fn all(&self) -> &[Identity] {
        &self.all
    }

    pub fn meanings(&self) -> &[u128] {
        &self.meanings
    }
}

/// Where the functions stand in the symbol table, and what is in its names. Builds share it whose tables say the same of all
/// symbols but where those lie.
#[derive(Debug, Default)]
pub struct Listing {
    /// Parallel to the functions: their entries.
    entries: Vec<u32>,
    /// As [`Listing::outside`] says.
    outside: OnceLock<Vec<u32>>,
    /// What has been searched for among the names, and whether it is there.
    marks: Mutex<Vec<(&'static str, bool)>>,
}

impl Listing {
    /// `entries` are those of the functions, in their order.
    pub fn new(entries: Vec<u32>) -> Listing {
        Listing { entries, ..Listing::default() }
    }

    /// The entries of `image`, which has this listing, that would stand for functions too if they did not lie outside of all code.
    /// Found when they are asked for first.
    pub fn outside(&self, image: &Analysis) -> &[u32] {
        let table = table(image);
        let is_outside = |entry: &u32| image.code_at(table.place(*entry).0).is_none() && table.may_be_function(*entry);
        self.outside.get_or_init(|| (0..table.count()).filter(is_outside).collect())
    }

    pub fn entry(&self, function: usize) -> u32 {
        self.entries[function]
    }

    /// Whether one of these stands among the names, which are searched for each once.
    pub fn contains(&self, parts: &[&'static str], names: &[u8]) -> bool {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().any(|part| match marks.iter().find(|(known, _)| known == part) {
            Some((_, contained)) => *contained,
            None => {
                let contained = memmem::find(names, part.as_bytes()).is_some();
                marks.push((part, contained));
                contained
            }
        })
    }
}

/// A file's functions, and what its symbols say of them.
pub struct Listed {
    pub functions: Vec<Function>,
    pub identities: Arc<Identities>,
    pub listing: Arc<Listing>,
}

/// Where `image` has the functions of `before`, if its symbols are the same.
pub fn listed(image: &Analysis, before: &Analysis) -> Option<Arc<Listing>> {
    if image.tables.defines_versions || before.tables.defines_versions {
        return None;
    }
    if is_moved(image, before) { Some(Arc::clone(&before.listing)) } else { matched(image, before).map(Arc::new) }
}

/// The functions of `image`, which has those of `before` there, if they are in the same order; not yet cut where the next one
/// begins.
pub fn moved(image: &Analysis, before: &Analysis, listing: &Listing) -> Option<Vec<Function>> {
    let table = table(image);
    let mut functions = Vec::with_capacity(before.functions.len());
    let mut last = None;
    for (entry, was) in zip(&listing.entries, &before.functions) {
        let (address, size) = table.place(*entry);
        let end = image.code_at(address)?.end();
        let size = size.min(end - address.0);
        // The order of the functions of any file, see `symbols`.
        if last.replace((address, size, *entry)) >= Some((address, size, *entry)) {
            return None;
        }
        functions.push(Function { address, size, end: Vaddr(end), ..*was });
    }
    Some(functions)
}

fn table(image: &Analysis) -> SymbolEntries<'_> {
    SymbolEntries::of(&image.bytes, &image.tables)
}

/// Whether the tables differ in nothing but where symbols lie, and the same ones are functions.
fn is_moved(image: &Analysis, before: &Analysis) -> bool {
    let (is, was) = (table(image), table(before));
    let all_outside = || before.listing.outside(before).iter().all(|entry| image.code_at(is.place(*entry).0).is_none());
    is.are_moved(was) && all_outside()
}

/// Where the table has the functions of `before`, if it has the same ones in the same order.
fn matched(image: &Analysis, before: &Analysis) -> Option<Listing> {
    let entries = table(image);
    let of_code = |entry: &u32| entries.may_be_function(*entry) && image.code_at(entries.place(*entry).0).is_some();
    // Soon told, and mostly the difference.
    if (0..entries.count()).filter(of_code).count() != before.functions.len() {
        return None;
    }
    let (mut is, mut was) = (named_functions(image), named_functions(before));
    let mut by_entry = vec![0; table(before).count() as usize];
    loop {
        match (is.next(), was.next()) {
            (Some((entry, name)), Some((before, known))) if name == known => by_entry[before as usize] = entry,
            (None, None) => break,
            _ => return None,
        }
    }
    let entries = before.listing.entries.iter().map(|entry| by_entry[*entry as usize]);
    Some(Listing::new(entries.collect()))
}

/// The entries of the functions in the order of the table, and all that makes an identity.
fn named_functions(image: &Analysis) -> impl Iterator<Item = (u32, impl PartialEq)> {
    let table = table(image);
    let mut file = None;
    (0..table.count()).filter_map(move |entry| {
        file = table.file(entry).or(file);
        let (name, _) = (table.text(entry), image.code_at(table.place(entry).0)?);
        let is_function = table.may_be_function(entry) && !name.is_empty();
        is_function.then(|| (entry, (name, table.kind(entry), file.filter(|_| table.is_local(entry)))))
    })
}

/// Whether two files have the same functions, in the same order: their symbols differ in where they lie, if in anything.
pub fn are_same_symbols(one: &Analysis, other: &Analysis) -> bool {
    Arc::ptr_eq(&one.identities, &other.identities)
}
