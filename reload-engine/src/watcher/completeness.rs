//! Is a file a finished ELF file? Proven from the file itself: linkers create files at full size, write headers last and
//! write through mappings, so neither size nor the absence of writes says anything.
//!
//! Bytes in, a verdict out. Whether the file suits the target (architecture, type, symbols) is the image's business.

/// What the bytes say about themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    Complete,
    /// As a writer's half-done work looks; may become complete.
    Incomplete(String),
    /// Something else than a 64-bit little-endian ELF file.
    NotElf(String),
}

use Completeness::{Complete, Incomplete, NotElf};

/// Length of the ELF header, enough for [`header`].
pub const HEADER_LEN: usize = 64;

const PROGRAM_HEADER_LEN: u64 = 56;
const SECTION_HEADER_LEN: u64 = 64;
const PT_DYNAMIC: u32 = 2;
const SHT_NULL: u32 = 0;
const SHT_NOBITS: u32 = 8;
/// `e_shnum` and `e_shstrndx` are then in section 0 (elf(5)).
const SHN_XINDEX: u64 = 0xffff;

/// Judges a whole file.
pub fn completeness(bytes: &[u8]) -> Completeness {
    let tables = match header(bytes, bytes.len() as u64) {
        Ok(tables) => tables,
        Err(verdict) => return verdict,
    };
    match check(bytes, &tables) {
        Ok(()) => Complete,
        Err(reason) => Incomplete(reason),
    }
}

/// Where the header says the tables are; both lie inside the file.
pub struct Tables {
    program_headers: u64,
    program_header_count: u64,
    section_headers: u64,
    section_count: u64,
    section_names: u64,
}

/// Judges a file of `len` bytes by its first [`HEADER_LEN`] alone: cheap enough to ask while it is being written.
pub fn header(head: &[u8], len: u64) -> Result<Tables, Completeness> {
    if len == 0 {
        return Err(Incomplete("the file is empty".into()));
    }
    let start = &head[..head.len().min(HEADER_LEN)];
    if start.iter().all(|byte| *byte == 0) {
        return Err(Incomplete(
            "the ELF header is zero: the file is still being written, or was never finished".into(),
        ));
    }
    if !start.starts_with(&b"\x7fELF"[..start.len().min(4)]) {
        return Err(NotElf(format!("not an ELF file: it starts with {}", opening(start))));
    }
    if start.len() < HEADER_LEN {
        return Err(Incomplete(format!("only {len} bytes, less than an ELF header")));
    }
    if start[4] != 2 {
        return Err(NotElf("not a 64-bit ELF file".into()));
    }
    if start[5] != 1 {
        return Err(NotElf("not a little-endian ELF file".into()));
    }
    let tables = Tables {
        program_headers: word(start, 0x20),
        program_header_count: half(start, 0x38),
        section_headers: word(start, 0x28),
        section_count: half(start, 0x3c),
        section_names: half(start, 0x3e),
    };
    if tables.program_header_count > 0 && half(start, 0x36) != PROGRAM_HEADER_LEN {
        return Err(NotElf("its program headers have an unknown size".into()));
    }
    if tables.section_headers != 0 && half(start, 0x3a) != SECTION_HEADER_LEN {
        return Err(NotElf("its section headers have an unknown size".into()));
    }
    let inside = |what: &str, offset: u64, count: u64, each: u64| {
        let end = count.checked_mul(each).and_then(|bytes| offset.checked_add(bytes));
        match end {
            Some(end) if end <= len => Ok(()),
            _ => Err(Incomplete(format!("cut off: the {what} at {offset:#x} lie beyond the end at {len:#x}"))),
        }
    };
    inside("program headers", tables.program_headers, tables.program_header_count, PROGRAM_HEADER_LEN)?;
    // With extended numbering the count is in section 0, which must be there to be asked.
    let sections = if tables.section_headers == 0 { 0 } else { tables.section_count.max(1) };
    inside("section headers", tables.section_headers, sections, SECTION_HEADER_LEN)?;
    Ok(tables)
}

