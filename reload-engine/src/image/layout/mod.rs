//! The shapes of a file's types, read from its DWARF: for every type by qualified name the hashes of its layouts and which
//! other types it leads to, the types of statics and thread-locals, and what functions take.
//!
//! Bytes in, values out. Hashes only: [`describe`] reads a type again where words are needed. It does not judge which
//! difference matters. Lines and files are no part of a shape; numbers of closures are none either, so that all closures of
//! a function share one name and a renumbering changes nothing. Type units (`-fdebug-types-section`), split DWARF and dwz's
//! supplementary files are not read: what they describe stays unknown.

use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId, UnitHeader};
use object::{Object as _, ObjectSection as _};

mod describe;
mod dies;
mod shape;

pub use describe::{Layout, Part, describe};

use crate::model::Vaddr;
use dies::Unit;

pub(super) type Reader<'data> = EndianSlice<'data, LittleEndian>;

/// A qualified type name with its generics, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeKey(pub u64);

impl TypeKey {
    /// No type, but what leads to everything that a `Box` holds anywhere in the file.
    pub const BOXED: TypeKey = TypeKey(0);
}

/// How one type leads to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Holds it: a member, a base class, an element of an array.
    Value,
    /// Points to it, or may stand for it: a base class for what derives from it, a trait object for who implements it.
    Pointer,
    /// Names it as a generic argument.
    Argument,
    /// Keeps it on the heap: `Box`, or an argument of a collection or of `Arc`.
    Heap,
    /// Can be met behind a trait object.
    Implementor,
}

/// A use of a named type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub to: TypeKey,
    pub link: Link,
}

/// Where a type is described: its unit's and its own offset in `.debug_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    unit: usize,
    entry: usize,
}

/// All types of one name. Several shapes are normal: a name can mean different types in different translation units.
#[derive(Clone, Debug, Default)]
pub struct Type {
    pub shapes: Vec<(u64, Site)>,
    pub edges: Vec<Edge>,
    pub rust: bool,
    /// What an `async fn` or block keeps between two polls.
    pub coroutine: bool,
}

/// A variable with an address of its own.
#[derive(Clone, Debug)]
pub struct Variable {
    /// For thread-locals: offset inside the TLS block.
    pub address: Vaddr,
    pub thread_local: bool,
    pub site: Site,
    /// Equal where type names, array lengths and pointers agree.
    pub ty: u64,
    pub edges: Vec<Edge>,
}

/// What a function takes.
#[derive(Clone, Debug)]
pub struct Signature {
    pub address: Vaddr,
    pub rust: bool,
    pub parameters: Vec<u64>,
    pub edges: Vec<Edge>,
}

type ByKey<V> = HashMap<TypeKey, V, BuildHasherDefault<KeyHasher>>;

/// The index of one file.
#[derive(Debug, Default)]
pub struct Layouts {
    pub types: ByKey<Type>,
    pub variables: Vec<Variable>,
    pub functions: Vec<Signature>,
    has_base_types: bool,
}

impl Layouts {
    /// Reads what `bytes`, an ELF file, says of its types. Broken parts count as absent.
    pub fn read(bytes: &[u8]) -> Layouts {
        let Some(sections) = Sections::load(bytes) else { return Layouts::default() };
        let dwarf = sections.dwarf();
        let headers = headers(&dwarf);
        let units: Vec<Unit> =
            in_parallel(headers.len(), |index| Unit::read(&dwarf, headers[index]).unwrap_or_default());
        let parts = in_parallel(units.len(), |index| shape::of_unit(&units, index));
        let mut layouts = Layouts { has_base_types: units.iter().any(Unit::has_base_types), ..Layouts::default() };
        for part in parts {
            layouts.absorb(part);
        }
        layouts
    }

    /// Whether the file says anything of types: without, "no difference" means nothing.
    pub fn is_known(&self) -> bool {
        self.types.values().any(|ty| !ty.shapes.is_empty()) || self.has_base_types
    }

    fn absorb(&mut self, part: shape::Part) {
        for (key, found) in part.types {
            let known = self.types.entry(key).or_default();
            known.rust |= found.rust;
            known.coroutine |= found.coroutine;
            for shape in found.shapes {
                if !known.shapes.iter().any(|(hash, _)| *hash == shape.0) {
                    known.shapes.push(shape);
                }
            }
            for edge in found.edges {
                if !known.edges.contains(&edge) {
                    known.edges.push(edge);
                }
            }
        }
        self.variables.extend(part.variables);
        self.functions.extend(part.functions);
    }
}

/// What zlib achieves at best; a header that promises more would only have memory reserved for it.
const LARGEST_RATIO: u64 = 1032;

/// The debug sections, uncompressed.
pub(super) struct Sections<'data>(HashMap<&'static str, Cow<'data, [u8]>>);

impl<'data> Sections<'data> {
    pub fn load(bytes: &'data [u8]) -> Option<Self> {
        const READ: [SectionId; 9] = [
            SectionId::DebugInfo,
            SectionId::DebugAbbrev,
            SectionId::DebugStr,
            SectionId::DebugLineStr,
            SectionId::DebugStrOffsets,
            SectionId::DebugAddr,
            SectionId::DebugLine,
            SectionId::DebugRngLists,
            SectionId::DebugRanges,
        ];
        let file = object::File::parse(bytes).ok()?;
        let load = |id: &SectionId| {
            let data = file.section_by_name(id.name())?.compressed_data().ok()?;
            let credible = data.uncompressed_size / LARGEST_RATIO <= data.data.len() as u64;
            credible.then(|| Some((id.name(), data.decompress().ok()?)))?
        };
        let sections: HashMap<_, _> = READ.iter().filter_map(load).collect();
        sections.contains_key(SectionId::DebugInfo.name()).then_some(Sections(sections))
    }

    pub fn dwarf(&self) -> Dwarf<Reader<'_>> {
        let section = |id: SectionId| self.0.get(id.name()).map_or(&[][..], |bytes| bytes);
        let load = |id| Ok::<_, std::convert::Infallible>(EndianSlice::new(section(id), LittleEndian));
        match Dwarf::load(load) {
            Ok(dwarf) => dwarf,
        }
    }
}

pub(super) fn headers<'data>(dwarf: &Dwarf<Reader<'data>>) -> Vec<UnitHeader<Reader<'data>>> {
    let mut headers = Vec::new();
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        headers.push(header);
    }
    headers
}

/// `work` for each index, on as many threads as there are processors.
pub(super) fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(count);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let result = work(index);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Keys are hashes already.
#[derive(Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Combines hashes; the order counts.
fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}
