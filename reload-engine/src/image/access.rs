//! What code does with an address that it has taken: whether it reads there, before it or behind it, or only compares.
//!
//! Follows registers and stack slots in the order of the instructions, not of control; it is evidence for one reading of an
//! address or another, and only asked where nothing better is known.

use std::ops::RangeInclusive;

use foldhash::HashMap;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{
    Image,
    code::{CALLEE_SAVED, accesses_memory},
    numbers::Numbers,
};
use crate::model::Vaddr;

/// The first thing that is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Memory is accessed so many bytes from it.
    At(i64),
    /// Memory is accessed so many bytes from it and an index of which nobody knows what it is.
    Indexed(i64),
    /// Other addresses are compared with it, and no more.
    Compared,
    /// It is handed on, or nothing can be said.
    Unknown,
}

/// How many instructions are looked at.
const LIMIT: usize = 200;

/// A register, or a slot of the stack frame by its base register and displacement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Register(Register),
    Slot(Register, i64),
}

/// An address that is known by where it was taken.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The reference that takes it.
    origin: Vaddr,
    /// How many bytes away from it.
    offset: i64,
    /// The holder itself has been moved on, as a pointer is that walks through an array.
    walks: bool,
}

/// What an instruction does with addresses that are held.
enum Use {
    /// The reference that took the address, and what is done there.
    Access(Vaddr, Access),
    Compare(Option<Held>, Option<Held>),
}

/// What a function does with the addresses that it takes.
#[derive(Default)]
pub struct Uses {
    by_site: HashMap<Vaddr, Pursuit>,
    walks: Vec<(Vaddr, Vaddr)>,
}

impl Uses {
    /// Of the references at `sites`, ascending, in the function of this index.
    pub fn of(image: &Image, function: u32, sites: &[Vaddr]) -> Uses {
        let mut decoder = decoder_of(image, function);
        let mut instruction = Instruction::default();
        let (mut trail, mut numbers) = (Trail::default(), Numbers::none());
        let (mut uses, mut open) = (Uses::default(), Vec::<Pursuit>::new());
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            let used = trail.follow(&instruction, &numbers);
            let next = sites.partition_point(|site| site.0 < instruction.ip());
            let site = sites.get(next).filter(|site| site.0 < instruction.next_ip());
            let begun = site.map(|site| Pursuit::new(*site, &instruction, &numbers));
            numbers.follow(&instruction);
            let ended = open.extract_if(.., |pursuit| !pursuit.goes_on(&instruction, used.as_ref(), &trail));
            uses.by_site.extend(ended.map(|pursuit| (pursuit.site, pursuit)));
            if let Some(Use::Compare(Some(one), Some(other))) = used
                && one.origin != other.origin
                && (one.walks || other.walks)
            {
                uses.walks.push((one.origin, other.origin));
            }
            let Some(pursuit) = begun else { continue };
            if let Some(register) = takes(&instruction) {
                trail.start(register, pursuit.site);
                open.push(pursuit);
            } else {
                uses.by_site.insert(pursuit.site, pursuit);
            }
        }
        uses.by_site.extend(open.into_iter().map(|pursuit| (pursuit.site, pursuit)));
        uses
    }

    /// The first thing that is done with the address taken at this site.
    pub fn access(&self, site: Vaddr) -> Access {
        self.by_site.get(&site).map_or(Access::Unknown, |pursuit| pursuit.access)
    }

    /// How an array is gone through by an index of which nobody knows where it begins, from an address that may lie as far from
    /// the array as the index does.
    pub fn unknown_index(&self, site: Vaddr) -> Option<UnknownIndex> {
        let pursuit = self.by_site.get(&site)?;
        let Indexed { at, element } = pursuit.indexed?;
        let array = if at < site.0 {
            element..=u64::MAX
        } else if pursuit.repeats {
            element + 1..=u64::MAX
        } else if element == 1 && pursuit.access == Access::Indexed(0) {
            // What gcc leaves of a loop over one byte. Of any other it leaves a loop, and elsewhere the distance to the access.
            1..=1
        } else {
            return None;
        };
        Some(UnknownIndex { element, array })
    }

    /// Pairs of references that are the two ends of a walk: a pointer that starts at the one is moved on and compared with
    /// the other. Both then belong to one object (C17 6.5.9, 6.5.6).
    pub fn walks(&self) -> &[(Vaddr, Vaddr)] {
        &self.walks
    }
}

