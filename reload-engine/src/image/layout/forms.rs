//! How the bytes of debugging entries are laid out: what of an entry nobody asks for is passed over in few steps, which are
//! found out once for all entries of a kind.
//!
//! Knows nothing of what attributes mean, but for those that tell a function nobody asks for.

#![allow(non_upper_case_globals, reason = "DWARF's own names stand in patterns")]

use foldhash::{HashMap, HashMapExt as _};
use gimli::{
    Abbreviation, Abbreviations, Attribute, AttributeSpecification, DwAt, DwTag, EntriesRaw, Error, Reader as _,
    Result, UnitHeader, UnitOffset,
    constants::{
        DW_AT_external, DW_AT_linkage_name, DW_AT_low_pc, DW_AT_name, DW_AT_type, DW_FORM_addr, DW_FORM_block,
        DW_FORM_exprloc, DW_FORM_ref4, DW_FORM_string, DW_TAG_subprogram,
    },
};

use super::Reader;

/// What is asked of entries.
pub(super) struct Questions {
    /// Whether entries with this tag are read at all.
    pub tag: fn(DwTag) -> bool,
    /// Whether an attribute of such an entry is.
    pub attribute: fn(DwTag, DwAt) -> bool,
}

/// What entries with one abbreviation have in common.
pub(super) struct Shape {
    pub tag: DwTag,
    pub has_children: bool,
    pub is_read: bool,
    /// Of an entry that is read.
    pub reading: Steps,
    /// Of one that is passed over.
    skipping: Steps,
    /// Of one that may be recognised as a function that nobody asks for.
    pub function: Option<FunctionAt>,
}

/// The attributes that are read, and those that can only be passed over by looking at them.
#[derive(Default)]
pub(super) struct Steps {
    pub list: Vec<Step>,
    /// Bytes behind the last of them.
    pub rest: usize,
}

pub(super) struct Step {
    /// Bytes before the attribute.
    pub skip: usize,
    pub attribute: AttributeSpecification,
    pub is_read: bool,
}

/// What stands at fixed places of an entry for a function with a name, in bytes from its first attribute.
#[derive(Clone, Copy)]
pub(super) struct FunctionAt {
    /// Where its code begins, in 8 bytes.
    pub low_pc: usize,
    /// What it gives, in 4 bytes.
    pub result: Option<usize>,
    pub external: bool,
}

impl Shape {
    fn of(abbreviation: &Abbreviation, header: &UnitHeader<Reader<'_>>, questions: &Questions) -> Shape {
        let tag = abbreviation.tag();
        let is_read = (questions.tag)(tag);
        let attributes = abbreviation.attributes();
        let is_named = attributes.iter().any(|attribute| attribute.name() == DW_AT_name);
        // The one name stands for the other.
        let asked =
            |name: DwAt| is_read && (questions.attribute)(tag, name) && !(is_named && name == DW_AT_linkage_name);
        Shape {
            tag,
            has_children: abbreviation.has_children(),
            is_read,
            reading: if is_read { Steps::of(attributes, header, asked) } else { Steps::default() },
            skipping: Steps::of(attributes, header, |_| false),
            function: function_at(attributes, header, asked).filter(|_| tag == DW_TAG_subprogram),
        }
    }
}

impl Steps {
    fn of(
        attributes: &[AttributeSpecification],
        header: &UnitHeader<Reader<'_>>,
        is_read: impl Fn(DwAt) -> bool,
    ) -> Steps {
        let mut steps = Steps::default();
        for attribute in attributes {
            let is_read = is_read(attribute.name());
            match attribute.size(header) {
                Some(size) if !is_read => steps.rest += size,
                _ => steps.list.push(Step { skip: std::mem::take(&mut steps.rest), attribute: *attribute, is_read }),
            }
        }
        steps
    }
}

/// `None` where anything else is asked of such entries, or stands somewhere else in each.
fn function_at(
    attributes: &[AttributeSpecification],
    header: &UnitHeader<Reader<'_>>,
    is_asked: impl Fn(DwAt) -> bool,
) -> Option<FunctionAt> {
    let (mut low_pc, mut result, mut external, mut named) = (None, None, false, false);
    // Until one of unknown size.
    let mut at = Some(0);
    for attribute in attributes {
        match (attribute.name(), attribute.form()) {
            (DW_AT_name, _) => named = true,
            (DW_AT_linkage_name, _) => {}
            (DW_AT_external, _) => external = true,
            (DW_AT_type, DW_FORM_ref4) => result = Some(at?),
            (DW_AT_low_pc, DW_FORM_addr) if header.encoding().address_size == 8 => low_pc = Some(at?),
            (name, _) if is_asked(name) => return None,
            _ => {}
        }
        at = at.and_then(|at| Some(at + attribute.size(header)?));
    }
    low_pc.filter(|_| named).map(|low_pc| FunctionAt { low_pc, result, external })
}

