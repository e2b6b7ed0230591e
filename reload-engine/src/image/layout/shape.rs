//! From a unit's entries to hashes of shapes and to links between types.

#![allow(non_upper_case_globals, reason = "DWARF's own names stand in patterns")]

use std::collections::HashMap;

use gimli::constants::{
    DW_TAG_array_type, DW_TAG_atomic_type, DW_TAG_class_type, DW_TAG_const_type, DW_TAG_enumerator,
    DW_TAG_formal_parameter, DW_TAG_inheritance, DW_TAG_member, DW_TAG_pointer_type, DW_TAG_ptr_to_member_type,
    DW_TAG_reference_type, DW_TAG_restrict_type, DW_TAG_rvalue_reference_type, DW_TAG_structure_type,
    DW_TAG_subprogram, DW_TAG_subrange_type, DW_TAG_subroutine_type, DW_TAG_template_type_parameter, DW_TAG_typedef,
    DW_TAG_union_type, DW_TAG_unspecified_parameters, DW_TAG_variable, DW_TAG_variant, DW_TAG_variant_part,
    DW_TAG_volatile_type,
};

use super::{
    ByKey, Edge, Link, Signature, Type, TypeKey, Variable,
    dies::{Die, Flags, Unit, is_aggregate},
    mix,
};
use crate::model::Vaddr;

/// The units of a file, and where the types stand that have a unit of their own.
#[derive(Debug, Default)]
pub(super) struct Units {
    /// Ascending by place.
    pub list: Vec<Unit>,
    signed: HashMap<u64, usize>,
}

impl Units {
    pub fn of(list: Vec<Unit>) -> Units {
        Units { signed: list.iter().filter_map(|unit| unit.signed).collect(), list }
    }
}

/// What one unit contributes.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub types: ByKey<Type>,
    pub variables: Vec<Variable>,
    pub functions: Vec<Signature>,
}

/// Types nest; what is deeper than anybody writes is a loop in broken data.
const DEPTH: u32 = 24;
const VOID: u64 = 1;

pub(super) fn of_unit(units: &Units, index: usize) -> Part {
    let mut part = Part::default();
    let unit = &units.list[index];
    for (at, die) in unit.dies.iter().enumerate() {
        let entry = Entry { units, unit, at };
        if die.flags.has(Flags::DECLARATION) {
            continue;
        }
        if is_aggregate(die.tag) || (die.tag == DW_TAG_typedef && entry.names_the_unnamed().is_some()) {
            entry.add_type(&mut part.types);
        } else if die.tag == DW_TAG_pointer_type && die.flags.has(Flags::HEAP) {
            let boxed = part.types.entry(TypeKey::BOXED).or_default();
            entry.follow(Link::Heap, 0, &mut boxed.edges);
        } else if die.tag == DW_TAG_variable && die.flags.has(Flags::ADDRESSED) {
            let mut edges = Vec::new();
            let target = entry.origin().target();
            let ty = target.map_or(VOID, |ty| ty.follow(Link::Value, 0, &mut edges));
            part.variables.push(Variable {
                address: Vaddr(die.number),
                thread_local: die.flags.has(Flags::THREAD_LOCAL),
                site: unit.site(die),
                ty,
                ends_in_array: target.is_none_or(|ty| ty.ends_in_array(0)),
                edges,
            });
        } else if is_asked_function(die) {
            part.functions.push(entry.signature());
        }
    }
    part
}

/// Of the functions that are asked for, what their variables and parameters hold or point to, each with what it is.
pub(super) fn held(units: &Units, index: usize) -> Vec<(Vaddr, TypeKey)> {
    let unit = &units.list[index];
    let mut held = Vec::new();
    for (at, die) in unit.dies.iter().enumerate() {
        if !is_asked_function(die) {
            continue;
        }
        let mut edges = Vec::new();
        for child in (Entry { units, unit, at }).children() {
            if matches!(child.die().tag, DW_TAG_variable | DW_TAG_formal_parameter) {
                child.origin().follow_target(Link::Value, 0, &mut edges);
            }
        }
        held.extend(edges.into_iter().map(|edge| (Vaddr(die.number), edge.to)));
    }
    held
}

fn is_asked_function(die: &Die) -> bool {
    die.tag == DW_TAG_subprogram && die.flags.has(Flags::ADDRESSED) && !die.flags.has(Flags::UNASKED)
}

/// A place in the tables.
#[derive(Clone, Copy)]
struct Entry<'a> {
    units: &'a Units,
    unit: &'a Unit,
    at: usize,
}