/// The register that the instruction sets to the address, or the offset in the block of thread-locals, that stands in it.
fn takes(instruction: &Instruction) -> Option<Register> {
    let takes = match instruction.mnemonic() {
        Mnemonic::Lea => instruction.memory_index() == Register::None,
        Mnemonic::Add => instruction.op0_kind() == OpKind::Register && instruction.op1_kind() != OpKind::Memory,
        _ => false,
    };
    takes.then(|| instruction.op0_register())
}

/// What an instruction that keeps the offset in no register does there.
fn at_once(instruction: &Instruction, numbers: &Numbers) -> Access {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    if index == Register::None {
        return Access::At(0);
    }
    // One of the two holds where the block starts, which is no number that stands in the code.
    let scale = i64::from(instruction.memory_index_scale());
    let added = numbers.of(index).map(|number| number.wrapping_mul(scale)).or_else(|| numbers.of(base));
    added.map_or(Access::Indexed(0), Access::At)
}

/// A reference, and what has been found to be done with the address that it takes.
struct Pursuit {
    site: Vaddr,
    /// The instruction after the one that takes it.
    next: u64,
    /// Instructions that may still be looked at.
    left: usize,
    access: Access,
    /// The access, if it is by an index.
    indexed: Option<Indexed>,
    /// That is done over and over.
    repeats: bool,
}

#[derive(Clone, Copy)]
struct Indexed {
    at: u64,
    /// Bytes.
    element: u64,
}

impl Indexed {
    fn by(instruction: &Instruction) -> Indexed {
        let element = (instruction.memory_size().size() as u64).max(instruction.memory_index_scale().into());
        Indexed { at: instruction.ip(), element }
    }
}

/// An index of which nobody knows where it begins. Sizes are in bytes.
pub struct UnknownIndex {
    pub element: u64,
    /// What the array may measure.
    pub array: RangeInclusive<u64>,
}

impl Pursuit {
    fn new(site: Vaddr, taking: &Instruction, numbers: &Numbers) -> Pursuit {
        let access = if takes(taking).is_some() { Access::Unknown } else { at_once(taking, numbers) };
        let indexed = matches!(access, Access::Indexed(_)).then(|| Indexed::by(taking));
        Pursuit { site, next: taking.next_ip(), left: LIMIT, access, indexed, repeats: false }
    }

    /// Takes notice of an instruction; whether there may be more to find.
    fn goes_on(&mut self, instruction: &Instruction, used: Option<&Use>, trail: &Trail) -> bool {
        self.left -= 1;
        if let Some(Indexed { at, .. }) = self.indexed {
            let back = instruction.near_branch_target();
            self.repeats = self.next <= back && back <= at;
            return !self.repeats && self.left > 0;
        }
        let is_meant = |held: &Option<Held>| held.is_some_and(|held| held.origin == self.site);
        match used {
            Some(Use::Access(origin, access)) if *origin == self.site => {
                self.access = *access;
                if !matches!(access, Access::Indexed(_)) {
                    return false;
                }
                self.indexed = Some(Indexed::by(instruction));
                return self.left > 0;
            }
            Some(Use::Compare(one, other)) if is_meant(one) || is_meant(other) => self.access = Access::Compared,
            _ => {}
        }
        trail.holds(self.site) && self.left > 0
    }
}

fn decoder_of(image: &Image, function: u32) -> Decoder<'_> {
    let (start, end) = (image.functions[function as usize].address, image.functions[function as usize].end);
    let code = image.bytes_from(start);
    let len = (end.0.saturating_sub(start.0) as usize).min(code.len());
    Decoder::with_ip(64, &code[..len], start.0, DecoderOptions::NONE)
}

#[derive(Default)]
struct Trail {
    held: Vec<(Holder, Held)>,
}

impl Trail {
    /// From here on, the register holds the address that the reference takes.
    fn start(&mut self, register: Register, origin: Vaddr) {
        self.set(Holder::Register(register), Some(Held { origin, offset: 0, walks: false }));
    }

