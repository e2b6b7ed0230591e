//! What a function or a static *means*, as a hash that does not depend on where anything lies.
//!
//! Two functions with the same hash do the same: same instructions, same callees by name, same statics by name and size,
//! same constants by value, same handling of exceptions. The other direction does not hold, and need not: patching an
//! unchanged function is harmless.

use std::{borrow::Cow, ops::Range};

use foldhash::{HashMap, HashMapExt as _};
use twox_hash::XxHash3_128;

use super::{
    Content, Function, Identity, Image, RelocationKind, Resolves, Section, SectionKind,
    code::{Mention, Scan},
    exceptions::{self, Named},
    names,
    places::{Places, ascending},
};
use crate::{hands::Hands, model::Vaddr};

/// Hashes parallel to the image's functions and objects.
pub struct Hashes {
    pub functions: Vec<Option<Content>>,
    pub objects: Vec<Option<u128>>,
}

/// How many pointers a description follows; what is nested deeper cannot be compared.
const DEPTH: u32 = 64;
/// How many constants are read for one file, each part having its share, before the rest counts as incomparable; tables
/// that refer to each other in circles would otherwise be read over and over.
const BUDGET: u32 = 2_000_000;

/// Hashes everything in `image`.
pub fn hash(image: &Image, scan: &Scan, exceptions: &exceptions::Tables) -> Hashes {
    let is_rust = |function: &Function| names::is_rust(image.function_name_bytes(function));
    let counted_strings = image.names_contain(&names::MARKS_OF_RUST) && image.functions.iter().any(is_rust);
    let entries = entries(image);
    let clones = Clones::of(image);
    let meaning = |boundaries, resolvers| Meaning {
        resolvers,
        entries: &entries,
        image,
        exceptions,
        relative_tables: &scan.relative_tables,
        boundaries,
        clones: &clones,
        reaching: Vec::new(),
        stubs: HashMap::new(),
        mentioned: HashMap::new(),
        parts: Vec::new(),
        counted_strings,
        known: HashMap::new(),
        open: Vec::new(),
        circles: 0,
        incomplete: false,
        budget: BUDGET / image.functions.len().max(image.objects.len()).div_ceil(SHARE).max(1) as u32,
    };
    let none = HashMap::new();
    let own = boundaries(image, scan);
    let extended;
    let led_to = meaning(&own, &none).what_tables_lead_to();
    let boundaries = if led_to.is_empty() {
        &own
    } else {
        extended = Places::of(ascending(own.all().iter().copied().chain(led_to).collect()));
        &extended
    };
    let indirect = image.functions.iter().enumerate().filter(|(_, function)| function.indirect);
    let mut plain = meaning(boundaries, &none);
    let resolvers: HashMap<Vaddr, Option<u128>> =
        indirect.map(|(index, function)| (function.address, plain.function(index, scan))).collect();
    let functions = parts(image.functions.len());
    let objects = parts(image.objects.len());
    // What a part has read of constants for its functions serves for its statics.
    let part = |index: usize| {
        let mut meaning = meaning(boundaries, &resolvers);
        let functions = functions.get(index).into_iter().flat_map(Range::clone);
        let own = |function: usize| meaning.function(function, scan).map(Content::of);
        let functions: Vec<_> = functions.map(own).collect();
        let objects = objects.get(index).into_iter().flat_map(Range::clone);
        let objects: Vec<_> = objects.map(|object| meaning.static_of(object)).collect();
        (functions, objects, meaning.reaching)
    };
    let count = functions.len().max(objects.len());
    let hashed = match image.hands {
        // What the caller's processor has at hand serves for its half.
        Hands::One if count > 1 && scan.constants.len() > MANY => {
            let half = |parts: Range<usize>| Hands::One.map(parts, part);
            let (mut here, there) = Hands::All.both(|| half(0..count / 2), || half(count / 2..count));
            here.extend(there);
            here
        }
        hands => hands.map(0..count, part),
    };
    let mut functions = Vec::with_capacity(image.functions.len());
    let (mut objects, mut reaching) = (Vec::with_capacity(image.objects.len()), Vec::new());
    for (of_functions, of_statics, of_part) in hashed {
        functions.extend(of_functions);
        objects.extend(of_statics);
        reaching.extend(of_part);
    }
    let together = image.hands.map(&reaching, |index| with_clones(image, scan, &functions, &clones, *index));
    for (index, content) in reaching.into_iter().zip(together) {
        functions[index] = content;
    }
    for (content, body) in functions.iter_mut().zip(&scan.bodies) {
        if body.opaque || !image.tables.has_local_symbols {
            *content = None;
        }
    }
    Hashes { functions, objects }
}

