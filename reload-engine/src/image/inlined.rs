//! What the compiler inlined into a function, by its debugging information: asked only of a function that goes on in its old
//! code.

use gimli::{AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, Unit};
use gimli::{
    DW_AT_abstract_origin, DW_AT_linkage_name, DW_AT_low_pc, DW_AT_name, DW_AT_specification,
    DW_TAG_inlined_subroutine, DW_TAG_subprogram,
};

use super::{
    demangle,
    layout::{Reader, Sections, headers},
};
use crate::model::Vaddr;

/// Names of the functions inlined into the one at `function`, each once, in the order of the code; none where the file does
/// not say.
pub fn inlined_into(bytes: &[u8], function: Vaddr) -> Vec<String> {
    let Some(sections) = Sections::load(bytes) else { return Vec::new() };
    let dwarf = sections.dwarf();
    let units = headers(&dwarf).into_iter().filter_map(|header| dwarf.unit(header).ok());
    let mut of_function = units.filter(|unit| covers(&dwarf, unit, function).unwrap_or(false));
    of_function.find_map(|unit| names(&dwarf, &unit, function).ok().flatten()).unwrap_or_default()
}

fn covers(dwarf: &Dwarf<Reader<'_>>, unit: &Unit<Reader<'_>>, address: Vaddr) -> gimli::Result<bool> {
    let mut ranges = dwarf.unit_ranges(unit)?;
    while let Some(range) = ranges.next()? {
        if (range.begin..range.end).contains(&address.0) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn names(dwarf: &Dwarf<Reader<'_>>, unit: &Unit<Reader<'_>>, function: Vaddr) -> gimli::Result<Option<Vec<String>>> {
    let mut entries = unit.entries();
    let mut found: Option<(isize, Vec<String>)> = None;
    while let Some(entry) = entries.next_dfs()? {
        match &mut found {
            Some((depth, _)) if entry.depth() <= *depth => break,
            Some((_, names)) if entry.tag() == DW_TAG_inlined_subroutine => {
                let name = origin(unit, entry).and_then(|offset| name_of(dwarf, offset, 0));
                names.extend(name.filter(|name| !names.contains(name)));
            }
            Some(_) => {}
            None if entry.tag() == DW_TAG_subprogram => {
                let start = entry.attr_value(DW_AT_low_pc).map(|value| dwarf.attr_address(unit, value));
                if start.transpose()?.flatten() == Some(function.0) {
                    found = Some((entry.depth(), Vec::new()));
                }
            }
            None => {}
        }
    }
    Ok(found.map(|(_, names)| names))
}

/// The entry that this one is an instance or a continuation of.
fn origin(unit: &Unit<Reader<'_>>, entry: &DebuggingInformationEntry<Reader<'_>>) -> Option<DebugInfoOffset> {
    let value = entry.attr_value(DW_AT_abstract_origin).or_else(|| entry.attr_value(DW_AT_specification))?;
    match value {
        AttributeValue::UnitRef(offset) => offset.to_debug_info_offset(&unit.header),
        AttributeValue::DebugInfoRef(offset) => Some(offset),
        _ => None,
    }
}

fn name_of(dwarf: &Dwarf<Reader<'_>>, offset: DebugInfoOffset, depth: u32) -> Option<String> {
    const DEEPEST: u32 = 8;
    let header = headers(dwarf).into_iter().find(|header| offset.to_unit_offset(header).is_some())?;
    let unit = dwarf.unit(header).ok()?;
    let entry = unit.entry(offset.to_unit_offset(&unit.header)?).ok()?;
    let text = |attribute| {
        let value = entry.attr_value(attribute)?;
        Some(String::from_utf8_lossy(dwarf.attr_string(&unit, value).ok()?.slice()).into_owned())
    };
    let linkage = text(DW_AT_linkage_name).map(|name| demangle(&name));
    let continued =
        || origin(&unit, &entry).filter(|_| depth < DEEPEST).and_then(|next| name_of(dwarf, next, depth + 1));
    linkage.or_else(continued).or_else(|| text(DW_AT_name))
}
