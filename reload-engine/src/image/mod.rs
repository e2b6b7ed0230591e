//! A library's file as the planner sees it: functions with what they refer to and a hash of what they mean, statics,
//! thread-locals, relocations.
//!
//! Bytes in, values out: nothing here knows of a running process, of addresses in one, or of another generation.

use std::{
    num::{NonZeroU64, NonZeroU128},
    ops::{Deref, Range},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use foldhash::{HashMap, HashMapExt as _};
use twox_hash::XxHash3_128;

use crate::{
    error::{Error, Result},
    hands::Hands,
    model::{Stage, Vaddr},
};

mod access;
mod approach;
mod as_written;
mod callers;
mod code;
mod content;
mod dynamic_names;
pub mod elf;
mod entry;
mod exceptions;
mod identity;
mod inlined;
mod inlines;
pub mod layout;
mod local_exec;
mod names;
mod numbers;
mod places;
mod pool;
mod recurring;
mod retired;
mod stretch;
mod switches;
mod symbols;
mod tls_block;
mod tls_code;
mod unnamed;
mod users;

pub use access::{Access, UnknownIndex, Uses};
pub use as_written::as_written;
pub use callers::{Exit, Exits, Referrer, callees, callers, callers_of_each, exits, never_returns, referrers};
pub use code::{CodeReference, TlsDisplacement, TlsUse};
pub use dynamic_names::{DynamicNames, Offer, requests};
pub use elf::{Relocation, RelocationKind, Resolves, Section, SectionKind};
pub use entry::{Entry, Form, NEAR};
pub use identity::{Identity, are_same_symbols};
pub use inlined::inlined_into;
pub use inlines::{Inlines, declared_in};
pub use names::{
    ANONYMOUS_NAMESPACE, LIBRARY_ROOTS, MARKS_OF_CLOSURES, TLS_GUARD, closure_family, demangle, guarded,
    hides_closures, is_closure, is_compilers, is_file_start_up, is_guard, is_library, is_static_initialiser,
    name_of_closures, without_hash,
};
pub use pool::{analyse, analyse_known};
pub use switches::{MOST_CASES, code_led_to};
pub use tls_code::{BlockAccess, BlockRequest, Callee, block_use};

use elf::Tables;
use entry::Entries;
use identity::{Identities, Listed, Listing};
use layout::Layouts;
use places::{Places, Ranges};
use recurring::Recurring;
use symbols::Symbols;
use users::Users;

/// A name with what the compiler appends at whim taken off, hashed. Equal keys are candidates for a match, no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameKey(pub u128);

impl NameKey {
    /// Of a function with this name.
    pub fn of_function(name: &str) -> NameKey {
        NameKey(XxHash3_128::oneshot(names::normalise(name.as_bytes(), false)))
    }
}

/// Hash of a name that is compared only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextKey(NonZeroU64);

impl TextKey {
    pub fn of(text: &[u8]) -> TextKey {
        TextKey(NonZeroU64::MIN | XxHash3_128::oneshot(text) as u64)
    }
}

/// Hash of what something means, independent of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content(NonZeroU128);

impl Content {
    pub fn of(hash: u128) -> Content {
        Content(NonZeroU128::MIN | hash)
    }

    pub fn hash(self) -> u128 {
        self.0.get()
    }
}

/// A function symbol, as far as this file's layout goes; which one it is, [`Analysis::identity`] tells.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub address: Vaddr,
    /// Bytes, as the symbol states; 0 for some hand-written assembly.
    pub size: u64,
    /// Start of the next function, or the section's end.
    pub end: Vaddr,
    /// Which of the file's functions this is.
    index: u32,
    /// A piece split off or specialised by the compiler, or start-up code: never an entry of its own.
    pub auxiliary: bool,
    /// Chosen by a resolver at load time.
    pub indirect: bool,
}

/// Index of no function.
pub const NOBODY: u32 = u32::MAX;