/// How functions or statics are divided among threads: what parts have in common each of them reads anew, so they are few, but
/// the same on every machine.
fn parts(count: usize) -> Vec<Range<usize>> {
    const PARTS: usize = 8;
    const LEAST: usize = 512;
    let size = count.div_ceil(PARTS).max(LEAST);
    (0..count).step_by(size).map(|start| start..count.min(start + size)).collect()
}

/// Of a file that one thread goes through otherwise, so many mentions of constants are worth waking another one for.
const MANY: usize = 2048;

/// For how many functions or statics the budget is divided.
const SHARE: usize = 8192;

/// Where the compiler's clones stand, ascending.
struct Clones(Vec<(Vaddr, Vaddr)>);

impl Clones {
    fn of(image: &Image) -> Clones {
        let clones = image.functions.iter().filter(|function| function.auxiliary);
        Clones(clones.map(|clone| (clone.address, clone.end)).collect())
    }

    /// Whether what is mentioned lies in one of them.
    fn hold(&self, mention: Mention) -> bool {
        let Some(target) = mention.address() else { return false };
        let (Some((first, _)), Some((_, last))) = (self.0.first(), self.0.last()) else { return false };
        // Most of what code refers to is far from all of them.
        if target < *first || target >= *last {
            return false;
        }
        let after = self.0.partition_point(|(start, _)| *start <= target);
        after > 0 && target < self.0[after - 1].1
    }
}

/// A function's hash together with those of the clones it reaches: they have no entry of their own.
fn with_clones(
    image: &Image,
    scan: &Scan,
    own: &[Option<Content>],
    clones: &Clones,
    function: usize,
) -> Option<Content> {
    let mut reached: Vec<usize> = Vec::new();
    let mut open = vec![function];
    while let Some(index) = open.pop() {
        for mention in scan.mentions(index).iter().copied().filter(|mention| clones.hold(*mention)) {
            if let Some(callee) = mention.address().and_then(|address| image.function_covering(address))
                && image.functions[callee].auxiliary
                && callee != function
                && !reached.contains(&callee)
            {
                reached.push(callee);
                open.push(callee);
            }
        }
    }
    if reached.is_empty() {
        return own[function];
    }
    let mut parts = reached.iter().map(|index| own[*index]).collect::<Option<Vec<Content>>>()?;
    parts.sort_unstable();
    parts.push(own[function]?);
    let parts: Vec<_> = parts.into_iter().map(|Content(hash)| hash.get().to_le_bytes()).collect();
    Some(Content::of(digest_of(&parts)))
}

/// What the address of a function stands for that has no other name: its name.
pub fn entry_of(identity: &Identity) -> u128 {
    digest([tag(b'f'), identity.key.0, identity.file.map_or(0, |file| file.0.get().into())])
}

/// By function, what its address stands for. Of several names for one address the smallest, so that the order of the
/// symbol table does not matter. A local name says little without its source file: of another file it may well be another
/// function.
fn entries(image: &Image) -> Cow<'_, [u128]> {
    let (identities, meanings) = (image.identities(), image.identities.meanings());
    let addresses = image.function_places.all();
    if addresses.is_sorted_by(|one, next| one < next) {
        return Cow::Borrowed(meanings);
    }
    let mut entries = meanings.to_vec();
    let mut end = 0;
    for addresses in addresses.chunk_by(|one, next| one == next) {
        let aliases = end..end + addresses.len();
        end = aliases.end;
        let name = |alias: &usize| (identities[*alias].key, identities[*alias].file);
        if addresses.len() > 1
            && let Some(smallest) = aliases.clone().min_by_key(name)
        {
            let meaning = entries[smallest];
            entries[aliases].fill(meaning);
        }
    }
    Cow::Owned(entries)
}

/// Every address at which something else may begin: an anonymous constant ends at the next one.
fn boundaries(image: &Image, scan: &Scan) -> Places {
    let pointed = image.tables.relocations.iter().filter_map(|relocation| relocation.resolves.here());
    let named = image.objects.iter().filter(|object| object.constant).flat_map(|o| [o.address, o.end()]);
    let mentioned = scan.constants.iter().copied();
    let all = pointed.filter(|address| image.is_in_constant(*address)).chain(mentioned).chain(named);
    Places::of(ascending(all.map(|address| address.0).collect()))
}

