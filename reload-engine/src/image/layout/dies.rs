//! A unit's debugging entries, reduced to what shapes are made of: names as hashes, references as offsets.

#![allow(non_upper_case_globals, reason = "DWARF's own names stand in patterns")]

use std::ops::Range;

use gimli::{
    AttributeValue, DwAt, DwTag, Dwarf, Expression, LittleEndian, Operation, Section as _, UnitHeader, UnitOffset,
    UnitType,
    constants::{
        DW_AT_abstract_origin, DW_AT_alignment, DW_AT_bit_size, DW_AT_byte_size, DW_AT_const_value,
        DW_AT_containing_type, DW_AT_count, DW_AT_data_bit_offset, DW_AT_data_member_location, DW_AT_declaration,
        DW_AT_discr_value, DW_AT_encoding, DW_AT_external, DW_AT_language, DW_AT_linkage_name, DW_AT_location,
        DW_AT_low_pc, DW_AT_name, DW_AT_object_pointer, DW_AT_signature, DW_AT_specification, DW_AT_type,
        DW_AT_upper_bound, DW_AT_virtuality, DW_AT_vtable_elem_location, DW_LANG_Rust, DW_TAG_array_type,
        DW_TAG_atomic_type, DW_TAG_base_type, DW_TAG_class_type, DW_TAG_compile_unit, DW_TAG_const_type,
        DW_TAG_enumeration_type, DW_TAG_enumerator, DW_TAG_formal_parameter, DW_TAG_inheritance, DW_TAG_member,
        DW_TAG_namespace, DW_TAG_pointer_type, DW_TAG_ptr_to_member_type, DW_TAG_reference_type, DW_TAG_restrict_type,
        DW_TAG_rvalue_reference_type, DW_TAG_structure_type, DW_TAG_subprogram, DW_TAG_subrange_type,
        DW_TAG_subroutine_type, DW_TAG_template_type_parameter, DW_TAG_typedef, DW_TAG_union_type,
        DW_TAG_unspecified_parameters, DW_TAG_unspecified_type, DW_TAG_variable, DW_TAG_variant, DW_TAG_variant_part,
        DW_TAG_volatile_type,
    },
};
use memchr::memmem;
use twox_hash::XxHash3_128;

use super::{
    Head, Reader, Site,
    forms::{Cursor, FunctionAt, Questions, Shapes},
    mix,
};
use crate::model::Vaddr;

/// What a lambda's code is called.
const CALL: &[u8] = b"operator()";

/// What the name or an attribute says besides its hash.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags(u32);

impl Flags {
    pub const NAMED: Flags = Flags(1);
    pub const DECLARATION: Flags = Flags(2);
    /// `target` is the entry this one continues, not its type.
    pub const CONTINUES: Flags = Flags(4);
    pub const ADDRESSED: Flags = Flags(8);
    pub const THREAD_LOCAL: Flags = Flags(16);
    pub const VIRTUAL: Flags = Flags(32);
    pub const COROUTINE: Flags = Flags(64);
    /// A generic type of the standard library that keeps its arguments on the heap, or `Box`.
    pub const HEAP: Flags = Flags(128);
    pub const TRAIT_OBJECT: Flags = Flags(256);
    pub const VTABLE: Flags = Flags(512);
    /// A static member of a class.
    pub const EXTERNAL: Flags = Flags(1024);

