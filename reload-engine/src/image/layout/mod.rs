//! The shapes of a file's types, read from its DWARF: for every type by qualified name the hashes of its layouts and which
//! other types it leads to, the types of statics and thread-locals, and what functions take.
//!
//! Bytes in, values out. Hashes only: [`describe`] reads a type again where words are needed. It does not judge which
//! difference matters. Lines and files are no part of a shape; numbers of closures are none either, so that all closures of
//! a function share one name and a renumbering changes nothing. Only the file itself is read: what split DWARF and dwz have put
//! into others stays unknown, and so does DWARF 4's section of type units.

use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    ops::Range,
};

use foldhash::{HashSet, HashSetExt as _};
use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId, UnitHeader};
use object::{Object as _, ObjectSection as _};

mod describe;
mod dies;
mod forms;
mod shape;

pub use describe::{Layout, Part, describe};

use crate::{hands::Hands, model::Vaddr};
use dies::Unit;
use shape::Units;

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
    /// What the lambdas of a C++ function capture, or what is made for them.
    pub lambda: bool,
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
    /// Whether a walk through it may come to its end: an array is the last of it, or may be.
    pub ends_in_array: bool,
    pub edges: Vec<Edge>,
}

impl Variable {
    fn place(&self) -> (bool, Vaddr) {
        (self.thread_local, self.address)
    }
}

/// What a function takes and gives.
#[derive(Clone, Debug)]
pub struct Signature {
    pub address: Vaddr,
    pub rust: bool,
    pub parameters: Vec<u64>,
    /// `None`: nothing.
    pub result: Option<u64>,
    /// For the result callers may have to pass a place, as the first parameter (psABI 3.2.3, *Returning of Values*).
    pub may_need_place: bool,
    /// What the lambdas capture which its class is made for, if it is virtual or has no `this`.
    pub captures: u64,
    /// To what it is handed; by [`Link::Argument`] to what its class is made for, if it is virtual or has no `this`.
    pub edges: Vec<Edge>,
}

type ByKey<V> = HashMap<TypeKey, V, BuildHasherDefault<KeyHasher>>;

/// A compilation unit, as one finds one's way to it.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its offset in `.debug_info`.
    pub unit: usize,
    /// Hash of what the compiler calls it, which several may share.
    pub name: u64,
    pub code: Vec<Range<u64>>,
    /// Whether it describes types at all.
    pub typed: bool,
    /// It is there for one type, which others refer to.
    pub signed: bool,
}

impl Head {
    /// Whether some of these addresses, which ascend, are code of this unit.
    pub fn covers_any(&self, addresses: &[Vaddr]) -> bool {
        covers_any(&self.code, addresses)
    }
}

fn covers_any(code: &[Range<u64>], addresses: &[Vaddr]) -> bool {
    code.iter().any(|range| {
        let first = addresses.partition_point(|address| address.0 < range.start);
        addresses.get(first).is_some_and(|address| address.0 < range.end)
    })
}

/// The index of one file, or of some of its units.
#[derive(Debug, Default)]
pub struct Layouts {
    pub types: ByKey<Type>,
    /// Ascending by address, thread-locals behind the others.
    variables: Vec<Variable>,
    /// Ascending by address.
    pub functions: Vec<Signature>,
    /// Ascending by place in `.debug_info`.
    pub units: Vec<Head>,
    /// Why what the file says of types cannot be read from it, and what would help.
    pub elsewhere: Option<&'static str>,
}

impl Layouts {
    /// Reads what `bytes`, an ELF file, says of its types. Broken parts count as absent.
    pub fn read(bytes: &[u8]) -> Layouts {
        Layouts::read_units(bytes, None)
    }

    /// The same of what is wanted only.
    pub fn read_some(bytes: &[u8], wanted: &Wanted<'_>) -> Layouts {
        Layouts::read_units(bytes, Some(wanted))
    }

