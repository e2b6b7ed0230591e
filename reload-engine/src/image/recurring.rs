//! Code that recurs: what decoding showed of one file's functions, so that the same code at another place of the next file need
//! not be decoded again.
//!
//! Two functions are the same code where their bytes agree in all but the 32-bit distances to what lies outside of them. The
//! length of an instruction, what it does and where control goes inside the function do not depend on those (Intel SDM, volume
//! 2, 2.1 and 2.2.1.6). What an address that lies outside stands for is asked of the file anew.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

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
    /// As if it began at 0.
    facts: Facts,
    /// Where in the chunk's list.
    fields: Range<u32>,
}

/// Some functions that follow each other. As long as they all recur, generations share it.
#[derive(Debug, Default)]
struct Chunk {
    known: Vec<Known>,
    fields: Vec<Field>,
}

impl Chunk {
    /// How many functions, at most.
    const FUNCTIONS: usize = 512;

    /// The first so many of them.
    fn beginning(&self, count: usize) -> Chunk {
        let known = self.known[..count].to_vec();
        let fields = known.last().map_or(0, |last| last.fields.end as usize);
        Chunk { known, fields: self.fields[..fields].to_vec() }
    }

    /// Of one of them.
    fn fields(&self, of: &Known) -> &[Field] {
        &self.fields[of.fields.start as usize..of.fields.end as usize]
    }

    fn push(&mut self, function: u32, body: u32, facts: Facts, fields: &[Field]) {
        let first = self.fields.len() as u32;
        self.fields.extend_from_slice(fields);
        self.known.push(Known { function, body, facts, fields: first..self.fields.len() as u32 });
    }
}

/// Which of the functions that a file is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    chunk: u32,
    place: u32,
}

/// A function of the file before that is the same code.
pub struct Same<'a> {
    pub skeleton: u128,
    /// As they are at the new place.
    pub facts: Facts,
    pub fields: &'a [Field],
}

/// All functions of a file whose decoding depends on nothing outside of them, in their order.
#[derive(Clone, Debug, Default)]
pub struct Recurring {
    /// None is empty.
    chunks: Vec<Arc<Chunk>>,
    by_name: OnceLock<HashMap<NameKey, At>>,
}

impl Recurring {
    /// What the parts of a file showed, which come in its order.
    pub fn joined(parts: impl Iterator<Item = Recurring>) -> Recurring {
        Recurring { chunks: parts.flat_map(|part| part.chunks).collect(), by_name: OnceLock::new() }
    }

    fn known(&self, at: At) -> Option<&Known> {
        self.chunks.get(at.chunk as usize)?.known.get(at.place as usize)
    }

    /// The one after this one.
    pub fn after(&self, at: At) -> At {
        let next = At { place: at.place + 1, ..at };
        if self.known(next).is_some() { next } else { At { chunk: at.chunk + 1, place: 0 } }
    }

    /// The one before this one.
    fn before(&self, at: At) -> Option<&Known> {
        match at.place.checked_sub(1) {
            Some(place) => self.known(At { place, ..at }),
            None => self.chunks.get(at.chunk.checked_sub(1)? as usize)?.known.last(),
        }
    }

    /// The function of `image`, whose functions these are, that has this index; `guess` is looked at first.
    pub fn indexed(&self, index: u32, guess: At) -> Option<At> {
        if self.known(guess).is_some_and(|known| known.function == index) {
            return Some(guess);
        }
        let begins_later = |chunk: &Arc<Chunk>| chunk.known[0].function > index;
        let chunk = self.chunks.partition_point(|chunk| !begins_later(chunk)).checked_sub(1)?;
        let place = self.chunks[chunk].known.binary_search_by_key(&index, |known| known.function).ok()?;
        Some(At { chunk: chunk as u32, place: place as u32 })
    }

    /// The function of `image`, whose functions these are, that has this name; `guess` is looked at first, which is right where
    /// names come in the order that they had.
    pub fn named(&self, image: &Analysis, name: NameKey, guess: At) -> Option<At> {
        /// What is looked through of what lies between two that are known.
        const UNKNOWN: usize = 4;
        let identities = image.identities();
        let end = match self.known(guess) {
            Some(known) if identities[known.function as usize].key == name => return Some(guess),
            Some(known) => known.function as usize,
            None => identities.len(),
        };
        let start = self.before(guess).map_or(0, |last| last.function as usize + 1);
        let between = identities.get(start..end).unwrap_or_default();
        if between.iter().take(UNKNOWN).any(|function| function.key == name) {
            return None;
        }
        self.by_name(image).get(&name).copied()
    }

    /// Made when it is asked for first.
    pub fn by_name(&self, image: &Analysis) -> &HashMap<NameKey, At> {
        let name = |known: &Known| image.identities()[known.function as usize].key;
        let all = || {
            (0..).zip(&self.chunks).flat_map(move |(chunk, functions)| {
                (0..).zip(&functions.known).map(move |(place, known)| (name(known), At { chunk, place }))
            })
        };
        self.by_name.get_or_init(|| all().collect())
    }

    /// Whether `stretch` is the same code as this function of `image`, whose functions these are, and takes no address that is
    /// `special`.
    pub fn same<'a>(
        &'a self,
        image: &Analysis,
        at: At,
        stretch: &Stretch<'_>,
        special: impl Fn(Vaddr) -> bool,
    ) -> Option<Same<'a>> {
        let known = self.known(at)?;
        let before = &image.functions[known.function as usize];
        let len = stretch.bytes.len();
        if before.end.0 - before.address.0 != len as u64 || known.body as usize != stretch.body {
            return None;
        }
        let old = image.bytes_from(before.address).get(..len)?;
        let fields = self.chunks[at.chunk as usize].fields(known);
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
        facts.at.0 += stretch.start;
        Some(Same { skeleton: image.skeletons[known.function as usize], facts, fields })
    }
}