    pub const CLOSURE: Flags = Flags(2048);
    /// Below an entry that is left out: a block, or a function that was inlined.
    pub const NESTED: Flags = Flags(4096);
    /// `target` is the signature of a type that has a unit of its own.
    pub const SIGNED: Flags = Flags(8192);
    /// A function that is not among those asked for, and so has no parameters here.
    pub const UNASKED: Flags = Flags(16384);
    /// What a C++ lambda captures, or what is made for lambdas.
    pub const LAMBDA: Flags = Flags(1 << 15);
    /// A member function with a `this`.
    pub const METHOD: Flags = Flags(1 << 16);

    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    fn clear(&mut self, other: Flags) {
        self.0 &= !other.0;
    }
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Die {
    /// Relative to the unit.
    pub offset: u32,
    /// Index of the first entry that is not below this one.
    pub end: u32,
    pub tag: DwTag,
    pub flags: Flags,
    /// Hash of the qualified name.
    pub name: u64,
    /// Offset in `.debug_info` of its type or of the entry it continues; 0: none.
    pub target: usize,
    /// Size, offset, length or address.
    pub number: u64,
    /// Hash of what else tells two of them apart: bits, alignment, discriminant, slot.
    pub extra: u64,
    /// For trait objects and vtables: hash of the trait.
    pub of_trait: u64,
    /// For vtables: offset of the type that implements the trait.
    pub implementor: usize,
}

#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Offset in `.debug_info`.
    pub base: usize,
    pub length: usize,
    pub rust: bool,
    /// Hash of what the compiler calls it: its source file, as a rule.
    pub name: u64,
    /// Where its code lies.
    pub code: Vec<Range<u64>>,
    /// What it describes lies in another file (`.dwo`).
    pub split: bool,
    /// For a unit of one type: its signature, and where it stands in `.debug_info`.
    pub signed: Option<(u64, usize)>,
    pub dies: Vec<Die>,
}