    fn read_units(bytes: &[u8], wanted: Option<&Wanted<'_>>) -> Layouts {
        let Some(sections) = Sections::load(bytes) else { return Layouts::default() };
        let dwarf = sections.dwarf();
        let (units, hands) = units(&dwarf, wanted);
        let parts = hands.map(0..units.list.len(), |index| shape::of_unit(&units, index));
        let mut layouts = Layouts { units: units.list.iter().map(Unit::head).collect(), ..Layouts::default() };
        let split = units.list.iter().any(|unit| unit.split);
        layouts.elsewhere = if split { Some(IN_DWO) } else { sections.elsewhere };
        for part in parts {
            layouts.absorb(part);
        }
        layouts.variables.sort_by_key(Variable::place);
        layouts.functions.sort_by_key(|function| function.address);
        layouts
    }

    /// The types that variables and parameters of these functions, which ascend, hold or point to: of whose frames they are.
    pub fn held_by(bytes: &[u8], functions: &[Vaddr]) -> Vec<(Vaddr, TypeKey)> {
        let Some(sections) = Sections::load(bytes) else { return Vec::new() };
        let dwarf = sections.dwarf();
        let wanted = Wanted { names: &HashSet::new(), code: functions, functions };
        let (units, hands) = units(&dwarf, Some(&wanted));
        hands.map(0..units.list.len(), |index| shape::held(&units, index)).concat()
    }

    /// Whether the file says anything of types: without, "no difference" means nothing.
    pub fn is_known(&self) -> bool {
        self.elsewhere.is_none() && self.units.iter().any(|unit| unit.typed)
    }

    /// Ascending by address, thread-locals behind the others.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Those that lie exactly here, mostly one.
    pub fn variables_at(&self, thread_local: bool, address: Vaddr) -> &[Variable] {
        let place = (thread_local, address);
        let first = self.variables.partition_point(|variable| variable.place() < place);
        let here = self.variables[first..].partition_point(|variable| variable.place() == place);
        &self.variables[first..first + here]
    }

    /// Ascending by offset.
    pub fn thread_locals(&self) -> &[Variable] {
        let first = self.variables.partition_point(|variable| !variable.thread_local);
        &self.variables[first..]
    }

    /// What the functions that begin here take and give.
    pub fn signatures_at(&self, address: Vaddr) -> &[Signature] {
        let first = self.functions.partition_point(|function| function.address < address);
        let here = self.functions[first..].partition_point(|function| function.address == address);
        &self.functions[first..first + here]
    }

    /// The unit that describes what is at this place.
    pub fn unit_of(&self, site: Site) -> Option<&Head> {
        self.units.binary_search_by_key(&site.unit, |unit| unit.unit).ok().map(|index| &self.units[index])
    }

    fn absorb(&mut self, part: shape::Part) {
        for (key, found) in part.types {
            let known = self.types.entry(key).or_default();
            known.rust |= found.rust;
            known.coroutine |= found.coroutine;
            known.lambda |= found.lambda;
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
pub(super) struct Sections<'data> {
    bytes: HashMap<&'static str, Cow<'data, [u8]>>,
    elsewhere: Option<&'static str>,
}

const IN_DWO: &str =
    "its type information lies in .dwo files: build without -gsplit-dwarf (Rust: split-debuginfo = \"off\")";
const IN_TYPES: &str = "its types lie in .debug_types: build with -gdwarf-5, or without -fdebug-types-section";
const IN_ALTERNATE: &str = "a part of its type information lies in another file, where dwz -m has put it";

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
        let has = |name| file.section_by_name(name).is_some();
        let elsewhere = if has(".gnu_debugaltlink") {
            Some(IN_ALTERNATE)
        } else {
            has(SectionId::DebugTypes.name()).then_some(IN_TYPES)
        };
        sections.contains_key(SectionId::DebugInfo.name()).then_some(Sections { bytes: sections, elsewhere })
    }

    pub fn dwarf(&self) -> Dwarf<Reader<'_>> {
        let section = |id: SectionId| self.bytes.get(id.name()).map_or(&[][..], |bytes| bytes);
        let load = |id| Ok::<_, std::convert::Infallible>(EndianSlice::new(section(id), LittleEndian));
        match Dwarf::load(load) {
            Ok(dwarf) => dwarf,
        }
    }
}

