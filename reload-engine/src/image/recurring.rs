//! Code that recurs: what decoding showed of one file's functions, so that the same code at another place of the next file need
//! not be decoded again.
//!
//! Two functions are the same code where their bytes agree in all but the 32-bit distances to what lies outside of them. The
//! length of an instruction, what it does and where control goes inside the function do not depend on those (Intel SDM, volume
//! 2, 2.1 and 2.2.1.6). What an address that lies outside stands for is asked of the file anew.

use std::{ops::Range, sync::OnceLock};

use foldhash::HashMap;

use super::{Analysis, NameKey, code::Stretch, entry::Facts};
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

/// A field with what stands in it.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    pub kind: FieldKind,
    pub at: u32,
    pub next: Vaddr,
    pub target: Vaddr,
}

/// What decoding showed of one function, besides what the function itself says.
#[derive(Clone, Debug)]
struct Known {
    /// Index of the first that begins there.
    function: u32,
    /// Bytes that are its own; padding follows.
    body: u32,
    facts: Facts,
    fields: Range<u32>,
}

/// A function of the file before that is the same code.
pub struct Same {
    /// Which one.
    pub index: u32,
    pub skeleton: u128,
    /// As they are at the new place.
    pub facts: Facts,
}

/// All functions of a file whose decoding depends on nothing outside of them.
#[derive(Clone, Debug, Default)]
pub struct Recurring {
    known: Vec<Known>,
    fields: Vec<Field>,
    by_name: OnceLock<HashMap<NameKey, u32>>,
}

impl Recurring {
    /// Notes what was found of a function, whose fields have been collected in `record`.
    pub fn note(&mut self, function: u32, stretch: &Stretch<'_>, facts: Facts, record: &Record) {
        if !record.usable {
            return;
        }
        let first = self.fields.len() as u32;
        self.fields.extend_from_slice(&record.fields);
        self.known.push(Known { function, body: stretch.body as u32, facts, fields: first..self.fields.len() as u32 });
    }

    /// Adds what another part of the file showed.
    pub fn extend(&mut self, other: Recurring) {
        let offset = self.fields.len() as u32;
        self.fields.extend(other.fields);
        self.known.extend(other.known.into_iter().map(|mut known| {
            known.fields = known.fields.start + offset..known.fields.end + offset;
            known
        }));
    }

    /// Index of the function of `image` that has this name; `guess` is looked at first.
    fn named(&self, image: &Analysis, name: NameKey, guess: u32) -> Option<u32> {
        match self.known.get(guess as usize) {
            Some(known) if image.functions[known.function as usize].key == name => Some(guess),
            _ => self.by_name(image).get(&name).copied(),
        }
    }

    /// Made when it is asked for first.
    pub fn by_name(&self, image: &Analysis) -> &HashMap<NameKey, u32> {
        let name = |known: &Known| image.functions[known.function as usize].key;
        self.by_name.get_or_init(|| (0..).zip(&self.known).map(|(at, known)| (name(known), at)).collect())
    }

    /// Whether `stretch` is the same code as the function of `image`, whose functions these are, that has this name, `guess` if
    /// names come in the order that they had. Then `skeleton` holds its bytes with the fields zeroed, and `filled` the fields.
    pub fn same(
        &self,
        image: &Analysis,
        name: NameKey,
        guess: u32,
        stretch: &Stretch<'_>,
        skeleton: &mut Vec<u8>,
        filled: &mut Vec<Filled>,
    ) -> Option<Same> {
        let index = self.named(image, name, guess)?;
        let known = &self.known[index as usize];
        let before = &image.functions[known.function as usize];
        let len = stretch.bytes.len();
        if before.end.0 - before.address.0 != len as u64 || known.body as usize != stretch.body {
            return None;
        }
        let (body, padding) = stretch.bytes.split_at(stretch.body);
        let own = stretch.start..stretch.start + len as u64;
        skeleton.clear();
        skeleton.extend_from_slice(body);
        filled.clear();
        for field in &self.fields[known.fields.start as usize..known.fields.end as usize] {
            let at = field.at as usize;
            let place = skeleton.get_mut(at..at + 4)?;
            let distance = i32::from_le_bytes([place[0], place[1], place[2], place[3]]);
            place.fill(0);
            let next = stretch.start + u64::from(field.at) + u64::from(field.next);
            let target = next.wrapping_add_signed(distance.into());
            if own.contains(&target) {
                return None;
            }
            filled.push(Filled { kind: field.kind, at: field.at, next: Vaddr(next), target: Vaddr(target) });
        }
        let old_padding = image.bytes_from(Vaddr(before.address.0 + u64::from(known.body)));
        if twox_hash::XxHash3_128::oneshot(skeleton) != before.skeleton || !old_padding.starts_with(padding) {
            return None;
        }
        let moved = |address: Vaddr| Vaddr(address.0 - before.address.0 + stretch.start);
        let facts = Facts { at: moved(known.facts.at), landing: known.facts.landing.map(moved), ..known.facts };
        Some(Same { index, skeleton: before.skeleton, facts })
    }
}

/// Collects the fields of a function while it is decoded.
#[derive(Debug, Default)]
pub struct Record {
    fields: Vec<Field>,
    usable: bool,
}

impl Record {
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
