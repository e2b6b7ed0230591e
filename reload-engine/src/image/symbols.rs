//! From the symbol table to functions, statics and thread-locals, in the order of their addresses.
//!
//! There may be hundreds of thousands, so what is sorted is short, and each is made where it stays.

use std::{ops::Range, path::Path, sync::Arc};

use twox_hash::XxHash3_128;

use super::{
    Analysis, Function, NameKey, Object, Section, SectionKind, TextKey,
    elf::{self, RawKind, RawSymbol},
    identity::{self, Identities, Identity, Listed, Listing},
    names,
};
use crate::{error::Result, model::Vaddr};

/// What symbols stand for, ascending by address and size.
pub struct Symbols {
    pub functions: Listed,
    pub objects: Vec<Object>,
    pub thread_locals: Vec<Object>,
}

#[derive(Clone, Copy)]
enum Kind {
    Function,
    Object,
    ThreadLocal,
}

impl Kind {
    /// The one whose symbols come next.
    fn next(self) -> Option<Kind> {
        match self {
            Kind::Function => Some(Kind::Object),
            Kind::Object => Some(Kind::ThreadLocal),
            Kind::ThreadLocal => None,
        }
    }
}

/// What symbols are sorted by: what each stands for, its address, which one it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u128);

impl Key {
    /// Stands for nothing, and behind all that does.
    const NOTHING: Key = Key(u128::MAX);

    fn new(kind: Kind, address: u64, index: usize) -> Key {
        Key((kind as u128) << 96 | u128::from(address) << 32 | index as u128)
    }

    fn index(self) -> usize {
        self.0 as u32 as usize
    }

    /// Whether both stand for the same kind of thing at the same address.
    fn is_alias_of(self, other: Key) -> bool {
        self.0 >> 32 == other.0 >> 32
    }

    /// Not behind any of this kind.
    fn first(kind: Kind) -> Key {
        Key::new(kind, 0, 0)
    }
}

/// Of the symbols of `image`, with less work where they are those of `before` in other places; `path` is for messages only.
///
/// # Errors
/// As [`elf::symbols`].
pub fn collect(image: &Analysis, before: Option<&Analysis>, path: &Path) -> Result<Symbols> {
    let read = |left_out: &dyn Fn(Vaddr) -> bool| elf::symbols(path, &image.bytes, &image.tables, left_out);
    let known = before.and_then(|before| Some((before, identity::listed(image, before)?)));
    if let Some((before, listing)) = known {
        let functions = || identity::moved(image, before, &listing);
        let others =
            || read(&|address| image.code_at(address).is_some()).map(|symbols| Sorted::of(image, &symbols).data());
        let (functions, others) = image.hands.both(functions, others);
        let [objects, thread_locals] = others?;
        if let Some(mut functions) = functions {
            end_at_next(&mut functions);
            let functions = Listed { functions, identities: Arc::clone(&before.identities), listing };
            return Ok(Symbols { functions, objects, thread_locals });
        }
    }
    let symbols = read(&|_| false)?;
    let sorted = Sorted::of(image, &symbols);
    let mut functions = sorted.functions();
    end_at_next(&mut functions.functions);
    let [objects, thread_locals] = sorted.data();
    Ok(Symbols { functions, objects, thread_locals })
}

/// Symbols by what they stand for, ascending by address and size.
struct Sorted<'a> {
    image: &'a Analysis,
    symbols: &'a [RawSymbol],
    keys: Vec<Key>,
}

impl<'a> Sorted<'a> {
    fn of(image: &'a Analysis, symbols: &'a [RawSymbol]) -> Sorted<'a> {
        let hands = image.hands;
        let mut keys = hands.map(0..symbols.len(), |index| key(image, index, &symbols[index]));
        hands.sort(&mut keys);
        keys.truncate(keys.partition_point(|key| *key < Key::NOTHING));
        for aliases in keys.chunk_by_mut(|one, next| one.is_alias_of(*next)) {
            if aliases.len() > 1 {
                aliases.sort_by_key(|key| Extent::of(image, &symbols[key.index()]).size);
            }
        }
        Sorted { image, symbols, keys }
    }

    /// Those of a kind.
    fn kind(&self, kind: Kind) -> &[Key] {
        let from = |kind: Option<Kind>| {
            kind.map_or(self.keys.len(), |kind| self.keys.partition_point(|key| *key < Key::first(kind)))
        };
        &self.keys[from(Some(kind))..from(kind.next())]
    }

    fn names(&self) -> Names<'a> {
        Names { image: self.image, symbols: self.symbols, last_file: None }
    }

    /// Not yet cut where the next one begins.
    fn functions(&self) -> Listed {
        let (hands, keys) = (self.image.hands, self.kind(Kind::Function));
        let symbol = |key: &Key| &self.symbols[key.index()];
        let identities = hands.map_with(keys, || self.names(), Names::identity);
        let entries = hands.map(keys, |key| symbol(key).index);
        let function = |index: usize| function(self.image, symbol(&keys[index]), index, &identities[index]);
        let functions = hands.map(0..keys.len(), function);
        let (identities, listing) = (Identities::new(identities, self.image), Listing::new(entries));
        Listed { functions, identities: Arc::new(identities), listing: Arc::new(listing) }
    }

    /// Objects and thread-locals.
    fn data(&self) -> [Vec<Object>; 2] {
        [Kind::Object, Kind::ThreadLocal]
            .map(|kind| self.image.hands.map_with(self.kind(kind), || self.names(), Names::object))
    }
}