impl Unit {
    /// Without the parameters of functions that do not begin at one of `functions`, which ascend; without these, with all.
    pub fn read(
        dwarf: &Dwarf<Reader<'_>>,
        header: UnitHeader<Reader<'_>>,
        functions: Option<&[Vaddr]>,
    ) -> gimli::Result<Unit> {
        let base = header.offset().0;
        let mut result = Unit { base, length: header.length_including_self(), ..Unit::default() };
        let unit = dwarf.unit(header)?;
        result.note_head(&unit);
        result.code = code_of(dwarf, &unit);
        let mut entries = Cursor::new(&unit.header, &unit.abbreviations);
        let mut shapes =
            Shapes::new(&unit.header, &unit.abbreviations, Questions { tag: is_of_interest, attribute: is_read });
        let mut open: Vec<Scope> = Vec::with_capacity(16);
        // More than most need for an entry.
        result.dies.reserve(result.length / 64);
        while !entries.is_at_end() {
            let offset = entries.offset() as u32;
            let code = entries.code()?;
            if code == 0 {
                if let Some(Scope { die: Some(index), .. }) = open.pop() {
                    result.dies[index].end = result.dies.len() as u32;
                }
                continue;
            }
            let shape = shapes.of(code)?;
            let tag = shape.tag;
            let unasked = open.last().is_some_and(|scope| scope.unasked);
            if !shape.is_read || unasked && tag == DW_TAG_formal_parameter {
                entries.skip_all(shape)?;
                if shape.has_children {
                    open.push(Scope { die: None, ..open.last().copied().unwrap_or_default() });
                }
                continue;
            }
            let scope = open.last().copied().unwrap_or_default();
            if let (Some(at), Some(functions)) = (shape.function, functions)
                && let Some(die) = result.unasked(&entries, offset, at, functions, scope.die.is_none())
            {
                entries.skip_all(shape)?;
                if shape.has_children {
                    let qualification = qualification(&mut open, dwarf, &unit);
                    let name = Qualified::Unread(qualification, UnitOffset(offset as usize));
                    open.push(Scope { die: Some(result.dies.len()), name, top: false, unasked: true, ..scope });
                }
                result.dies.push(die);
                continue;
            }
            let mut die = Die {
                offset,
                end: result.dies.len() as u32 + 1,
                tag,
                flags: Flags::default(),
                name: 0,
                target: 0,
                number: 0,
                extra: 0,
                of_trait: 0,
                implementor: 0,
            };
            if scope.die.is_none() {
                die.flags.set(Flags::NESTED);
            }
            let mut heap = scope.heap;
            for step in &shape.reading.list {
                entries.skip(step.skip)?;
                if !step.is_read {
                    entries.skip_attribute(step.attribute)?;
                    continue;
                }
                let attribute = entries.attribute(step.attribute)?;
                let number = || attribute.udata_value().or(attribute.sdata_value().map(|value| value as u64));
                match attribute.name() {
                    DW_AT_name if tag != DW_TAG_compile_unit => {
                        let name = string(dwarf, &unit, attribute.value());
                        let qualification = || qualification(&mut open, dwarf, &unit);
                        die.note_name(name.slice(), qualification, scope, &mut heap);
                        if tag == DW_TAG_subprogram && name.slice() == CALL {
                            let class = scope.die.map(|class| &mut result.dies[class]);
                            if let Some(class) = class.filter(|class| class.is_unnamed_class()) {
                                // It has no name that what is in it could be qualified with.
                                class.note_lambda(scope.name.hash(dwarf, &unit));
                            }
                        }
                    }
                    DW_AT_linkage_name if tag == DW_TAG_subprogram && !die.flags.has(Flags::NAMED) => {
                        die.flags.set(Flags::NAMED);
                        die.name = hash(string(dwarf, &unit, attribute.value()).slice());
                    }
                    DW_AT_language => result.rust = attribute.value() == AttributeValue::Language(DW_LANG_Rust),
                    DW_AT_type if !die.flags.has(Flags::CONTINUES) => die.refer(base, attribute.value()),
                    DW_AT_specification | DW_AT_abstract_origin | DW_AT_signature => {
                        die.flags.set(Flags::CONTINUES);
                        die.refer(base, attribute.value());
                    }
                    DW_AT_containing_type => die.implementor = reference(base, attribute.value()),
                    DW_AT_byte_size if tag == DW_TAG_member => {}
                    DW_AT_byte_size | DW_AT_count => die.number = number().unwrap_or(0),
                    // A virtual base's place is an expression: its hash stands for it.
                    DW_AT_data_member_location => {
                        die.number = match attribute.exprloc_value() {
                            Some(expression) => hash(expression.0.slice()),
                            None => number().unwrap_or(0),
                        };
                    }
                    DW_AT_upper_bound => die.number = number().map_or(0, |bound| bound.wrapping_add(1)),
                    DW_AT_data_bit_offset => die.extra = mix(die.extra, number().unwrap_or(0)),
                    DW_AT_bit_size | DW_AT_alignment | DW_AT_encoding | DW_AT_discr_value | DW_AT_const_value => {
                        let value = match attribute.value() {
                            AttributeValue::Block(block) => hash(block.slice()),
                            AttributeValue::Encoding(encoding) => u64::from(encoding.0),
                            _ => number().unwrap_or(0),
                        };
                        die.extra = mix(mix(die.extra, u64::from(attribute.name().0)), value);
                    }
                    DW_AT_declaration => die.flags.set(Flags::DECLARATION),
                    DW_AT_external => die.flags.set(Flags::EXTERNAL),
                    DW_AT_object_pointer => die.flags.set(Flags::METHOD),
                    DW_AT_virtuality => {
                        die.flags.set(Flags::VIRTUAL);
                        die.extra = mix(die.extra, 1);
                    }
                    DW_AT_vtable_elem_location => {
                        if let Some(expression) = attribute.exprloc_value() {
                            die.extra = mix(die.extra, hash(expression.0.slice()));
                        }
                    }
                    DW_AT_low_pc if tag == DW_TAG_subprogram => {
                        if let Ok(Some(address)) = dwarf.attr_address(&unit, attribute.value()) {
                            die.number = address;
                            die.flags.set(Flags::ADDRESSED);
                        }
                    }
                    DW_AT_location if tag == DW_TAG_variable => {
                        if let Some(expression) = attribute.exprloc_value()
                            && let Some((address, thread_local)) = place(dwarf, &unit, expression)
                        {
                            die.number = address;
                            die.flags.set(Flags::ADDRESSED);
                            if thread_local {
                                die.flags.set(Flags::THREAD_LOCAL);
                            }
                        }
                    }
                    _ => {}
                }
            }
            entries.skip(shape.reading.rest)?;
            let is_asked = |functions: &[Vaddr]| functions.binary_search(&Vaddr(die.number)).is_ok();
            if tag == DW_TAG_subprogram && die.flags.has(Flags::ADDRESSED) && !functions.is_none_or(is_asked) {
                die.flags.set(Flags::UNASKED);
            }
            let index = result.dies.len();
            result.dies.push(die);
            if shape.has_children {
                let name = if is_scope(tag) && die.flags.has(Flags::NAMED) {
                    Qualified::Hash(die.name)
                } else if tag == DW_TAG_namespace {
                    Qualified::Hash(mix(qualification(&mut open, dwarf, &unit), 1))
                } else {
                    scope.name
                };
                let unasked = die.flags.has(Flags::UNASKED);
                open.push(Scope { die: Some(index), name, heap, top: tag == DW_TAG_compile_unit, unasked });
            }
        }
        let count = result.dies.len() as u32;
        for scope in open {
            if let Some(index) = scope.die {
                result.dies[index].end = count;
            }
        }
        Ok(result)
    }