/// The tables' entries against the file; the reason where it is incomplete.
fn check(bytes: &[u8], tables: &Tables) -> Result<(), String> {
    let len = bytes.len() as u64;
    let beyond = |what: String, offset: u64, size: u64| match offset.checked_add(size) {
        Some(end) if end <= len => Ok(()),
        _ => Err(format!("cut off: {what} at {offset:#x} of {size} bytes lies beyond the end at {len:#x}")),
    };
    for index in 0..tables.program_header_count {
        let header = slice(bytes, tables.program_headers + index * PROGRAM_HEADER_LEN, PROGRAM_HEADER_LEN);
        let (offset, size) = (word(header, 0x08), word(header, 0x20));
        beyond(format!("segment {index}"), offset, size)?;
        if int(header, 0) == PT_DYNAMIC && size > 0 && blank(slice(bytes, offset, size)) {
            return Err("the dynamic section is still zero".into());
        }
    }
    if tables.section_headers == 0 {
        return Ok(());
    }
    let first = slice(bytes, tables.section_headers, SECTION_HEADER_LEN);
    let count = if tables.section_count == 0 { word(first, 0x20) } else { tables.section_count };
    let table = count.checked_mul(SECTION_HEADER_LEN).ok_or("the section count is absurd")?;
    beyond("the section table".into(), tables.section_headers, table)?;
    let names = if tables.section_names == SHN_XINDEX { u64::from(int(first, 0x28)) } else { tables.section_names };

    let mut described = count <= 1;
    for index in 0..count {
        let header = slice(bytes, tables.section_headers + index * SECTION_HEADER_LEN, SECTION_HEADER_LEN);
        let kind = int(header, 0x04);
        if kind == SHT_NULL {
            continue;
        }
        described = true;
        // One without bytes says where it would begin, which may be anywhere.
        if kind == SHT_NOBITS {
            continue;
        }
        let (offset, size) = (word(header, 0x18), word(header, 0x20));
        beyond(format!("section {index}"), offset, size)?;
        if index == names && size > 0 && blank(slice(bytes, offset, size)) {
            return Err("the section names are still zero".into());
        }
    }
    if described { Ok(()) } else { Err("the section headers are still zero".into()) }
}

fn blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// `len` bytes at `offset`; the caller has checked that they are there.
fn slice(bytes: &[u8], offset: u64, len: u64) -> &[u8] {
    &bytes[offset as usize..(offset + len) as usize]
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn int(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn half(bytes: &[u8], at: usize) -> u64 {
    u64::from(bytes[at]) | u64::from(bytes[at + 1]) << 8
}

/// The first few bytes, for people.
fn opening(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(12)];
    match std::str::from_utf8(start) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c.is_whitespace()) => format!("{text:?}"),
        _ => start.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::{Completeness, completeness};

    /// A real shared object: this very test program.
    fn real() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    fn check(bytes: &[u8], expected: &str) {
        let found = match completeness(bytes) {
            Completeness::Complete => "complete".to_owned(),
            Completeness::Incomplete(reason) => format!("incomplete: {reason}"),
            Completeness::NotElf(reason) => format!("not elf: {reason}"),
        };
        assert!(found.starts_with(expected), "expected {expected:?}, found {found:?}");
    }

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    #[test]
    fn finished_files_are_complete() {
        check(&real(), "complete");
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let bytes = real();
        for len in [0, 1, 3, 4, 20, 63, 64, 100, 4096, bytes.len() / 2, bytes.len() - 1] {
            check(&bytes[..len], "incomplete");
        }
    }

    #[test]
    fn other_files_are_named() {
        check(b"#!/bin/sh\necho\n", "not elf: not an ELF file: it starts with \"#!/bin/sh");
        check(b"\xde\xad\xbe\xef", "not elf: not an ELF file: it starts with de ad be ef");
        check(&[0; 4096], "incomplete: the ELF header is zero");
        let mut small = real();
        small[4] = 1;
        check(&small, "not elf: not a 64-bit");
        let mut big = real();
        big[5] = 2;
        check(&big, "not elf: not a little-endian");
    }

    #[test]
    fn full_size_with_parts_unwritten() {
        let bytes = real();
        let sections = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
        let mut headerless = bytes.clone();
        headerless[..64].fill(0);
        check(&headerless, "incomplete: the ELF header is zero");
        let mut tableless = bytes.clone();
        tableless[sections..].fill(0);
        check(&tableless, "incomplete: the section headers are still zero");
    }

    #[test]
    fn hostile_numbers_neither_overflow_nor_allocate() {
        let bytes = real();
        for at in [0x20, 0x28] {
            for value in [u64::MAX, u64::MAX - 63, 1 << 63, bytes.len() as u64] {
                let mut hostile = bytes.clone();
                put(&mut hostile, at, &value.to_le_bytes());
                check(&hostile, "incomplete: cut off");
            }
        }
        // Extended numbering with an absurd count in section 0.
        let sections = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
        for count in [u64::MAX, u64::MAX / 64, 1 << 40] {
            let mut hostile = bytes.clone();
            put(&mut hostile, 0x3c, &[0, 0]);
            put(&mut hostile, sections + 0x20, &count.to_le_bytes());
            check(&hostile, "incomplete");
        }
        // The section of names says that it has no bytes, and that it has many.
        let names = sections + 64 * u16::from_le_bytes(bytes[0x3e..0x40].try_into().unwrap()) as usize;
        let mut hostile = bytes.clone();
        put(&mut hostile, names + 4, &8_u32.to_le_bytes());
        put(&mut hostile, names + 0x20, &(1_u64 << 40).to_le_bytes());
        check(&hostile, "complete");
        // Every byte of the header in turn: no panic, whatever it says.
        for at in 0..64 {
            let mut hostile = bytes.clone();
            hostile[at] ^= 0xff;
            completeness(&hostile);
        }
    }
}
