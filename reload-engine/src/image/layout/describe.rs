//! A type in words, read again from the file where a difference is to be told.

#![allow(non_upper_case_globals, reason = "DWARF's own names stand in patterns")]

use std::path::Path;

use gimli::{
    AttributeValue, DebugInfoOffset, DebugTypeSignature, DebuggingInformationEntry, DwAt, Dwarf, Unit, UnitHeader,
    UnitOffset, UnitType,
    constants::{
        DW_AT_bit_size, DW_AT_byte_size, DW_AT_const_value, DW_AT_count, DW_AT_data_bit_offset,
        DW_AT_data_member_location, DW_AT_decl_file, DW_AT_decl_line, DW_AT_declaration, DW_AT_discr_value, DW_AT_name,
        DW_AT_signature, DW_AT_specification, DW_AT_type, DW_AT_upper_bound, DW_AT_virtuality,
        DW_AT_vtable_elem_location, DW_TAG_array_type, DW_TAG_class_type, DW_TAG_const_type, DW_TAG_enumeration_type,
        DW_TAG_enumerator, DW_TAG_inheritance, DW_TAG_member, DW_TAG_namespace, DW_TAG_pointer_type,
        DW_TAG_reference_type, DW_TAG_structure_type, DW_TAG_subprogram, DW_TAG_subrange_type, DW_TAG_subroutine_type,
        DW_TAG_typedef, DW_TAG_union_type, DW_TAG_variant, DW_TAG_variant_part,
    },
};

use super::{Reader, Sections, Site, headers};
use crate::image::ANONYMOUS_NAMESPACE;

/// A type as people write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// With namespaces.
    pub name: String,
    /// `world.c:12`; rustc does not say where a type is.
    pub place: Option<String>,
    /// Bytes.
    pub size: u64,
    pub enumeration: bool,
    pub parts: Vec<Part>,
    /// For a variable: its type.
    pub ty: String,
}

/// A field, base class, enumerator or virtual function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// "field `x`", say.
    pub label: String,
    /// "offset", "value" or "slot".
    pub measure: &'static str,
    pub at: i64,
    pub ty: String,
}

type Entry<'data> = DebuggingInformationEntry<Reader<'data>>;

/// Reads the types or variables at these places; an unreadable one comes back empty.
pub fn describe(bytes: &[u8], sites: &[Site]) -> Vec<Layout> {
    let Some(sections) = Sections::load(bytes) else { return vec![Layout::default(); sites.len()] };
    let dwarf = sections.dwarf();
    sites.iter().map(|site| one(&dwarf, *site).unwrap_or_default()).collect()
}

fn one(dwarf: &Dwarf<Reader<'_>>, site: Site) -> Option<Layout> {
    let header = dwarf.debug_info.header_from_offset(DebugInfoOffset(site.unit)).ok()?;
    let unit = dwarf.unit(header).ok()?;
    let text = Text { dwarf, unit: &unit };
    let entry = unit.entry(UnitOffset(site.entry - site.unit)).ok()?;
    // What it continues is where the name and the namespaces are: a type of a unit of its own stands outside of them.
    let named = text.target(&entry, DW_AT_specification).unwrap_or_else(|| entry.clone());
    let place = text.place(&named).or_else(|| text.place(&entry));
    let mut layout = Layout { name: text.qualified_name(&named)?, place, ..Layout::default() };
    layout.ty = text.type_of(&named, 0).unwrap_or_default();
    let body = match entry.tag() {
        // In a unit of its own it is out of reach: told by its name alone.
        DW_TAG_typedef => text.target(&entry, DW_AT_type).unwrap_or_else(|| entry.clone()),
        _ => entry,
    };
    layout.size = text.number(&body, DW_AT_byte_size).unwrap_or(0) as u64;
    layout.enumeration = body.tag() == DW_TAG_enumeration_type;
    text.parts(body.offset(), "", &mut layout.parts)?;
    Some(layout)
}

fn is_named_scope(entry: &Entry<'_>) -> bool {
    matches!(
        entry.tag(),
        DW_TAG_namespace
            | DW_TAG_structure_type
            | DW_TAG_class_type
            | DW_TAG_union_type
            | DW_TAG_enumeration_type
            | DW_TAG_subprogram
    )
}