    /// What begins at `offset`, of which nothing has been read, as far as it counts, if it is a function that is not among these.
    fn unasked(
        &self,
        entries: &Cursor<'_, '_>,
        offset: u32,
        at: FunctionAt,
        functions: &[Vaddr],
        nested: bool,
    ) -> Option<Die> {
        let number = entries.word(at.low_pc)?;
        if functions.binary_search(&Vaddr(number)).is_ok() {
            return None;
        }
        let target = match at.result {
            Some(result) => self.base + entries.half_word(result)? as usize,
            None => 0,
        };
        let mut flags = Flags(Flags::NAMED.0 | Flags::ADDRESSED.0 | Flags::UNASKED.0);
        let more = [(at.external, Flags::EXTERNAL), (nested, Flags::NESTED)];
        more.into_iter().filter(|(is_set, _)| *is_set).for_each(|(_, flag)| flags.set(flag));
        let end = self.dies.len() as u32 + 1;
        let tag = DW_TAG_subprogram;
        Some(Die { offset, end, tag, flags, name: 0, target, number, extra: 0, of_trait: 0, implementor: 0 })
    }

    /// Only what it is called: a small part of the work of [`Unit::read`].
    pub fn read_head(dwarf: &Dwarf<Reader<'_>>, header: UnitHeader<Reader<'_>>) -> gimli::Result<Unit> {
        let base = header.offset().0;
        let mut result = Unit { base, length: header.length_including_self(), ..Unit::default() };
        result.note_head(&dwarf.unit(header)?);
        Ok(result)
    }

    /// Only where its code lies.
    pub fn read_code(dwarf: &Dwarf<Reader<'_>>, header: UnitHeader<Reader<'_>>) -> gimli::Result<Vec<Range<u64>>> {
        Ok(code_of(dwarf, &dwarf.unit(header)?))
    }

    fn note_head(&mut self, unit: &gimli::Unit<Reader<'_>>) {
        self.name = hash(unit.name.unwrap_or_default().slice());
        self.split = unit.dwo_id.is_some();
        if let UnitType::Type { type_signature, type_offset } = unit.header.type_() {
            self.signed = Some((type_signature.0, self.base + type_offset.0));
        }
    }

    pub fn site(&self, die: &Die) -> Site {
        Site { unit: self.base, entry: self.base + die.offset as usize }
    }

    pub fn head(&self) -> Head {
        // Any unit that describes types has an `int` or such, or a structure.
        let typed =
            |die: &Die| die.tag == DW_TAG_base_type || is_aggregate(die.tag) && !die.flags.has(Flags::DECLARATION);
        Head {
            unit: self.base,
            name: self.name,
            code: self.code.clone(),
            typed: self.dies.iter().any(typed),
            signed: self.signed.is_some(),
        }
    }

    pub fn covers(&self, offset: usize) -> bool {
        offset >= self.base && offset - self.base < self.length
    }

    pub fn index_of(&self, offset: usize) -> Option<usize> {
        let offset = offset.checked_sub(self.base)? as u32;
        self.dies.binary_search_by_key(&offset, |die| die.offset).ok()
    }
}