impl Function {
    /// Of references that ascend by site, those that stand in it.
    pub fn those_in<'a>(&self, references: &'a [CodeReference]) -> &'a [CodeReference] {
        those_in(&(self.address..self.end), references)
    }
}

/// Of references that ascend by site, those that stand in this range.
pub fn those_in<'a>(range: &Range<Vaddr>, references: &'a [CodeReference]) -> &'a [CodeReference] {
    let first = references.partition_point(|reference| reference.site < range.start);
    let here = references[first..].partition_point(|reference| reference.site < range.end);
    &references[first..first + here]
}

/// A static: the program's state, or a named constant.
#[derive(Clone, Debug)]
pub struct Object {
    name: Range<u32>,
    pub key: NameKey,
    /// For thread-locals: offset inside the TLS block.
    pub address: Vaddr,
    /// Bytes; 0 for the linker's markers as `__dso_handle`.
    pub size: u64,
    pub file: Option<TextKey>,
    /// The version it is exported under.
    pub version: Option<TextKey>,
    pub local: bool,
    /// Lies in memory that is read-only once relocated.
    pub constant: bool,
    /// Of the initial value with pointers described by what they point to. `None`: cannot be compared.
    pub content: Option<Content>,
}

impl Object {
    pub fn contains(&self, address: Vaddr) -> bool {
        address.0 >= self.address.0 && address.0 - self.address.0 < self.size
    }

    pub fn end(&self) -> Vaddr {
        Vaddr(self.address.0 + self.size)
    }

    /// Whether it is a stretch of state that has no symbol.
    pub fn is_unnamed(&self) -> bool {
        self.name.is_empty()
    }
}

/// The names of these, ascending, and their indices.
pub fn by_name(objects: &[Object]) -> Vec<(NameKey, u32)> {
    let mut names: Vec<(NameKey, u32)> = objects.iter().map(|object| object.key).zip(0..).collect();
    names.sort_unstable();
    names
}

/// One file, read and analysed. Where the same content lies in several places, they share the analysis.
#[derive(Clone, Debug)]
pub struct Image {
    /// Where the file is kept; while it is being read, where it came from.
    pub path: PathBuf,
    analysis: Arc<Analysis>,
}

impl Deref for Image {
    type Target = Analysis;

    fn deref(&self) -> &Analysis {
        &self.analysis
    }
}

/// What is known of a file's content, wherever it lies.
#[derive(Debug)]
pub struct Analysis {
    pub bytes: Arc<Vec<u8>>,
    pub tables: Tables,
    /// Who looks at all of it.
    pub hands: Hands,
    /// Ascending by address; several may share one.
    pub functions: Vec<Function>,
    identities: Arc<Identities>,
    listing: Arc<Listing>,
    entries: Entries,
    /// Parallel to the functions, as is the next: hashes of their instructions with every field zeroed that depends on where
    /// something lies.
    pub skeletons: Vec<u128>,
    /// Of their instructions, everything they refer to and their exception tables. `None`: cannot be compared.
    pub contents: Vec<Option<Content>>,
    /// Indices of those whose entry has no room of its own for a jump.
    pub borrowers: Vec<u32>,
    /// State and named constants, ascending by address.
    pub objects: Vec<Object>,
    /// Ascending by offset.
    pub thread_locals: Vec<Object>,
    /// References from code that may need retargeting, ascending by site.
    pub references: Vec<CodeReference>,
    /// Addresses that code takes outside of all state, but so little before it that a walk through a static may end there;
    /// ascending by site.
    pub approaches: Vec<CodeReference>,
    pub tls_uses: Vec<TlsUse>,
    pub tls_displacements: Vec<TlsDisplacement>,
    /// As [`exceptions::Tables::personalities`].
    pub personalities: Vec<Vaddr>,
    recurring: Recurring,
    section_places: Ranges,
    function_places: Places,
    object_places: Places,
    slot_places: Places,
    users: OnceLock<HashMap<u32, Users>>,
    uses_of_state: OnceLock<Vec<(u32, u32)>>,
    objects_by_name: OnceLock<Vec<(NameKey, u32)>>,
    layouts: OnceLock<Layouts>,
    /// Hash of the bytes, where others may find this by it.
    found_by: Option<u128>,
    /// As [`Image::retire`] left it.
    retired: bool,
}

