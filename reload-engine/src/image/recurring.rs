//! Code that recurs: what decoding showed of one file's functions, so that the same code at another place of the next file need
//! not be decoded again.
//!
//! Two functions are the same code where their bytes agree in all but the 32-bit distances to what lies outside of them. The
//! length of an instruction, what it does and where control goes inside the function do not depend on those (Intel SDM, volume
//! 2, 2.1 and 2.2.1.6). What an address that lies outside stands for is asked of the file anew.

use std::{ops::Range, sync::OnceLock};

use foldhash::HashMap;

use super::{Analysis, NameKey, entry::Facts, stretch::Stretch};
use crate::model::Vaddr;

/// A 32-bit distance from the next instruction to something outside of the function.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// From the start of the function, in bytes.
    pub at: u32,
    /// From the field to the next instruction, in bytes.
    next: u8,
    pub kind: FieldKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// An operand in memory.
    Memory,
    /// `lea`.
    Address,
    /// `lea` of what the code then uses as a table of distances from its own start.
    Table,
    Branch,
}

impl Field {
    /// The next instruction, where the function is this one.
    pub fn next_in(&self, stretch: &Stretch<'_>) -> Vaddr {
        Vaddr(stretch.start + u64::from(self.at) + u64::from(self.next))
    }

    /// What the field leads to, where the function is this one, which has it.
    pub fn target_in(&self, stretch: &Stretch<'_>) -> Vaddr {
        let field = stretch.bytes.get(self.at as usize..).and_then(<[u8]>::first_chunk);
        let distance = field.map_or(0, |field| i32::from_le_bytes(*field));
        Vaddr(self.next_in(stretch).0.wrapping_add_signed(distance.into()))
    }
}

/// What decoding showed of one function, besides what the function itself says.
#[derive(Clone, Debug)]
struct Known {
    /// Index of the first that begins there.
    function: u32,
    /// Bytes that are its own; padding follows.
    body: u32,
    facts: Facts,
    /// Which of the lists of fields, and where in it.
    part: u32,
    fields: Range<u32>,
}

/// A function of the file before that is the same code.
pub struct Same<'a> {
    pub skeleton: u128,
    /// As they are at the new place.
    pub facts: Facts,
    pub fields: &'a [Field],
}

/// All functions of a file whose decoding depends on nothing outside of them.
#[derive(Clone, Debug, Default)]
pub struct Recurring {
    known: Vec<Known>,
    /// By part of the file.
    fields: Vec<Vec<Field>>,
    by_name: OnceLock<HashMap<NameKey, u32>>,
}

impl Recurring {
    /// For so many functions.
    pub fn with_room(functions: usize) -> Recurring {
        let (known, fields) = (Vec::with_capacity(functions), Vec::with_capacity(4 * functions));
        Recurring { known, fields: vec![fields], ..Recurring::default() }
    }

    /// Notes what was found of a function in this part of the file, which has one list while it is made.
    pub fn note(&mut self, part: u32, function: u32, stretch: &Stretch<'_>, facts: Facts, fields: &[Field]) {
        let list = &mut self.fields[0];
        let first = list.len() as u32;
        list.extend_from_slice(fields);
        self.known.push(Known { function, body: stretch.body as u32, facts, part, fields: first..list.len() as u32 });
    }

    /// What the parts of a file showed, which come in its order.
    pub fn joined(parts: Vec<Recurring>) -> Recurring {
        let mut all = Recurring::default();
        all.known.reserve_exact(parts.iter().map(|part| part.known.len()).sum());
        for mut part in parts {
            all.known.append(&mut part.known);
            part.fields.iter_mut().for_each(Vec::shrink_to_fit);
            all.fields.extend(part.fields);
        }
        all
    }

