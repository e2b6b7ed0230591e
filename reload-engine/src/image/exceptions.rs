//! What happens to an exception that passes through a function: which calls are covered, where control lands, which types
//! are caught. It stands beside the code, so that a handler can change without an instruction of its function changing.
//!
//! Read from `.eh_frame` and the language-specific data areas it points to (Itanium C++ ABI, "Exception Handling Tables").
//! The rest of the unwind information, how to find the caller's frame, follows from the instructions and is not looked at.

use foldhash::{HashMap, HashMapExt as _};
use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, EhFrame, EndianSlice, LittleEndian, Pointer, Reader as _,
    UnwindSection as _,
};
use twox_hash::XxHash3_128;

use super::Image;
use crate::model::Vaddr;

type Input<'data> = EndianSlice<'data, LittleEndian>;

/// One function's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Hash of everything that is a number: covered ranges, landing pads inside the function, filters.
    pub skeleton: u128,
    /// Landing pads, ascending.
    pub landing_pads: Vec<Vaddr>,
    /// The personality routine and the types caught, in the order met.
    pub mentions: Vec<Named>,
}

/// What a table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Catches everything.
    Anything,
    At(Vaddr),
    /// The address stands in a slot that the loader fills.
    In(Vaddr),
    /// A landing pad in another piece of the function.
    Pad(Vaddr),
}

/// The tables of a file, by the start of their function.
#[derive(Debug, Default)]
pub struct Tables {
    /// `None`: there is one, but it cannot be read.
    pub by_start: HashMap<Vaddr, Option<Table>>,
    /// Functions of this file that the unwinder asks what is to happen in a frame (Itanium C++ ABI, Exception Handling, 1.3).
    pub personalities: Vec<Vaddr>,
    /// Not all could be found.
    pub broken: bool,
}

impl Tables {
    pub fn landing_pads(&self) -> Vec<Vaddr> {
        self.by_start.values().flatten().flat_map(|table| table.landing_pads.iter().copied()).collect()
    }
}

/// Reads the tables of all functions.
pub fn read(image: &Image) -> Tables {
    let section = |name: &str| image.tables.sections.iter().find(|section| section.name == name);
    let mut tables = Tables::default();
    // Most of C has none, and then nothing is looked through.
    let (Some(frames), Some(areas)) = (section(".eh_frame"), section(".gcc_except_table")) else { return tables };
    let mut input = EhFrame::new(image.bytes_from(Vaddr(frames.address)), LittleEndian);
    input.set_address_size(8);
    let bases = BaseAddresses::default().set_eh_frame(frames.address);
    let mut commons: HashMap<_, CommonInformationEntry<Input<'_>>> = HashMap::new();
    // Each area belongs to one function; a file in which many share a large one is no compiler's.
    let mut budget = areas.size.saturating_mul(4).max(4096);
    let mut entries = input.entries(&bases);
    loop {
        let partial = match entries.next() {
            Ok(Some(CieOrFde::Fde(partial))) => partial,
            Ok(Some(CieOrFde::Cie(common))) => {
                tables.personalities.extend(common.personality().and_then(|pointer| led_to(image, pointer)));
                commons.insert(common.offset(), common);
                continue;
            }
            Ok(None) => return tables,
            Err(_) => break,
        };
        let frame = partial.parse(|section, bases, offset| match commons.get(&offset.0) {
            Some(common) => Ok(common.clone()),
            None => section.cie_from_offset(bases, offset),
        });
        let Ok(frame) = frame else { break };
        let Some(area) = frame.lsda() else { continue };
        let start = Vaddr(frame.initial_address());
        let function = start.0..start.0.saturating_add(frame.len());
        let table = match area {
            Pointer::Direct(area) => table(image, function, Vaddr(area), frame.personality(), &mut budget),
            Pointer::Indirect(_) => None,
        };
        tables.by_start.insert(start, table);
    }
    tables.broken = true;
    tables
}

/// The place in this file that a pointer of the frames' leads to.
fn led_to(image: &Image, pointer: Pointer) -> Option<Vaddr> {
    match pointer {
        Pointer::Direct(address) => Some(Vaddr(address)),
        Pointer::Indirect(slot) => image.relocation_at(Vaddr(slot))?.resolves.here(),
    }
}

const OMITTED: u8 = 0xff;
const INDIRECT: u8 = 0x80;
/// An action's chain is as long as one `try` has handlers.
const LONGEST_CHAIN: usize = 10_000;