/// What of a file is to be read.
pub struct Wanted<'a> {
    /// Units with these names, as [`Head::name`] has them.
    pub names: &'a HashSet<u64>,
    /// And those that the code at these addresses, which ascend, lies in.
    pub code: &'a [Vaddr],
    /// Where the functions begin whose parameters are asked for, ascending.
    pub functions: &'a [Vaddr],
}

/// The units that are wanted, or all, and who is to go on with them.
fn units(dwarf: &Dwarf<Reader<'_>>, wanted: Option<&Wanted<'_>>) -> (Units, Hands) {
    let mut headers = headers(dwarf);
    if let Some(wanted) = wanted {
        headers = wanted.among(dwarf, headers);
    }
    let read = |header| Unit::read(dwarf, header, wanted.map(|wanted| wanted.functions)).unwrap_or_default();
    let hands = hands_for(&headers);
    (Units::of(hands.map(headers, read)), hands)
}

impl Wanted<'_> {
    /// One that cannot be read is left for whoever reads all.
    fn among<'data>(
        &self,
        dwarf: &Dwarf<Reader<'data>>,
        headers: Vec<UnitHeader<Reader<'data>>>,
    ) -> Vec<UnitHeader<Reader<'data>>> {
        let hands = if headers.len() <= FEW_HEADS { Hands::One } else { Hands::All };
        let heads = hands.filter_map(headers, |header| Some((header, Unit::read_head(dwarf, header).ok()?)));
        // One that is there for one type has no code.
        let (signed, heads): (Vec<_>, Vec<_>) = heads.into_iter().partition(|(_, unit)| unit.signed.is_some());
        let (named, others): (Vec<_>, Vec<_>) =
            heads.into_iter().partition(|(_, unit)| self.names.contains(&unit.name));
        // Where a unit's code lies may be a list as long as its functions are many: it is read of as few as need be.
        let code = |header| Unit::read_code(dwarf, header).unwrap_or_default();
        let elsewhere = not_in(hands.map(&named, |(header, _)| code(*header)).concat(), self.code);
        let mut chosen: Vec<_> = signed.into_iter().chain(named).map(|(header, _)| header).collect();
        if !elsewhere.is_empty() {
            let covers = |header| covers_any(&code(header), &elsewhere);
            chosen.extend(hands.filter_map(others, |(header, _)| covers(header).then_some(header)));
        }
        chosen.sort_by_key(|header| header.offset().0);
        chosen
    }
}

/// Of addresses, which ascend, those that are in none of these ranges.
fn not_in(mut ranges: Vec<Range<u64>>, addresses: &[Vaddr]) -> Vec<Vaddr> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut ranges = ranges.into_iter().peekable();
    let mut end = 0;
    let mut is_outside = |address: &Vaddr| {
        while let Some(range) = ranges.next_if(|range| range.start <= address.0) {
            end = end.max(range.end);
        }
        address.0 >= end
    };
    addresses.iter().copied().filter(|address| is_outside(address)).collect()
}

/// So many units' heads are read by whoever wants them.
const FEW_HEADS: usize = 64;

/// Who is to read these units.
pub(super) fn hands_for(units: &[UnitHeader<Reader<'_>>]) -> Hands {
    if units.len() == 1 {
        return Hands::One;
    }
    Hands::for_debugging(units.iter().map(|unit| unit.length_including_self() as u64).sum())
}

pub(super) fn headers<'data>(dwarf: &Dwarf<Reader<'data>>) -> Vec<UnitHeader<Reader<'data>>> {
    let mut headers = Vec::new();
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        headers.push(header);
    }
    headers
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

#[cfg(test)]
mod tests {
    use super::not_in;
    use crate::model::Vaddr;

    #[test]
    fn what_no_range_covers() {
        let check = |ranges: &[(u64, u64)], outside: &[u64]| {
            let ranges = ranges.iter().map(|(start, end)| *start..*end).collect();
            let found: Vec<u64> = not_in(ranges, &[1, 5, 9, 10, 20].map(Vaddr)).iter().map(|at| at.0).collect();
            assert_eq!(found, outside);
        };
        check(&[], &[1, 5, 9, 10, 20]);
        check(&[(5, 10), (20, 20)], &[1, 10, 20]);
        // One inside of another, in no order.
        check(&[(9, 10), (2, 30), (4, 6)], &[1]);
    }
}