struct Meaning<'a> {
    image: &'a Image,
    exceptions: &'a exceptions::Tables,
    relative_tables: &'a [Vaddr],
    boundaries: &'a Places,
    clones: &'a Clones,
    /// Functions that refer to some of them.
    reaching: Vec<usize>,
    /// What chooses the functions that an address only seems to stand for, by that address.
    resolvers: &'a HashMap<Vaddr, Option<u128>>,
    /// Parallel to the image's functions: what the address of each stands for, resolvers apart.
    entries: &'a [u128],
    /// What a stub of the procedure linkage table leads to.
    stubs: HashMap<u64, u128>,
    /// What code that refers to an address means, where that is the same in whichever function it is.
    mentioned: HashMap<u64, u128>,
    /// Of the function being described, kept for its memory.
    parts: Vec<[u8; 16]>,
    /// Strings carry their length beside them (Rust) instead of ending with a zero byte (C).
    counted_strings: bool,
    /// Constants by where they begin and end.
    known: HashMap<(u64, u64), u128>,
    /// Those being read, to notice circles: no more than [`DEPTH`].
    open: Vec<(u64, u64)>,
    circles: u64,
    /// Something was too deep or too much.
    incomplete: bool,
    budget: u32,
}

impl Meaning<'_> {
    /// Of a function without its clones; `None`: it cannot be compared.
    fn function(&mut self, index: usize, scan: &Scan) -> Option<u128> {
        self.incomplete = false;
        let body = &scan.bodies[index];
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        parts.push(scan.skeletons[index].to_le_bytes());
        let mut reaches_clones = false;
        for mention in scan.mentions_of(body) {
            reaches_clones |= self.clones.hold(*mention);
            let meaning = match *mention {
                Mention::Function { index, .. } if self.resolvers.is_empty() => self.entries[index as usize],
                Mention::Function { start: target, .. } | Mention::Branch(target) => self.code(target),
                Mention::ThreadLocal(offset) => self.thread_local(offset),
                Mention::Memory(target) => self.mentioned(index, target),
            };
            parts.push(meaning.to_le_bytes());
        }
        self.reaching.extend(reaches_clones.then_some(index));
        let exceptions = self.exceptions(self.image.functions[index].address);
        if let Some(exceptions) = &exceptions {
            parts.extend(exceptions.iter().map(|part| part.to_le_bytes()));
        }
        let content = (exceptions.is_some() && !self.incomplete).then(|| digest_of(&parts));
        self.parts = parts;
        content
    }

    /// The initial value of a static by itself.
    fn static_of(&mut self, index: usize) -> Option<u128> {
        self.incomplete = false;
        let value = self.object(index, 0);
        (!self.incomplete).then_some(value)
    }

    /// What `function` means by this address.
    fn mentioned(&mut self, function: usize, target: Vaddr) -> u128 {
        if let Some(known) = self.mentioned.get(&target.0) {
            return *known;
        }
        if self.relative_tables.binary_search(&target).is_ok() {
            return self.relative_table(function, target);
        }
        let may_be_jump_table = self.may_be_jump_table(target);
        if may_be_jump_table && let Some(cases) = self.jump_table(function, target) {
            return cases;
        }
        let (circles, incomplete) = (self.circles, std::mem::take(&mut self.incomplete));
        let meaning = self.target(target, 0);
        if circles == self.circles && !self.incomplete && !may_be_jump_table {
            self.mentioned.insert(target.0, meaning);
        }
        self.incomplete |= incomplete;
        meaning
    }

    fn cannot_be_compared(&mut self) -> u128 {
        self.incomplete = true;
        tag(b'x')
    }

    /// The exception table of the function at `start`, if it has one; `None` where that cannot be told.
    fn exceptions(&mut self, start: Vaddr) -> Option<Vec<u128>> {
        let tables = self.exceptions;
        let Some(table) = tables.by_start.get(&start) else { return (!tables.broken).then(Vec::new) };
        let table = table.as_ref()?;
        let mentions = table.mentions.iter().map(|mention| match *mention {
            Named::Anything => tag(b'*'),
            Named::At(target) => self.target(target, 0),
            Named::In(slot) => self.slot(slot, 0),
            Named::Pad(pad) => self.code(pad),
        });
        Some([tag(b'e'), table.skeleton].into_iter().chain(mentions).collect())
    }

    /// What the distances of a table lead to: the cases of a switch, strings (LLVM turns tables of pointers into these).
    fn distances(&self, table: Vaddr) -> Vec<Vaddr> {
        if !self.image.is_in_constant(table) {
            return Vec::new();
        }
        let limit = self.end_of_constant(table).0 - table.0;
        let entries = self.image.bytes_from(table).chunks_exact(4).take(limit as usize / 4);
        entries
            .map(|entry| i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]))
            .take_while(|distance| *distance != 0)
            .map(|distance| Vaddr(table.0.wrapping_add_signed(distance.into())))
            .take_while(|target| {
                let section = self.image.section_at(*target);
                section.is_some_and(|section| match section.kind {
                    SectionKind::Code => self.image.function_covering(*target).is_some(),
                    SectionKind::Constant => has_values(&section.name),
                    _ => false,
                })
            })
            .collect()
    }

    /// The constants that tables lead to: something begins there.
    fn what_tables_lead_to(&self) -> Vec<u64> {
        let targets = self.relative_tables.iter().flat_map(|table| self.distances(*table));
        targets.filter(|target| self.image.is_in_constant(*target)).map(|target| target.0).collect()
    }

    /// A table that provably holds distances, as what they lead to.
    fn relative_table(&mut self, function: usize, table: Vaddr) -> u128 {
        let targets = self.distances(table);
        if targets.is_empty() {
            return self.target(table, 0);
        }
        let owner = &self.image.functions[function];
        let (start, end) = (owner.address, owner.end);
        let inside = |target: Vaddr| target >= start && target < end;
        let meanings = targets.into_iter().map(|target| match target {
            target if inside(target) => (target.0 - start.0) as u128,
            target => self.target(target, 1),
        });
        let parts: Vec<_> = std::iter::once(tag(b'j')).chain(meanings).map(u128::to_le_bytes).collect();
        digest_of(&parts)
    }

    /// Most of what code refers to is no table of a switch in any function: its first entry leads to no code.
    fn may_be_jump_table(&self, target: Vaddr) -> bool {
        let constant = |section: &Section| section.kind == SectionKind::Constant;
        let first = || self.image.bytes_from(target).first_chunk().copied();
        let leads_to_code = |distance: [u8; 4]| {
            let address = Vaddr(target.0.wrapping_add_signed(i32::from_le_bytes(distance).into()));
            self.image.section_at(address).is_some_and(|section| section.kind.is_code())
        };
        target.0.is_multiple_of(4)
            && self.image.section_at(target).is_some_and(constant)
            && first().is_some_and(leads_to_code)
    }

    /// A switch's table of 32-bit offsets into its own function, if what may be one is one: position-independent once read as
    /// positions.
    fn jump_table(&self, function: usize, target: Vaddr) -> Option<u128> {
        let owner = &self.image.functions[function];
        let bytes = self.image.bytes_from(target);
        let address = |entry: &[u8]| {
            let offset = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            Vaddr(target.0.wrapping_add_signed(offset as i64))
        };
        let limit = self.end_of_constant(target).0 - target.0;
        let mut parts = vec![tag(b'j').to_le_bytes()];
        for entry in bytes.chunks_exact(4).take(limit as usize / 4) {
            let address = address(entry);
            if address >= owner.address && address < owner.end {
                parts.push(((address.0 - owner.address.0) as u128).to_le_bytes());
            } else if let Some(other) = self.image.function_covering(address)
                && self.image.functions[other].auxiliary
            {
                let other = &self.image.functions[other];
                parts.extend(
                    [self.image.identity(other).key.0, (address.0 - other.address.0) as u128].map(u128::to_le_bytes),
                );
            } else {
                break;
            }
        }
        (parts.len() > 1).then(|| digest_of(&parts))
    }

    /// What an address that is branched to or taken as code stands for.
    fn code(&mut self, target: Vaddr) -> u128 {
        if self.resolvers.is_empty()
            && let Some(index) = self.image.function_starting_at(target)
        {
            return self.entries[index];
        }
        if let Some(index) = self.image.function_covering(target) {
            let function = &self.image.functions[index];
            let offset = target.0 - function.address.0;
            return match self.resolvers.get(&function.address) {
                None if offset == 0 => self.entries[index],
                None => digest([self.entries[index], offset as u128]),
                Some(choice) => {
                    let choice = choice.unwrap_or_else(|| self.cannot_be_compared());
                    digest([tag(b'i'), self.entries[index], offset as u128, choice])
                }
            };
        }
        if let Some(known) = self.stubs.get(&target.0) {
            return *known;
        }
        let meaning = self.stub(target);
        self.stubs.insert(target.0, meaning);
        meaning
    }

    /// A stub jumps through a GOT slot; the slot's symbol is what it means.
    fn stub(&mut self, target: Vaddr) -> u128 {
        match super::callers::stub(self.image, target) {
            Some(slot) => digest([tag(b'p'), self.slot(slot, 0)]),
            None => {
                let bytes = self.image.bytes_from(target);
                digest([tag(b'?'), XxHash3_128::oneshot(&bytes[..bytes.len().min(16)])])
            }
        }
    }

    /// What an address in this file stands for.
    fn target(&mut self, target: Vaddr, depth: u32) -> u128 {
        let Some(section) = self.image.section_at(target) else { return tag(b'o') };
        match section.kind {
            SectionKind::Code | SectionKind::LinkerCode => self.code(target),
            SectionKind::State | SectionKind::ZeroState => self.state(target),
            SectionKind::ThreadLocal => tag(b't'),
            SectionKind::Constant => match self.image.object_at(target) {
                Some(index) => {
                    let offset = target.0 - self.image.objects[index].address.0;
                    digest([tag(b'c'), self.object(index, depth), offset as u128])
                }
                None if section.name.starts_with(".got") => self.slot(target, depth),
                None if !has_values(&section.name) => digest([tag(b'x'), name_digest(&section.name)]),
                None => {
                    let end = self.end_of_constant(target);
                    digest([tag(b'a'), self.constant(target, self.without_padding(target, end), depth)])
                }
            },
        }
    }

    /// A static is what it is called and how large it is, never what it holds.
    fn state(&self, target: Vaddr) -> u128 {
        // The end of an object belongs to it where nothing else begins.
        let before = || target.0.checked_sub(1).and_then(|address| self.image.object_at(Vaddr(address)));
        match self.image.object_at(target).or_else(before) {
            Some(index) => {
                let object = &self.image.objects[index];
                digest([tag(b's'), object.key.0, object.size as u128, target.0.wrapping_sub(object.address.0) as u128])
            }
            None => digest([tag(b'u'), target.0 as u128]),
        }
    }

    /// What the word at `slot` will hold once the loader has relocated it.
    fn slot(&mut self, slot: Vaddr, depth: u32) -> u128 {
        let image = self.image;
        let Some(relocation) = image.relocation_at(slot) else {
            let word = super::elf::word_at(&image.bytes, &image.tables.segments, slot).unwrap_or(0);
            return digest([tag(b'w'), word as u128]);
        };
        let kind = tag(relocation.kind as u8);
        match (&relocation.resolves, relocation.kind) {
            // Exported or not, it is the same thing.
            (Resolves::Symbol { here: Some(target), .. }, RelocationKind::Address) => {
                digest([kind, self.target(*target, depth + 1)])
            }
            (Resolves::Symbol { here: Some(target), .. }, _) if self.resolvers.contains_key(target) => {
                digest([kind, self.code(*target)])
            }
            (Resolves::Symbol { name, addend, here }, _) => {
                let size = here.and_then(|here| image.object_at(here)).map_or(0, |object| image.objects[object].size);
                digest([kind, name_digest(image.text(name)), *addend as u128, size as u128])
            }
            // A local variable of a local-dynamic or initial-exec slot; which one follows in the next word or the addend.
            (
                Resolves::Here(offset),
                RelocationKind::TlsModule | RelocationKind::ThreadPointerOffset | RelocationKind::TlsDescriptor,
            ) => {
                let second = super::elf::word_at(&image.bytes, &image.tables.segments, Vaddr(slot.0 + 8)).unwrap_or(0);
                let offset = if relocation.kind == RelocationKind::TlsModule { second } else { offset.0 };
                digest([kind, self.thread_local(offset)])
            }
            (Resolves::Here(target), _) => digest([kind, self.target(*target, depth + 1)]),
        }
    }

    fn thread_local(&self, offset: u64) -> u128 {
        match self.image.thread_local_at(offset) {
            Some(index) => {
                let object = &self.image.thread_locals[index];
                digest([object.key.0, object.size as u128, (offset - object.address.0) as u128])
            }
            None => offset as u128,
        }
    }

    /// The initial value of a named object.
    fn object(&mut self, index: usize, depth: u32) -> u128 {
        let object = &self.image.objects[index];
        let (start, end, size) = (object.address, object.end(), object.size);
        digest([size as u128, self.constant(start, end, depth)])
    }

    /// The value between two addresses, read once however often it is referred to.
    fn constant(&mut self, start: Vaddr, end: Vaddr, depth: u32) -> u128 {
        let place = (start.0, end.0);
        if let Some(known) = self.known.get(&place) {
            return *known;
        }
        if self.open.contains(&place) {
            self.circles += 1;
            return tag(b'o');
        }
        if depth >= DEPTH || self.budget == 0 {
            self.incomplete = true;
            return tag(b'x');
        }
        self.budget -= 1;
        self.open.push(place);
        let (circles, incomplete) = (self.circles, std::mem::take(&mut self.incomplete));
        let value = self.bytes(start, end, depth + 1);
        self.open.pop();
        // What went in circles reads differently from each place of the circle, and what was cut says nothing.
        if circles == self.circles && !self.incomplete {
            self.known.insert(place, value);
        }
        self.incomplete |= incomplete;
        value
    }

    /// File bytes with every relocated word replaced by what it points to.
    fn bytes(&mut self, start: Vaddr, end: Vaddr, depth: u32) -> u128 {
        let image = self.image;
        let all = image.bytes_from(start);
        let len = ((end.0 - start.0) as usize).min(all.len());
        let size = (end.0 - start.0) as u128;
        let relocations = image.relocations_in(start..end);
        if relocations.is_empty() {
            return digest([size, XxHash3_128::oneshot(&all[..len])]);
        }
        let mut value = all[..len].to_vec();
        let mut parts = Vec::with_capacity(2 + 2 * relocations.len());
        parts.push(size.to_le_bytes());
        for relocation in relocations {
            let at = (relocation.slot.0 - start.0) as usize;
            if let Some(word) = value.get_mut(at..at + 8) {
                word.fill(0);
            }
            parts.push((at as u128).to_le_bytes());
            parts.push(self.slot(relocation.slot, depth).to_le_bytes());
        }
        parts.push(XxHash3_128::oneshot(&value).to_le_bytes());
        digest_of(&parts)
    }

    /// Zeroes before the next constant may be padding; a reader finds them there all the same.
    fn without_padding(&self, start: Vaddr, end: Vaddr) -> Vaddr {
        let bytes = self.image.bytes_from(start);
        let bytes = &bytes[..bytes.len().min((end.0 - start.0) as usize)];
        let last = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let pointer_end = self.image.last_relocation_below(end).map_or(0, |relocation| relocation.slot.0 + 8);
        Vaddr((start.0 + last as u64).max(pointer_end.min(end.0)).max(start.0))
    }

    /// Where the anonymous constant at `start` ends: at the next thing known to begin. In C that may be the tail of a longer
    /// string, which linkers share, so there a constant goes on until a zero byte has been met.
    fn end_of_constant(&self, start: Vaddr) -> Vaddr {
        let Some(section) = self.image.section_at(start) else { return start };
        let bytes = self.image.bytes_from(start);
        let limit = section.end();
        let after = &self.boundaries.all()[self.boundaries.up_to(start.0)..];
        let mut searched = 0;
        for end in after.iter().take_while(|end| **end < limit) {
            let len = (*end - start.0) as usize;
            if self.counted_strings || bytes[searched.min(bytes.len())..len.min(bytes.len())].contains(&0) {
                return Vaddr(*end);
            }
            searched = len;
        }
        Vaddr(limit)
    }
}

/// Whether a constant section holds values of the program rather than tables of the linker.
fn has_values(section: &str) -> bool {
    [".rodata", ".data.rel.ro", ".lrodata", ".gcc_except_table"].iter().any(|prefix| section.starts_with(prefix))
}

fn tag(kind: u8) -> u128 {
    kind as u128 | 1 << 100
}

fn name_digest(name: &str) -> u128 {
    XxHash3_128::oneshot(name.as_bytes())
}

fn digest<const N: usize>(parts: [u128; N]) -> u128 {
    digest_of(&parts.map(u128::to_le_bytes))
}

/// Of numbers as their bytes, the lowest first.
fn digest_of(parts: &[[u8; 16]]) -> u128 {
    XxHash3_128::oneshot(parts.as_flattened())
}