/// The shapes of a unit's entries, by abbreviation code.
pub(super) struct Shapes<'a, 'data> {
    header: &'a UnitHeader<Reader<'data>>,
    abbreviations: &'a Abbreviations,
    questions: Questions,
    known: Vec<Option<Shape>>,
    /// Those whose codes are no small numbers.
    other: HashMap<u64, Shape>,
}

impl<'a, 'data> Shapes<'a, 'data> {
    /// Compilers count from 1.
    const KNOWN: usize = 4096;

    pub fn new(
        header: &'a UnitHeader<Reader<'data>>,
        abbreviations: &'a Abbreviations,
        questions: Questions,
    ) -> Shapes<'a, 'data> {
        Shapes { header, abbreviations, questions, known: Vec::new(), other: HashMap::new() }
    }

    #[inline]
    pub fn of(&mut self, code: u64) -> Result<&Shape> {
        if !matches!(self.known.get(code as usize), Some(Some(_))) {
            return self.made(code);
        }
        self.known[code as usize].as_ref().ok_or(Error::InvalidAbbreviationCode(code))
    }

    #[cold]
    fn made(&mut self, code: u64) -> Result<&Shape> {
        let abbreviation = self.abbreviations.get(code).ok_or(Error::InvalidAbbreviationCode(code))?;
        let shape = || Shape::of(abbreviation, self.header, &self.questions);
        let index = code as usize;
        if index >= Shapes::KNOWN {
            return Ok(self.other.entry(code).or_insert_with(shape));
        }
        if self.known.len() <= index {
            self.known.resize_with(index + 1, || None);
        }
        Ok(self.known[index].insert(shape()))
    }
}

/// Reads a unit's entries one after the other.
pub(super) struct Cursor<'a, 'data> {
    header: &'a UnitHeader<Reader<'data>>,
    abbreviations: &'a Abbreviations,
    input: Reader<'data>,
}

impl<'a, 'data> Cursor<'a, 'data> {
    pub fn new(header: &'a UnitHeader<Reader<'data>>, abbreviations: &'a Abbreviations) -> Cursor<'a, 'data> {
        // A unit without entries has nothing there.
        let input = header.range_from(UnitOffset(header.header_size())..).unwrap_or_default();
        Cursor { header, abbreviations, input }
    }

    pub fn is_at_end(&self) -> bool {
        self.input.is_empty()
    }

    /// Of what comes next, relative to the unit.
    pub fn offset(&self) -> usize {
        self.header.length_including_self() - self.input.len()
    }

    /// The number at the start of an entry; 0: no entry, but the end of those below one.
    #[inline]
    pub fn code(&mut self) -> Result<u64> {
        match self.input.slice().first() {
            Some(byte) if *byte < 0x80 => {
                self.input.skip(1)?;
                Ok(u64::from(*byte))
            }
            _ => self.input.read_uleb128(),
        }
    }

    /// Passes over so many bytes.
    pub fn skip(&mut self, bytes: usize) -> Result<()> {
        self.input.skip(bytes)
    }

    /// Passes over one attribute.
    #[inline]
    pub fn skip_attribute(&mut self, attribute: AttributeSpecification) -> Result<()> {
        match attribute.form() {
            DW_FORM_exprloc | DW_FORM_block => {
                let length = self.code()?;
                self.input.skip(usize::try_from(length).map_err(|_| Error::UnsupportedOffset)?)
            }
            DW_FORM_string => self.input.read_null_terminated_slice().map(|_| ()),
            _ => self.raw(|entries| entries.skip_attributes(&[attribute])),
        }
    }

    /// Passes over an entry of which nothing has been read.
    pub fn skip_all(&mut self, shape: &Shape) -> Result<()> {
        for step in &shape.skipping.list {
            self.skip(step.skip)?;
            self.skip_attribute(step.attribute)?;
        }
        self.skip(shape.skipping.rest)
    }

    /// The number that stands so many bytes from here.
    pub fn word(&self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.input.slice().get(at..)?.first_chunk()?))
    }

    /// The same of half the size.
    pub fn half_word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.input.slice().get(at..)?.first_chunk()?))
    }

    #[inline]
    pub fn attribute(&mut self, attribute: AttributeSpecification) -> Result<Attribute<Reader<'data>>> {
        self.raw(|entries| entries.read_attribute_inline(attribute))
    }

    #[inline(always)]
    fn raw<T>(&mut self, read: impl FnOnce(&mut EntriesRaw<'a, Reader<'data>>) -> Result<T>) -> Result<T> {
        let mut entries = EntriesRaw::new(self.input, self.header.encoding(), self.abbreviations, UnitOffset(0));
        let result = read(&mut entries)?;
        self.input.skip(entries.next_offset().0)?;
        Ok(result)
    }
}
