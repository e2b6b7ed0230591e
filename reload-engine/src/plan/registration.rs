//! Which statics of a Python extension are its registration with the interpreter rather than state: tables of methods,
//! module definitions, type objects that a binding generator makes. Each generation registers anew, so these are its own.
//!
//! Tables of plain C are known by their shape, those of Cython, PyO3 and pybind11 by their names. A static `PyTypeObject`
//! written by hand is no such table: it is what live instances point to, and stays where it is.

use std::collections::BTreeSet;

use memchr::memmem;

use crate::{
    image::{Function, Image, Object, RelocationKind, Resolves, demangle},
    model::Vaddr,
};

/// `PyInit_`, the prefix of the function that makes a module.
const INITIALISER: &str = "PyInit_";

/// The modules that this file can initialise: `X` of each `PyInit_X`. Empty for what is no Python extension.
pub fn python_modules(image: &Image) -> Vec<String> {
    // Asked of every file several times, and nearly none has one.
    let strings = image.tables.sections.iter().find(|section| section.name == ".dynstr");
    let strings = strings.map(|strings| image.bytes_from(Vaddr(strings.address)));
    if strings.is_some_and(|strings| memmem::find(strings, INITIALISER.as_bytes()).is_none()) {
        return Vec::new();
    }
    // They are exported.
    let exported = image.tables.exports.iter().filter_map(|address| image.function_starting_at(*address));
    let initialises = |function: &&Function| image.function_name_bytes(function).starts_with(INITIALISER.as_bytes());
    let names = exported.flat_map(|first| image.aliases_from(first)).filter(initialises);
    let mut modules: Vec<String> = names
        .map(|function| image.function_name(function))
        .filter_map(|name| name.strip_prefix(INITIALISER))
        .filter(|name| identifier(name))
        .map(str::to_owned)
        .collect();
    modules.sort();
    modules.dedup();
    modules
}

/// Indices of the statics that belong to the registration; none for what is no Python extension.
pub fn statics(image: &Image) -> BTreeSet<usize> {
    let mut found = tables(image);
    found.retain(|index| !image.objects[*index].constant && image.objects[*index].size > 0);
    found
}

/// Indices of hand-written static types, which stay where they are. Their contents are the interpreter's.
pub fn types(image: &Image) -> BTreeSet<usize> {
    if python_modules(image).is_empty() {
        return BTreeSet::new();
    }
    let is_type = |index: &usize| {
        let object = &image.objects[*index];
        Shape { image, object }.is_type() && !by_name(image.object_name(object))
    };
    (0..image.objects.len()).filter(is_type).collect()
}

/// Indices of all objects through which functions are registered: callers find them there anew in each generation.
pub fn tables(image: &Image) -> BTreeSet<usize> {
    if python_modules(image).is_empty() {
        return BTreeSet::new();
    }
    let mut found: BTreeSet<usize> = (0..image.objects.len())
        .filter(|index| !image.objects[*index].constant && by_name(image.object_name(&image.objects[*index])))
        .collect();
    for (index, object) in image.objects.iter().enumerate() {
        let shape = Shape { image, object };
        if shape.is_methods() {
            found.insert(index);
        }
        let tables = shape.tables();
        if !tables.is_empty() && !shape.is_type() {
            found.insert(index);
        }
        found.extend(tables);
    }
    found
}

/// Statics that the binding generators and their libraries make.
fn by_name(mangled: &str) -> bool {
    const PYBIND11: [&str; 7] = [
        "_ZN8pybind11",
        "_ZNK8pybind11",
        "_ZZN8pybind11",
        "_ZZNK8pybind11",
        "_ZGVN8pybind11",
        "_ZGVZN8pybind11",
        "_ZGVZNK8pybind11",
    ];
    if let Some(rest) = mangled.strip_prefix("__pyx") {
        // Variables declared with `cdef` are the module's state.
        return !rest.starts_with("_v_");
    }
    if PYBIND11.iter().any(|prefix| mangled.starts_with(prefix))
        || in_no_namespace(mangled).starts_with("pybind11_module_def_")
    {
        return true;
    }
    // Locals of the initialiser itself.
    if mangled
        .strip_prefix("_ZZ")
        .is_some_and(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(INITIALISER))
    {
        return true;
    }
    if !(mangled.starts_with("_R") || mangled.starts_with("_ZN")) {
        return false;
    }
    let name = demangle(mangled);
    let last = name.rsplit("::").next().unwrap_or_default();
    matches!(last, "_PYO3_DEF" | "INTERNED")
        || name.contains("_PYO3_DEF::")
        || (last == "TYPE_OBJECT" && name.contains("pyo3"))
}