    /// Index of the function of `image`, whose functions these are, that has this name; `guess` is looked at first, which is right
    /// where names come in the order that they had.
    pub fn named(&self, image: &Analysis, name: NameKey, guess: u32) -> Option<u32> {
        /// What is looked through of what lies between two that are known.
        const UNKNOWN: usize = 4;
        let guess = guess as usize;
        let end = match self.known.get(guess) {
            Some(known) if image.identities()[known.function as usize].key == name => return Some(guess as u32),
            Some(known) => known.function as usize,
            None => image.functions.len(),
        };
        let start =
            guess.checked_sub(1).and_then(|last| self.known.get(last)).map_or(0, |last| last.function as usize + 1);
        let between = image.identities().get(start..end).unwrap_or_default();
        if between.iter().take(UNKNOWN).any(|function| function.key == name) {
            return None;
        }
        self.by_name(image).get(&name).copied()
    }

    /// Made when it is asked for first.
    pub fn by_name(&self, image: &Analysis) -> &HashMap<NameKey, u32> {
        let name = |known: &Known| image.identities()[known.function as usize].key;
        self.by_name.get_or_init(|| (0..).zip(&self.known).map(|(at, known)| (name(known), at)).collect())
    }

    /// Whether `stretch` is the same code as the function of this index, of `image`, whose functions these are, and takes no address
    /// that is `special`.
    pub fn same<'a>(
        &'a self,
        image: &Analysis,
        index: u32,
        stretch: &Stretch<'_>,
        special: impl Fn(Vaddr) -> bool,
    ) -> Option<Same<'a>> {
        let known = &self.known[index as usize];
        let before = &image.functions[known.function as usize];
        let len = stretch.bytes.len();
        if before.end.0 - before.address.0 != len as u64 || known.body as usize != stretch.body {
            return None;
        }
        let old = image.bytes_from(before.address).get(..len)?;
        let fields = &self.fields[known.part as usize][known.fields.start as usize..known.fields.end as usize];
        let own = stretch.start..stretch.start + len as u64;
        let mut at = 0;
        for field in fields {
            let start = field.at as usize;
            if old.get(at..start)? != stretch.bytes.get(at..start)? {
                return None;
            }
            at = start + 4;
            let target = field.target_in(stretch);
            let taken = matches!(field.kind, FieldKind::Address | FieldKind::Table);
            if own.contains(&target.0) || (taken && special(target)) {
                return None;
            }
        }
        if old.get(at..)? != stretch.bytes.get(at..)? {
            return None;
        }
        let mut facts = known.facts;
        facts.at = Vaddr(facts.at.0 - before.address.0 + stretch.start);
        Some(Same { skeleton: image.skeletons[known.function as usize], facts, fields })
    }
}

/// Collects the fields of a function while it is decoded.
#[derive(Debug, Default)]
pub struct Record {
    fields: Vec<Field>,
    usable: bool,
}

impl Record {
    /// What has been collected, if it says all.
    pub fn fields(&self) -> Option<&[Field]> {
        self.usable.then_some(&self.fields)
    }

    pub fn begin(&mut self) {
        self.fields.clear();
        self.usable = true;
    }

    /// Decoding another function with the same bytes might show something else.
    pub fn spoil(&mut self) {
        self.usable = false;
    }

    /// The start of the function and, in it, of the field; the next instruction.
    pub fn field(&mut self, start: u64, at: usize, next: u64, kind: FieldKind) {
        match u8::try_from(next - start - at as u64) {
            Ok(next) => self.fields.push(Field { at: at as u32, next, kind }),
            Err(_) => self.spoil(),
        }
    }

    /// What is loaded by the instruction before `next` is used as a table of distances.
    pub fn is_table(&mut self, start: u64, next: u64) {
        let at_next = |field: &&mut Field| start + u64::from(field.at) + u64::from(field.next) == next;
        match self.fields.iter_mut().rev().find(at_next) {
            Some(field) if field.kind != FieldKind::Branch => field.kind = FieldKind::Table,
            _ => self.spoil(),
        }
    }
}