fn code_of(dwarf: &Dwarf<Reader<'_>>, unit: &gimli::Unit<Reader<'_>>) -> Vec<Range<u64>> {
    let mut code = Vec::new();
    let Ok(mut ranges) = dwarf.unit_ranges(unit) else { return code };
    while let Ok(Some(range)) = ranges.next() {
        // There linkers put what they have discarded; a file's headers lie there.
        if range.begin > 0 {
            code.push(range.begin..range.end);
        }
    }
    code
}

#[derive(Clone, Copy, Debug, Default)]
struct Scope {
    /// `None`: an entry of no interest.
    die: Option<usize>,
    name: Qualified,
    /// Inside `alloc`, `hashbrown` or `std::collections`.
    heap: bool,
    /// The unit itself.
    top: bool,
    /// A function whose parameters nobody asks for, or a block in it.
    unasked: bool,
}

/// A qualified name.
#[derive(Clone, Copy, Debug)]
enum Qualified {
    Hash(u64),
    /// Hash of what it is qualified with, and whose name it is: of functions that nobody asks for, in which few have types.
    Unread(u64, UnitOffset),
}

/// Hash of the innermost scope's qualified name, read once.
fn qualification(open: &mut [Scope], dwarf: &Dwarf<Reader<'_>>, unit: &gimli::Unit<Reader<'_>>) -> u64 {
    let Some(scope) = open.last_mut() else { return 0 };
    let hash = scope.name.hash(dwarf, unit);
    scope.name = Qualified::Hash(hash);
    hash
}

impl Default for Qualified {
    fn default() -> Self {
        Qualified::Hash(0)
    }
}

impl Qualified {
    fn hash(self, dwarf: &Dwarf<Reader<'_>>, unit: &gimli::Unit<Reader<'_>>) -> u64 {
        let (scope, entry) = match self {
            Qualified::Hash(hash) => return hash,
            Qualified::Unread(scope, entry) => (scope, entry),
        };
        let name = unit.entry(entry).ok().and_then(|entry| entry.attr_value(DW_AT_name));
        let name = name.map_or_else(Reader::default, |name| string(dwarf, unit, name));
        mix(scope, hash_without_closure_numbers(name.slice()))
    }
}

impl Die {
    fn is_unnamed_class(&self) -> bool {
        matches!(self.tag, DW_TAG_structure_type | DW_TAG_class_type)
            && !self.flags.has(Flags(Flags::NAMED.0 | Flags::CONTINUES.0))
    }

    /// All lambdas of one function, whose name's hash this is, have one name, as its closures have in Rust.
    fn note_lambda(&mut self, function: u64) {
        self.flags.set(Flags(Flags::NAMED.0 | Flags::LAMBDA.0));
        self.name = mix(function, hash(b"{lambda}"));
    }

    fn refer(&mut self, base: usize, value: AttributeValue<Reader<'_>>) {
        if let AttributeValue::DebugTypesRef(signature) = value {
            self.flags.set(Flags::SIGNED);
            self.target = signature.0 as usize;
        } else {
            self.flags.clear(Flags::SIGNED);
            self.target = reference(base, value);
        }
    }