fn table(
    image: &Image,
    function: std::ops::Range<u64>,
    area: Vaddr,
    personality: Option<Pointer>,
    budget: &mut u64,
) -> Option<Table> {
    let all = image.bytes_from(area);
    let mut cursor = Cursor { input: EndianSlice::new(all, LittleEndian), start: area, whole: all };
    let base = match cursor.byte()? {
        OMITTED => function.start,
        encoding => cursor.pointer(encoding, function.start)?,
    };
    let types = match cursor.byte()? {
        OMITTED => None,
        encoding => {
            let offset = cursor.unsigned()?;
            Some((encoding, cursor.position().checked_add(offset)?))
        }
    };
    let encoding = cursor.byte()?;
    let length = cursor.unsigned()?;
    let actions = cursor.position().checked_add(length)?;
    *budget = budget.checked_sub(length)?;

    let mut numbers: Vec<u64> = Vec::new();
    let mut result = Table::default();
    result.mentions.extend(personality.map(|personality| match personality {
        Pointer::Direct(address) => Named::At(Vaddr(address)),
        Pointer::Indirect(slot) => Named::In(Vaddr(slot)),
    }));
    while cursor.position() < actions {
        let (start, len) = (cursor.pointer(encoding, 0)?, cursor.pointer(encoding, 0)?);
        let (pad, action) = (cursor.pointer(encoding, 0)?, cursor.unsigned()?);
        numbers.extend([start, len]);
        if pad == 0 {
            numbers.push(0);
        } else {
            let pad = base.wrapping_add(pad);
            result.landing_pads.push(Vaddr(pad));
            if function.contains(&pad) {
                numbers.push(pad - function.start + 1);
            } else {
                numbers.push(u64::MAX);
                result.mentions.push(Named::Pad(Vaddr(pad)));
            }
        }
        if action > 0 {
            let first = actions.checked_add(action - 1)?;
            chain(&cursor, first, types, &mut numbers, &mut result.mentions, budget)?;
        }
        numbers.push(u64::MAX - 1);
    }
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    result.skeleton = XxHash3_128::oneshot(&bytes);
    result.landing_pads.sort_unstable();
    result.landing_pads.dedup();
    Some(result)
}

/// The handlers that are tried one after the other, from the record at `first` on.
fn chain(
    area: &Cursor<'_>,
    first: u64,
    types: Option<(u8, u64)>,
    numbers: &mut Vec<u64>,
    mentions: &mut Vec<Named>,
    budget: &mut u64,
) -> Option<()> {
    let mut record = first;
    for _ in 0..LONGEST_CHAIN {
        *budget = budget.checked_sub(2)?;
        let mut cursor = area.at(record)?;
        let filter = cursor.signed()?;
        numbers.push(filter as u64);
        if filter > 0 {
            mentions.push(caught(area, types?, filter as u64)?);
        } else if filter < 0 {
            // An exception specification: the types it lets through.
            let mut listed = area.at(types?.1.checked_add(filter.unsigned_abs() - 1)?)?;
            loop {
                *budget = budget.checked_sub(1)?;
                let index = listed.unsigned()?;
                numbers.push(index);
                if index == 0 {
                    break;
                }
                mentions.push(caught(area, types?, index)?);
            }
        }
        let here = cursor.position();
        match cursor.signed()? {
            0 => return Some(()),
            next => record = here.checked_add_signed(next)?,
        }
    }
    None
}

/// The type of this number; they are counted backwards from the end of the table.
fn caught(area: &Cursor<'_>, (encoding, end): (u8, u64), index: u64) -> Option<Named> {
    let size = match encoding & 0x07 {
        2 => 2,
        3 => 4,
        0 | 4 => 8,
        _ => return None,
    };
    let mut cursor = area.at(end.checked_sub(index.checked_mul(size)?)?)?;
    Some(match cursor.pointer(encoding & !INDIRECT, 0)? {
        0 => Named::Anything,
        slot if encoding & INDIRECT != 0 => Named::In(Vaddr(slot)),
        address => Named::At(Vaddr(address)),
    })
}

/// Reads on from an address of the file.
struct Cursor<'data> {
    input: Input<'data>,
    /// Where `whole` begins.
    start: Vaddr,
    whole: &'data [u8],
}

impl Cursor<'_> {
    fn position(&self) -> u64 {
        self.start.0 + (self.whole.len() - self.input.len()) as u64
    }

    /// Another one in the same area.
    fn at(&self, position: u64) -> Option<Self> {
        let offset = usize::try_from(position.checked_sub(self.start.0)?).ok()?;
        Some(Cursor { input: EndianSlice::new(self.whole.get(offset..)?, LittleEndian), ..*self })
    }

    fn byte(&mut self) -> Option<u8> {
        self.input.read_u8().ok()
    }

    fn unsigned(&mut self) -> Option<u64> {
        self.input.read_uleb128().ok()
    }

    fn signed(&mut self) -> Option<i64> {
        self.input.read_sleb128().ok()
    }

    /// A pointer in one of the encodings of the Linux Standard Base (`DW_EH_PE_*`); 0 stays 0.
    fn pointer(&mut self, encoding: u8, function: u64) -> Option<u64> {
        let here = self.position();
        let value = match encoding & 0x0f {
            0 | 4 | 12 => self.input.read_u64().ok()?,
            1 => self.unsigned()?,
            2 => self.input.read_u16().ok()?.into(),
            3 => self.input.read_u32().ok()?.into(),
            9 => self.signed()? as u64,
            10 => self.input.read_i16().ok()? as u64,
            11 => self.input.read_i32().ok()? as u64,
            _ => return None,
        };
        match encoding & 0xf0 {
            _ if value == 0 => Some(0),
            0x00 => Some(value),
            0x10 => Some(here.wrapping_add(value)),
            0x40 => Some(function.wrapping_add(value)),
            _ => None,
        }
    }
}
