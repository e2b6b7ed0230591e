//! The shadow: the new file as the target's loader gets it, with what runs by itself taken out.
//!
//! Addresses stay as they are in the file, so that symbols and DWARF hold for debuggers and backtraces. Only tags of the
//! dynamic section change, and the writable segment grows where additional TLS pairs need room. A program is made to look
//! like a library: `dlopen` takes no other.

use object::elf;

use super::tls::{OwnBlock, Pair, TlsPlan};
use crate::{
    image::{
        Image, Section, SectionKind,
        elf::{LoadSegment, PIE, TlsTemplate},
    },
    model::{Addr, Vaddr},
};

/// A tag outside every range that glibc looks at (`elf/get-dynamic-info.h`).
const IGNORED_TAG: u64 = 0x6fff_4242;
const MEMORY_SIZE_IN_HEADER: u64 = 40;
/// `R_X86_64_TPOFF64`; without a symbol it is the distance of the module's block from the thread pointer.
const TPOFF64: u32 = 18;

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

/// Bytes of the file that the shadow has in place of the new file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// In the file.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// An entry of the symbol table, which stands at `entry` of the file, as the loader takes it for an address in the process.
pub fn supplied(entry: u64, kind: elf::SymbolType, at: Addr) -> Edit {
    const NAME: u64 = 4;
    let info = elf::SymbolInfo::new(elf::STB_GLOBAL, kind);
    let mut bytes = vec![info.0, elf::STV_HIDDEN.0];
    bytes.extend(elf::SHN_ABS.0.to_le_bytes());
    bytes.extend(at.0.to_le_bytes());
    Edit { offset: entry + NAME, bytes }
}

/// What makes a shadow of the new file, with room for additional TLS pairs at `place`.
pub fn edits(image: &Image, place: Vaddr, tls: &TlsPlan) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut put = |offset: u64, bytes: &[u8]| edits.push(Edit { offset, bytes: bytes.to_vec() });
    for tag in &image.tables.constructor_tags {
        put(*tag, &IGNORED_TAG.to_le_bytes());
    }
    if let Some((header, hidden)) = image.tables.interpreter_header {
        put(header, &hidden.to_le_bytes());
    }
    if let Some(template) = image.tables.tls_template.filter(|_| image.tables.program) {
        match &tls.own_block {
            Some(own) => give_own_block(&mut put, &template, own),
            // PT_NULL
            None => put(template.header_offset, &0u32.to_le_bytes()),
        }
    }
    if let Some((place, flags)) = image.tables.flags_1 {
        put(place, &(flags & !PIE).to_le_bytes());
    }
    let pairs = &tls.extra_pairs;
    if let Some(last) = last_segment(image).filter(|_| !pairs.is_empty()) {
        let size = (place.0 - last.address + pairs.len() as u64 * 16).max(last.memory_size);
        put(last.header_offset + MEMORY_SIZE_IN_HEADER, &size.to_le_bytes());
    }
    edits
}

/// Cuts the template down to what is new, and has the loader tell where it puts it. That it is asked for by a `TPOFF64`
/// relocation makes the block one of the threads' static ones.
fn give_own_block(mut put: impl FnMut(u64, &[u8]), template: &TlsTemplate, own: &OwnBlock) {
    let OwnBlock { range, entry, slot } = own;
    let in_file = template.file_size.min(range.end).saturating_sub(range.start);
    // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz
    let address = template.address + range.start;
    let fields = [template.offset + range.start, address, address, in_file, range.end - range.start];
    for (index, field) in fields.into_iter().enumerate() {
        put(template.header_offset + 8 + 8 * index as u64, &field.to_le_bytes());
    }
    // r_offset, r_info, r_addend
    for (index, field) in [slot.0, u64::from(TPOFF64), 0].into_iter().enumerate() {
        put(entry + 8 * index as u64, &field.to_le_bytes());
    }
}

fn last_segment(image: &Image) -> Option<&LoadSegment> {
    image.tables.segments.iter().max_by_key(|segment| segment.address)
}
