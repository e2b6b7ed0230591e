//! From the symbol table to functions, statics and thread-locals, in the order of their addresses.
//!
//! There may be hundreds of thousands, so what is sorted are their places, and each is made where it stays.

use std::ops::Range;

use twox_hash::XxHash3_128;

use super::{
    Analysis, Function, NameKey, Object, Section, SectionKind, TextKey,
    elf::{RawKind, RawSymbol},
    names,
};
use crate::{hands::Hands, model::Vaddr};

/// What symbols stand for, ascending by address and size.
pub struct Symbols {
    pub functions: Vec<Function>,
    pub objects: Vec<Object>,
    pub thread_locals: Vec<Object>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Function,
    Object,
    ThreadLocal,
}

/// Where something lies that a symbol stands for. In this order they are sorted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: Kind,
    address: Vaddr,
    /// Bytes, not beyond the limit.
    size: u64,
    /// Of the symbol.
    index: u32,
    /// Where its section or the TLS block ends.
    limit: u64,
    constant: bool,
}

pub fn collect(image: &Analysis) -> Symbols {
    let (hands, symbols) = (image.hands, &image.tables.symbols);
    let places = hands.filter_map(0..symbols.len(), |index| place(image, index as u32, &symbols[index]));
    let places = sorted(hands, &places);
    let (functions, others) = places.split_at(places.partition_point(|place| place.kind == Kind::Function));
    let (objects, thread_locals) = others.split_at(others.partition_point(|place| place.kind == Kind::Object));
    let names = || Names { image, last_file: None };
    let mut functions = hands.map_with(functions, names, Names::function);
    end_at_next(&mut functions);
    Symbols {
        functions,
        objects: hands.map_with(objects, names, Names::object),
        thread_locals: hands.map_with(thread_locals, names, Names::object),
    }
}

/// In their order. Short keys are sorted, then those that begin at the same address: aliases, few of them.
fn sorted(hands: Hands, places: &[Place]) -> Vec<Place> {
    let key =
        |(at, place): (u32, &Place)| (place.kind as u128) << 96 | u128::from(place.address.0) << 32 | u128::from(at);
    let mut keys: Vec<u128> = (0..).zip(places).map(key).collect();
    hands.sort(&mut keys);
    let mut sorted: Vec<Place> = keys.into_iter().map(|key| places[key as u32 as usize]).collect();
    for aliases in sorted.chunk_by_mut(|one, next| (one.kind, one.address) == (next.kind, next.address)) {
        if aliases.len() > 1 {
            aliases.sort_unstable();
        }
    }
    sorted
}

fn place(image: &Analysis, index: u32, symbol: &RawSymbol) -> Option<Place> {
    let address = Vaddr(symbol.address);
    let section = || image.section_at(address);
    let of_state_or_constant =
        |section: &&Section| section.kind.is_state() || (section.kind == SectionKind::Constant && symbol.size > 0);
    let (kind, limit, constant) = match symbol.kind {
        RawKind::Function | RawKind::IndirectFunction => {
            let section = section().filter(|section| section.kind == SectionKind::Code)?;
            (Kind::Function, section.end(), false)
        }
        RawKind::Object => {
            let section = section().filter(of_state_or_constant)?;
            (Kind::Object, section.end(), section.kind == SectionKind::Constant)
        }
        RawKind::ThreadLocal => (Kind::ThreadLocal, image.tables.tls_size, false),
    };
    let size = symbol.size.min(limit.saturating_sub(address.0));
    Some(Place { kind, address, size, index, limit, constant })
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
    last_file: Option<(Range<u32>, TextKey)>,
}

impl<'a> Names<'a> {
    fn function(&mut self, place: &Place) -> Function {
        let symbol = self.symbol(place);
        let name = self.bytes(&symbol.name);
        let (normal, auxiliary) = names::of_function(name);
        Function {
            name: symbol.name.clone(),
            key: NameKey(XxHash3_128::oneshot(normal)),
            address: place.address,
            size: place.size,
            end: Vaddr(place.limit),
            file: self.file(symbol, normal),
            version: symbol.version.as_ref().map(|version| TextKey::of(self.bytes(version))),
            auxiliary,
            indirect: symbol.kind == RawKind::IndirectFunction,
        }
    }

    fn object(&mut self, place: &Place) -> Object {
        let symbol = self.symbol(place);
        let name = self.bytes(&symbol.name);
        Object {
            name: symbol.name.clone(),
            key: NameKey(XxHash3_128::oneshot(names::normalise(name, symbol.local))),
            address: place.address,
            size: place.size,
            file: self.file(symbol, names::normalise(name, false)),
            version: symbol.version.as_ref().map(|version| TextKey::of(self.bytes(version))),
            local: symbol.local,
            constant: place.constant,
            content: None,
        }
    }

    fn symbol(&self, place: &Place) -> &'a RawSymbol {
        &self.image.tables.symbols[place.index as usize]
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