    /// `qualification` is the hash of the name of `scope`.
    fn note_name(&mut self, name: &[u8], qualification: impl FnOnce() -> u64, scope: Scope, heap: &mut bool) {
        self.flags.set(Flags::NAMED);
        let own = hash_without_closure_numbers(name);
        self.name = match self.tag {
            DW_TAG_member | DW_TAG_enumerator | DW_TAG_inheritance | DW_TAG_variable => own,
            _ => mix(qualification(), own),
        };
        match self.tag {
            DW_TAG_namespace => {
                *heap |= scope.top && matches!(name, b"alloc" | b"hashbrown") || name == b"collections";
            }
            DW_TAG_structure_type => {
                if scope.heap && !name.starts_with(b"{") {
                    self.flags.set(Flags::HEAP);
                }
                if name.starts_with(b"{async_") || name.starts_with(b"{gen_") || name.starts_with(b"{coroutine") {
                    self.flags.set(Flags::COROUTINE);
                }
                if name.starts_with(b"{closure_env") {
                    self.flags.set(Flags::CLOSURE);
                }
                let text = std::str::from_utf8(name).unwrap_or_default();
                let of_trait = if let Some(bounds) = text.strip_prefix("dyn ") {
                    Some((Flags::TRAIT_OBJECT, bounds))
                } else {
                    implemented_trait(text).map(|implemented| (Flags::VTABLE, implemented))
                };
                // Formatting takes everything as a trait object, from the stack.
                if let Some((flag, bounds)) = of_trait
                    && !bounds.starts_with("core::fmt::")
                {
                    self.flags.set(flag);
                    self.of_trait = mix(hash(b"dyn"), hash_without_closure_numbers(main_bound(bounds).as_bytes()));
                }
            }
            DW_TAG_pointer_type if name.starts_with(b"alloc::") => self.flags.set(Flags::HEAP),
            _ => {}
        }
        // What gcc and clang call a lambda among the arguments of a template.
        let named = || [&b"<lambda("[..], b"(lambda at "].iter().any(|mark| memmem::find(name, mark).is_some());
        if is_aggregate(self.tag) && named() {
            self.flags.set(Flags::LAMBDA);
        }
    }
}

fn is_scope(tag: DwTag) -> bool {
    is_aggregate(tag) || matches!(tag, DW_TAG_namespace | DW_TAG_subprogram)
}

/// The address of a variable that has one for good, or its offset among the thread-locals, and which of the two that is. Where
/// more follows the variable has none: of a reference to a static, `DW_OP_stack_value` says what its value is.
fn place(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &gimli::Unit<Reader<'_>>,
    expression: Expression<Reader<'_>>,
) -> Option<(u64, bool)> {
    let mut operations = expression.operations(unit.encoding());
    let (address, thread_local) = match operations.next().ok()?? {
        Operation::Address { address } => (address, false),
        Operation::AddressIndex { index } => (dwarf.address(unit, index).ok()?, false),
        Operation::UnsignedConstant { value } => (value, true),
        _ => return None,
    };
    match operations.next().ok()? {
        None => (!thread_local).then_some((address, false)),
        // gcc writes `DW_OP_addr` before it, where there is no index.
        Some(Operation::TLS) => operations.next().ok()?.is_none().then_some((address, true)),
        // clang: one of several that it has made one of.
        Some(Operation::PlusConstant { value }) if !thread_local => {
            operations.next().ok()?.is_none().then_some((address.wrapping_add(value), false))
        }
        Some(_) => None,
    }
}

pub(super) fn is_aggregate(tag: DwTag) -> bool {
    matches!(tag, DW_TAG_structure_type | DW_TAG_class_type | DW_TAG_union_type | DW_TAG_enumeration_type)
}

fn is_of_interest(tag: DwTag) -> bool {
    is_scope(tag)
        || matches!(
            tag,
            DW_TAG_compile_unit
                | DW_TAG_member
                | DW_TAG_inheritance
                | DW_TAG_enumerator
                | DW_TAG_variant_part
                | DW_TAG_variant
                | DW_TAG_variable
                | DW_TAG_formal_parameter
                | DW_TAG_unspecified_parameters
                | DW_TAG_template_type_parameter
        )
        || matches!(
            tag,
            DW_TAG_base_type
                | DW_TAG_unspecified_type
                | DW_TAG_pointer_type
                | DW_TAG_reference_type
                | DW_TAG_rvalue_reference_type
                | DW_TAG_ptr_to_member_type
                | DW_TAG_array_type
                | DW_TAG_subrange_type
                | DW_TAG_subroutine_type
                | DW_TAG_typedef
                | DW_TAG_const_type
                | DW_TAG_volatile_type
                | DW_TAG_restrict_type
                | DW_TAG_atomic_type
        )
}