impl Image {
    /// Parses and analyses `bytes`; `path` is for messages only.
    ///
    /// # Errors
    /// [`Error::Image`]: not a shared object for this architecture, or a broken table.
    pub fn parse(path: &Path, bytes: impl Into<Arc<Vec<u8>>>) -> Result<Image> {
        Image::parse_after(None, path, bytes)
    }

    /// The same, with less work where the code is that of `before`: for the file that a linker has made anew.
    ///
    /// # Errors
    /// As [`Image::parse`].
    pub fn parse_after(before: Option<&Image>, path: &Path, bytes: impl Into<Arc<Vec<u8>>>) -> Result<Image> {
        let bytes = bytes.into();
        let tables = elf::read(path, &bytes)?;
        let hands = Hands::for_file(elf::SymbolEntries::of(&bytes, &tables).count() as usize, tables.code_size());
        hands.run(|| Image::parsed(before, path, bytes, tables, hands))
    }

    fn parsed(before: Option<&Image>, path: &Path, bytes: Arc<Vec<u8>>, tables: Tables, hands: Hands) -> Result<Image> {
        let bounds = tables.sections.iter().flat_map(|section| [section.address, section.end()]);
        let section_places = Ranges::new(bounds, |address| elf::index_at(&tables.sections, Vaddr(address)));
        let analysis = Analysis {
            bytes,
            tables,
            hands,
            functions: Vec::new(),
            identities: Arc::default(),
            listing: Arc::default(),
            entries: Entries::default(),
            skeletons: Vec::new(),
            contents: Vec::new(),
            borrowers: Vec::new(),
            objects: Vec::new(),
            thread_locals: Vec::new(),
            references: Vec::new(),
            approaches: Vec::new(),
            tls_uses: Vec::new(),
            tls_displacements: Vec::new(),
            personalities: Vec::new(),
            recurring: Recurring::default(),
            section_places,
            function_places: Places::default(),
            object_places: Places::default(),
            slot_places: Places::default(),
            users: OnceLock::new(),
            uses_of_state: OnceLock::new(),
            objects_by_name: OnceLock::new(),
            layouts: OnceLock::new(),
            found_by: None,
            retired: false,
        };
        let mut image = Image { path: path.to_owned(), analysis: Arc::new(analysis) };
        let symbols = symbols::collect(&image, before.map(|before| &**before), path)?;
        image.growing(|analysis| analysis.take_symbols(symbols));
        let exceptions = exceptions::read(&image);
        let scan = code::scan(&image, before, &exceptions.landing_pads()).map_err(|reason| Error::Image {
            path: path.to_owned(),
            stage: Stage::Parse,
            reason,
        })?;
        image.growing(|analysis| analysis.add_unnamed(&scan.references));
        let hashes = content::hash(&image, &scan, &exceptions);
        image.growing(|analysis| {
            analysis.personalities = exceptions.personalities;
            analysis.take_in(scan, hashes);
        });
        Ok(image)
    }

    /// Nobody else has it while it is being made.
    fn growing(&mut self, work: impl FnOnce(&mut Analysis)) {
        if let Some(analysis) = Arc::get_mut(&mut self.analysis) {
            work(analysis);
        }
    }

    /// Has what the next file is compared with made ready by a thread of its own, so that whoever asks first need not wait:
    /// functions by name, symbols that are none, and [`Analysis::layouts`], of one file at a time.
    pub fn make_ready(&self) {
        static TURN: Mutex<()> = Mutex::new(());
        let image = self.clone();
        // Without the thread all is made when it is asked for.
        let _ = std::thread::Builder::new().name("layouts".to_owned()).spawn(move || {
            image.listing.outside(&image);
            image.recurring.by_name(&image);
            let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            image.layouts();
        });
    }
}

