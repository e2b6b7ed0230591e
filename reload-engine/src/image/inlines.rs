//! Which functions a file has inlined, and where: asked of the other modules of a process, in which a function that has
//! changed goes on as it was.
//!
//! By linkage name where there is one (C++, Rust); a C function counts only with the file it is declared in, as every source
//! file may have one of that name.

use std::path::Path;

use foldhash::{HashMap, HashSet, HashSetExt as _};
use gimli::{
    AttributeValue, DW_AT_abstract_origin, DW_AT_call_file, DW_AT_call_line, DW_AT_decl_file, DW_AT_linkage_name,
    DW_AT_name, DW_AT_specification, DW_TAG_inlined_subroutine, DW_TAG_subprogram, DebugInfoOffset,
    DebuggingInformationEntry, Dwarf, Unit,
};

use super::layout::{Reader, Sections, hands_for, headers};

type Entry<'data> = DebuggingInformationEntry<Reader<'data>>;

/// The functions that a file has inlined.
#[derive(Debug, Default)]
pub struct Inlines {
    by_name: HashMap<String, Vec<Inline>>,
}

/// One function that was inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inline {
    /// Name of the file it is declared in.
    declared: Option<String>,
    /// `FILE:LINE` of the first call that it stands for.
    place: String,
}

impl Inlines {
    /// As the file's debugging information has it; nothing where there is none.
    pub fn read(bytes: &[u8]) -> Inlines {
        let mut inlines = Inlines::default();
        let Some(sections) = Sections::load(bytes) else { return inlines };
        let dwarf = sections.dwarf();
        let headers = headers(&dwarf);
        let units: Vec<Unit<Reader<'_>>> = headers.iter().filter_map(|header| dwarf.unit(*header).ok()).collect();
        let of_unit = |index| of_unit(&dwarf, &units, index).unwrap_or_default();
        let found = hands_for(&headers).map(0..units.len(), of_unit);
        for (name, inline) in found.into_iter().flatten() {
            let known = inlines.by_name.entry(name).or_default();
            if !known.iter().any(|other| other.declared == inline.declared) {
                known.push(inline);
            }
        }
        inlines
    }

    /// Where the function of this name has been inlined; `declared` tells the file it is declared in.
    pub fn place_of(&self, name: &str, declared: impl FnOnce() -> Option<String>) -> Option<&str> {
        let inlines = self.by_name.get(name)?;
        if is_mangled(name) {
            return inlines.first().map(|inline| inline.place.as_str());
        }
        let declared = declared()?;
        inlines.iter().find(|inline| inline.declared.as_ref() == Some(&declared)).map(|inline| inline.place.as_str())
    }
}

/// Name of the file that declares the C function of this name.
pub fn declared_in(bytes: &[u8], name: &str) -> Option<String> {
    let sections = Sections::load(bytes)?;
    let dwarf = sections.dwarf();
    headers(&dwarf).into_iter().filter_map(|header| dwarf.unit(header).ok()).find_map(|unit| {
        let mut entries = unit.entries();
        while let Ok(Some(entry)) = entries.next_dfs() {
            if entry.tag() == DW_TAG_subprogram && text(&dwarf, &unit, entry, DW_AT_name).as_deref() == Some(name) {
                return file(&dwarf, &unit, entry, DW_AT_decl_file);
            }
        }
        None
    })
}

/// Languages that mangle give every function a name of its own.
fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

fn of_unit(
    dwarf: &Dwarf<Reader<'_>>,
    units: &[Unit<Reader<'_>>],
    index: usize,
) -> gimli::Result<Vec<(String, Inline)>> {
    let unit = &units[index];
    // Most are inlined more than once; the first place is enough.
    let mut known: HashSet<DebugInfoOffset> = HashSet::new();
    let mut found = Vec::new();
    let mut entries = unit.entries();
    while let Some(entry) = entries.next_dfs()? {
        if entry.tag() != DW_TAG_inlined_subroutine {
            continue;
        }
        let Some(origin) = leads_to(unit, entry, DW_AT_abstract_origin) else { continue };
        if !known.insert(origin) {
            continue;
        }
        let line = entry.attr_value(DW_AT_call_line).and_then(|value| value.udata_value());
        if let (Some(file), Some(line)) = (file(dwarf, unit, entry, DW_AT_call_file), line)
            && let Some((name, declared)) = described(dwarf, units, origin, 0)
        {
            found.push((name, Inline { declared, place: format!("{file}:{line}") }));
        }
    }
    Ok(found)
}

/// Name and file of the function that an entry describes, or continues the description of.
fn described(
    dwarf: &Dwarf<Reader<'_>>,
    units: &[Unit<Reader<'_>>],
    offset: DebugInfoOffset,
    depth: u32,
) -> Option<(String, Option<String>)> {
    const DEEPEST: u32 = 8;
    let after = units.partition_point(|unit| unit.header.debug_info_offset().is_some_and(|start| start <= offset));
    let unit = units.get(after.checked_sub(1)?)?;
    let entry = unit.entry(offset.to_unit_offset(&unit.header)?).ok()?;
    let declared = file(dwarf, unit, &entry, DW_AT_decl_file);
    if let Some(name) = text(dwarf, unit, &entry, DW_AT_linkage_name) {
        return Some((name, declared));
    }
    let next = leads_to(unit, &entry, DW_AT_specification).or_else(|| leads_to(unit, &entry, DW_AT_abstract_origin));
    match next {
        Some(next) if depth < DEEPEST => described(dwarf, units, next, depth + 1),
        _ => Some((text(dwarf, unit, &entry, DW_AT_name)?, declared)),
    }
}

fn leads_to(unit: &Unit<Reader<'_>>, entry: &Entry<'_>, attribute: gimli::DwAt) -> Option<DebugInfoOffset> {
    match entry.attr_value(attribute)? {
        AttributeValue::UnitRef(offset) => offset.to_debug_info_offset(&unit.header),
        AttributeValue::DebugInfoRef(offset) => Some(offset),
        _ => None,
    }
}

fn text(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    entry: &Entry<'_>,
    attribute: gimli::DwAt,
) -> Option<String> {
    let value = entry.attr_value(attribute)?;
    Some(String::from_utf8_lossy(dwarf.attr_string(unit, value).ok()?.slice()).into_owned())
}

/// The name, without folders, of the file that an attribute names by its index.
fn file(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    entry: &Entry<'_>,
    attribute: gimli::DwAt,
) -> Option<String> {
    let index = match entry.attr_value(attribute)? {
        AttributeValue::FileIndex(index) => index,
        value => value.udata_value()?,
    };
    let file = unit.line_program.as_ref()?.header().file(index)?;
    let path = dwarf.attr_string(unit, file.path_name()).ok()?.to_string_lossy().into_owned();
    Some(Path::new(&path).file_name()?.to_string_lossy().into_owned())
}
