//! The shadow: the new file as the target's loader gets it, with what runs by itself taken out.
//!
//! Addresses stay as they are in the file, so that symbols and DWARF hold for debuggers and backtraces. Only tags of the
//! dynamic section change, and the writable segment grows where additional TLS pairs need room. A program is made to look
//! like a library: `dlopen` takes no other.

use super::tls::Pair;
use crate::{
    image::{
        Image, Section, SectionKind,
        elf::{LoadSegment, PIE},
    },
    model::Vaddr,
};

/// A tag outside every range that glibc looks at (`elf/get-dynamic-info.h`).
const IGNORED_TAG: u64 = 0x6fff_4242;
const MEMORY_SIZE_IN_HEADER: u64 = 40;

/// Where the additional TLS pairs will stand. By the sections, which stay as they are: the same place is found again when
/// the shadow itself is read.
///
/// # Errors
/// No writable segment at the end that could grow.
pub fn place_of_pairs(image: &Image, pairs: &[Pair]) -> Result<Vaddr, String> {
    if pairs.is_empty() {
        return Ok(Vaddr(0));
    }
    let Some(last) = last_segment(image).filter(|segment| segment.writable) else {
        return Err("the last segment is not writable: no room for thread-local pairs".into());
    };
    let used = image.tables.sections.iter().filter(|section| section.kind != SectionKind::ThreadLocal);
    Ok(Vaddr(used.map(Section::end).max().unwrap_or(0).max(last.address).next_multiple_of(16)))
}

/// The shadow's bytes, with room for `pairs` at `place`.
pub fn bytes(image: &Image, place: Vaddr, pairs: &[Pair]) -> Vec<u8> {
    let mut bytes = image.bytes.clone();
    for tag in &image.tables.constructor_tags {
        put(&mut bytes, *tag, &IGNORED_TAG.to_le_bytes());
    }
    for (header, hidden) in &image.tables.program_only_headers {
        put(&mut bytes, *header, &hidden.0.to_le_bytes());
    }
    if let Some((place, flags)) = image.tables.flags_1 {
        put(&mut bytes, place, &(flags & !PIE).to_le_bytes());
    }
    if let Some(last) = last_segment(image).filter(|_| !pairs.is_empty()) {
        let size = (place.0 - last.address + pairs.len() as u64 * 16).max(last.memory_size);
        put(&mut bytes, last.header_offset + MEMORY_SIZE_IN_HEADER, &size.to_le_bytes());
    }
    bytes
}

fn last_segment(image: &Image) -> Option<&LoadSegment> {
    image.tables.segments.iter().max_by_key(|segment| segment.address)
}

fn put(bytes: &mut [u8], offset: u64, value: &[u8]) {
    let offset = offset as usize;
    if let Some(place) = bytes.get_mut(offset..offset + value.len()) {
        place.copy_from_slice(value);
    }
}
