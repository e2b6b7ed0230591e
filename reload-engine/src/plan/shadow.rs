//! The shadow: the new file as the target's loader gets it, with what runs by itself taken out.
//!
//! Addresses stay as they are in the file, so that symbols and DWARF hold for debuggers and backtraces. Only tags of the
//! dynamic section change, and the writable segment grows where additional TLS pairs need room.

use super::tls::Pair;
use crate::{
    image::{Image, Section, SectionKind},
    model::Vaddr,
};

/// A tag outside every range that glibc looks at (`elf/get-dynamic-info.h`).
const IGNORED_TAG: u64 = 0x6fff_4242;
const MEMORY_SIZE_IN_HEADER: u64 = 40;

/// The shadow's bytes, and where `extra_pairs` will stand.
///
/// # Errors
/// No writable segment at the end that could grow.
pub fn make(image: &Image, extra_pairs: &[Pair]) -> Result<(Vec<u8>, Vaddr), String> {
    let mut bytes = image.bytes.clone();
    for tag in &image.tables.constructor_tags {
        put(&mut bytes, *tag, IGNORED_TAG);
    }
    let mut extra = Vaddr(0);
    if !extra_pairs.is_empty() {
        let last = image.tables.segments.iter().max_by_key(|segment| segment.address);
        let Some(last) = last.filter(|segment| segment.writable) else {
            return Err("the last segment is not writable: no room for thread-local pairs".into());
        };
        // By the sections, which stay as they are: the same place is found again when the shadow itself is read.
        let used = image.tables.sections.iter().filter(|section| section.kind != SectionKind::ThreadLocal);
        let start = used.map(Section::end).max().unwrap_or(0).max(last.address).next_multiple_of(16);
        extra = Vaddr(start);
        let size = (start - last.address + extra_pairs.len() as u64 * 16).max(last.memory_size);
        put(&mut bytes, last.header_offset + MEMORY_SIZE_IN_HEADER, size);
    }
    Ok((bytes, extra))
}

fn put(bytes: &mut [u8], offset: u64, value: u64) {
    let offset = offset as usize;
    if let Some(place) = bytes.get_mut(offset..offset + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}