/// `name` of `_ZL4name`, a C++ static outside of every namespace.
fn in_no_namespace(mangled: &str) -> &str {
    mangled.strip_prefix("_ZL").map_or(mangled, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// What an object's initial value looks like.
struct Shape<'a> {
    image: &'a Image,
    object: &'a Object,
}

/// Offsets of `PyModuleDef`, `PyTypeObject`, `PyType_Spec` and their tables on a 64-bit machine.
mod layout {
    pub const MODULE_DEF: u64 = 104;
    pub const MODULE_NAME: u64 = 40;
    pub const MODULE_TABLES: [u64; 2] = [64, 72];
    /// Newer versions of Python only append.
    pub const TYPE: std::ops::RangeInclusive<u64> = 400..=440;
    pub const TYPE_NAME: u64 = 24;
    pub const TYPE_SIZE: u64 = 32;
    pub const TYPE_TABLES: [u64; 3] = [232, 240, 248];
    pub const SPEC: u64 = 32;
    pub const SPEC_SIZE: u64 = 8;
    pub const SPEC_SLOTS: u64 = 24;
    pub const SLOT: u64 = 16;
    /// `Py_tp_members`, `Py_tp_methods`, `Py_tp_getset`.
    pub const SLOT_TABLES: std::ops::RangeInclusive<u64> = 72..=74;
    pub const LAST_SLOT: u64 = 120;
    pub const METHOD: u64 = 32;
    /// All bits that `ml_flags` can have.
    pub const METHOD_FLAGS: u64 = 0x3ff;
}

impl Shape<'_> {
    /// The tables that a module definition, a type or a type's specification leads to; empty for anything else.
    fn tables(&self) -> Vec<usize> {
        let offsets: Vec<u64> = if self.is_module() {
            layout::MODULE_TABLES.to_vec()
        } else if self.is_type() {
            layout::TYPE_TABLES.to_vec()
        } else if self.is_specification() {
            vec![layout::SPEC_SLOTS]
        } else {
            return Vec::new();
        };
        let mut found: Vec<usize> = offsets.into_iter().filter_map(|offset| self.object_in(offset)).collect();
        if self.is_specification()
            && let Some(slots) = found.first().copied()
        {
            let slots = Shape { image: self.image, object: &self.image.objects[slots] };
            let entries = (0..slots.object.size / layout::SLOT).map(|entry| entry * layout::SLOT);
            let tables = entries.filter(|at| slots.word(*at).is_some_and(|slot| layout::SLOT_TABLES.contains(&slot)));
            found.extend(tables.filter_map(|at| slots.object_in(at + 8)));
        }
        // So that a module with empty tables counts as well.
        found.extend(self.image.object_at(self.object.address).filter(|_| !self.is_type()));
        found
    }

    fn is_module(&self) -> bool {
        self.object.size == layout::MODULE_DEF
            && self.word(0).is_some_and(|references| references != 0)
            && self.word(8) == Some(0)
            && self.text_in(layout::MODULE_NAME).is_some_and(dotted)
    }

    fn is_type(&self) -> bool {
        layout::TYPE.contains(&self.object.size)
            && self.word(0).is_some_and(|references| references != 0)
            && self.text_in(layout::TYPE_NAME).is_some_and(dotted)
            && self.word(layout::TYPE_SIZE).is_some_and(|size| (16..1 << 20).contains(&size))
    }

    fn is_specification(&self) -> bool {
        self.object.size == layout::SPEC
            && self.text_in(0).is_some_and(dotted)
            && self.word(layout::SPEC_SIZE).is_some_and(|sizes| sizes & 0xffff_ffff < 1 << 20)
            && self.object_in(layout::SPEC_SLOTS).is_some_and(|slots| {
                let slots = Shape { image: self.image, object: &self.image.objects[slots] };
                slots.is_terminated(layout::SLOT)
                    && (0..slots.object.size / layout::SLOT - 1).all(|entry| {
                        slots.word(entry * layout::SLOT).is_some_and(|slot| (1..=layout::LAST_SLOT).contains(&slot))
                    })
            })
    }

    /// An array of `PyMethodDef` with its terminator, or a single one.
    fn is_methods(&self) -> bool {
        let count = self.object.size / layout::METHOD;
        let entries = match count {
            0 => return false,
            1 => 1,
            _ if self.is_terminated(layout::METHOD) => count - 1,
            _ => return false,
        };
        self.object.size == count * layout::METHOD
            && (0..entries).map(|entry| entry * layout::METHOD).all(|at| {
                self.text_in(at).is_some_and(identifier)
                    && self.leads_to_code(at + 8)
                    && self.word(at + 16).is_some_and(|flags| flags != 0 && flags & !layout::METHOD_FLAGS == 0)
                    && (self.word(at + 24) == Some(0) || self.text_in(at + 24).is_some())
            })
    }

    /// Whether the last entry is nothing but zeros.
    fn is_terminated(&self, entry: u64) -> bool {
        let size = self.object.size;
        size >= entry
            && size.is_multiple_of(entry)
            && (0..entry / 8).all(|word| self.word(size - entry + word * 8) == Some(0))
    }

    /// The number at `offset`; `None` where a pointer stands or the object ends.
    fn word(&self, offset: u64) -> Option<u64> {
        let at = Vaddr(self.object.address.0 + offset);
        if offset + 8 > self.object.size || self.image.relocation_at(at).is_some() {
            return None;
        }
        let bytes = self.image.bytes_from(at);
        Some(bytes.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes))
    }

    /// Where the pointer at `offset` leads inside this file.
    fn pointer(&self, offset: u64) -> Option<Vaddr> {
        let relocation = self.image.relocation_at(Vaddr(self.object.address.0 + offset))?;
        match &relocation.resolves {
            Resolves::Here(target) | Resolves::Symbol { here: Some(target), .. }
                if relocation.kind == RelocationKind::Address =>
            {
                Some(*target)
            }
            _ => None,
        }
    }

    fn object_in(&self, offset: u64) -> Option<usize> {
        let target = self.pointer(offset)?;
        self.image.object_at(target).filter(|object| self.image.objects[*object].address == target)
    }

    /// A function of this file or of another one.
    fn leads_to_code(&self, offset: u64) -> bool {
        let slot = Vaddr(self.object.address.0 + offset);
        match self.pointer(offset) {
            Some(target) => self.image.function_starting_at(target).is_some(),
            None => self.image.relocation_at(slot).is_some(),
        }
    }

    /// The string that the pointer at `offset` leads to.
    fn text_in(&self, offset: u64) -> Option<&str> {
        let bytes = self.image.bytes_from(self.pointer(offset)?);
        let end = bytes.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

fn identifier(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}

fn dotted(text: &str) -> bool {
    text.split('.').all(identifier)
}

#[cfg(test)]
mod tests {
    use super::by_name;

    fn check(mangled: &str, expected: bool) {
        assert_eq!(by_name(mangled), expected, "{mangled}");
    }

    #[test]
    fn cython_keeps_what_cdef_declares() {
        check("__pyx_moduledef", true);
        check("__pyx_d", true);
        check("__pyx_v_2cy_count", false);
    }

    #[test]
    fn pybind11_itself_but_not_what_uses_it() {
        check("_ZZN8pybind116detail16get_internals_ppEvE12internals_pp", true);
        check("_ZGVZN8pybind116detail20get_local_internalsEvE6locals", true);
        check("_ZL22pybind11_module_def_pb", true);
        check("_ZZ9PyInit_pbE5slots", true);
        check("_ZZ3fooN8pybind116objectEE5cache", false);
        check("_ZZZL16pybind11_init_pbRN8pybind117module_EENKUlvE_clEvE5calls", false);
    }

    #[test]
    fn pyo3_registers_and_the_crate_counts() {
        check("_ZN2po1f9_PYO3_DEF17h0123456789abcdefE", true);
        check("_ZN2po5COUNT17h0123456789abcdefE", false);
    }

    #[test]
    fn names_of_plain_c_say_nothing() {
        check("methods", false);
        check("TYPE_OBJECT", false);
    }
}
