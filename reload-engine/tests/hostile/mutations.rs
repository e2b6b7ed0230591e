//! Damage done to an ELF file where it hurts: in its headers, tables and debugging information.

use std::ops::Range;

use object::{Object as _, ObjectSection as _};

/// A small generator (xorshift64*), so that a seed says everything about a mutant.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// A part of the file and the size of its records.
#[derive(Clone, Debug)]
pub struct Part {
    pub name: String,
    range: Range<usize>,
    record: usize,
}

/// The parts of a well-formed file that are worth damaging.
pub fn parts(bytes: &[u8]) -> Vec<Part> {
    let word =
        |at: usize| bytes.get(at..at + 8).map_or(0, |word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
    let half = |at: usize| bytes.get(at..at + 2).map_or(0, |half| usize::from(half[0]) | usize::from(half[1]) << 8);
    let mut parts = Vec::new();
    let mut add = |name: &str, start: u64, len: usize, record: usize| {
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(len).min(bytes.len());
        if end - start >= record {
            parts.push(Part { name: name.to_owned(), range: start..end, record });
        }
    };
    add("ELF header", 0, 64, 64);
    add("program headers", word(32), half(56) * 56, 56);
    add("section headers", word(40), half(60) * 64, 64);
    if let Ok(file) = object::File::parse(bytes) {
        for section in file.sections() {
            let (Ok(name), Some((offset, size))) = (section.name(), section.file_range()) else { continue };
            let record = match name {
                ".symtab" | ".dynsym" | ".rela.dyn" | ".rela.plt" => 24,
                ".dynamic" => 16,
                ".got" | ".init_array" | ".relr.dyn" | ".data.rel.ro" => 8,
                _ => 1,
            };
            add(name, offset, size as usize, record);
        }
    }
    parts
}

/// Values that are wrong in interesting ways.
fn value(random: &mut Random, len: usize) -> u64 {
    match random.below(12) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => u64::MAX - random.next() % 64,
        4 => 1 << random.below(64),
        5 => (1 << 47) - 1,
        6 => len as u64,
        7 => len as u64 - 1,
        8 => random.next() % (len as u64 * 2),
        9 => u64::from(u32::MAX),
        10 => random.next() % 256,
        _ => random.next(),
    }
}

/// Damages a copy of `original`, whose parts are `parts`; says what was done.
pub fn mutate(original: &[u8], parts: &[Part], seed: u64) -> (Vec<u8>, String) {
    let mut random = Random::new(seed);
    let mut bytes = original.to_vec();
    let mut done = Vec::new();
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            break;
        }
        match random.below(20) {
            0 => {
                bytes.truncate(random.below(bytes.len()));
                done.push(format!("cut to {}", bytes.len()));
            }
            1 => {
                let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
                let len = random.below(256).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + len, to);
                done.push(format!("{len} bytes copied from {from:#x} to {to:#x}"));
            }
            2 => {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
                done.push(format!("byte at {at:#x}"));
            }
            _ if !parts.is_empty() => {
                let part = &parts[random.below(parts.len())];
                let records = part.range.len() / part.record;
                let record = part.range.start + random.below(records) * part.record;
                // Fields of records are as wide as they are aligned; where there are no records, anything goes.
                let width = [1, 2, 4, 8][random.below(4)].min(part.range.len());
                let fields = part.record.max(width) / width;
                let at = record + random.below(fields) * width;
                let wrong = value(&mut random, original.len());
                if let Some(field) = bytes.get_mut(at..at + width) {
                    match random.below(3) {
                        0 => field[0] ^= 1 << (wrong % 8),
                        _ => field.copy_from_slice(&wrong.to_le_bytes()[..width]),
                    }
                    done.push(format!("{} at {at:#x}: {width} bytes {wrong:#x}", part.name));
                }
            }
            _ => {}
        }
    }
    (bytes, done.join("; "))
}