/// Collects what is known of the functions of a part of a file, in their order.
#[derive(Debug, Default)]
pub struct Collector {
    done: Vec<Arc<Chunk>>,
    /// The first so many functions of a chunk of the file before: they all recur so far.
    shared: Option<(Arc<Chunk>, usize)>,
    /// What is not shared. One of the two is empty.
    own: Chunk,
}

impl Collector {
    /// The function of this index was decoded.
    pub fn decoded(&mut self, function: u32, stretch: &Stretch<'_>, mut facts: Facts, fields: &[Field]) {
        facts.at.0 -= stretch.start;
        self.push(function, stretch.body as u32, facts, fields);
    }

    /// The function of this index is the same code as one of the file before.
    pub fn recurs(&mut self, function: u32, before: &Recurring, at: At) {
        let chunk = &before.chunks[at.chunk as usize];
        let known = &chunk.known[at.place as usize];
        let same_index = known.function == function;
        if at.place == 0 && same_index {
            self.end_chunk();
            self.shared = Some((Arc::clone(chunk), 0));
        }
        match &mut self.shared {
            Some((shared, count)) if Arc::ptr_eq(shared, chunk) && *count == at.place as usize && same_index => {
                *count += 1;
            }
            _ => {
                self.push(function, known.body, known.facts, chunk.fields(known));
            }
        }
    }

    fn push(&mut self, function: u32, body: u32, facts: Facts, fields: &[Field]) {
        self.part_with_shared();
        if self.own.known.len() >= Chunk::FUNCTIONS {
            self.end_chunk();
        }
        self.own.push(function, body, facts, fields);
    }

    /// Goes on with a chunk of its own.
    fn part_with_shared(&mut self) {
        match self.shared.take() {
            Some((chunk, count)) if count == chunk.known.len() => self.done.push(chunk),
            Some((chunk, count)) => self.own = chunk.beginning(count),
            None => {}
        }
    }

    fn end_chunk(&mut self) {
        self.part_with_shared();
        if !self.own.known.is_empty() {
            let Chunk { mut known, mut fields } = std::mem::take(&mut self.own);
            known.shrink_to_fit();
            fields.shrink_to_fit();
            self.done.push(Arc::new(Chunk { known, fields }));
        }
    }

    pub fn finish(mut self) -> Recurring {
        self.end_chunk();
        Recurring { chunks: self.done, by_name: OnceLock::new() }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Chunk, Collector, Recurring};
    use crate::{
        image::{entry::Facts, stretch::Stretch},
        model::Vaddr,
    };

    /// A file with these functions, by index; those that are in `before` at the index that it gives recur.
    fn read(functions: u32, before: Option<&Recurring>, was: impl Fn(u32) -> Option<u32>) -> Recurring {
        let mut collector = Collector::default();
        for function in 0..functions {
            let known = before.and_then(|before| Some((before, before.indexed(was(function)?, Default::default())?)));
            match known {
                Some((before, at)) => collector.recurs(function, before, at),
                None => {
                    let start = 0x1000 + u64::from(function) * 16;
                    let stretch = Stretch { functions: None, start, bytes: &[0; 16], body: 16 };
                    collector.decoded(function, &stretch, Facts::at(Vaddr(start)), &[]);
                }
            }
        }
        let read = collector.finish();
        let indices = read.chunks.iter().flat_map(|chunk| chunk.known.iter().map(|known| known.function));
        assert_eq!(indices.collect::<Vec<_>>(), (0..functions).collect::<Vec<_>>());
        assert!(read.chunks.iter().all(|chunk| (1..=Chunk::FUNCTIONS).contains(&chunk.known.len())));
        read
    }

    fn shared(one: &Recurring, other: &Recurring) -> usize {
        one.chunks.iter().filter(|chunk| other.chunks.iter().any(|known| Arc::ptr_eq(chunk, known))).count()
    }

    #[test]
    fn only_the_chunk_with_the_edit_is_copied() {
        const COUNT: u32 = 5 * Chunk::FUNCTIONS as u32 + 7;
        let first = read(COUNT, None, |_| None);
        assert_eq!(first.chunks.len(), 6);
        assert_eq!(shared(&read(COUNT, Some(&first), Some), &first), 6);
        // Anywhere in it, and over and over.
        for edited in [0, 1, 511, 512, 700, 1023, COUNT - 1] {
            let mut last = read(COUNT, Some(&first), |function| Some(function).filter(|it| *it != edited));
            assert_eq!((shared(&last, &first), last.chunks.len()), (5, 6), "{edited}");
            for _ in 0..3 {
                let next = read(COUNT, Some(&last), |function| Some(function).filter(|it| *it != edited));
                assert_eq!((shared(&next, &last), next.chunks.len()), (5, 6), "{edited}");
                last = next;
            }
        }
    }

    #[test]
    fn functions_that_come_and_go_do_not_break_chunks_up() {
        let mut last = read(3000, None, |_| None);
        for generation in 1..600 {
            last = read(3000 + generation, Some(&last), |function| function.checked_sub(1));
        }
        assert_eq!(last.chunks.len(), 3599_usize.div_ceil(Chunk::FUNCTIONS));
        last = read(3000, Some(&last), |function| Some(function + 599));
        assert_eq!(last.chunks.len(), 6);
    }
}