impl Analysis {
    fn take_in(&mut self, scan: code::Scan, hashes: content::Hashes) {
        let borrowers = scan.entries.others().iter().filter(|(_, form)| matches!(form, Form::Borrowed { .. }));
        self.borrowers = borrowers.map(|(function, _)| *function).collect();
        self.entries = scan.entries;
        self.skeletons = scan.skeletons;
        self.contents = hashes.functions;
        for (object, content) in self.objects.iter_mut().zip(hashes.objects) {
            object.content = content.map(Content::of);
        }
        self.references = scan.references;
        self.approaches = scan.approaches;
        self.tls_uses = scan.tls_uses;
        self.tls_displacements = scan.tls_displacements;
        self.recurring = scan.recurring;
    }

    fn take_symbols(&mut self, symbols: Symbols) {
        let Symbols { functions: Listed { functions, identities, listing }, objects, thread_locals } = symbols;
        self.function_places = Places::new(functions.iter().map(|function| function.address.0));
        self.object_places = Places::new(objects.iter().map(|object| object.address.0));
        self.slot_places = Places::new(self.tables.relocations.iter().map(|relocation| relocation.slot.0));
        self.functions = functions;
        self.identities = identities;
        self.listing = listing;
        self.objects = objects;
        self.thread_locals = thread_locals;
    }

    /// Makes statics of the state that has no symbol.
    fn add_unnamed(&mut self, references: &[CodeReference]) {
        let unnamed = unnamed::find(self, references);
        if unnamed.is_empty() {
            return;
        }
        self.objects.extend(unnamed);
        self.objects.sort_by_key(|object| (object.address, object.size));
        self.object_places = Places::new(self.objects.iter().map(|object| object.address.0));
    }

    /// The symbol's name as it stands in the file.
    pub fn function_name(&self, function: &Function) -> &str {
        // One that is not UTF-8 is shown as empty and matched by its key.
        std::str::from_utf8(self.function_name_bytes(function)).unwrap_or_default()
    }

    /// The symbol's name as it stands in the file.
    pub fn object_name(&self, object: &Object) -> &str {
        if object.is_unnamed() { "(data without a symbol)" } else { self.text(&object.name) }
    }

    /// As [`Analysis::function_name`], for comparing only.
    pub fn function_name_bytes(&self, function: &Function) -> &[u8] {
        elf::SymbolEntries::of(&self.bytes, &self.tables).name(self.listing.entry(function.index as usize))
    }

    /// Which function it is, whatever build of the file this is.
    pub fn identity(&self, function: &Function) -> &Identity {
        &self.identities.all()[function.index as usize]
    }

    /// Where and how the function of this index can be made to jump elsewhere.
    pub fn entry(&self, function: usize) -> Entry {
        self.entries.of(function, self.functions[function].address)
    }

    /// Indices of functions whose entry others share, or that has no room of its own for a jump; some more than once.
    pub fn entangled(&self) -> impl Iterator<Item = u32> {
        let addresses = self.function_places.all();
        let shared =
            (1..addresses.len() as u32).filter(|index| addresses[*index as usize] == addresses[*index as usize - 1]);
        let roomless = self.entries.others().iter().filter(|(_, form)| !matches!(form, Form::Short { .. }));
        shared.flat_map(|index| [index - 1, index]).chain(roomless.map(|(function, _)| *function))
    }

    /// Of all functions, parallel to them.
    pub fn identities(&self) -> &[Identity] {
        self.identities.all()
    }

    /// The name of the function that this is, or that the compiler split this off from, for comparing only.
    pub fn whole_name(&self, function: &Function) -> &[u8] {
        names::of_whole(self.function_name_bytes(function))
    }