impl<'a> Entry<'a> {
    fn die(self) -> &'a Die {
        &self.unit.dies[self.at]
    }

    fn resolve(self, offset: usize) -> Option<Entry<'a>> {
        if offset == 0 {
            return None;
        }
        let unit = if self.unit.covers(offset) {
            self.unit
        } else {
            let after = self.units.list.partition_point(|unit| unit.base <= offset);
            self.units.list[..after].last().filter(|unit| unit.covers(offset))?
        };
        Some(Entry { unit, at: unit.index_of(offset)?, ..self })
    }

    fn target(self) -> Option<Entry<'a>> {
        let die = self.die();
        if die.flags.has(Flags::SIGNED) {
            return self.resolve(*self.units.signed.get(&(die.target as u64))?);
        }
        self.resolve(die.target)
    }

    /// This entry, the one that it continues, and so on.
    fn continued(self) -> impl Iterator<Item = Entry<'a>> {
        let next = |entry: &Entry<'a>| entry.target().filter(|_| entry.die().flags.has(Flags::CONTINUES));
        std::iter::successors(Some(self), next).take(DEPTH as usize + 1)
    }

    /// The entry that this one continues, or itself.
    fn origin(self) -> Entry<'a> {
        self.continued().last().unwrap_or(self)
    }

    /// Of what it continues, what says how the class is made: a class in a unit of its own is declared, described and named in
    /// three places.
    fn described(self) -> Entry<'a> {
        self.continued().find(|entry| entry.children().next().is_some()).unwrap_or(self)
    }

    fn children(self) -> impl Iterator<Item = Entry<'a>> {
        let end = self.die().end as usize;
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let child = Entry { at, ..self };
            (at < end).then(|| {
                at = (child.die().end as usize).max(at + 1);
                child
            })
        })
    }

    /// The class in which a member function is declared.
    fn class(self) -> Option<Entry<'a>> {
        if !self.die().flags.has(Flags::DECLARATION) {
            return None;
        }
        let before = (0..self.at).rev().map(|at| Entry { at, ..self });
        let around = |entry: &Entry<'a>| entry.die().end as usize > self.at && is_aggregate(entry.die().tag);
        before.into_iter().find(around)
    }

    /// The unnamed structure this typedef gives a name to.
    fn names_the_unnamed(self) -> Option<Entry<'a>> {
        let target = self.target()?;
        (is_aggregate(target.die().tag) && !target.origin().die().flags.has(Flags::NAMED)).then_some(target)
    }

    fn key(self) -> Option<TypeKey> {
        let named = self.origin().die();
        named.flags.has(Flags::NAMED).then_some(TypeKey(named.name))
    }

    fn add_type(self, types: &mut ByKey<Type>) {
        let Some(key) = self.key() else { return };
        let body = if is_aggregate(self.die().tag) { Some(self) } else { self.names_the_unnamed() };
        let Some(body) = body else { return };
        let mut edges = Vec::new();
        let shape = body.shape(0, &mut edges);
        let die = self.die();
        if die.flags.has(Flags::TRAIT_OBJECT) {
            edges.push(Edge { to: TypeKey(die.of_trait), link: Link::Pointer });
        }
        if die.flags.has(Flags::VTABLE)
            && let Some(implementor) = self.resolve(die.implementor)
        {
            let mut implementors = Vec::new();
            // A closure is lent as a trait object more often than kept; where it is kept, its `Box` says so.
            let lent = implementor.die().flags.has(Flags::CLOSURE);
            implementor.follow(if lent { Link::Pointer } else { Link::Implementor }, 0, &mut implementors);
            for edge in implementors {
                types.entry(edge.to).or_default().edges.push(Edge { to: key, link: Link::Pointer });
                types.entry(TypeKey(die.of_trait)).or_default().edges.push(edge);
            }
        }
        for base in self.children().filter(|child| child.die().tag == DW_TAG_inheritance) {
            if let Some(base) = base.target().and_then(Entry::key) {
                types.entry(base).or_default().edges.push(Edge { to: key, link: Link::Pointer });
            }
        }
        let known = types.entry(key).or_default();
        known.rust |= self.unit.rust;
        known.coroutine |= die.flags.has(Flags::COROUTINE);
        known.lambda |= die.flags.has(Flags::LAMBDA);
        if !known.shapes.iter().any(|(hash, _)| *hash == shape) {
            known.shapes.push((shape, self.unit.site(die)));
        }
        edges.sort_unstable();
        edges.dedup();
        known.edges.extend(edges);
    }

    /// Hash of the layout; the order of declaration does not count, offsets do.
    fn shape(self, depth: u32, edges: &mut Vec<Edge>) -> u64 {
        let die = self.die();
        let own = mix(mix(u64::from(die.tag.0), die.number), die.extra);
        mix(own, self.parts(depth, edges))
    }

    fn parts(self, depth: u32, edges: &mut Vec<Edge>) -> u64 {
        let mut sum = 0_u64;
        for child in self.children() {
            let die = child.die();
            let own = mix(mix(mix(u64::from(die.tag.0), die.name), die.number), die.extra);
            let part = match die.tag {
                DW_TAG_member if die.flags.has(Flags::EXTERNAL) || die.flags.has(Flags::DECLARATION) => continue,
                DW_TAG_member | DW_TAG_inheritance => mix(own, child.follow_target(Link::Value, depth + 1, edges)),
                DW_TAG_enumerator => own,
                DW_TAG_variant_part | DW_TAG_variant => mix(own, child.parts(depth, edges)),
                // In the table of an object that exists stands the one it had, and new ones have another table.
                DW_TAG_subprogram if die.flags.has(Flags::VIRTUAL) && self.inherits_slot(die.extra, depth) => continue,
                // Not its number: of a class inside of a function it is the address of its code.
                DW_TAG_subprogram if die.flags.has(Flags::VIRTUAL) => {
                    mix(mix(u64::from(die.tag.0), die.name), die.extra)
                }
                DW_TAG_template_type_parameter => {
                    let heap = self.die().flags.has(Flags::HEAP);
                    child.follow_target(if heap { Link::Heap } else { Link::Argument }, depth + 1, edges);
                    continue;
                }
                _ => continue,
            };
            sum = sum.wrapping_add(part);
        }
        sum
    }

    /// Whether what is in this slot of a class's table overrides a function of the only base that has such a table.
    fn inherits_slot(self, slot: u64, depth: u32) -> bool {
        let mut bases = self.bases().filter(|base| base.has_table(depth));
        let (Some(base), None) = (bases.next(), bases.next()) else { return false };
        // A virtual base's table is another one.
        depth < DEPTH
            && !self.inheritances().any(|inheritance| inheritance.die().flags.has(Flags::VIRTUAL))
            && (base.virtual_functions().any(|function| function.die().extra == slot)
                || base.inherits_slot(slot, depth + 1))
    }

    fn has_table(self, depth: u32) -> bool {
        self.virtual_functions().next().is_some()
            || (depth < DEPTH && self.bases().any(|base| base.has_table(depth + 1)))
    }

    fn bases(self) -> impl Iterator<Item = Entry<'a>> {
        self.inheritances().filter_map(Entry::target)
    }

    fn inheritances(self) -> impl Iterator<Item = Entry<'a>> {
        self.described().children().filter(|child| child.die().tag == DW_TAG_inheritance)
    }

    fn virtual_functions(self) -> impl Iterator<Item = Entry<'a>> {
        let children = self.described().children();
        children.filter(|child| child.die().tag == DW_TAG_subprogram && child.die().flags.has(Flags::VIRTUAL))
    }

    fn follow_target(self, link: Link, depth: u32, edges: &mut Vec<Edge>) -> u64 {
        self.target().map_or(VOID, |target| target.follow(link, depth, edges))
    }

    /// Hash of the type's name, what it is made of where it has none; notes the named types in it.
    fn follow(self, link: Link, depth: u32, edges: &mut Vec<Edge>) -> u64 {
        let die = self.die();
        let tag = u64::from(die.tag.0);
        if depth > DEPTH {
            return tag;
        }
        match die.tag {
            DW_TAG_pointer_type | DW_TAG_reference_type | DW_TAG_rvalue_reference_type => {
                let link = if die.flags.has(Flags::HEAP) { Link::Heap } else { Link::Pointer };
                mix(tag, self.follow_target(link, depth + 1, edges))
            }
            DW_TAG_ptr_to_member_type => mix(tag, self.follow_target(Link::Pointer, depth + 1, edges)),
            DW_TAG_typedef if self.names_the_unnamed().is_some() => {
                edges.push(Edge { to: TypeKey(die.name), link });
                die.name
            }
            DW_TAG_typedef | DW_TAG_const_type | DW_TAG_volatile_type | DW_TAG_restrict_type | DW_TAG_atomic_type => {
                self.follow_target(link, depth + 1, edges)
            }
            DW_TAG_array_type => {
                let lengths = self.children().filter(|child| child.die().tag == DW_TAG_subrange_type);
                lengths.fold(mix(tag, self.follow_target(link, depth + 1, edges)), |hash, child| {
                    mix(hash, child.die().number)
                })
            }
            DW_TAG_subroutine_type => {
                let mut unused = Vec::new();
                let result = self.follow_target(Link::Pointer, depth + 1, &mut unused);
                let parameters = self.children().filter(|child| child.die().tag == DW_TAG_formal_parameter);
                parameters.fold(mix(tag, result), |hash, parameter| {
                    mix(hash, parameter.follow_target(Link::Pointer, depth + 1, &mut unused))
                })
            }
            _ if is_aggregate(die.tag) => match self.key() {
                Some(key) => {
                    edges.push(Edge { to: key, link });
                    key.0
                }
                None => self.shape(depth + 1, edges),
            },
            // Base types: a name, a size, an encoding.
            _ => mix(mix(mix(tag, die.name), die.number), die.extra),
        }
    }

    /// Whether a result of this type may be put where the caller says: it has more than two words, or it is a class that cannot
    /// be copied bit by bit, as one without functions and with nothing but such parts can (Itanium C++ ABI 3.1.3.1).
    fn may_need_place(self, depth: u32) -> bool {
        const TWO_WORDS: u64 = 16;
        let of_target = |entry: Entry<'a>| entry.target().is_some_and(|ty| ty.may_need_place(depth + 1));
        match self.die().tag {
            _ if depth > DEPTH => true,
            DW_TAG_typedef | DW_TAG_const_type | DW_TAG_volatile_type | DW_TAG_restrict_type | DW_TAG_atomic_type => {
                of_target(self)
            }
            // Of what is in a vector register, or is a member.
            DW_TAG_array_type => depth == 0 || of_target(self),
            DW_TAG_structure_type | DW_TAG_class_type | DW_TAG_union_type => {
                let described = self.described();
                let is_copied = |part: Entry<'a>| match part.die().tag {
                    DW_TAG_subprogram => false,
                    DW_TAG_member | DW_TAG_inheritance => !of_target(part),
                    _ => true,
                };
                described.die().number > TWO_WORDS || !(self.unit.rust || described.children().all(is_copied))
            }
            _ => self.die().number > TWO_WORDS,
        }
    }

    /// Where that is not known, it may.
    fn ends_in_array(self, depth: u32) -> bool {
        let die = self.die();
        let of_target = |entry: Entry<'a>| entry.target().is_none_or(|ty| ty.ends_in_array(depth + 1));
        match die.tag {
            _ if depth > DEPTH => true,
            DW_TAG_array_type => true,
            DW_TAG_typedef | DW_TAG_const_type | DW_TAG_volatile_type | DW_TAG_restrict_type | DW_TAG_atomic_type => {
                of_target(self)
            }
            DW_TAG_structure_type | DW_TAG_class_type | DW_TAG_union_type => {
                let is_stored = |part: &Entry<'a>| {
                    let flags = part.die().flags;
                    matches!(part.die().tag, DW_TAG_member | DW_TAG_inheritance)
                        && !flags.has(Flags::EXTERNAL)
                        && !flags.has(Flags::DECLARATION)
                };
                // Which part is the last one its place does not tell: it may have no size.
                let described = self.described();
                let has_variants = described.children().any(|part| part.die().tag == DW_TAG_variant_part);
                has_variants
                    || described.die().flags.has(Flags::DECLARATION)
                    || described.children().filter(is_stored).any(of_target)
            }
            _ => false,
        }
    }

    fn signature(self) -> Signature {
        let mut edges = Vec::new();
        let origin = self.origin();
        // An out-of-line copy may lack parameters that its origin has; a definition has them all.
        let of = |entry: Entry<'a>| {
            entry
                .children()
                .filter(|child| matches!(child.die().tag, DW_TAG_formal_parameter | DW_TAG_unspecified_parameters))
        };
        let listed = if of(origin).next().is_some() { origin } else { self };
        let mut parameters = Vec::new();
        for parameter in of(listed) {
            let ty = parameter.origin().follow_target(Link::Value, 0, &mut edges);
            // Those of what was inlined stand further in: handed something as well, but not by callers.
            if !parameter.die().flags.has(Flags::NESTED) {
                parameters.push(ty);
            }
        }
        // Whoever has only a pointer to it may get at objects of its class's arguments by it: so does what `std::function` calls.
        // clang says of the definition only that it has a `this`.
        let is_method = self.continued().any(|entry| entry.die().flags.has(Flags::METHOD));
        let by_pointer = origin.die().flags.has(Flags::VIRTUAL) || !is_method;
        let class = Some(origin).filter(|_| by_pointer).and_then(Entry::class);
        let mut captures = 0_u64;
        let arguments = class.into_iter().flat_map(Entry::children);
        for argument in arguments.filter(|child| child.die().tag == DW_TAG_template_type_parameter) {
            argument.follow_target(Link::Argument, 0, &mut edges);
            if let Some(lambda) = argument.target().filter(|ty| ty.die().flags.has(Flags::LAMBDA)) {
                captures = mix(captures, lambda.shape(0, &mut Vec::new()));
            }
        }
        let result = origin.follow_target(Link::Value, 0, &mut Vec::new());
        let result = (result != VOID).then_some(result);
        let may_need_place = origin.target().is_some_and(|ty| ty.may_need_place(0));
        edges.sort_unstable();
        edges.dedup();
        let address = Vaddr(self.die().number);
        Signature { address, rust: self.unit.rust, parameters, result, may_need_place, captures, edges }
    }
}