fn key(image: &Analysis, index: usize, symbol: &RawSymbol) -> Key {
    let section = || image.section_at(Vaddr(symbol.address));
    let in_code = || image.code_at(Vaddr(symbol.address)).is_some();
    let of_state_or_constant =
        |section: &Section| section.kind.is_state() || (section.kind == SectionKind::Constant && symbol.size > 0);
    let kind = match symbol.kind {
        RawKind::Function | RawKind::IndirectFunction if in_code() => Kind::Function,
        RawKind::Object if section().is_some_and(of_state_or_constant) => Kind::Object,
        RawKind::ThreadLocal => Kind::ThreadLocal,
        _ => return Key::NOTHING,
    };
    Key::new(kind, symbol.address, index)
}

/// What a symbol covers.
struct Extent {
    /// Bytes, not beyond the limit.
    size: u64,
    /// Where its section or the TLS block ends.
    limit: u64,
    constant: bool,
}

impl Extent {
    fn of(image: &Analysis, symbol: &RawSymbol) -> Extent {
        let (limit, constant) = match symbol.kind {
            RawKind::ThreadLocal => (image.tables.tls_size, false),
            _ => image
                .section_at(Vaddr(symbol.address))
                .map_or((symbol.address, false), |section| (section.end(), section.kind == SectionKind::Constant)),
        };
        Extent { size: symbol.size.min(limit.saturating_sub(symbol.address)), limit, constant }
    }
}

/// The one of this index.
fn function(image: &Analysis, symbol: &RawSymbol, index: usize, identity: &Identity) -> Function {
    let Extent { size, limit, .. } = Extent::of(image, symbol);
    Function {
        address: Vaddr(symbol.address),
        size,
        end: Vaddr(limit),
        index: index as u32,
        auxiliary: identity.auxiliary,
        indirect: symbol.kind == RawKind::IndirectFunction,
    }
}

/// Functions end where the next one begins.
fn end_at_next(functions: &mut [Function]) {
    let mut end = None;
    for index in (0..functions.len()).rev() {
        let address = functions[index].address;
        if index + 1 < functions.len() && functions[index + 1].address != address {
            end = Some(functions[index + 1].address);
        }
        if let Some(end) = end {
            let function = &mut functions[index];
            function.end = function.end.min(end);
        }
    }
}

/// Reads names, most of which come from the file that the one before came from.
struct Names<'a> {
    image: &'a Analysis,
    symbols: &'a [RawSymbol],
    last_file: Option<(Range<u32>, TextKey)>,
}

impl<'a> Names<'a> {
    fn identity(&mut self, key: &Key) -> Identity {
        let symbol = &self.symbols[key.index()];
        let (normal, auxiliary) = names::of_function(self.bytes(&symbol.name));
        Identity {
            auxiliary,
            key: NameKey(XxHash3_128::oneshot(normal)),
            file: self.file(symbol, normal),
            version: symbol.version.as_ref().map(|version| TextKey::of(self.bytes(version))),
        }
    }

    fn object(&mut self, key: &Key) -> Object {
        let symbol = &self.symbols[key.index()];
        let Extent { size, constant, .. } = Extent::of(self.image, symbol);
        let name = self.bytes(&symbol.name);
        Object {
            name: symbol.name.clone(),
            key: NameKey(XxHash3_128::oneshot(names::normalise(name, symbol.local))),
            address: Vaddr(symbol.address),
            size,
            file: self.file(symbol, names::normalise(name, false)),
            version: symbol.version.as_ref().map(|version| TextKey::of(self.bytes(version))),
            local: symbol.local,
            constant,
            content: None,
        }
    }

    fn bytes(&self, range: &Range<u32>) -> &'a [u8] {
        self.image.text_bytes(range)
    }

    /// `name` is the symbol's, normalised.
    fn file(&mut self, symbol: &RawSymbol, name: &[u8]) -> Option<TextKey> {
        let file = symbol.file.as_ref()?;
        // Rust's source files are codegen units with a hash in their name, and its symbols need none.
        if names::is_rust(name) {
            return None;
        }
        match &self.last_file {
            Some((known, key)) if known == file => Some(*key),
            _ => Some(self.last_file.insert((file.clone(), TextKey::of(self.bytes(file)))).1),
        }
    }
}