    /// Whether one of these stands in the name of any symbol, of files and what others define included: what most files have none of
    /// need not be looked for in all their functions.
    pub fn names_contain(&self, parts: &[&'static str]) -> bool {
        self.listing.contains(parts, self.text_bytes(&self.tables.names))
    }

    /// Of the function that this is, or that the compiler split this off from.
    pub fn whole_key(&self, function: &Function) -> NameKey {
        if function.auxiliary {
            NameKey(XxHash3_128::oneshot(self.whole_name(function)))
        } else {
            self.identity(function).key
        }
    }

    /// A name that stands there in the file.
    pub fn text(&self, range: &Range<u32>) -> &str {
        // Names were sliced from these bytes; one that is not UTF-8 is shown as empty and matched by its key.
        std::str::from_utf8(self.text_bytes(range)).unwrap_or_default()
    }

    /// The same, for comparing only.
    fn text_bytes(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// The section holding `address`, thread-local templates excepted.
    pub fn section_at(&self, address: Vaddr) -> Option<&Section> {
        self.tables.sections.get(self.section_places.holding(address.0))
    }

    /// The section holding `address`, if it is one of the program's code.
    pub fn code_at(&self, address: Vaddr) -> Option<&Section> {
        self.section_at(address).filter(|section| section.kind == SectionKind::Code)
    }

    /// Whether `address` lies in a section of constants.
    pub fn is_in_constant(&self, address: Vaddr) -> bool {
        self.section_at(address).is_some_and(|section| section.kind == SectionKind::Constant)
    }

    /// The file's bytes from `address` to the end of its section; empty for zero-initialised memory.
    pub fn bytes_from(&self, address: Vaddr) -> &[u8] {
        match self.section_at(address) {
            Some(section) if section.kind != SectionKind::ZeroState => {
                let start = section.offset + (address.0 - section.address);
                let end = section.offset + section.size;
                self.bytes.get(start as usize..end as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// Index of the first function that starts at `address`.
    pub fn function_starting_at(&self, address: Vaddr) -> Option<usize> {
        let index = self.function_places.below(address.0);
        (self.functions.get(index)?.address == address).then_some(index)
    }

    /// The function of this index and those behind it that begin at the same address.
    pub fn aliases_from(&self, first: usize) -> impl Iterator<Item = &Function> {
        let address = self.functions.get(first).map(|function| function.address);
        self.functions[first..].iter().take_while(move |function| Some(function.address) == address)
    }

    /// Whether what begins at `address` chooses a function instead of being one, by any of its names.
    pub fn is_resolver(&self, address: Vaddr) -> bool {
        let first = self.function_starting_at(address);
        first.is_some_and(|first| self.aliases_from(first).any(|function| function.indirect))
    }

    /// Index of the function whose extent covers `address`.
    pub fn function_covering(&self, address: Vaddr) -> Option<usize> {
        let after = self.function_places.up_to(address.0);
        let start = self.functions[..after].last()?.address;
        let aliases = self.functions[..after].iter().rev().take_while(|function| function.address == start).count();
        let index = after - aliases;
        (address < self.functions[index].end).then_some(index)
    }

    /// The object that contains `address`, else a zero-sized one exactly there. Markers of linkers (`__TMC_END__`) can lie inside
    /// of a static.
    pub fn object_at(&self, address: Vaddr) -> Option<usize> {
        let after = self.object_places.up_to(address.0);
        // Nearly always it is the last that begins there or before.
        if let Some(last) = after.checked_sub(1).filter(|last| self.objects[*last].contains(address)) {
            return Some(last);
        }
        // Nested symbols are rare (a label inside an array): a short look back finds the enclosing one.
        let mut near = (after.saturating_sub(8)..after).rev();
        let marks = |index: &usize| self.objects[*index].size == 0 && self.objects[*index].address == address;
        near.clone().find(|index| self.objects[*index].contains(address)).or_else(|| near.find(marks))
    }

    /// The object that lies at the address, or the one whose GOT slot it is.
    pub fn object_meant(&self, target: Vaddr) -> Option<usize> {
        let through_got = || self.object_at(self.relocation_at(target)?.resolves.here()?);
        self.object_at(target).or_else(through_got)
    }

    /// The static that code means by this address: the one that lies there, or the one whose GOT slot it is.
    pub fn state_meant(&self, target: Vaddr) -> Option<usize> {
        let object = self.object_meant(target)?;
        (self.objects[object].size > 0 && !self.objects[object].constant).then_some(object)
    }

    /// The names of the objects, ascending, and their indices.
    pub fn objects_by_name(&self) -> &[(NameKey, u32)] {
        self.objects_by_name.get_or_init(|| by_name(&self.objects))
    }

    /// Functions and the statics that they refer to, by their indices, once for each reference.
    pub fn uses_of_state(&self) -> &[(u32, u32)] {
        self.uses_of_state.get_or_init(|| {
            let use_of =
                |reference: &CodeReference| Some((reference.function()?, self.state_meant(reference.target)? as u32));
            self.hands.filter_map(&self.references, use_of)
        })
    }

    /// What the file's debugging information says of types; read when first asked for.
    pub fn layouts(&self) -> &Layouts {
        self.layouts.get_or_init(|| Layouts::read(&self.bytes))
    }

    /// The thread-local variable that contains `offset`.
    pub fn thread_local_at(&self, offset: u64) -> Option<usize> {
        let after = self.thread_locals.partition_point(|object| object.address.0 <= offset);
        (after.saturating_sub(8)..after).rev().find(|index| self.thread_locals[*index].contains(Vaddr(offset)))
    }

    /// The slots of TLS descriptors of the module's block, or of the variable at its start, ascending.
    pub fn descriptors_of_block(&self) -> impl Iterator<Item = Vaddr> {
        let slots = self.tables.relocations.iter();
        let of_block = |slot: &&Relocation| {
            slot.kind == RelocationKind::TlsDescriptor && matches!(slot.resolves, Resolves::Here(Vaddr(0)))
        };
        slots.filter(of_block).map(|slot| slot.slot)
    }

    /// The thread-locals that functions use, by index.
    pub fn thread_locals_by_user(&self) -> HashMap<u32, Vec<usize>> {
        let offset_in = |slot: Vaddr| match &self.relocation_at(slot)?.resolves {
            Resolves::Symbol { here, .. } => Some((*here)?.0),
            Resolves::Here(_) => elf::word_at(&self.bytes, &self.tables.segments, Vaddr(slot.0 + 8)),
        };
        let displacements = self.tls_displacements.iter().map(|at| (at.function, at.offset));
        let pairs = self.tls_uses.iter().filter_map(|at| Some((at.function?, offset_in(at.pair)?)));
        let mut by_user: HashMap<u32, Vec<usize>> = HashMap::new();
        for (function, offset) in displacements.chain(pairs) {
            by_user.entry(function).or_default().extend(self.thread_local_at(offset));
        }
        by_user
    }

    /// The relocation whose slot is at `slot`.
    pub fn relocation_at(&self, slot: Vaddr) -> Option<&Relocation> {
        let relocations = &self.tables.relocations;
        let index = self.slot_places.below(slot.0);
        relocations.get(index).filter(|relocation| relocation.slot == slot)
    }

    /// Those whose slots begin in the range.
    pub fn relocations_in(&self, range: Range<Vaddr>) -> &[Relocation] {
        let (first, end) = (self.slot_places.below(range.start.0), self.slot_places.below(range.end.0));
        self.tables.relocations.get(first..end).unwrap_or_default()
    }

    /// The one whose slot begins last before `end`.
    fn last_relocation_below(&self, end: Vaddr) -> Option<&Relocation> {
        self.tables.relocations[..self.slot_places.below(end.0)].last()
    }

    /// Whether a slot begins in the range.
    pub fn has_relocation_in(&self, range: Range<Vaddr>) -> bool {
        !self.relocations_in(range).is_empty()
    }

    /// Lowest and one past the highest address of the loaded segments, page-rounded.
    pub fn span(&self) -> Range<u64> {
        let segments = &self.tables.segments;
        let low = segments.iter().map(|segment| segment.address & !0xfff).min().unwrap_or(0);
        let high = segments.iter().map(|segment| (segment.address + segment.memory_size + 0xfff) & !0xfff).max();
        low..high.unwrap_or(0)
    }
}