struct Text<'a, 'data> {
    dwarf: &'a Dwarf<Reader<'data>>,
    unit: &'a Unit<Reader<'data>>,
}

impl<'data> Text<'_, 'data> {
    fn name(&self, entry: &Entry<'data>) -> String {
        self.own_name(entry)
            .or_else(|| self.own_name(&self.target(entry, DW_AT_specification)?))
            .or_else(|| match entry.attr_value(DW_AT_signature)? {
                AttributeValue::DebugTypesRef(signature) => self.signed(signature),
                _ => None,
            })
            .unwrap_or_else(|| match entry.tag() {
                _ if self.is_lambda(entry) => "{lambda}".to_owned(),
                DW_TAG_namespace => ANONYMOUS_NAMESPACE.to_owned(),
                _ => "(unnamed)".to_owned(),
            })
    }

    fn own_name(&self, entry: &Entry<'data>) -> Option<String> {
        let text = self.dwarf.attr_string(self.unit, entry.attr_value(DW_AT_name)?).ok()?;
        Some(text.to_string_lossy().into_owned())
    }

    fn is_lambda(&self, entry: &Entry<'data>) -> bool {
        let is_called = || {
            let mut tree = self.unit.entries_tree(Some(entry.offset())).ok()?;
            let mut children = tree.root().ok()?.children();
            while let Some(node) = children.next().ok()? {
                let child = node.entry();
                if child.tag() == DW_TAG_subprogram && self.own_name(child).as_deref() == Some("operator()") {
                    return Some(());
                }
            }
            None
        };
        is_called().is_some()
    }

    /// Name of the type that has a unit of its own under this signature.
    fn signed(&self, signature: DebugTypeSignature) -> Option<String> {
        let of_type = |header: &UnitHeader<Reader<'data>>| match header.type_() {
            UnitType::Type { type_signature, type_offset } if type_signature == signature => Some(type_offset),
            _ => None,
        };
        let (header, at) = headers(self.dwarf).into_iter().find_map(|header| Some((header, of_type(&header)?)))?;
        let unit = self.dwarf.unit(header).ok()?;
        let text = Text { dwarf: self.dwarf, unit: &unit };
        let entry = unit.entry(at).ok()?;
        text.own_name(&entry).or_else(|| text.own_name(&text.target(&entry, DW_AT_specification)?))
    }

    fn type_of(&self, entry: &Entry<'data>, depth: usize) -> Option<String> {
        match entry.attr_value(DW_AT_type)? {
            AttributeValue::DebugTypesRef(signature) => self.signed(signature),
            _ => self.target(entry, DW_AT_type).map(|ty| self.type_name(&ty, depth)),
        }
    }

    /// With the names of what it stands in.
    fn qualified_name(&self, of: &Entry<'data>) -> Option<String> {
        let mut path: Vec<(isize, String)> = Vec::new();
        let mut cursor = self.unit.entries();
        while let Some(entry) = cursor.next_dfs().ok()? {
            path.retain(|(depth, _)| *depth < entry.depth());
            if entry.offset() == of.offset() {
                path.push((entry.depth(), self.name(entry)));
                return Some(path.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join("::"));
            }
            if is_named_scope(entry) {
                path.push((entry.depth(), self.name(entry)));
            }
        }
        None
    }

    fn number(&self, entry: &Entry<'data>, attribute: DwAt) -> Option<i64> {
        let value = entry.attr_value(attribute)?;
        value.sdata_value().or_else(|| value.udata_value().map(|value| value as i64))
    }

    /// Within this unit; elsewhere (link-time optimisation) a type goes without its name.
    fn target(&self, entry: &Entry<'data>, attribute: DwAt) -> Option<Entry<'data>> {
        let offset = match entry.attr_value(attribute)? {
            AttributeValue::UnitRef(offset) => offset,
            AttributeValue::DebugInfoRef(offset) => offset.to_unit_offset(&self.unit.header)?,
            _ => return None,
        };
        self.unit.entry(offset).ok()
    }

    fn place(&self, entry: &Entry<'data>) -> Option<String> {
        let line = self.number(entry, DW_AT_decl_line)?;
        let AttributeValue::FileIndex(index) = entry.attr_value(DW_AT_decl_file)? else { return None };
        let file = self.unit.line_program.as_ref()?.header().file(index)?;
        let path = self.dwarf.attr_string(self.unit, file.path_name()).ok()?.to_string_lossy().into_owned();
        let file = Path::new(&path).file_name()?.to_string_lossy().into_owned();
        Some(format!("{file}:{line}"))
    }

    /// What is directly below the entry at `offset`; parts of unnamed members are told as the whole's.
    fn parts(&self, offset: UnitOffset, of: &str, parts: &mut Vec<Part>) -> Option<()> {
        let mut tree = self.unit.entries_tree(Some(offset)).ok()?;
        let mut children = tree.root().ok()?.children();
        while let Some(node) = children.next().ok()? {
            let entry = node.entry();
            let ty = || self.type_of(entry, 0).unwrap_or_default();
            let part = |label: String, measure, at, ty| Part { label, measure, at, ty };
            match entry.tag() {
                DW_TAG_member if entry.attr_value(DW_AT_declaration).is_some() => {}
                DW_TAG_member => {
                    let byte = self.number(entry, DW_AT_data_member_location).unwrap_or(0);
                    let field = format!("field `{}`{of}", self.name(entry));
                    parts.push(match self.number(entry, DW_AT_bit_size) {
                        Some(bits) => {
                            let at = self.number(entry, DW_AT_data_bit_offset).unwrap_or(byte * 8);
                            part(field, "bit", at, format!("{} of {bits} bits", ty()))
                        }
                        None => part(field, "offset", byte, ty()),
                    });
                }
                DW_TAG_inheritance => {
                    let at = self.number(entry, DW_AT_data_member_location).unwrap_or(0);
                    let mut base = ty();
                    if entry.attr_value(DW_AT_virtuality).is_some() {
                        base = format!("virtual {base}");
                    }
                    parts.push(part(format!("base class `{base}`"), "offset", at, base));
                }
                DW_TAG_enumerator => {
                    let value = self.number(entry, DW_AT_const_value).unwrap_or(0);
                    parts.push(part(format!("`{}`", self.name(entry)), "value", value, String::new()));
                }
                DW_TAG_subprogram => {
                    // `DW_OP_constu N`, below 128 in one byte.
                    let slot = entry.attr_value(DW_AT_vtable_elem_location).and_then(|value| value.exprloc_value());
                    if let Some([0x10, slot]) = slot.map(|expression| expression.0.slice()) {
                        let label = format!("virtual function `{}`", self.name(entry));
                        parts.push(part(label, "slot", i64::from(*slot), String::new()));
                    }
                }
                DW_TAG_variant_part => self.parts(entry.offset(), of, parts)?,
                DW_TAG_variant => {
                    let mut inner = Vec::new();
                    self.parts(entry.offset(), "", &mut inner)?;
                    let discriminant = self.number(entry, DW_AT_discr_value);
                    parts.extend(inner.into_iter().map(|inner| Part {
                        label: inner.label.replacen("field", "variant", 1),
                        measure: "discriminant",
                        at: discriminant.unwrap_or(-1),
                        ty: inner.ty,
                    }));
                }
                _ => {}
            }
        }
        Some(())
    }

    fn type_name(&self, entry: &Entry<'data>, depth: usize) -> String {
        if depth > 16 {
            return "…".to_owned();
        }
        let inner = || self.type_of(entry, depth + 1).unwrap_or_else(|| "void".to_owned());
        match entry.tag() {
            DW_TAG_pointer_type if entry.attr_value(DW_AT_name).is_none() => format!("{} *", inner()),
            DW_TAG_reference_type => format!("{} &", inner()),
            DW_TAG_const_type => inner(),
            DW_TAG_subroutine_type => "function".to_owned(),
            DW_TAG_array_type => {
                let mut lengths = String::new();
                if let Ok(mut tree) = self.unit.entries_tree(Some(entry.offset()))
                    && let Ok(root) = tree.root()
                {
                    let mut children = root.children();
                    while let Ok(Some(node)) = children.next() {
                        let child = node.entry();
                        if child.tag() == DW_TAG_subrange_type {
                            let last = self.number(child, DW_AT_upper_bound).map(|last| last + 1);
                            let count = self.number(child, DW_AT_count).or(last);
                            lengths.push_str(&count.map_or("[]".to_owned(), |count| format!("[{count}]")));
                        }
                    }
                }
                format!("{}{lengths}", inner())
            }
            _ => self.name(entry),
        }
    }
}