/// Whether [`Unit::read`] looks at this attribute of an entry that is of interest.
fn is_read(tag: DwTag, attribute: DwAt) -> bool {
    match attribute {
        DW_AT_name => tag != DW_TAG_compile_unit,
        DW_AT_byte_size => tag != DW_TAG_member,
        DW_AT_linkage_name | DW_AT_low_pc | DW_AT_object_pointer => tag == DW_TAG_subprogram,
        DW_AT_location => tag == DW_TAG_variable,
        DW_AT_language
        | DW_AT_type
        | DW_AT_specification
        | DW_AT_abstract_origin
        | DW_AT_signature
        | DW_AT_containing_type
        | DW_AT_count
        | DW_AT_data_member_location
        | DW_AT_upper_bound
        | DW_AT_data_bit_offset
        | DW_AT_bit_size
        | DW_AT_alignment
        | DW_AT_encoding
        | DW_AT_discr_value
        | DW_AT_const_value
        | DW_AT_declaration
        | DW_AT_external
        | DW_AT_virtuality
        | DW_AT_vtable_elem_location => true,
        _ => false,
    }
}

/// What an attribute says, empty where that cannot be read. Names are long in Rust and C++, so their ends are searched for.
fn string<'data>(
    dwarf: &Dwarf<Reader<'data>>,
    unit: &gimli::Unit<Reader<'data>>,
    value: AttributeValue<Reader<'data>>,
) -> Reader<'data> {
    let AttributeValue::DebugStrRef(offset) = value else {
        return dwarf.attr_string(unit, value).unwrap_or_default();
    };
    let text = dwarf.debug_str.reader().slice().get(offset.0..).unwrap_or_default();
    let length = memchr::memchr(0, text).unwrap_or(0);
    Reader::new(&text[..length], LittleEndian)
}

fn reference(base: usize, value: AttributeValue<Reader<'_>>) -> usize {
    match value {
        AttributeValue::UnitRef(UnitOffset(offset)) => base + offset,
        AttributeValue::DebugInfoRef(offset) => offset.0,
        _ => 0,
    }
}

fn hash(bytes: &[u8]) -> u64 {
    XxHash3_128::oneshot(bytes) as u64
}

/// `{closure_env#3}` counts as `{closure_env#}`.
fn hash_without_closure_numbers(name: &[u8]) -> u64 {
    if !name.contains(&b'#') {
        return hash(name);
    }
    let mut kept = Vec::with_capacity(name.len());
    let mut in_number = false;
    for byte in name {
        in_number = *byte == b'#' || (in_number && byte.is_ascii_digit());
        if !in_number {
            kept.push(*byte);
        }
    }
    hash(&kept)
}

/// `p::Trait` of `<p::World as p::Trait>::{vtable_type}`.
fn implemented_trait(name: &str) -> Option<&str> {
    let inner = name.strip_prefix('<')?.strip_suffix(">::{vtable_type}")?;
    let mut depth = 0_usize;
    let bytes = inner.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            b'>' if index > 0 && bytes[index - 1] == b'-' => {}
            b'>' | b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 && inner[index..].starts_with(" as ") => return inner.get(index + 4..),
            _ => {}
        }
    }
    None
}

/// The first bound of a trait object without the values of its associated types, which only one side writes.
fn main_bound(bounds: &str) -> String {
    let mut depth = 0_usize;
    let bytes = bounds.as_bytes();
    let mut associated = None;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b'<' if depth > 0 => depth += 1,
            b'>' if index > 0 && bytes[index - 1] == b'-' => {}
            b'>' | b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *byte == b'>' {
                    return match associated {
                        Some(cut) if bytes[cut] == b'<' => bounds[..cut].to_owned(),
                        Some(cut) => format!("{}>", &bounds[..cut]),
                        None => bounds[..=index].to_owned(),
                    };
                }
            }
            b' ' | b'+' if depth == 0 => return bounds[..index].to_owned(),
            b'<' | b',' if depth == usize::from(*byte == b',') => {
                depth += usize::from(*byte == b'<');
                let name = bounds[index + 1..].split(['=', '<', ',', '>']).next().unwrap_or_default();
                if associated.is_none() && bounds[index + 1 + name.len()..].starts_with('=') {
                    associated = Some(index);
                }
            }
            _ => {}
        }
    }
    bounds.to_owned()
}