    fn holds(&self, origin: Vaddr) -> bool {
        self.held.iter().any(|(_, held)| held.origin == origin)
    }

    fn of(&self, holder: Holder) -> Option<Held> {
        self.held.iter().find(|(known, _)| *known == holder).map(|(_, held)| *held)
    }

    fn set(&mut self, holder: Holder, held: Option<Held>) {
        self.held.retain(|(known, _)| *known != holder);
        self.held.extend(held.map(|held| (holder, held)));
    }

    fn follow(&mut self, instruction: &Instruction, numbers: &Numbers) -> Option<Use> {
        let slot = slot(instruction);
        if slot.is_none()
            && instruction.mnemonic() != Mnemonic::Nop
            && accesses_memory(instruction)
            && let Some((held, indexed)) = self.addressed(instruction, numbers)
        {
            let taken = instruction.mnemonic() == Mnemonic::Lea;
            if instruction.op0_kind() == OpKind::Register {
                let written = Holder::Register(instruction.op0_register().full_register());
                let walks = held.walks || written == Holder::Register(instruction.memory_base());
                self.set(written, (taken && !indexed).then_some(Held { walks, ..held }));
            }
            return match (taken, indexed) {
                (false, false) => Some(Use::Access(held.origin, Access::At(held.offset))),
                (false, true) => Some(Use::Access(held.origin, Access::Indexed(held.offset))),
                (true, false) => None,
                (true, true) => Some(Use::Access(held.origin, Access::Unknown)),
            };
        }
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                self.held.retain(|(holder, _)| match holder {
                    Holder::Register(register) => CALLEE_SAVED.contains(register),
                    Holder::Slot(..) => true,
                });
                return None;
            }
            FlowControl::Return => {
                self.held.clear();
                return None;
            }
            _ => {}
        }
        let read = |operand: u32| match instruction.op_kind(operand) {
            OpKind::Register => self.of(Holder::Register(instruction.op_register(operand))),
            OpKind::Memory => slot.and_then(|slot| self.of(slot)),
            _ => None,
        };
        if matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
            let (one, other) = (read(0), read(1));
            return (one.is_some() || other.is_some()).then_some(Use::Compare(one, other));
        }
        if instruction.op_count() == 0 || matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Nop) {
            return None;
        }
        let written = match instruction.op0_kind() {
            OpKind::Register => Holder::Register(instruction.op0_register().full_register()),
            OpKind::Memory => slot?,
            _ => return None,
        };
        let step = || match instruction.op1_kind() {
            OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(1) as i64),
            _ => None,
        };
        let moved = |by: i64| read(0).map(|held| Held { offset: held.offset.wrapping_add(by), walks: true, ..held });
        let result = match instruction.mnemonic() {
            Mnemonic::Mov if instruction.op_count() == 2 => read(1),
            Mnemonic::Add => step().and_then(moved),
            Mnemonic::Sub => step().and_then(|step| moved(step.wrapping_neg())),
            _ => None,
        };
        self.set(written, result);
        None
    }

    /// The address that a memory operand names, if its base or index is held, and whether something unknown is added.
    fn addressed(&self, instruction: &Instruction, numbers: &Numbers) -> Option<(Held, bool)> {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let scale = instruction.memory_index_scale();
        let through_index = || (scale == 1).then(|| self.of(Holder::Register(index))).flatten();
        let (held, other) = match self.of(Holder::Register(base)) {
            Some(held) => (held, index),
            None => (through_index()?, base),
        };
        let added = if other == Register::None { Some(0) } else { numbers.of(other) };
        let offset = (held.offset)
            .wrapping_add(instruction.memory_displacement64() as i64)
            .wrapping_add(added.unwrap_or(0).wrapping_mul(scale.into()));
        Some((Held { offset, ..held }, added.is_none()))
    }
}

/// The stack slot that the instruction accesses.
fn slot(instruction: &Instruction) -> Option<Holder> {
    let base = instruction.memory_base();
    let plain = matches!(base, Register::RBP | Register::RSP) && instruction.memory_index() == Register::None;
    plain.then(|| Holder::Slot(base, instruction.memory_displacement64() as i64))
}
